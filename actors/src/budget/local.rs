//! A message's argument that can't leave its node: what an actor's own tasks tell it.
//!
//! A published actor's messages are wholly serialisable, so a member of the swarm could send any of them. Bytes
//! that claim to be a `Local` are refused before the mailbox; a value that is one came from this process.

use ractor::BytesConvertable;

/// `T`, from this node.
#[derive(Debug)]
pub struct Local<T>(pub T);

impl<T> BytesConvertable for Local<T> {
    fn into_bytes(self) -> Vec<u8> {
        Vec::new()
    }

    /// Unwinds, as the trait allows: ractor's derive catches it and refuses the message (0.16.5, `unpack_arg`).
    fn from_bytes(_: Vec<u8>) -> Self {
        std::panic::resume_unwind(Box::new("this message can't come from another node"))
    }
}

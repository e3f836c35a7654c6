//! How a machine becomes a member: by an invite's line, by its short code, by the swarm's key, or by a knock
//! that both owners approve.
//!
//! ```text
//! joiner                                     door (a member)
//!   Hello { method, nonce, pake? }    ->
//!                                     <-   Challenge { nonce, pake?, proof, outline }
//!   (the swarm is proven; now itself)
//!   Proof { proof, name }             ->   admission: signed, on disk, pushed to the members
//!                                     <-   Welcome { roster }
//!
//!   Knock { commitment, name }        ->
//!                                     <-   Answer { nonce, name, outline }
//!   Reveal { nonce }                  ->   both screens show six digits
//!   Consent (its owner approved)      ->   (the door's owner approved)
//!                                     <-   Welcome { roster }
//!
//!   WhyNot { swarm, proof }           ->   (members refuse it)
//!                                     <-   Because { the eviction and the chain to its signer, or the door's departure }
//!                                          or Believed: its admission had not been heard of
//! ```
//!
//! Invariants: no secret ever crosses the wire, only proofs bound to both TLS keys; the joiner sees the swarm's
//! proof before it gives its own; an invite admits one key; nobody is admitted, and nobody is taken in, without
//! the consent of both machines' owners; a machine is out only by records that its own roster accepts. [`protocol`], [`book`] and [`knock`] hold no socket, clock or randomness.

pub mod book;
pub mod code;
pub mod invite;
pub mod key;
pub mod knock;
pub mod proof;
pub mod protocol;

pub use invite::Line;
pub use key::Secret;
pub use protocol::{Joiner, Message, Method, Outline};

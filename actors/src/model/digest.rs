//! SHA-256 of a file: which weights these are, on every machine.

use sha2::{Digest, Sha256};
use skep_runtime::tasks::Spawner;
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Bytes that are hashed in one go off the executor: a fraction of a second, so that a stopping node doesn't wait.
const PIECE_BYTES: u64 = 128 << 20;
/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// The file's SHA-256, in hex.
pub(super) async fn of_file(tasks: &Spawner, path: &Path) -> io::Result<String> {
    let path = path.to_owned();
    let mut state =
        tasks.compute(move || File::open(path).map(|file| (file, Sha256::new()))).await.map_err(io::Error::other)??;
    loop {
        let (mut file, mut hash) = state;
        let piece = move || -> io::Result<_> {
            let (mut left, mut buffer) = (PIECE_BYTES, vec![0; READ_BYTES]);
            while left > 0 {
                let read = file.read(&mut buffer)?;
                if read == 0 {
                    return Ok((file, hash, true));
                }
                hash.update(&buffer[..read]);
                left = left.saturating_sub(read as u64);
            }
            Ok((file, hash, false))
        };
        let (file, hash, ended) = tasks.compute(piece).await.map_err(io::Error::other)??;
        if ended {
            return Ok(hex(&hash.finalize()));
        }
        state = (file, hash);
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the text is a SHA-256 in lower-case hex.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

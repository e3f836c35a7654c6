//! SHA-256 of what is in a file: what it is called on every machine.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use skep_runtime::tasks::Spawner;
use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
    str::FromStr,
};

/// Bytes that are hashed in one go off the executor: a fraction of a second, so that a stopping node doesn't wait.
const PIECE_BYTES: u64 = 128 << 20;
/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// A SHA-256; as text 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no SHA-256 in 64 lower-case hexadecimal digits")]
pub struct BadDigest;

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..", hex(&self.0[..4]))
    }
}

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Digest, BadDigest> {
        if !is_sha256(text) {
            return Err(BadDigest);
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| BadDigest)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| BadDigest)?;
        }
        Ok(Digest(bytes))
    }
}

/// The file's SHA-256, in hex.
pub(crate) async fn of_file(tasks: &Spawner, path: &Path) -> io::Result<String> {
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
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the text is a SHA-256 in lower-case hex.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written_and_nothing_else_is_one() {
        let digest = Digest::of(b"");
        let text = digest.to_string();
        assert_eq!(text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(text.parse(), Ok(digest));
        for bad in
            ["", &text[1..], &text.to_uppercase(), &format!("{text}0"), &text.replace('e', "+"), "../../etc/passwd"]
        {
            assert_eq!(bad.parse::<Digest>(), Err(BadDigest), "{bad}");
        }
    }
}

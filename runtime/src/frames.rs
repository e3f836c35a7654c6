//! Typed frames on a bulk stream: a length, then that many bytes. What follows a ticket is nearly always this.
//!
//! A length is checked against the reader's limit before anything is allocated.

use crate::{Error, wire};
use serde::{Serialize, de::DeserializeOwned};
use std::io::ErrorKind;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of one frame of typed events. Raw frames give their own limit.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// Writes one value. The other side sees it after a flush or a few KiB more.
pub async fn write<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), value: &T) -> Result<(), Error> {
    write_bytes(to, &wire::encode(value)).await
}

/// Reads one value; `None` when the other side ended the stream between two frames.
pub async fn read<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<T>, Error> {
    let Some(bytes) = read_bytes(from, FRAME_BYTES_MAX).await? else { return Ok(None) };
    let value =
        wire::decode(&bytes, FRAME_BYTES_MAX).map_err(|e| Error::refused(format!("an unreadable frame: {e}")))?;
    Ok(Some(value))
}

/// Writes one frame of raw bytes and flushes it.
pub async fn write_bytes(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Error> {
    let length =
        u32::try_from(bytes.len()).map_err(|_| Error::TooLarge { bytes: bytes.len(), max: u32::MAX as usize })?;
    let write = async {
        to.write_u32_le(length).await?;
        to.write_all(bytes).await?;
        to.flush().await
    };
    write.await.map_err(|e: std::io::Error| Error::refused(format!("the stream broke: {e}")))
}

/// Reads one frame of raw bytes, at most `max`; `None` at a clean end.
pub async fn read_bytes(from: &mut (impl AsyncRead + Unpin), max: usize) -> Result<Option<Vec<u8>>, Error> {
    let broke = |e: std::io::Error| Error::refused(format!("the stream broke: {e}"));
    let length = match from.read_u32_le().await {
        Ok(length) => length as usize,
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(broke(e)),
    };
    if length > max {
        return Err(Error::TooLarge { bytes: length, max });
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await.map_err(broke)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_out_as_they_went_in_and_the_end_is_clean() {
        let (mut near, mut far) = tokio::io::duplex(64);
        write(&mut near, &("a".to_string(), 1u8)).await.unwrap();
        drop(near);
        assert_eq!(read(&mut far).await, Ok(Some(("a".to_string(), 1u8))));
        assert_eq!(read::<(String, u8)>(&mut far).await, Ok(None));
    }

    #[tokio::test]
    async fn a_forged_length_is_refused_before_it_is_allocated() {
        let mut bytes: &[u8] = &[0xff, 0xff, 0xff, 0x7f];
        assert!(matches!(read_bytes(&mut bytes, 1024).await, Err(Error::TooLarge { .. })));
    }
}

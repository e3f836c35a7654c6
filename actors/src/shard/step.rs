//! What travels along a chain of shards: a frame of `header length u16, header, rows`.
//!
//! Rows are token ids into the first stage and hidden states between stages, 4 bytes little-endian a value. Every
//! length is checked against the model's own width before it is allocated; what comes is never believed.

use serde::{Deserialize, Serialize};
use skep_engine::{Sampling, defaults::PREFILL_CHUNK_ROWS};
use skep_runtime::{Error, frames, wire};
use tokio::io::{AsyncRead, AsyncWrite};

/// Rows of one step: a chunk of a prompt.
pub(crate) const ROWS_MAX: usize = PREFILL_CHUNK_ROWS;
/// Bytes of a header: an opening with its history is the longest.
const HEADER_BYTES_MAX: usize = 4096;
/// Tokens of the prompt's end that penalties count besides the generated ones: as many as llama.cpp's default.
pub(crate) const HISTORY_TOKENS_MAX: usize = 64;

/// One step of a chain. `Rows` is answered exactly once, by `Token`, `Done` or `Failed`, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// A new sequence, on every stage.
    Open {
        sequence: u64,
        /// Tokens that it may grow to: reserved on every stage.
        tokens_max: u32,
        sampling: Sampling,
        /// The end of its prompt, for penalties: at most [`HISTORY_TOKENS_MAX`].
        history: Vec<u32>,
    },
    /// Rows of a sequence, behind those that its caches hold.
    Rows {
        sequence: u64,
        position: u32,
        rows: u32,
        /// Choose the token after the last row; else this is a chunk of a prompt that goes on.
        sample: bool,
    },
    /// The sequence has ended: every stage frees its cache.
    Close { sequence: u64 },
    /// The last stage chose a token.
    Token { sequence: u64, token: u32 },
    /// A chunk of a prompt went through the whole chain.
    Done { sequence: u64 },
    /// A stage could not take the rows; the stages behind it have freed the sequence, as it has itself.
    Failed { sequence: u64, stage: u16, reason: String },
}

/// Writes one step with its rows.
pub(crate) async fn write(to: &mut (impl AsyncWrite + Unpin), step: &Step, rows: &[u8]) -> Result<(), Error> {
    let header = wire::encode(step);
    let length = u16::try_from(header.len()).ok().filter(|_| header.len() <= HEADER_BYTES_MAX);
    let length = length.ok_or(Error::TooLarge { bytes: header.len(), max: HEADER_BYTES_MAX })?;
    let mut frame = Vec::with_capacity(2 + header.len() + rows.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(rows);
    frames::write_bytes(to, &frame).await
}

/// Reads one step whose rows have `row_bytes` each (0: no rows are expected); `None` at the stream's end.
pub(crate) async fn read(
    from: &mut (impl AsyncRead + Unpin),
    row_bytes: usize,
) -> Result<Option<(Step, Vec<u8>)>, Error> {
    let most = 2 + HEADER_BYTES_MAX + ROWS_MAX * row_bytes;
    let Some(mut frame) = frames::read_bytes(from, most).await? else { return Ok(None) };
    let strange = |what: &str| Error::refused(format!("the stage before sent {what}"));
    let (length, rest) = frame.split_first_chunk::<2>().ok_or_else(|| strange("an empty frame"))?;
    let length = usize::from(u16::from_le_bytes(*length));
    let header = rest.get(..length).ok_or_else(|| strange("a cut header"))?;
    let step: Step = wire::decode(header, HEADER_BYTES_MAX).map_err(|e| Error::refused(e.to_string()))?;
    let rows = frame.split_off(2 + length);
    let expected = match &step {
        Step::Rows { rows, .. } if row_bytes > 0 && (1..=ROWS_MAX).contains(&(*rows as usize)) => {
            *rows as usize * row_bytes
        }
        Step::Rows { .. } => return Err(strange("too many rows, or rows against the stream")),
        Step::Open { history, .. } if history.len() > HISTORY_TOKENS_MAX => return Err(strange("too long a history")),
        _ => 0,
    };
    if rows.len() != expected {
        return Err(strange(&format!("{} bytes of rows where {expected} belong", rows.len())));
    }
    Ok(Some((step, rows)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pass(step: Step, rows: &[u8], row_bytes: usize) -> Result<Option<(Step, Vec<u8>)>, Error> {
        let mut bytes = Vec::new();
        write(&mut bytes, &step, rows).await.unwrap();
        read(&mut bytes.as_slice(), row_bytes).await
    }

    fn rows(rows: u32) -> Step {
        Step::Rows { sequence: 7, position: 3, rows, sample: true }
    }

    #[tokio::test]
    async fn steps_come_out_as_they_went_in() {
        let open = Step::Open { sequence: 1, tokens_max: 9, sampling: Sampling::default(), history: vec![1, 2] };
        assert_eq!(pass(open.clone(), &[], 8).await, Ok(Some((open, vec![]))));
        assert_eq!(pass(rows(2), &[5; 16], 8).await, Ok(Some((rows(2), vec![5; 16]))));
    }

    #[tokio::test]
    async fn rows_that_are_not_what_the_header_says_are_refused() {
        for (step, bytes, row_bytes) in [
            (rows(2), 15, 8),
            (rows(0), 0, 8),
            (rows(ROWS_MAX as u32 + 1), 0, 8),
            (rows(1), 0, 0),
            (Step::Close { sequence: 1 }, 4, 8),
        ] {
            assert!(pass(step.clone(), &vec![0; bytes], row_bytes).await.is_err(), "{step:?} with {bytes} bytes");
        }
    }

    #[tokio::test]
    async fn a_frame_that_claims_more_than_the_model_is_wide_is_not_allocated() {
        let mut forged: &[u8] = &u32::MAX.to_le_bytes();
        assert!(matches!(read(&mut forged, 8).await, Err(Error::TooLarge { .. })));
    }
}

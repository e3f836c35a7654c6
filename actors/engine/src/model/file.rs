//! An opened model file: its checked header and its card; gives tokenizer and chat template, and
//! the bytes of single tensors to the shard that asks.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::layout::{self, Wanted};
use super::{Card, ContentId};
use crate::chat::ChatTemplate;
use crate::error::{ChatError, LoadError, TokenizerError};
use crate::gguf::Gguf;
use crate::kernel::Stored;
use crate::tokenizer::Tokenizer;

/// A model file whose header was read and checked. Holds no weights.
#[derive(Clone, Debug)]
pub struct Model {
    path: PathBuf,
    gguf: Gguf,
    card: Card,
}

impl Model {
    /// Opens a file, checks its header, and verifies that every tensor of the architecture is there.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        let path = path.as_ref().to_owned();
        let mut file = File::open(&path).map_err(crate::GgufError::Io)?;
        let file_bytes = file.metadata().map_err(crate::GgufError::Io)?.len();
        let gguf = Gguf::parse(BufReader::new(&mut file), file_bytes)?;
        let id = ContentId::of(&mut file, &gguf).map_err(crate::GgufError::Io)?;
        let card = Card::read(&gguf, id)?;
        Ok(Self { path, gguf, card })
    }

    /// What the model is.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// The checked header, with all metadata.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Builds the tokenizer from the file's vocabulary. Takes a second for large vocabularies: keep it.
    pub fn tokenizer(&self) -> Result<Tokenizer, TokenizerError> {
        Tokenizer::from_gguf(&self.gguf)
    }

    /// The file's chat template, or ChatML when it has none.
    pub fn chat_template(&self) -> Result<ChatTemplate, ChatError> {
        ChatTemplate::from_gguf(&self.gguf)
    }
}

/// Reads tensors of one file, one at a time.
pub(crate) struct Weights<'m> {
    model: &'m Model,
    file: File,
}

impl<'m> Weights<'m> {
    /// Opens the file of `model` again for reading weights.
    pub(crate) fn open(model: &'m Model) -> Result<Self, LoadError> {
        let file = File::open(&model.path).map_err(crate::GgufError::Io)?;
        Ok(Self { model, file })
    }

    /// Reads a tensor; `None` if it is optional and absent.
    pub(crate) fn read(&mut self, wanted: &Wanted) -> Result<Option<Stored>, LoadError> {
        let Some(tensor) = layout::find(&self.model.gguf, wanted)? else {
            return Ok(None);
        };
        // The header check has bounded `bytes` by the file's length.
        let length = usize::try_from(tensor.bytes)
            .map_err(|_| LoadError::Unsupported("tensors larger than the address space".to_owned()))?;
        let mut stored = Stored::new(tensor.kind, tensor.dimensions.clone(), length);
        let offset = self.model.gguf.data_offset + tensor.offset;
        self.file.seek(SeekFrom::Start(offset)).map_err(crate::GgufError::Io)?;
        self.file.read_exact(stored.bytes_mut()).map_err(crate::GgufError::Io)?;
        Ok(Some(stored))
    }

    /// Reads a tensor that the model can't do without.
    pub(crate) fn require(&mut self, wanted: &Wanted) -> Result<Stored, LoadError> {
        self.read(wanted)?.ok_or_else(|| LoadError::MissingTensor(wanted.name.clone()))
    }
}

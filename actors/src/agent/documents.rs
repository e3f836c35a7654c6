//! Documents, cut to what a model can read at once.
//!
//! Sizes are bytes of UTF-8: the model's bytes per token are measured on a sample of the same text. A piece ends
//! at a paragraph's end if one is near, and the next begins a little earlier, so that no thought is cut in two.

use std::{fs, io::Read, path::Path};

/// A document's name and text.
pub(super) type Document = (String, String);

/// Parts of one goal: with their retries they have to fit one tree of runs.
pub(super) const PARTS_MAX: usize = 48;
/// Up to this many pieces each get a sub-agent of their own; more are put together until a prompt is full.
const PIECES_FEW: usize = 16;
/// A piece repeats this share of the one before it: one part in so many.
const OVERLAP_PART: usize = 16;
/// Files of a folder that are read.
const FILES_MAX: usize = 256;
/// Bytes of all documents of a goal: 48 parts for the largest context that one prompt may have.
pub(super) const DOCUMENTS_BYTES_MAX: usize = 8 << 20;

/// The documents as parts of at most `bytes_max`, in order; as `Err`, how many parts it would take.
pub(super) fn parts(documents: &[Document], bytes_max: usize) -> Result<Vec<Vec<Document>>, usize> {
    let pieces: Vec<Document> = documents.iter().flat_map(|(name, text)| named(name, cut(text, bytes_max))).collect();
    let few = pieces.len() <= PIECES_FEW;
    let mut parts: Vec<Vec<Document>> = Vec::new();
    let mut room = 0;
    for piece in pieces {
        let size = piece.0.len() + piece.1.len();
        match parts.last_mut().filter(|_| !few && size <= room) {
            Some(part) => {
                room -= size;
                part.push(piece);
            }
            None => {
                room = bytes_max.saturating_sub(size);
                parts.push(vec![piece]);
            }
        }
    }
    if parts.len() > PARTS_MAX { Err(parts.len()) } else { Ok(parts) }
}

/// The folder's real path, if it has nothing to do with the node's own folder: there lie its key and its owner's token. Blocks.
pub(super) fn apart(folder: &Path, home: &Path) -> Result<String, String> {
    let real = folder.canonicalize().map_err(|e| format!("{}: {e}", folder.display()))?;
    let home = home.canonicalize().unwrap_or_else(|_| home.to_owned());
    if real.starts_with(&home) || home.starts_with(&real) {
        let real = real.display();
        return Err(format!("{real} holds this node's keys, or is a part of its folder: choose another one"));
    }
    real.into_os_string().into_string().map_err(|path| format!("{} is not UTF-8", path.display()))
}

/// The text files of a folder, by name. Blocks: it is meant for [`skep_runtime::tasks::Spawner::compute`].
pub(super) fn of_folder(folder: &Path) -> Result<Vec<Document>, String> {
    let unreadable = |e: std::io::Error| format!("{}: {e}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // Links are passed over: the folder was given, not what they point at.
        if entry.file_type().map_err(unreadable)?.is_file() {
            paths.push(entry.path());
        }
        if paths.len() > FILES_MAX {
            return Err(format!("{} has more than {FILES_MAX} files: choose a smaller folder", folder.display()));
        }
    }
    paths.sort();
    let mut documents = Vec::new();
    let mut left = DOCUMENTS_BYTES_MAX;
    for path in paths {
        let mut bytes = Vec::new();
        let file = fs::File::open(&path).map_err(unreadable)?;
        file.take(left as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() > left {
            return Err(format!("the files of {} are more than {DOCUMENTS_BYTES_MAX} bytes", folder.display()));
        }
        // What isn't text is no document.
        if let Ok(text) = String::from_utf8(bytes) {
            left -= text.len();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            documents.push((name, text));
        }
    }
    Ok(documents)
}

fn named(name: &str, pieces: Vec<&str>) -> Vec<Document> {
    let of = pieces.len();
    let title = |i: usize| if of == 1 { name.to_owned() } else { format!("{name} ({}/{of})", i + 1) };
    pieces.into_iter().enumerate().map(|(i, text)| (title(i), text.to_owned())).collect()
}

/// `text` in pieces of at most `bytes_max`, each after the first with a little of the one before.
fn cut(text: &str, bytes_max: usize) -> Vec<&str> {
    // Under this a piece could consist of overlap alone.
    let bytes_max = bytes_max.max(64);
    let mut pieces = Vec::new();
    let mut start = 0;
    loop {
        let rest = &text[start..];
        if rest.len() <= bytes_max {
            if pieces.is_empty() || !rest.trim().is_empty() {
                pieces.push(rest);
            }
            return pieces;
        }
        let window = &rest[..rest.floor_char_boundary(bytes_max)];
        let end = boundary(window, window.len() / 2).unwrap_or(window.len());
        pieces.push(&window[..end]);
        let overlap = window.floor_char_boundary(end - end / OVERLAP_PART);
        let again = boundary(&window[..end], overlap).filter(|at| *at < end).unwrap_or(end);
        start += again;
    }
}

/// Behind the last end of a paragraph, line, sentence or word of `text` that lies beyond `from`.
fn boundary(text: &str, from: usize) -> Option<usize> {
    let from = text.floor_char_boundary(from);
    let marks = ["\n\n", "\n", ". ", " "];
    marks.iter().find_map(|mark| {
        let at = from + text[from..].rfind(mark)? + mark.len();
        (at > from).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pieces_end_at_paragraphs() {
        let text = format!("{}\n\n{}\n\n{}", "a".repeat(60), "b".repeat(50), "c".repeat(60));
        let pieces = cut(&text, 120);
        assert_eq!(pieces[0], format!("{}\n\n{}\n\n", "a".repeat(60), "b".repeat(50)));
        assert!(pieces[1].ends_with(&"c".repeat(60)));
    }

    #[test]
    fn many_small_documents_share_a_part_and_few_do_not() {
        let small = |n: usize| -> Vec<Document> { (0..n).map(|i| (format!("d{i}"), "x".repeat(50))).collect() };
        assert_eq!(parts(&small(5), 1000).unwrap().len(), 5);
        assert_eq!(parts(&small(60), 1000).unwrap().len(), 4);
        assert!(parts(&small(60), 64).is_err());
    }

    proptest! {
        #[test]
        fn every_character_is_in_some_piece_and_no_piece_is_too_long(text in "[ab.\n äß]{0,900}", max in 64..200usize) {
            let pieces = cut(&text, max);
            let mut covered = 0;
            for piece in &pieces {
                prop_assert!(piece.len() <= max);
                let start = piece.as_ptr() as usize - text.as_ptr() as usize;
                prop_assert!(start <= covered);
                covered = start + piece.len();
            }
            prop_assert!(text[covered..].trim().is_empty());
        }
    }
}

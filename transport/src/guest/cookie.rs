//! What a guest shows at the door: a random word in a file that only the node's owner may read.
//!
//! It never reaches a command line or a log; a guest is told the file's path.

use data_encoding::BASE32_NOPAD;
use skep_runtime::Env;
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Bytes of randomness in a cookie: 160 bits, as 32 characters of base32.
const COOKIE_BYTES: usize = 20;
/// Bytes of a cookie's file that are read: the word, a line end, and a little to see that there is too much.
const FILE_BYTES_MAX: u64 = 40;

/// The word that admits guests. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie(String);

/// Why there is no usable cookie. Nothing was changed on the disk.
#[derive(Debug, thiserror::Error)]
pub enum CookieError {
    /// The file can't be read or written.
    #[error("the guests' cookie {path} can't be used: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others than the owner may read it, or it holds something else.
    #[error("the guests' cookie {0} is open to others or damaged: remove the file and start the node again")]
    Damaged(PathBuf),
}

impl Cookie {
    /// The cookie in the file at `path` (a node's is `guest` in its folder); made, for the owner alone, if there is
    /// no file. Blocks for a few file operations: call it at start-up.
    pub fn load_or_create(path: &Path, env: &Env) -> Result<Cookie, CookieError> {
        match Cookie::load(path) {
            Err(CookieError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            other => return other,
        }
        let cookie = Cookie(BASE32_NOPAD.encode(&env.bytes::<COOKIE_BYTES>()).to_lowercase());
        match cookie.save(path) {
            Ok(()) => Ok(cookie),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Cookie::load(path),
            Err(source) => Err(CookieError::Io { path: path.into(), source }),
        }
    }

    /// The word itself, for `ractor_cluster`'s handshake, which proves it on both sides without sending it.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    fn load(path: &Path) -> Result<Cookie, CookieError> {
        let failed = |source| CookieError::Io { path: path.into(), source };
        let damaged = || CookieError::Damaged(path.into());
        let file = File::open(path).map_err(failed)?;
        // The opened file is asked, not the path: they could differ by now.
        if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
            return Err(damaged());
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|e| match e.kind() {
            ErrorKind::InvalidData => damaged(),
            _ => failed(e),
        })?;
        let word = text.trim_end();
        if word.len() != COOKIE_BYTES * 8 / 5 || !word.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(damaged());
        }
        Ok(Cookie(word.into()))
    }

    /// Writes a file that is whole or not there: made under another name, then linked, which replaces nothing.
    fn save(&self, path: &Path) -> io::Result<()> {
        let draft = path.with_extension(format!("{}.new", std::process::id()));
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            writeln!(file, "{}", self.0)?;
            file.sync_all()?;
            fs::hard_link(&draft, path)
        };
        let written = write();
        let _ = fs::remove_file(&draft);
        written
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_cookie_is_made_once_and_is_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guest");
        let cookie = Cookie::load_or_create(&path, &Env::machine()).unwrap();
        assert_eq!(Cookie::load_or_create(&path, &Env::machine()).unwrap(), cookie);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft stays behind");
        assert_eq!(format!("{cookie:?}"), "Cookie(..)");
    }

    #[tokio::test]
    async fn a_cookie_that_others_can_read_or_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guest");
        Cookie::load_or_create(&path, &Env::machine()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Cookie::load_or_create(&path, &Env::machine()), Err(CookieError::Damaged(_))));
        for content in [&b""[..], b"short", b"\xff\xfe\x00", &[b'a'; 4096]] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(Cookie::load_or_create(&path, &Env::machine()), Err(CookieError::Damaged(_))));
        }
    }
}

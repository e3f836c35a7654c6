//! A node's folder: where its key, token, store and models lie, and the note that says it is up.
//!
//! ```text
//! key        Ed25519 key, mode 0600        store/    roster, tasks, runs, budgets
//! token      API bearer token, mode 0600   models/   weights
//! guest      guests' cookie, mode 0600
//! node.json  while the node is up          tasks/    output of commands
//!                                          scratch/  folders that they work in
//! ```

use serde::{Deserialize, Serialize};
use skep_actors::runtime::{Env, NodeId};
use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Bytes of randomness in an API token: 160 bits, as 32 characters of base32.
const TOKEN_BYTES: usize = 20;

/// A node's folder. Cheap to clone; nothing is created until it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

/// What `node.json` says while a node is up: where it is really bound, and where its token lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The node's id: its public key.
    pub node_id: NodeId,
    /// Its name.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// `HOST:PORT` of its API.
    pub api: String,
    /// `HOST:PORT` of its QUIC endpoint.
    pub quic: String,
    /// The file that holds the API's bearer token.
    pub token_path: PathBuf,
    /// `HOST:PORT` where `ractor_cluster` programs attach, with the cookie in the file `guest`; absent if they can't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guests: Option<String>,
}

/// Why a node's folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no note: nothing runs there.
    #[error("no node is running in {}: start one with `skep up`, or name its folder with SKEP_HOME", .0.display())]
    NotRunning(PathBuf),
    /// The note or the token is damaged.
    #[error("{} is damaged: stop the node, remove the file and start it again", .0.display())]
    Damaged(PathBuf),
}

impl Home {
    /// The folder at `path`. From now on it is that one wherever this process, or a reader of its note, stands.
    pub fn at(path: impl Into<PathBuf>) -> Home {
        let path = path.into();
        Home(std::path::absolute(&path).unwrap_or(path))
    }

    /// The user's own: `$XDG_DATA_HOME/skep` or what the system uses in its place.
    pub fn of_user() -> Home {
        match directories::ProjectDirs::from("", "", "skep") {
            Some(dirs) => Home(dirs.data_dir().to_path_buf()),
            None => Home::at(".skep"),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The identity key's file.
    pub fn key(&self) -> PathBuf {
        self.0.join("key")
    }

    /// The store's folder.
    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// The models' folder, unless the node was given another.
    pub fn models(&self) -> PathBuf {
        self.0.join("models")
    }

    /// The API token's file.
    pub fn token_path(&self) -> PathBuf {
        self.0.join("token")
    }

    /// The file of the guests' cookie.
    pub fn cookie(&self) -> PathBuf {
        self.0.join("guest")
    }

    fn note_path(&self) -> PathBuf {
        self.0.join("node.json")
    }

    /// Makes the folder, for its owner alone.
    pub fn create(&self) -> Result<(), Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(|error| Error::Io { path: self.0.clone(), error })
    }

    /// The API token, made at the first call.
    pub fn token(&self, env: &Env) -> Result<String, Error> {
        match self.read_token() {
            Err(Error::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let token = data_encoding::BASE32_NOPAD.encode(&env.bytes::<TOKEN_BYTES>()).to_lowercase();
        self.write(&self.token_path(), token.as_bytes())?;
        Ok(token)
    }

    /// The token that a node in this folder made before.
    pub fn read_token(&self) -> Result<String, Error> {
        let path = self.token_path();
        let token = fs::read_to_string(&path).map_err(|error| Error::Io { path: path.clone(), error })?;
        let loose =
            fs::metadata(&path).map_err(|error| Error::Io { path: path.clone(), error })?.permissions().mode() & 0o077;
        let token = token.trim();
        if loose != 0 || token.len() < 20 || !token.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(Error::Damaged(path));
        }
        Ok(token.into())
    }

    /// Says that the node is up. Readers see the whole note or none.
    pub fn announce(&self, note: &Note) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(note).expect("a note is plain data");
        self.write(&self.note_path(), &text)
    }

    /// What runs here, if the note tells of a process that lives.
    pub fn note(&self) -> Result<Note, Error> {
        let path = self.note_path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::NotRunning(self.0.clone())),
            Err(error) => return Err(Error::Io { path, error }),
        };
        let note: Note = serde_json::from_slice(&text).map_err(|_| Error::Damaged(path))?;
        if alive(note.pid) { Ok(note) } else { Err(Error::NotRunning(self.0.clone())) }
    }

    /// Takes the note back.
    pub fn retract(&self) {
        let _ = fs::remove_file(self.note_path());
    }

    /// Writes a file of the owner's alone, whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let fresh = path.with_extension("new");
        let write = || {
            let _ = fs::remove_file(&fresh);
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, path)
        };
        write().map_err(|error| Error::Io { path: path.into(), error })
    }
}

fn alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_token_is_made_once_and_is_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let token = home.token(&Env::machine()).unwrap();
        assert_eq!(home.token(&Env::machine()).unwrap(), token);
        assert_eq!(fs::metadata(home.token_path()).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(home.token_path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(home.read_token(), Err(Error::Damaged(_))));
    }

    #[test]
    fn a_relative_folder_is_the_same_for_a_reader_who_stands_elsewhere() {
        assert_eq!(Home::at("here").token_path(), std::env::current_dir().unwrap().join("here/token"));
    }

    #[test]
    fn a_note_of_a_dead_process_is_no_note() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let mut note = Note {
            node_id: NodeId::from_bytes([1; 32]),
            name: "a".into(),
            pid: std::process::id(),
            api: "127.0.0.1:1".into(),
            quic: "127.0.0.1:2".into(),
            token_path: home.token_path(),
            guests: None,
        };
        home.announce(&note).unwrap();
        assert_eq!(home.note().unwrap(), note);
        note.pid = u32::MAX / 2;
        home.announce(&note).unwrap();
        assert!(matches!(home.note(), Err(Error::NotRunning(_))));
    }
}

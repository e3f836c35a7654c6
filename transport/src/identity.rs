//! This node's key: made once, kept in a file that only its owner may read, never shown.
//!
//! A node *is* its Ed25519 key (RFC 8032). It signs TLS handshakes ([`crate::tls`]) and roster records; each use has
//! a context of its own, so that a signature of one kind never passes for another.

use crate::Env;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use skep_runtime::NodeId;
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The first word of a key file: what it is, and the version of its form.
const KEY_FILE: &str = "skep-key-1";
/// Bytes of a key file that are read: the word, a space, 52 characters, a line end, and room for another line end.
const KEY_FILE_BYTES_MAX: u64 = 80;
/// Separates this project's signatures from everything else that the key might ever sign.
const DOMAIN: &[u8] = b"skep signature 1\0";

/// A node's secret key. Its `Debug` shows the public half alone.
pub struct Identity {
    id: NodeId,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature([u8; 64]);

/// Why a node has no usable key. Nothing was changed on the disk, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or its folder can't be read or written.
    #[error("the key file {path} can't be used: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others than the owner may read or write the file.
    #[error(
        "the key file {path} is open to others (mode {mode:o}): run `chmod 600 {path}`, or delete it if the key may be known, to become a new node"
    )]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not a key of a known form.
    #[error("{path} is not a key file of this program: restore it from a backup, or delete it to become a new node")]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
    /// The machine gave no randomness.
    #[error("no randomness for a new key")]
    Randomness,
}

/// The signature is not of this key, this context and these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not fit")]
pub struct BadSignature;

impl Identity {
    /// The key in the file at `path`; a new one is made, and flushed, if there is no file. Two processes that do
    /// it at once get the same key. Blocks for a few file operations: call it at start-up.
    pub fn load_or_create(path: &Path, env: &Env) -> Result<Identity, Error> {
        match Identity::load(path) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            other => return other,
        }
        let new = Identity::generate(env)?;
        match new.save(path) {
            Ok(()) => Ok(new),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Identity::load(path),
            Err(source) => Err(Error::Io { path: path.into(), source }),
        }
    }

    /// A new key, kept nowhere.
    pub fn generate(env: &Env) -> Result<Identity, Error> {
        let mut seed = [0; 32];
        env.crypto.secure_random.fill(&mut seed).map_err(|_| Error::Randomness)?;
        Ok(Identity::from_seed(seed))
    }

    /// The key of a known seed: the simulation's nodes.
    pub fn from_seed(seed: [u8; 32]) -> Identity {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are an Ed25519 seed");
        let key = pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes");
        Identity { id: NodeId::from_bytes(key), seed, pair }
    }

    /// Who this is: the public key.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Signs `bytes` for one purpose. `context` names it, in at most 255 bytes: `roster admission`, ...
    pub fn sign(&self, context: &str, bytes: &[u8]) -> Signature {
        let signature = self.pair.sign(&framed(context, bytes));
        Signature(signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes"))
    }

    /// The seed, for TLS, which wants a key of its own form, and for keys derived from it.
    pub(crate) fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    fn load(path: &Path) -> Result<Identity, Error> {
        let failed = |source| Error::Io { path: path.into(), source };
        let file = File::open(path).map_err(failed)?;
        // The opened file is asked, not the path: they could differ by now.
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Error::Open { path: path.into(), mode });
        }
        let mut text = String::new();
        let malformed = || Error::Malformed { path: path.into() };
        file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(|e| match e.kind() {
            ErrorKind::InvalidData => malformed(),
            _ => failed(e),
        })?;
        let key =
            text.trim_end().strip_prefix(KEY_FILE).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(malformed)?;
        let seed =
            BASE32_NOPAD.decode(key.as_bytes()).ok().and_then(|seed| seed.try_into().ok()).ok_or_else(malformed)?;
        Ok(Identity::from_seed(seed))
    }

    /// Writes a file that is whole or not there: made under another name, flushed, then linked, which fails
    /// rather than replace a key.
    fn save(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let draft = path.with_extension(format!("{}.new", std::process::id()));
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            writeln!(file, "{KEY_FILE} {}", BASE32_NOPAD.encode(&self.seed))?;
            file.sync_all()?;
            fs::hard_link(&draft, path)?;
            File::open(folder)?.sync_all()
        };
        let written = write();
        let _ = fs::remove_file(&draft);
        written
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.id)
    }
}

impl Signature {
    /// Fails unless `signer` signed `bytes` for `context`.
    pub fn verify(&self, signer: &NodeId, context: &str, bytes: &[u8]) -> Result<(), BadSignature> {
        UnparsedPublicKey::new(&ED25519, signer.as_bytes())
            .verify(&framed(context, bytes), &self.0)
            .map_err(|_| BadSignature)
    }

    /// The signature, from its 64 bytes.
    pub const fn from_bytes(bytes: [u8; 64]) -> Signature {
        Signature(bytes)
    }

    /// Its 64 bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(..)")
    }
}

// serde knows arrays of up to 32 elements.
impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let (r, z) = self.0.split_at(32);
        let half = |bytes: &[u8]| -> [u8; 32] { bytes.try_into().expect("half of 64 is 32") };
        (half(r), half(z)).serialize(s)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Signature, D::Error> {
        let halves = <([u8; 32], [u8; 32])>::deserialize(d)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&halves.0);
        bytes[32..].copy_from_slice(&halves.1);
        Ok(Signature(bytes))
    }
}

/// What is really signed. The context's length stands in front, so that no two pairs give the same bytes.
fn framed(context: &str, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(context.len()).expect("contexts are ours, and short");
    [DOMAIN, &[length], context.as_bytes(), bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_runtime::wire;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn the_key_is_the_same_after_a_restart_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node/identity.key");
        let first = Identity::load_or_create(&path, &Env::machine()).unwrap();
        let again = Identity::load_or_create(&path, &Env::machine()).unwrap();
        assert_eq!(first.id(), again.id());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path().join("node")).unwrap().count(), 1, "no draft stays behind");
    }

    #[tokio::test]
    async fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        Identity::load_or_create(&path, &Env::machine()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = Identity::load_or_create(&path, &Env::machine()).unwrap_err();
        assert!(matches!(refused, Error::Open { mode: 0o644, .. }), "{refused}");
    }

    #[tokio::test]
    async fn anything_else_in_its_place_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        for content in [&b""[..], b"skep-key-1 SHORT", b"\xff\xfe\x00", &[b'A'; 4096]] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(Identity::load_or_create(&path, &Env::machine()), Err(Error::Malformed { .. })));
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_signature_fits_its_signer_its_context_and_its_bytes_alone() {
        let (anna, bert) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let signature = anna.sign("roster", b"bert");
        assert_eq!(signature.verify(&anna.id(), "roster", b"bert"), Ok(()));
        assert_eq!(signature.verify(&bert.id(), "roster", b"bert"), Err(BadSignature));
        assert_eq!(signature.verify(&anna.id(), "rosterb", b"ert"), Err(BadSignature));
        assert_eq!(signature.verify(&anna.id(), "roster", b"berta"), Err(BadSignature));
        assert_eq!(wire::decode::<Signature>(&wire::encode(&signature), 100).unwrap(), signature);
    }

    #[test]
    fn a_key_never_shows_its_secret() {
        let shown = format!("{:?} {:?}", Identity::from_seed([0xab; 32]), Signature([0xcd; 64]));
        assert!(shown.len() < 60, "{shown}");
    }
}

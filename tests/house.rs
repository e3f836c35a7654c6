//! The house's rules as tests: who may depend on whom, and which crates alone know which library.
//!
//! Not here: style that rustfmt and clippy check.

#![allow(clippy::unwrap_used, reason = "a failed test panics and says where")]

use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

/// As much of `cargo metadata` as is looked at. No crate for it: its features would make the tests build another
/// `serde_json` than the program's.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`; absent if it is a usual one.
    kind: Option<String>,
}

/// Every edge that may exist between our crates. Tests, benches and examples (dev-dependencies) may use anything.
const EDGES: [(&str, &[&str]); 8] = [
    ("skep", &["skep-api", "skep-actors", "skep-transport"]),
    ("skep-api", &["skep-actors"]),
    ("skep-actors", &["skep-runtime", "skep-engine"]),
    ("skep-engine", &[]),
    ("skep-transport", &["skep-runtime"]),
    ("skep-runtime", &[]),
    ("skep-openapi", &["skep-api"]),
    ("skep-sim", &["skep-actors", "skep-transport", "skep-runtime"]),
];

/// Libraries that only these crates may name: the walls between QUIC, HTTP and tensors.
const KNOWS: [(&str, &[&str]); 6] = [
    ("quinn", &["skep-transport", "skep-sim"]),
    ("foca", &["skep-transport"]),
    ("libp2p-mdns", &["skep-transport"]),
    ("poem", &["skep-api"]),
    ("poem-openapi", &["skep-api"]),
    ("candle-core", &["skep-engine"]),
];

fn metadata() -> Metadata {
    let asked = Command::new(env!("CARGO")).args(["metadata", "--no-deps", "--format-version", "1"]).output();
    serde_json::from_slice(&asked.expect("cargo runs").stdout).expect("it prints JSON")
}

fn dependencies(package: &Package) -> impl Iterator<Item = &str> {
    package.dependencies.iter().filter(|d| d.kind.as_deref() != Some("dev")).map(|d| d.name.as_str())
}

#[test]
fn crates_depend_only_downwards() {
    let allowed: BTreeMap<_, _> = EDGES.into_iter().collect();
    let mut wrong = Vec::new();
    for package in metadata().packages {
        let name = package.name.as_str();
        let may =
            allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the house's plan: draw its edges first"));
        wrong.extend(
            dependencies(&package)
                .filter(|d| d.starts_with("skep"))
                .filter(|d| !may.contains(d))
                .map(|d| format!("{name} -> {d}")),
        );
    }
    assert!(wrong.is_empty(), "edges that the plan doesn't draw: {wrong:?}");
}

#[test]
fn each_wall_is_known_to_its_crate_alone() {
    let mut wrong = Vec::new();
    for package in metadata().packages {
        for (library, crates) in KNOWS {
            if dependencies(&package).any(|d| d == library) && !crates.contains(&package.name.as_str()) {
                wrong.push(format!("{} knows {library}", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn every_source_file_opens_with_what_it_is_for() {
    let mut bare = Vec::new();
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        if !text.starts_with("//!") {
            bare.push(file);
        }
    }
    assert!(bare.is_empty(), "files without a `//!` opening: {bare:?}");
}

#[test]
fn no_test_is_ignored_and_none_sleeps() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ours = Path::new(file!()).file_name().unwrap();
    // Where black-box tests look again at what no event tells.
    let looks = root.join("tests/bee/mod.rs");
    let mut wrong = Vec::new();
    for file in sources().into_iter().filter(|f| f.file_name() != Some(ours)) {
        let text = std::fs::read_to_string(&file).unwrap();
        let tests = file.components().any(|part| part.as_os_str() == "tests");
        let blackbox = file.starts_with(root.join("tests")) && file != looks;
        // Elsewhere a sleep is on a paused clock, which only the thread's own would escape.
        let sleeps = (tests && text.contains("thread::sleep(")) || (blackbox && text.contains("sleep("));
        if text.contains("#[ignore") || sleeps {
            wrong.push(file);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// A port whose asker has given up answers `Err`, and an actor that passes that on fails, with all that runs under it.
#[test]
fn no_actor_fails_because_its_asker_gave_up() {
    let ours = Path::new(file!()).file_name().unwrap();
    let mut wrong = Vec::new();
    for file in sources().into_iter().filter(|f| f.file_name() != Some(ours)) {
        let text = std::fs::read_to_string(&file).unwrap();
        let passes_on =
            |line: &str| line.contains("reply.send(") && [")?", ")).map_err("].iter().any(|p| line.contains(p));
        wrong.extend(text.lines().filter(|l| passes_on(l)).map(|l| format!("{}: {}", file.display(), l.trim())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_map_names_every_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let folders: BTreeSet<String> = sources()
        .iter()
        .filter_map(|f| f.strip_prefix(root).ok()?.parent().map(|p| p.display().to_string()))
        .filter(|p| p.ends_with("/src") || p.contains("/src/"))
        .filter(|p| p.matches('/').count() <= 2)
        .collect();
    let missing: Vec<_> = folders.iter().filter(|f| !map.contains(f.as_str())).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md doesn't mention {missing:?}");
}

/// Our Rust files, generated and fuzz folders left out.
fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["src", "runtime", "transport", "actors", "api", "openapi", "sim", "tests", "examples"]
            .map(|f| root.join(f))
            .into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && path.file_name().is_some_and(|n| n != "target" && n != "fuzz") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files
}

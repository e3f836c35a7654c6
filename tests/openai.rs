//! The official OpenAI client of PyPI against a node, streaming and not.

#![allow(clippy::unwrap_used, reason = "a failed test panics and says where")]

mod bee;

use bee::{Hive, PATIENCE};
use std::process::Stdio;
use tokio::{process::Command, time::timeout};

const SCRIPT: &str = r#"
import sys
from openai import OpenAI, NotFoundError
client = OpenAI(base_url=sys.argv[1], api_key=sys.stdin.readline().strip())
assert "tiny" in [m.id for m in client.models.list()]
ask = dict(model="tiny", messages=[{"role": "user", "content": "one two three"}], max_tokens=12, temperature=0)
whole = client.chat.completions.create(**ask)
assert whole.object == "chat.completion" and whole.choices[0].finish_reason in ("stop", "length")
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
parts, usage = [], None
for chunk in client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
    assert chunk.object == "chat.completion.chunk"
    usage = chunk.usage or usage
    parts += [c.delta.content or "" for c in chunk.choices]
assert "".join(parts) == whole.choices[0].message.content, (parts, whole)
assert usage == whole.usage, (usage, whole.usage)
try:
    client.chat.completions.create(**{**ask, "model": "nobody"})
    raise SystemExit("an unknown model was answered")
except NotFoundError:
    pass
print("the official client is content")
"#;

#[tokio::test]
async fn the_official_client_is_content() {
    let hive = Hive::new();
    // A virtual environment of the test's own: nothing is installed on the machine.
    let python = hive.folder.path().join("python");
    let made = Command::new("python3")
        .args(["-m", "venv"])
        .arg(&python)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    let pip = Command::new(python.join("bin/pip"))
        .args(["install", "-q", "--disable-pip-version-check", "openai>=1.60,<3"])
        .output();
    let installed = match made {
        Ok(status) if status.success() => {
            timeout(PATIENCE * 4, pip).await.is_ok_and(|o| o.is_ok_and(|o| o.status.success()))
        }
        _ => false,
    };
    if !installed {
        return bee::not_run("openai", "python3 -m venv or `pip install openai` doesn't work on this machine");
    }
    hive.tiny();
    let alder = hive.start("alder").await;
    let mut script = Command::new(python.join("bin/python"))
        .args(["-c", SCRIPT, &alder.url("/v1")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = script.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, format!("{}\n", alder.token).as_bytes()).await.unwrap();
    drop(stdin);
    let output = timeout(PATIENCE * 2, script.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

//! What happens is told as it happens: over WebSockets and event streams, by each node of all of them, to nobody but the
//! owner, and without waiting for who doesn't read.

#![allow(clippy::unwrap_used, reason = "a failed test panics and says where")]

mod bee;

use bee::{Bee, Hive, PATIENCE};
use futures::{SinkExt, StreamExt};
use reqwest::header::HeaderName;
use serde_json::{Value, json};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

type Socket = WebSocketStream<TcpStream>;

/// Bytes that the kernel keeps for a client that doesn't read: few, so that the node notices soon.
const SMALL_BUFFER: u32 = 4 << 10;

/// Opens a WebSocket at this path with these headers.
async fn open(bee: &Bee, path: &str, headers: &[(&str, &str)]) -> Result<Socket, Error> {
    let address = bee.note["api"].as_str().expect("an address");
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(SMALL_BUFFER).unwrap();
    let stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    timeout(PATIENCE, client_async(request, stream)).await.expect("it answers").map(|(socket, _)| socket)
}

/// Why a WebSocket was refused: status and problem.
async fn refused(bee: &Bee, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    // A WebSocket's client gives up before it has read why.
    let mut request = reqwest::Client::builder().no_proxy().build().unwrap().get(bee.url(path));
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
    for (name, value) in upgrade.iter().chain(&[("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")]).chain(headers) {
        request = request.header(*name, *value);
    }
    let response = timeout(PATIENCE, request.send()).await.expect("it answers").unwrap();
    let status = response.status().as_u16();
    assert_ne!(status, 101, "{path} {headers:?} is let in");
    (status, response.json().await.unwrap_or_default())
}

/// The owner's WebSocket, and its first frame.
async fn listen(bee: &Bee) -> (Socket, Value) {
    let bearer = format!("Bearer {}", bee.token);
    let mut socket = open(bee, "/ws", &[("authorization", &bearer)]).await.expect("the owner is let in");
    let first = next(&mut socket).await;
    (socket, first)
}

/// The next text frame.
async fn next(socket: &mut Socket) -> Value {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("something comes").expect("it goes on").unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).expect("it is JSON"),
            Message::Close(why) => panic!("closed: {why:?}"),
            _ => {}
        }
    }
}

/// The first event that is as wanted.
async fn until(socket: &mut Socket, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let look = async {
        loop {
            let event = next(socket).await;
            if wanted(&event) {
                return event;
            }
        }
    };
    timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{what}: it was never told"))
}

#[tokio::test]
async fn a_client_of_any_node_is_told_what_happens_on_all_of_them() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    alder.until("birch is up", "/api/nodes", |nodes| bee::status(nodes, birch.id()) == Some("online")).await;
    let (mut socket, first) = listen(&alder).await;
    assert_eq!((&first["type"], &first["event"]), (&json!("connected"), &json!("connected")), "{first}");
    assert!(first["version"].is_string() && first["timestamp"].is_string(), "{first}");
    assert_eq!(first["unreached"], json!([]), "{first}");

    let task = birch.post("/api/tasks", json!({ "command": "echo hello", "node": birch.id() })).await;
    let id = task["id"].clone();
    let of = |name: &'static str, status: &'static str| {
        let id = id.clone();
        move |event: &Value| event["type"] == name && event["id"] == id && event["status"] == status
    };
    let taken = until(&mut socket, "it was taken", of("task_submitted", "pending")).await;
    assert_eq!((&taken["node_id"], &taken["command"]), (&json!(birch.id()), &json!("echo hello")), "{taken}");
    until(&mut socket, "it runs", of("task_updated", "running")).await;
    let ended = until(&mut socket, "it ended", of("task_updated", "completed")).await;
    assert_eq!((&ended["exit_code"], &ended["event"]), (&json!(0), &json!("task_updated")), "{ended}");
    let shown = alder.get(&format!("/api/tasks/{}", id.as_str().expect("an id"))).await;
    assert_eq!(shown["status"], "completed", "who was told finds it so: {shown}");

    // A command of a client changes what it is told; other words are acknowledged.
    socket.send(Message::text(r#"{"cmd":"subscribe","events":["node_offline"]}"#)).await.unwrap();
    until(&mut socket, "the command is answered", |frame| frame["type"] == "subscribed").await;
    socket.send(Message::text("hello")).await.unwrap();
    until(&mut socket, "a word is acknowledged", |frame| frame["type"] == "ack").await;
    socket.send(Message::text(r#"{"cmd":"inject","to":"nobody","payload":{}}"#)).await.unwrap();
    let unknown = until(&mut socket, "nobody is told so", |frame| frame["type"] == "error").await;
    assert_eq!(unknown["detail"], "Unknown target agent: nobody");
    let id = birch.id().to_owned();
    birch.kill().await;
    let gone = until(&mut socket, "birch is gone", |event| event["type"] == "node_offline").await;
    assert_eq!((&gone["id"], &gone["name"]), (&json!(id), &json!("birch")), "{gone}");
}

#[tokio::test]
async fn the_command_line_shows_a_line_an_event() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let mut events = tokio::process::Command::new(bee::program())
        .args(["--json", "events", "--types", "task_submitted,task_updated"])
        .env("SKEP_HOME", &alder.home)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(events.stdout.take().expect("piped")));
    let mut line = async || -> Value {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("a line comes").unwrap().expect("it goes on");
        serde_json::from_str(&line).expect("a line is JSON")
    };
    assert_eq!(line().await["type"], "connected");
    let task = alder.post("/api/tasks", json!({ "command": "exit 3" })).await;
    let (first, mut last) = (line().await, Value::Null);
    assert_eq!((&first["type"], &first["id"]), (&json!("task_submitted"), &task["id"]), "{first}");
    while last["status"] != "failed" {
        last = line().await;
    }
    assert_eq!(last["exit_code"], 3, "{last}");
    let wrong = alder.run(&["events", "--types", "task_sumbitted"]).await;
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && said.contains("task_submitted"), "{said}");
}

/// A16: another site's page opens a WebSocket here with what the browser has, or is given a URL with a token in it
/// (CVE-2026-25253).
#[tokio::test]
async fn another_sites_page_can_t_take_over_a_socket_and_no_token_goes_by_a_url() {
    let hive = Hive::new();
    let alder = hive.start_with("alder", &[], &[("SKEP_LOG", "trace")]).await;
    let address = alder.note["api"].as_str().expect("an address").to_owned();
    let (bearer, ours) = (format!("Bearer {}", alder.token), format!("http://{address}"));
    // A browser that is signed in.
    let link = alder.post("/api/session", json!({})).await["path"].as_str().expect("a path").to_owned();
    let browser = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let entered = browser.get(alder.url(&link)).send().await.unwrap();
    let cookie = entered.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();

    let evil = "https://evil.example";
    let neighbour = "http://127.0.0.1:1";
    let scheme = ours.replace("http", "ws");
    let credentials =
        [("cookie", cookie.as_str()), ("authorization", bearer.as_str()), ("x-api-key", alder.token.as_str())];
    for origin in [evil, neighbour, "null", "http://localhost.evil.example", scheme.as_str()] {
        for credential in credentials {
            let (status, problem) = refused(&alder, "/ws", &[credential, ("origin", origin)]).await;
            assert_eq!((status, &problem["code"]), (403, &json!("wrong_origin")), "{origin}: {problem}");
        }
    }
    // A page that was rebound to this address, a cookie from nowhere, a site that says so, and nothing at all.
    let strange: [&[(&str, &str)]; 5] = [
        &[("host", "evil.example"), ("authorization", &bearer)],
        &[("cookie", &cookie)],
        &[("cookie", &cookie), ("origin", &ours), ("sec-fetch-site", "cross-site")],
        &[("cookie", "skep_session=00000000000000000000000000000000"), ("origin", &ours)],
        &[],
    ];
    for (headers, status) in strange.into_iter().zip([421, 401, 401, 401, 401]) {
        assert_eq!(refused(&alder, "/ws", headers).await.0, status, "{headers:?}");
    }

    // The token in a URL opens nothing, wherever, whatever comes with it, and however it is written.
    for name in ["token", "access_token", "api_key", "%74oken", "Token", "a=b&token"] {
        for path in ["/ws", "/api/events", "/"] {
            let url = format!("{path}?{name}={}", alder.token);
            let (status, problem) = refused(&alder, &url, &[("authorization", &bearer)]).await;
            assert_eq!((status, &problem["code"]), (400, &json!("secret_in_url")), "{url}: {problem}");
            assert!(!problem.to_string().contains(&alder.token), "{problem}");
        }
    }

    // A ticket opens one socket, for the browser that asked for it.
    let other = alder.post("/api/ws/ticket", json!({})).await["ticket"].as_str().expect("a ticket").to_owned();
    let ticket = browser.post(alder.url("/api/ws/ticket")).header("cookie", &cookie).header("origin", &ours);
    let ticket: Value = ticket.send().await.unwrap().json().await.unwrap();
    let ticket = ticket["ticket"].as_str().expect("a ticket").to_owned();
    let path = |ticket: &str| format!("/ws?ticket={ticket}");
    assert_eq!(refused(&alder, &path(&other), &[("origin", evil)]).await.0, 403);
    drop(open(&alder, &path(&other), &[]).await.expect("who has the token's ticket is let in"));
    assert_eq!(refused(&alder, &path(&other), &[]).await.0, 401, "once");
    assert_eq!(refused(&alder, &path(&ticket), &[("origin", &ours)]).await.0, 401, "it is another browser's");
    assert_eq!(refused(&alder, "/api/events?ticket=x", &[("origin", &ours)]).await.0, 401);

    // Our own page is let in. It takes no address from its URL and keeps no secret where a script could read it.
    let script = browser.get(alder.url("/ui/app.js")).send().await.unwrap().text().await.unwrap();
    assert!(["location", "localStorage", "WebSocket("].iter().all(|word| !script.contains(word)));
    let mut page = open(&alder, "/ws", &[("cookie", &cookie), ("origin", &ours)]).await.expect("our own page");
    assert_eq!(next(&mut page).await["type"], "connected");
    let (token, said) = (alder.token.clone(), alder.last_words().await);
    assert!(said.contains("TRACE"), "it says all that it can");
    for secret in [token.as_str(), &ticket, &other] {
        assert!(!said.contains(secret), "a secret is in the node's log");
    }
}

/// A10: a browser that is signed in for a day, or a ticket for seconds, gets at the token, a new session or an agent
/// (GHSA-4jpw-hj22-2xmc).
#[tokio::test]
async fn a10_what_is_short_lived_gets_nothing_that_lives_longer_or_may_more() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let browser = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let link = alder.post("/api/session", json!({})).await["path"].as_str().expect("a path").to_owned();
    let entered = browser.get(alder.url(&link)).send().await.unwrap();
    let cookie = entered.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let renewed = browser.post(alder.url("/api/session")).header("cookie", &cookie).send().await.unwrap();
    assert_eq!(renewed.status().as_u16(), 403);

    // A ticket's socket starts no turn.
    let ticket = alder.post("/api/ws/ticket", json!({})).await["ticket"].as_str().expect("a ticket").to_owned();
    let mut socket = open(&alder, &format!("/ws?ticket={ticket}"), &[]).await.expect("the ticket works");
    assert_eq!(next(&mut socket).await["type"], "connected");
    socket.send(Message::text(r#"{"cmd":"inject","to":"main","payload":{"content":"hello"}}"#)).await.unwrap();
    let refused = until(&mut socket, "it only listens", |frame| frame["type"] == "error").await;
    assert!(refused["detail"].as_str().is_some_and(|why| why.contains("only listens")), "{refused}");
    assert_eq!(alder.get("/api/v1/threads").await["total"], 0);

    // No route tells a browser the token, however it is asked.
    let spec = alder.get("/openapi.json").await;
    let paths = spec["paths"].as_object().expect("paths");
    let mut looked = 0;
    for path in paths.iter().filter(|(path, ways)| ways.get("get").is_some() && !path.contains('{')).map(|(p, _)| p) {
        let answer = browser.get(alder.url(path)).header("cookie", &cookie).send();
        let answer = timeout(PATIENCE, answer).await.expect("it answers").unwrap();
        assert!(!format!("{:?}", answer.headers()).contains(&alder.token), "{path}");
        // A stream doesn't end; its frames are those of the socket.
        if !answer.headers().get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
            assert!(!answer.text().await.unwrap().contains(&alder.token), "{path}");
            looked += 1;
        }
    }
    assert!(looked > 30, "{looked} routes");
}

#[tokio::test]
async fn who_never_reads_is_dropped_and_the_node_goes_on() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let (mut slow, _) = listen(&alder).await;
    let (mut other, _) = listen(&alder).await;
    // Each of its words is answered by all that it wants, and no answer is read.
    let names: Vec<String> = (0..200).map(|n| format!("an event of the name {n}")).collect();
    slow.send(Message::text(json!({ "cmd": "subscribe", "events": names }).to_string())).await.unwrap();
    let more = json!({ "cmd": "subscribe", "events": [names[0]] }).to_string();
    let talk = async { while slow.send(Message::text(more.clone())).await.is_ok() {} };
    let busy = async {
        let task = alder.post("/api/tasks", json!({ "command": "true" })).await;
        let ended = |event: &Value| event["id"] == task["id"] && event["status"] == "completed";
        until(&mut other, "another client is told as ever", ended).await
    };
    let (dropped, _) = tokio::join!(timeout(PATIENCE, talk), busy);
    dropped.expect("it is dropped");
    let counted = alder.get("/api/metrics").await.to_string();
    assert!(counted.contains("listeners_dropped"), "{counted}");
    // Its seat is free: as many as one address may have can listen beside the other one.
    let mut rest = Vec::new();
    for _ in 1..10 {
        rest.push(listen(&alder).await);
    }
    let bearer = format!("Bearer {}", alder.token);
    assert_eq!(refused(&alder, "/ws", &[("authorization", &bearer)]).await.0, 429);
}

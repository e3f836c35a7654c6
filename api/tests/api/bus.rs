//! Who may listen, how many may, and what they are told.

use crate::stage::{HOST, Stage, TOKEN, events, json, problem};
use futures::{SinkExt, StreamExt};
use poem::{http::StatusCode, test::TestRequestBuilder};
use serde_json::{Value, json};
use skep_actors::{
    event::{self, What, bus::EVENTS_MAX, what::Failure},
    testing::Swarm,
};
use skep_api::{
    Config, Server, Token,
    limits::{LISTENERS_PER_ADDRESS_MAX, SOCKET_FRAME_BYTES_MAX},
};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};
use tokio_util::sync::CancellationToken;

/// What only a request that the guard let in is told, where there is no connection to upgrade.
const LET_IN: u16 = 426;

fn word(text: &str) -> What {
    What::Error(Failure { detail: text.into() })
}

/// A browser's or a program's way to a WebSocket.
fn socket<'a, E: poem::Endpoint>(request: TestRequestBuilder<'a, E>) -> TestRequestBuilder<'a, E> {
    request.header("connection", "upgrade").header("upgrade", "websocket").header("sec-websocket-version", "13")
}

async fn status(stage: &Stage, path: &str, headers: &[(&'static str, &str)]) -> u16 {
    let mut request = socket(stage.bare().get(path)).header("host", HOST);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.0.status().as_u16()
}

/// A16: a page of another site opens a WebSocket here with what the browser has (CVE-2026-25253).
#[tokio::test]
async fn a_socket_is_opened_by_a_header_or_by_a_page_of_ours() {
    let stage = Stage::new().await;
    let (bearer, ours) = (format!("Bearer {TOKEN}"), format!("http://{HOST}"));
    let link = json(stage.post("/api/session").send().await).await.1["path"].as_str().unwrap().to_owned();
    let entered = stage.bare().get(link).header("host", HOST).send().await;
    let cookie = entered.0.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let (cookie, evil) = (cookie.as_str(), "http://evil.example");
    let cases: [(&[(&'static str, &str)], u16); 9] = [
        (&[], 401),
        (&[("authorization", "Bearer wrong")], 401),
        (&[("x-api-key", "wrong")], 401),
        (&[("authorization", &bearer)], LET_IN),
        (&[("x-api-key", TOKEN)], LET_IN),
        (&[("authorization", &bearer), ("origin", evil)], 403),
        (&[("cookie", cookie)], 401),
        (&[("cookie", cookie), ("origin", evil)], 403),
        (&[("cookie", cookie), ("origin", &ours)], LET_IN),
    ];
    for (headers, expected) in cases {
        assert_eq!(status(&stage, "/ws", headers).await, expected, "{headers:?}");
    }
    let plain = stage.get("/ws").send().await;
    plain.assert_header("upgrade", "websocket");
    problem(plain, LET_IN, "this is a WebSocket: open it with one's client, or follow /api/events").await;
}

/// A16: a token in a URL is in logs, histories and other sites' `Referer` (CVE-2026-25253).
#[tokio::test]
async fn a_token_in_a_url_is_refused_and_not_repeated() {
    let stage = Stage::new().await;
    for name in ["token", "access_token", "api_key", "TOKEN", "%61pi_key", "x=1&token"] {
        for path in ["/ws", "/api/events", "/api/tasks", "/health"] {
            let (status, problem) = json(stage.get(&format!("{path}?{name}={TOKEN}")).send().await).await;
            assert_eq!((status, &problem["code"]), (400, &json!("secret_in_url")), "{path} {name}: {problem}");
            assert!(!problem.to_string().contains(TOKEN), "{problem}");
        }
    }
}

#[tokio::test]
async fn a_ticket_opens_one_socket_and_nothing_else() {
    let stage = Stage::new().await;
    let ticket =
        async || json(stage.post("/api/ws/ticket").send().await).await.1["ticket"].as_str().unwrap().to_owned();
    let (used, spared) = (ticket().await, ticket().await);
    assert_eq!(status(&stage, &format!("/ws?ticket={used}"), &[("origin", "http://evil.example")]).await, 403);
    assert_eq!(status(&stage, &format!("/ws?ticket={used}"), &[]).await, LET_IN);
    assert_eq!(status(&stage, &format!("/ws?ticket={used}"), &[]).await, 401);
    assert_eq!(status(&stage, &format!("/api/events?ticket={spared}"), &[]).await, 401);
    assert_eq!(status(&stage, &format!("/ws?ticket={spared}"), &[]).await, LET_IN, "elsewhere it was not looked at");
    let stranger = stage.bare().post("/api/ws/ticket").header("host", HOST).send().await;
    stranger.assert_status(StatusCode::UNAUTHORIZED);
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_what_was_asked_for_and_when_it_could_not_keep_up() {
    let stage = Stage::new().await;
    let response = stage.get("/api/events?types=error").send().await;
    response.assert_status_is_ok();
    response.assert_content_type("text/event-stream");
    let mut chunks = response.0.into_body().into_bytes_stream();
    let mut next = async || String::from_utf8(chunks.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(next().await.starts_with("event: connected\n"));
    stage.context().events.publish(|| {
        What::AgentState(event::what::AgentState { agent_id: "a".into(), state: "idle".into(), thread_id: None })
    });
    stage.context().events.publish(|| word("no"));
    let told = next().await;
    assert!(told.starts_with("event: error\n") && told.contains(r#""detail":"no""#), "{told}");

    let slow = stage.get("/api/events").send().await;
    for _ in 0..EVENTS_MAX + 5 {
        stage.context().events.publish(|| word("x"));
    }
    let told = events(slow).await;
    let (name, data) = told.last().unwrap();
    assert!(name == "dropped" && data.contains("too slow: 5 events were missed"), "{data}");

    let (status, problem) = json(stage.get("/api/events?types=errors").send().await).await;
    assert_eq!((status, &problem["field"]), (400, &json!("types")), "{problem}");
}

/// A server on a real socket, with the bus's actor.
struct Served {
    swarm: Swarm,
    address: SocketAddr,
    stop: CancellationToken,
}

type Socket = WebSocketStream<TcpStream>;

impl Served {
    async fn new() -> Served {
        let swarm = Swarm::of_machine(1).await;
        event::start(swarm.context(0), swarm.root(0)).await.unwrap();
        let config = Config { bind: "127.0.0.1:0".parse().unwrap(), ..Config::new(Token::new(TOKEN).unwrap()) };
        let listener = Server::listen(&config).await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let server = Server::new(swarm.context(0).clone(), config).serve(listener, stop.clone().cancelled_owned());
        swarm.context(0).tasks.spawn(async move { server.await.unwrap() });
        Served { swarm, address, stop }
    }

    async fn open(&self) -> Result<Socket, Error> {
        let mut request = format!("ws://{}/ws", self.address).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
        client_async(request, TcpStream::connect(self.address).await.unwrap()).await.map(|(socket, _)| socket)
    }

    /// A socket whose first frame was read.
    async fn listen(&self) -> Socket {
        let mut socket = self.open().await.unwrap();
        let first = next(&mut socket).await;
        assert_eq!((&first["type"], &first["event"]), (&json!("connected"), &json!("connected")));
        assert!(first["version"].is_string() && first["timestamp"].is_string() && first["organism"] == "n0", "{first}");
        socket
    }
}

async fn next(socket: &mut Socket) -> Value {
    match socket.next().await.unwrap().unwrap() {
        Message::Text(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn closed(socket: &mut Socket) -> (CloseCode, String) {
    loop {
        if let Message::Close(why) = socket.next().await.unwrap().unwrap() {
            let why = why.unwrap();
            return (why.code, why.reason.to_string());
        }
    }
}

#[tokio::test]
async fn events_come_over_a_real_socket() {
    let served = Served::new().await;
    let mut socket = served.listen().await;
    served.swarm.context(0).events.publish(|| word("no"));
    let told = next(&mut socket).await;
    assert_eq!((&told["type"], &told["detail"]), (&json!("error"), &json!("no")));
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(next(&mut socket).await["type"], "ack");
}

#[tokio::test]
async fn who_is_too_slow_is_closed_with_what_it_missed() {
    let served = Served::new().await;
    let mut socket = served.listen().await;
    // All at once: nothing of it can be read meanwhile.
    for _ in 0..EVENTS_MAX + 9 {
        served.swarm.context(0).events.publish(|| word("x"));
    }
    let (code, why) = closed(&mut socket).await;
    assert_eq!((code, why.as_str()), (CloseCode::Again, "too slow: 9 events were missed; connect again"));
}

#[tokio::test]
async fn a_frame_has_a_bound_and_a_client_that_breaks_it_is_told() {
    let served = Served::new().await;
    let mut socket = served.listen().await;
    socket.send(Message::text("x".repeat(SOCKET_FRAME_BYTES_MAX))).await.unwrap();
    assert_eq!(next(&mut socket).await["type"], "ack");
    socket.send(Message::text("x".repeat(SOCKET_FRAME_BYTES_MAX + 1))).await.unwrap();
    assert_eq!(closed(&mut socket).await, (CloseCode::Size, "a frame has 64 KiB at most".into()));
}

#[tokio::test]
async fn one_address_has_ten_sockets_and_a_closed_one_is_free_again() {
    let served = Served::new().await;
    let mut sockets = Vec::new();
    for _ in 0..LISTENERS_PER_ADDRESS_MAX {
        sockets.push(served.listen().await);
    }
    match served.open().await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 429),
        other => panic!("{other:?}"),
    }
    let mut leaves = sockets.pop().unwrap();
    leaves.close(None).await.unwrap();
    while leaves.next().await.is_some() {}
    served.listen().await;
}

#[tokio::test]
async fn a_client_is_told_that_the_server_stops() {
    let served = Served::new().await;
    let mut socket = served.listen().await;
    served.stop.cancel();
    assert_eq!(closed(&mut socket).await, (CloseCode::Away, "this node stops".into()));
}

#[tokio::test]
async fn who_never_reads_a_stream_is_cut_off() {
    let served = Served::new().await;
    let socket = TcpSocket::new_v4().unwrap();
    // Of what the kernel keeps for a client that doesn't read, little.
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut stream = socket.connect(served.address).await.unwrap();
    let host = served.address;
    let head = format!("GET /api/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.read_exact(&mut [0; 12]).await.unwrap();
    // Less than the ring holds, and more than the kernel does.
    for _ in 0..EVENTS_MAX / 2 {
        served.swarm.context(0).events.publish(|| word(&"x".repeat(2048)));
    }
    // What it says is not read either while its answer is stuck; once it is cut off, saying more fails.
    while stream.write_all(&[b'x'; 1 << 10]).await.is_ok() {}
    let metrics = served.swarm.context(0).metrics.text();
    assert!(metrics.contains("skep_listeners_dropped_total 1"), "{metrics}");
}

//! The server on a real socket.

use crate::stage::{HOST, Stage, TOKEN, answer};
use futures::{FutureExt, future::BoxFuture};
use ractor::RpcReplyPort;
use skep_actors::{
    node::{self, Message, Summary},
    runtime::Wire,
    testing::Swarm,
};
use skep_api::{Config, Server, Token};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

/// A server whose node answers a sign of life when the test says so.
struct Served {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    asked: mpsc::UnboundedReceiver<RpcReplyPort<Wire<Summary>>>,
    server: BoxFuture<'static, std::io::Result<()>>,
    _stage: Stage,
}

impl Served {
    async fn new() -> Served {
        let stage = Stage::new().await;
        let (ask, asked) = mpsc::unbounded_channel();
        let script = move |message| {
            if let Message::Summary(port) = message {
                ask.send(port).unwrap();
            }
        };
        stage.play(node::NAME, script).await;
        let config = Config { bind: "127.0.0.1:0".parse().unwrap(), ..Config::new(Token::new(TOKEN).unwrap()) };
        let listener = Server::listen(&config).await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let server = Server::new(stage.context().clone(), config).serve(listener, stop.clone().cancelled_owned());
        Served { address, stop, asked, server: Box::pin(server), _stage: stage }
    }

    /// Asks, and waits until the node was asked.
    async fn ask(&mut self) -> (TcpStream, RpcReplyPort<Wire<Summary>>) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("GET /health HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
        tokio::select! {
            port = self.asked.recv() => (stream, port.unwrap()),
            ended = &mut self.server => panic!("{ended:?}"),
        }
    }
}

#[tokio::test]
async fn a_request_in_flight_is_answered_after_the_server_was_told_to_stop() {
    let mut served = Served::new().await;
    let (mut stream, port) = served.ask().await;
    served.stop.cancel();
    assert!((&mut served.server).now_or_never().is_none(), "it waits for the answer");
    assert!(TcpStream::connect(served.address).await.is_err(), "and takes no new request");
    answer(port, Summary::default());
    let mut text = String::new();
    let (ended, read) = tokio::join!(served.server, stream.read_to_string(&mut text));
    ended.unwrap();
    read.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
}

#[tokio::test]
async fn no_connection_outlives_a_server_that_is_dropped() {
    let mut served = Served::new().await;
    let (mut stream, port) = served.ask().await;
    drop(served.server);
    assert_eq!(stream.read(&mut [0; 64]).await.unwrap_or(0), 0, "the connection is closed");
    drop(port);
}

#[tokio::test]
async fn it_serves_on_the_port_that_it_got_and_ends_when_told() {
    let swarm = Swarm::new(1).await;
    let config = Config { bind: "127.0.0.1:0".parse().unwrap(), ..Config::new(Token::new(TOKEN).unwrap()) };
    let listener = Server::listen(&config).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = Server::new(swarm.context(0).clone(), config).serve(listener, stop.clone().cancelled_owned());
    let client = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /api/agents/templates HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        stop.cancel();
        answer
    };
    let (served, answer) = tokio::join!(server, client);
    served.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"summary\""), "{answer}");
    assert!(TcpStream::connect(address).await.is_err());
}

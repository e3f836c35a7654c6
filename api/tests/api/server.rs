//! The server on a real socket.

use crate::stage::{HOST, TOKEN};
use skep_actors::testing::Swarm;
use skep_api::{Config, Server, Token};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

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

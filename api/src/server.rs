//! The server: one listener, one app, an end with a deadline.

use crate::{
    Config,
    app::app_in,
    door::Door,
    limits::{CLOSE_TIMEOUT, IDLE_TIMEOUT, SHUTDOWN_TIMEOUT},
    room::Room,
};
use skep_actors::Context;
use std::{future::Future, io};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The API of one node, ready to be served.
pub struct Server {
    context: Context,
    config: Config,
}

impl Server {
    /// The API of this node.
    pub fn new(context: Context, config: Config) -> Server {
        Server { context, config }
    }

    /// Binds the configured address; the listener tells the real one, should the port have been 0.
    pub async fn listen(config: &Config) -> io::Result<TcpListener> {
        TcpListener::bind(config.bind).await
    }

    /// Serves until `shutdown`; then the listener closes at once, and requests in flight have
    /// [`SHUTDOWN_TIMEOUT`] to end. No connection outlives this future, however it ends.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        // Names are checked against the address that was really bound.
        let config = Config { bind: listener.local_addr()?, ..self.config };
        let room = Room::default();
        let app = app_in(&self.context, &config, &room);
        let closing = room.closing();
        let shutdown = async move {
            shutdown.await;
            // Answers without end would take the whole of that time.
            closing.cancel();
        };
        let closed = CancellationToken::new();
        let _all = closed.clone().drop_guard();
        let served = poem::Server::new_with_acceptor(Door::new(listener, closed, room.clone()))
            .name("api")
            .idle_timeout(IDLE_TIMEOUT)
            .run_with_graceful_shutdown(app, shutdown, Some(SHUTDOWN_TIMEOUT))
            .await;
        // Sockets are told why they are closed.
        room.emptied(CLOSE_TIMEOUT).await;
        served
    }
}

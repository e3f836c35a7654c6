//! The mesh as the directory's way to other nodes: finds or dials the connection, hands over to its link.

use super::{
    Protocol,
    shared::{Live, Shared},
};
use crate::bulk;
use futures::future::BoxFuture;
use skep_runtime::{
    Carrier, Envelope, Error, NodeId, Stream, Ticket,
    defaults::{ASK_TIMEOUT, ASK_TIMEOUT_MAX},
};
use std::sync::{Arc, Weak};
use tokio::time::{Instant, timeout_at};

/// What the directory holds. Weak: the mesh holds the directory.
pub(super) struct Wires(pub(super) Weak<Shared>);

impl Wires {
    async fn live(&self, node: NodeId) -> Result<Arc<Live>, Error> {
        let shared = self.0.upgrade().ok_or(Error::LinkDown(node))?;
        match shared.live(&node) {
            Some(live) => Ok(live),
            None => shared.connect(node).await.map_err(|error| {
                tracing::debug!(?node, %error, "no connection for a message");
                error.of_message(node)
            }),
        }
    }
}

impl Carrier for Wires {
    fn tell(&self, node: NodeId, envelope: Envelope) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { self.live(node).await?.link.tell(envelope).await })
    }

    fn ask(&self, node: NodeId, mut envelope: Envelope) -> BoxFuture<'_, Result<Vec<u8>, Error>> {
        Box::pin(async move {
            if let Some(live) = self.0.upgrade().and_then(|shared| shared.live(&node)) {
                return live.link.ask(envelope).await;
            }
            // The dial is paid from the deadline.
            let deadline = envelope.deadline.unwrap_or(ASK_TIMEOUT).min(ASK_TIMEOUT_MAX);
            let until = Instant::now() + deadline;
            let live = timeout_at(until, self.live(node)).await.unwrap_or(Err(Error::Timeout))?;
            envelope.deadline = Some(until.saturating_duration_since(Instant::now()));
            live.link.ask(envelope).await
        })
    }

    fn open(&self, node: NodeId, ticket: Ticket) -> BoxFuture<'_, Result<Stream, Error>> {
        Box::pin(async move {
            let live = self.live(node).await?;
            // The directory says how long.
            let place = live.bulk.clone().acquire_owned();
            let place = live.link.until_closed(place).await.ok_or(Error::LinkDown(node))?;
            let place = place.map_err(|_| Error::LinkDown(node))?;
            let streams = live.open(Protocol::Bulk).await.map_err(|e| e.of_message(node))?;
            bulk::present(node, ticket, streams, place).await
        })
    }
}

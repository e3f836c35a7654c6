//! Where members were last reached, kept on disk: a node that starts knows where to look before discovery speaks.

use skep_runtime::{
    NodeId,
    store::{Batch, Span, Store, Table},
};
use std::{collections::BTreeMap, net::SocketAddr};

const ADDRESSES: Table<[u8; 32], Vec<SocketAddr>> = Table::new("member_addresses");
/// Members whose addresses are read at start: as many as the mesh's book holds.
const ROWS_MAX: usize = crate::defaults::PEERS_MAX;

/// The addresses on the disk. They are hints: a read that fails is an empty book.
pub(super) fn load(store: &Store) -> BTreeMap<NodeId, Vec<SocketAddr>> {
    match store.scan(ADDRESSES, &Span::all(), ROWS_MAX) {
        Ok(page) => page.rows.into_iter().map(|(id, addresses)| (NodeId::from_bytes(id), addresses)).collect(),
        Err(error) => {
            tracing::warn!(%error, "the known addresses can't be read; discovery has to find the members again");
            BTreeMap::new()
        }
    }
}

/// Writes what changed; an empty list deletes.
pub(super) async fn save(store: Store, changed: BTreeMap<NodeId, Vec<SocketAddr>>) {
    let mut batch = Batch::new();
    for (id, addresses) in changed {
        let put = if addresses.is_empty() {
            batch.delete(ADDRESSES, id.as_bytes())
        } else {
            batch.put(ADDRESSES, id.as_bytes(), &addresses)
        };
        if put.is_err() {
            return;
        }
    }
    if let Err(error) = store.commit(batch).await {
        tracing::warn!(%error, "the members' addresses could not be saved");
    }
}

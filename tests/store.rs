//! A disk that lies: what a node knew survives an unreadable store, and what is lost is never lost without a word.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use skep::{Node, runtime::NodeId};
use std::path::Path;

async fn start(home: &Path) -> Result<Node, skep::StartError> {
    let at = "127.0.0.1:0".parse().unwrap();
    Node::builder().home(home).name("alder").listen(at).mdns(false).no_api().start().await
}

/// Nothing of redb's file is left but its length.
fn ruin(home: &Path) {
    let file = home.join("store/redb.store");
    let bytes = std::fs::metadata(&file).unwrap().len();
    std::fs::write(&file, vec![0xff; bytes as usize]).unwrap();
}

fn known(node: &Node) -> Vec<NodeId> {
    node.members().now().keys().copied().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_comes_back_from_its_export_and_founds_no_new_swarm_without_a_word() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (alder, birch) = (start(here.path()).await.unwrap(), start(there.path()).await.unwrap());
    let invite = birch.swarm().invite().await.unwrap();
    alder.swarm().join(invite.line).await.unwrap();
    let both = known(&alder);
    assert_eq!(both.len(), 2);
    alder.stop().await;

    ruin(here.path());
    let alder = start(here.path()).await.unwrap();
    assert_eq!(known(&alder), both);
    assert!(alder.context().store.loss().is_some());
    alder.stop().await;

    for entry in std::fs::read_dir(here.path().join("store")).unwrap().flatten() {
        if entry.file_name().to_string_lossy().contains("export") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    ruin(here.path());
    let lost = start(here.path()).await.err().unwrap();
    assert!(matches!(&lost, skep::StartError::Lost(why) if why.contains("no export")), "{lost}");
    // Whoever has read that starts it again.
    assert_eq!(known(&start(here.path()).await.unwrap()).len(), 1);
    birch.stop().await;
}

//! Two nodes in one program: one invites, the other joins, both see each other.
//!
//! `cargo run --example two_nodes`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use skep::{Node, runtime::member::State};
use std::net::{Ipv4Addr, SocketAddr};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let node = |name: &str| Node::builder().home(folder.path().join(name)).name(name).listen(any).mdns(false).no_api();

    let alder = node("alder").start().await?;
    let invite = alder.swarm().invite().await?;
    let birch = node("birch").join(invite.line).start().await?;

    // The picture of the swarm wakes its readers whenever it changes.
    let mut picture = alder.members().changes();
    let picture = picture.wait_for(|p| p.values().filter(|m| m.state == State::Up).count() == 2).await?;
    for member in picture.values() {
        println!("{} {} {:?}", member.id, member.name, member.state);
    }
    drop(picture);

    birch.stop().await;
    alder.stop().await;
    Ok(())
}

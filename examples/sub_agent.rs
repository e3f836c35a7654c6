//! A goal on one node whose sub-agents work on another, within one budget. Needs a model: the default one is fetched
//! by your `pip` at the first run.
//!
//! `cargo run --example sub_agent`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use skep::{
    Node,
    actors::agent::{self, Goal, RunState, Strategy},
    runtime::Wire,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let node = |name: &str| Node::builder().home(folder.path().join(name)).name(name).listen(any).mdns(false).no_api();
    let alder = node("alder").start().await?;
    let birch = node("birch").join(alder.swarm().invite().await?.line).start().await?;

    let documents =
        [("bees", "Bees live in hives and make honey and wax."), ("ants", "Ants live in nests and farm fungi.")];
    let goal = Goal {
        goal: "What do these animals make or farm?".into(),
        strategy: Strategy::MapReduce,
        budget: 3000,
        documents: documents.map(|(name, text)| (name.into(), text.into())).into(),
        ..Goal::default()
    };
    let agents = alder.directory().here::<agent::Message>(agent::NAME);
    let run = agents.ask(PATIENCE, |to| agent::Message::Give(Wire(goal), to)).await??;

    // Every step of the run and of its sub-agents comes as a frame on a stream of its own.
    let expected = alder.directory().expect(alder.id(), alder.context().env.ticket())?;
    let follow = (run.id, alder.id(), expected.ticket());
    agents.ask(PATIENCE, |to| agent::Message::Follow(Wire(follow), to)).await??;
    let mut stream = expected.opened().await?;
    while let Some(event) = skep::runtime::frames::read(&mut stream.reader).await? {
        match event {
            agent::messages::Event::Run(run) if run.state != RunState::Running => {
                println!("{:?} on {:?}: {}", run.state, run.node, run.output.unwrap_or_default());
            }
            agent::messages::Event::Budget { spent, max, .. } => println!("{spent} of {max} tokens"),
            agent::messages::Event::Warning(warning) => println!("{}", warning.message),
            agent::messages::Event::End => break,
            agent::messages::Event::Run(_) => {}
        }
    }

    birch.stop().await;
    alder.stop().await;
    Ok(())
}

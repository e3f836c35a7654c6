//! A model is split over three nodes and answers. A node of it dies in the middle of an answer: the stream ends with a
//! reason, soon, and whoever asks again gets the whole text from those that are left.

use crate::{World, property};
use anyhow::{Context, Result, bail, ensure};
use rand::RngExt;
use skep_actors::{
    model::{
        self, Message as Models,
        messages::{Serve, Served},
    },
    pipeline::{Chunk, Generate, Message as Pipeline, Sampling, Turn},
};
use skep_runtime::{Stream, Wire, frames};
use std::time::Duration;
use tokio::time::timeout;

/// How long a model may take to be served: it is tiny, but a stage's node may have died a moment ago.
const SERVE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the next piece of text may take, or the word that there will be none.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);
const TOKENS: u32 = 48;

pub(super) async fn run(world: &mut World) -> Result<()> {
    let model = world.plant_model()?;
    world.form(5).await?;
    property::view_becomes_truth(world).await?;
    property::cards_are_known(world).await?;
    let nodes = world.shuffled();
    let asker = nodes[0];

    let served = serve(world, asker, model).await?;
    ensure!(served.plan.stages.len() == 3, "it is not split as it should be: {:?}", served.plan.stages);
    let whole = read(generate(world, asker, &served).await?, usize::MAX).await?;
    ensure!(whole.1, "an answer that nothing disturbed ended early: {:?}", whole.0);

    // The coordinator's death is another story than a stage's; the asker has to live to tell either.
    let stages = served.plan.stages.iter().map(|stage| stage.node).filter(|node| *node != world.id(asker));
    let victims: Vec<usize> =
        stages.filter_map(|id| world.present().into_iter().find(|n| world.id(*n) == id)).collect();
    let victim = victims[world.rng().random_range(0..victims.len())];
    let mut stream = generate(world, asker, &served).await?;
    let before = world.rng().random_range(1..20);
    let (begun, ended) = read_some(&mut stream, before).await?;
    ensure!(!ended, "{TOKENS} tokens can't be over after {before} pieces");
    world.crash(victim)?;
    let (rest, whole_again) = read(stream, usize::MAX).await?;
    world.note(&format!("the stream had {} bytes, then {}; whole: {whole_again}", begun.len(), rest.len()));
    ensure!(whole.0.starts_with(&format!("{begun}{rest}")), "what was said is not what would have been said");

    let served = serve(world, asker, model).await?;
    let again = read(generate(world, asker, &served).await?, usize::MAX).await?;
    ensure!(again == whole, "asked again it says something else: {again:?}, {whole:?}");
    world.start(victim).await?;
    property::view_becomes_truth(world).await?;
    property::nothing_outlives_its_node(world).await
}

async fn serve(world: &World, asker: usize, model: &str) -> Result<Served> {
    let models = world.node(asker)?.directory().here::<Models>(model::NAME);
    let wanted = Serve { model: Some(model.into()), stages: Some(3) };
    Ok(models.ask(SERVE_TIMEOUT, |reply| Models::Serve(Wire(wanted), reply)).await??)
}

async fn generate(world: &World, asker: usize, served: &Served) -> Result<Stream> {
    let node = world.node(asker)?;
    let expected = node.directory().expect(served.node, node.env().ticket())?;
    let turns = vec![Turn { role: "user".into(), content: "hello".into() }];
    let (to, ticket) = (node.id(), expected.ticket());
    let sampling = Sampling::default();
    let request = Generate { turns, max_tokens: TOKENS, sampling, stop: Vec::new(), to, ticket, thread: None };
    let pipeline = node.directory().at::<Pipeline>(served.node, served.actor.clone());
    pipeline.ask(CHUNK_TIMEOUT, |reply| Pipeline::Generate(Wire(request), reply)).await??;
    Ok(timeout(CHUNK_TIMEOUT, expected.opened()).await.context("the stream was not opened")??)
}

/// The text of a stream to its end, and whether that was the answer's.
async fn read(mut stream: Stream, pieces: usize) -> Result<(String, bool)> {
    read_some(&mut stream, pieces).await
}

async fn read_some(stream: &mut Stream, pieces: usize) -> Result<(String, bool)> {
    let (mut text, mut count) = (String::new(), 0);
    while count < pieces {
        let next = timeout(CHUNK_TIMEOUT, frames::read::<Chunk>(&mut stream.reader)).await;
        match next.context("a stream neither goes on nor ends")? {
            Ok(Some(Chunk::Text(more))) => {
                count += usize::from(!more.is_empty());
                text.push_str(&more);
            }
            Ok(Some(Chunk::End { .. })) => return Ok((text, true)),
            Ok(Some(Chunk::Failed { .. })) | Err(_) => return Ok((text, false)),
            Ok(None) => bail!("a stream ended in the middle of an answer without saying so"),
        }
    }
    Ok((text, false))
}

//! Files are stored on one node, which dies once that was acknowledged; commands on others need them.
//!
//! Their content lies in real files, which a crash leaves as they are: what is simulated is who has a copy, who asks whom for
//! one, and what is cut off on the way. Power cuts are the flush's business (`actors/src/blob/part.rs`).

use crate::{World, clock, property};
use anyhow::{Context, Result, ensure};
use rand::{Rng, RngExt};
use skep_actors::{
    blob::{self, Blob, BlobError},
    digest::Digest,
    scheduler::{self, Files, Input, Message, Record, Spec, State},
};
use skep_runtime::{Handle, Wire, frames};
use std::time::Duration;

/// How long a question may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a command may take whose owner, node or file is on a machine that just died: several are asked in vain.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often its record is looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// Bytes of the largest file: several pieces of a stream.
const BYTES_MAX: usize = 1 << 20;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(5).await?;
    property::view_becomes_truth(world).await?;
    property::cards_are_known(world).await?;
    let mut stored: Vec<(Digest, Vec<u8>)> = Vec::new();
    for _ in 0..world.rng().random_range(3..7) {
        let nodes = world.shuffled();
        let (at, desk, also) = (nodes[0], nodes[1], nodes[2]);
        let mut bytes = vec![0; world.rng().random_range(0..BYTES_MAX)];
        world.rng().fill_bytes(&mut bytes);
        // Whoever should keep the copy may be cut off, or die meanwhile.
        match world.rng().random_range(0..4) {
            0 => world.cut(&[at], &[also]),
            1 => world.crash(also)?,
            _ => {}
        }
        let acknowledged = match store(world, at, &bytes).await? {
            Ok(blob) => {
                ensure!(blob.digest == Digest::of(&bytes), "it was stored as something else");
                true
            }
            Err(error) => {
                world.note(&format!("a file was not stored: {error}"));
                false
            }
        };
        if acknowledged {
            world.crash(at)?;
            let input = Input { path: "file".into(), digest: Digest::of(&bytes), executable: false };
            let given = Spec { files: Files { inputs: vec![input], ..Files::default() }, ..Spec::new("sleep 1") };
            let record = done(world, desk, given).await?;
            ensure!(record.state == State::Completed, "a file that was acknowledged is lost: {record:?}");
            stored.push((Digest::of(&bytes), bytes));
            world.start(at).await?;
        }
        world.heal();
        if !world.running().contains(&also) {
            world.start(also).await?;
        }
        property::view_becomes_truth(world).await?;
    }
    // Whoever asks for one has it, whole.
    for node in world.running() {
        for (digest, bytes) in &stored {
            let blobs: Handle<blob::Message> = world.node(node)?.directory().here(blob::NAME);
            let blob = blobs.ask(ASK_TIMEOUT, |reply| blob::Message::Fetch(Wire(*digest), reply)).await??;
            ensure!(blob.bytes == bytes.len() as u64, "{node} has another file");
        }
    }
    property::nothing_outlives_its_node(world).await
}

/// Stores bytes on a node, as its API does.
async fn store(world: &World, node: usize, bytes: &[u8]) -> Result<Result<Blob, BlobError>> {
    let node = world.node(node)?;
    let (directory, me) = (node.directory(), node.id());
    let expected = directory.expect(me, node.env().ticket())?;
    let blobs: Handle<blob::Message> = directory.here(blob::NAME);
    let ticket = Wire((me, expected.ticket()));
    let (opened, asked) =
        tokio::join!(expected.opened(), blobs.ask(ASK_TIMEOUT, |reply| blob::Message::Put(ticket, reply)));
    asked??;
    let mut stream = opened?;
    for piece in bytes.chunks(64 << 10) {
        frames::write_bytes(&mut stream.writer, piece).await?;
    }
    frames::write_bytes(&mut stream.writer, &[]).await?;
    frames::read(&mut stream.reader).await?.context("the store said nothing")
}

/// Has a node take a command, and waits for its end.
async fn done(world: &World, desk: usize, spec: Spec) -> Result<Record> {
    let desk: Handle<Message> = world.node(desk)?.directory().here(scheduler::NAME);
    let record = desk.ask(ASK_TIMEOUT, |reply| Message::Submit(Wire(spec), reply)).await??;
    let start = clock::now();
    loop {
        let record = desk.ask(ASK_TIMEOUT, |reply| Message::Get(Wire(record.id), reply)).await??;
        if record.state.ended() {
            return Ok(record);
        }
        ensure!(clock::now() - start < PATIENCE, "a command is still {record:?}");
        world.pass(LOOK_PERIOD).await;
    }
}

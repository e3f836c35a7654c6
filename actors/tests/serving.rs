//! Models served by one, two and three nodes: the same text, cancelled and lost as it should be.
//!
//! Everything is real but the network and the weights: a made model of four layers whose answers mean nothing. With
//! `SKEP_TEST_MODEL=/path/to/model.gguf` a trained one chats too.

#![allow(clippy::unwrap_used, reason = "a failed test panics and says where")]

use skep_actors::{
    model::{
        self, Message as Models, ModelError, STAGES_MAX,
        messages::{Serve, Served},
    },
    node::{Card, messages::CardModel},
    pipeline::{
        Chunk, Generate, GenerateError, Message as Pipeline, Sampling, Turn,
        messages::{Accepted, Finish},
    },
    shard::{self, Stats},
    testing::Swarm,
};
use skep_engine::{
    Chain, Message, Role,
    synthetic::{Options, tiny_llama},
};
use skep_runtime::{Handle, Stream, Wire, frames, wire};
use std::{ops::ControlFlow, path::Path, sync::Arc, time::Duration};
use tokio::{io::AsyncWriteExt, time::Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// `n` nodes with a gigabyte each; the first one has the model `tiny`.
async fn swarm(n: usize) -> Swarm {
    let swarm = Swarm::new(n).await;
    tiny_llama(swarm.context(0).models.join("tiny.gguf"), 7, &Options::default()).unwrap();
    start(&swarm, n, 4 << 30).await;
    swarm
}

async fn start(swarm: &Swarm, n: usize, memory_bytes: u64) {
    for i in 0..n {
        let card = Card { memory_bytes, memory_free_bytes: memory_bytes, ..Card::default() };
        let card = Arc::new(wire::encode(&card));
        swarm.show(i, |member| member.card = card.clone());
        model::start(swarm.context(i), swarm.root(i)).await.unwrap();
    }
}

fn models(swarm: &Swarm, i: usize) -> Handle<Models> {
    swarm.context(i).directory.here(model::NAME)
}

async fn serve(swarm: &Swarm, i: usize, stages: Option<u16>) -> Result<Served, ModelError> {
    let wanted = Serve { model: Some("tiny".into()), stages };
    models(swarm, i).ask(PATIENCE, |reply| Models::Serve(Wire(wanted), reply)).await.unwrap()
}

fn request(text: &str, max_tokens: u32) -> Generate {
    let turns = vec![Turn { role: "user".into(), content: text.into() }];
    let (to, ticket) = (skep_runtime::NodeId::from_bytes([0; 32]), skep_runtime::Ticket([0; 16]));
    Generate { turns, max_tokens, sampling: Sampling::default(), stop: Vec::new(), to, ticket, thread: None }
}

async fn generate(
    swarm: &Swarm,
    i: usize,
    served: &Served,
    mut request: Generate,
) -> Result<(Accepted, Stream), GenerateError> {
    let context = swarm.context(i);
    let expected = context.directory.expect(served.node, context.env.ticket()).unwrap();
    (request.to, request.ticket) = (context.directory.id(), expected.ticket());
    let pipeline = context.directory.at::<Pipeline>(served.node, served.actor.clone());
    let accepted = pipeline.ask(PATIENCE, |reply| Pipeline::Generate(Wire(request), reply)).await.unwrap()?;
    Ok((accepted, expected.opened().await.unwrap()))
}

/// The whole text and the chunk that ended it.
async fn read(mut stream: Stream) -> (String, Chunk) {
    let mut text = String::new();
    loop {
        match frames::read::<Chunk>(&mut stream.reader).await.unwrap() {
            Some(Chunk::Text(more)) => text.push_str(&more),
            Some(end) => return (text, end),
            None => panic!("the stream ended without its last chunk, after {text:?}"),
        }
    }
}

async fn chat(swarm: &Swarm, i: usize, served: &Served, request: Generate) -> (String, Chunk) {
    let (_, stream) = generate(swarm, i, served, request).await.unwrap();
    read(stream).await
}

/// What the engine alone answers.
fn expected(path: &Path, text: &str, tokens: u32) -> String {
    let model = skep_engine::Model::open(path).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let prompt = model.chat_template().unwrap().render(&[Message::new(Role::User, text)]).unwrap();
    let prompt = tokenizer.encode_prompt(&prompt).unwrap();
    let chain = Chain::load(path, &[]).unwrap();
    let request = skep_engine::Request {
        prompt: &prompt,
        tokens_max: tokens,
        sampling: skep_engine::Sampling::default(),
        endings: tokenizer.endings().collect(),
    };
    let answer = chain.generate(&mut chain.state(1024), &request, |_| ControlFlow::Continue(())).unwrap();
    tokenizer.decode(&answer.tokens)
}

async fn stats(swarm: &Swarm, i: usize) -> Vec<Stats> {
    let directory = &swarm.context(i).directory;
    let mut all = Vec::new();
    for name in directory.names().into_iter().filter(|name| name.starts_with("shard/")) {
        if let Ok(stats) = directory.here::<shard::Message>(name).ask(PATIENCE, shard::Message::Stats).await {
            all.push(stats);
        }
    }
    all
}

/// Waits until `done` says so, in the paused clock's time.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_two_and_three_nodes_give_the_same_text() {
    let swarm = swarm(3).await;
    let want = expected(&swarm.context(0).models.join("tiny.gguf"), "hello", 24);
    for stages in [1, 2, 3] {
        let served = serve(&swarm, 0, Some(stages)).await.unwrap();
        assert_eq!(served.plan.stages.len(), usize::from(stages));
        // Asked from a node that has no stage, too.
        for asker in [0, 2] {
            let (text, end) = chat(&swarm, asker, &served, request("hello", 24)).await;
            assert_eq!(text, want, "{stages} stages");
            assert!(matches!(end, Chunk::End { reason: Finish::Length, completion_tokens: 24, .. }), "{end:?}");
        }
    }
    // The files came to where they were needed, whole.
    let list = models(&swarm, 1).ask(PATIENCE, Models::List).await.unwrap();
    let here = models(&swarm, 0).ask(PATIENCE, Models::List).await.unwrap();
    assert_eq!((list[0].name.as_str(), &list[0].digest), ("tiny", &here[0].digest));
}

#[tokio::test(start_paused = true)]
async fn a_prompt_longer_than_a_chunk_is_read_in_order_by_every_stage() {
    let swarm = swarm(3).await;
    let long = "the cat and the hat ".repeat(60);
    let want = expected(&swarm.context(0).models.join("tiny.gguf"), &long, 8);
    let served = serve(&swarm, 0, Some(3)).await.unwrap();
    let (accepted, stream) = generate(&swarm, 0, &served, request(&long, 8)).await.unwrap();
    assert!(accepted.prompt_tokens > 256, "{accepted:?}");
    assert_eq!(read(stream).await.0, want);
}

#[tokio::test(start_paused = true)]
async fn several_requests_at_once_get_what_each_would_get_alone() {
    let swarm = swarm(2).await;
    let path = swarm.context(0).models.join("tiny.gguf");
    let served = serve(&swarm, 0, Some(2)).await.unwrap();
    let (a, b, c) = tokio::join!(
        chat(&swarm, 0, &served, request("one", 30)),
        chat(&swarm, 1, &served, request("two", 20)),
        chat(&swarm, 0, &served, request("three", 10)),
    );
    for ((text, _), (question, tokens)) in [a, b, c].into_iter().zip([("one", 30), ("two", 20), ("three", 10)]) {
        assert_eq!(text, expected(&path, question, tokens));
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_at_once_share_one_pipeline_and_later_ones_find_it() {
    let swarm = swarm(1).await;
    let (a, b) = tokio::join!(serve(&swarm, 0, None), serve(&swarm, 0, None));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.actor, b.actor);
    assert_eq!(serve(&swarm, 0, None).await.unwrap().actor, a.actor);
    let shards = swarm.context(0).directory.names().into_iter().filter(|name| name.starts_with("shard/"));
    assert_eq!(shards.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_splits_that_start_at_once_fetch_the_file_once_and_both_answer() {
    let swarm = swarm(3).await;
    let want = expected(&swarm.context(0).models.join("tiny.gguf"), "hello", 8);
    let (two, three) = tokio::join!(serve(&swarm, 0, Some(2)), serve(&swarm, 0, Some(3)));
    for served in [two.unwrap(), three.unwrap()] {
        assert_eq!(chat(&swarm, 0, &served, request("hello", 8)).await.0, want);
    }
}

#[tokio::test(start_paused = true)]
async fn one_model_by_two_names_is_one_pipeline() {
    let swarm = swarm(1).await;
    let path = swarm.context(0).models.join("tiny.gguf").display().to_string();
    let by_path = Serve { model: Some(path), stages: None };
    let models = models(&swarm, 0);
    let (a, b) =
        tokio::join!(serve(&swarm, 0, None), models.ask(PATIENCE, |reply| Models::Serve(Wire(by_path), reply)),);
    assert_eq!(a.unwrap().actor, b.unwrap().unwrap().actor);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_the_file_finds_who_has_it() {
    let swarm = swarm(2).await;
    let here = models(&swarm, 0).ask(PATIENCE, |reply| Models::Get(Wire("tiny".into()), reply)).await.unwrap().unwrap();
    let listed = CardModel { name: here.name, digest: here.digest, bytes: here.bytes, layers: here.layers };
    let card = Card { models: vec![listed], memory_bytes: 4 << 30, memory_free_bytes: 4 << 30, ..Card::default() };
    let card = Arc::new(wire::encode(&card));
    swarm.show(0, |member| member.card = card.clone());
    let served = serve(&swarm, 1, None).await.unwrap();
    assert_eq!(served.node, swarm.id(0));
    let (_, end) = chat(&swarm, 1, &served, request("hello", 5)).await;
    assert!(matches!(end, Chunk::End { completion_tokens: 5, .. }), "{end:?}");
    let unknown = Serve { model: Some("nothing".into()), stages: None };
    let refused = models(&swarm, 1).ask(PATIENCE, |reply| Models::Serve(Wire(unknown), reply)).await.unwrap();
    assert_eq!(refused, Err(ModelError::NoSuchModel("nothing".into())));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_goes_away_frees_its_caches_on_every_stage() {
    let swarm = swarm(2).await;
    let served = serve(&swarm, 0, Some(2)).await.unwrap();
    let (_, mut stream) = generate(&swarm, 0, &served, request("hello", 900)).await.unwrap();
    frames::read::<Chunk>(&mut stream.reader).await.unwrap();
    assert_eq!(stats(&swarm, 1).await[0].sequences, 1);
    drop(stream);
    until("both stages have freed it", async || {
        let open = [stats(&swarm, 0).await, stats(&swarm, 1).await].concat();
        open.iter().all(|stats| stats.sequences == 0 && stats.cache_bytes == 0)
    })
    .await;
    let pipeline = swarm.context(0).directory.here::<Pipeline>(served.actor.clone());
    assert_eq!(pipeline.ask(PATIENCE, Pipeline::Sessions).await.unwrap(), []);
    let rows = stats(&swarm, 0).await[0].rows;
    assert!(rows < 500, "{rows} rows were computed for nobody");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_its_caller_gives_up_says_what_it_cost() {
    let swarm = swarm(2).await;
    let served = serve(&swarm, 0, Some(2)).await.unwrap();
    let (accepted, mut stream) = generate(&swarm, 0, &served, request("hello", 900)).await.unwrap();
    frames::read::<Chunk>(&mut stream.reader).await.unwrap();
    stream.writer.shutdown().await.unwrap();
    let (_, end) = read(stream).await;
    let Chunk::End { reason: Finish::Cancelled, prompt_tokens, completion_tokens } = end else { panic!("{end:?}") };
    assert_eq!(prompt_tokens, accepted.prompt_tokens);
    assert!(completion_tokens > 0 && completion_tokens < 500, "{completion_tokens}");
    until("both stages have freed it", async || {
        [stats(&swarm, 0).await, stats(&swarm, 1).await].concat().iter().all(|stats| stats.sequences == 0)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_says_how_long_a_context_it_has_room_for() {
    let swarm = swarm(1).await;
    let served = serve(&swarm, 0, None).await.unwrap();
    let pipeline = swarm.context(0).directory.here::<Pipeline>(served.actor);
    assert_eq!(pipeline.ask(PATIENCE, Pipeline::Context).await.unwrap(), 1024);
}

#[tokio::test(start_paused = true)]
async fn a_lost_stage_fails_the_stream_at_once_and_the_next_request_is_placed_anew() {
    let mut swarm = swarm(2).await;
    let served = serve(&swarm, 0, Some(2)).await.unwrap();
    let (_, mut stream) = generate(&swarm, 0, &served, request("hello", 900)).await.unwrap();
    frames::read::<Chunk>(&mut stream.reader).await.unwrap();
    let start = Instant::now();
    swarm.kill(1).await;
    let (_, end) = read(stream).await;
    let Chunk::Failed { error: GenerateError::StageLost { stage, node, .. }, completion_tokens } = end else {
        panic!("{end:?}")
    };
    assert_eq!((stage, node), (1, swarm.id(1)));
    assert!(completion_tokens > 0 && start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    until("the first stage is freed", async || stats(&swarm, 0).await.is_empty()).await;
    let again = serve(&swarm, 0, None).await.unwrap();
    assert_eq!(again.plan.stages.len(), 1);
    let (_, end) = chat(&swarm, 0, &again, request("hello", 5)).await;
    assert!(matches!(end, Chunk::End { completion_tokens: 5, .. }), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_does_not_reach_the_next_one_yet_is_tried_again() {
    let swarm = swarm(3).await;
    swarm.part(1, 2);
    let meet = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        swarm.meet(1, 2);
    };
    let (served, ()) = tokio::join!(serve(&swarm, 0, Some(3)), meet);
    let served = served.unwrap();
    let (_, end) = chat(&swarm, 0, &served, request("hello", 5)).await;
    assert!(matches!(end, Chunk::End { completion_tokens: 5, .. }), "{end:?}");
    // What was loaded for the attempts before is gone.
    for i in 0..3 {
        until("one stage a node is left", async || stats(&swarm, i).await.len() == 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_never_reaches_the_next_one_fails_the_start_with_its_reason() {
    let swarm = swarm(3).await;
    swarm.part(1, 2);
    let Err(ModelError::Start(reason)) = serve(&swarm, 0, Some(3)).await else { panic!("it can't start") };
    assert!(reason.contains("is down"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn shards_end_when_the_node_of_their_pipeline_does() {
    let mut swarm = swarm(2).await;
    serve(&swarm, 0, Some(2)).await.unwrap();
    assert_eq!(stats(&swarm, 1).await.len(), 1);
    swarm.kill(0).await;
    until("the other node has freed its shard", async || stats(&swarm, 1).await.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_pipeline_ends_and_frees_its_shards() {
    let swarm = swarm(2).await;
    let served = serve(&swarm, 0, Some(2)).await.unwrap();
    chat(&swarm, 0, &served, request("hello", 3)).await;
    tokio::time::sleep(Duration::from_secs(590)).await;
    assert_eq!(stats(&swarm, 1).await.len(), 1);
    tokio::time::sleep(Duration::from_secs(20)).await;
    until("both are freed", async || stats(&swarm, 0).await.is_empty() && stats(&swarm, 1).await.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_text_ends_the_answer_and_is_not_part_of_it() {
    let swarm = swarm(1).await;
    let served = serve(&swarm, 0, None).await.unwrap();
    let (whole, _) = chat(&swarm, 0, &served, request("hello", 20)).await;
    let stop: String = whole.chars().skip(6).take(2).collect();
    let mut wanted = request("hello", 20);
    wanted.stop = vec![stop.clone()];
    let (text, end) = chat(&swarm, 0, &served, wanted).await;
    assert_eq!(text, whole[..whole.find(&stop).unwrap()]);
    assert!(matches!(end, Chunk::End { reason: Finish::Stop, .. }), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_generated_is_refused_before_anything_is_spent() {
    let swarm = swarm(1).await;
    let served = serve(&swarm, 0, None).await.unwrap();
    let refused = async |request: Generate| generate(&swarm, 0, &served, request).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused(request(&"word ".repeat(2000), 1)).await, GenerateError::TooLong { context: 1024, .. }));
    assert!(matches!(refused(request("hello", 0)).await, GenerateError::Invalid { .. }));
    let mut hot = request("hello", 1);
    hot.sampling.temperature = f32::NAN;
    assert!(matches!(refused(hot).await, GenerateError::Invalid { .. }));
    let mut role = request("hello", 1);
    role.turns[0].role = "emperor".into();
    assert!(matches!(refused(role).await, GenerateError::Invalid { .. }));
}

#[tokio::test(start_paused = true)]
async fn more_requests_than_may_wait_are_told_that_it_is_busy() {
    let swarm = swarm(1).await;
    let served = serve(&swarm, 0, None).await.unwrap();
    let all = futures::future::join_all((0..45).map(|_| generate(&swarm, 0, &served, request("hello", 900)))).await;
    assert_eq!(all.iter().filter(|result| matches!(result, Err(GenerateError::Busy(_)))).count(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_model_in_use_is_not_deleted_and_an_unused_one_is() {
    let swarm = swarm(1).await;
    let served = serve(&swarm, 0, None).await.unwrap();
    let delete =
        async || models(&swarm, 0).ask(PATIENCE, |reply| Models::Delete(Wire("tiny".into()), reply)).await.unwrap();
    assert_eq!(delete().await, Err(ModelError::InUse("tiny".into())));
    let pipeline = swarm.context(0).directory.here::<Pipeline>(served.actor);
    pipeline.ask(PATIENCE, Pipeline::Stop).await.unwrap();
    until("its shard has ended", async || delete().await.is_ok()).await;
    assert!(!swarm.context(0).models.join("tiny.gguf").exists());
}

#[tokio::test(start_paused = true)]
async fn a_model_that_nobody_can_hold_is_refused_with_figures() {
    let swarm = Swarm::new(2).await;
    tiny_llama(swarm.context(0).models.join("tiny.gguf"), 7, &Options::default()).unwrap();
    start(&swarm, 2, 1 << 20).await;
    let refused = serve(&swarm, 0, None).await.unwrap_err();
    assert!(matches!(&refused, ModelError::NoRoom(_)) && refused.to_string().contains("2 nodes"), "{refused}");
    let refused = serve(&swarm, 0, Some(STAGES_MAX as u16 + 1)).await.unwrap_err();
    assert!(matches!(refused, ModelError::NoPlan { wanted: 9, .. }), "{refused}");
}

#[tokio::test]
async fn a_trained_model_chats_over_two_nodes() {
    // Only where one is named: a hundred megabytes are no part of a checkout.
    let Some(path) = std::env::var_os("SKEP_TEST_MODEL") else { return };
    let swarm = Swarm::of_machine(2).await;
    std::fs::copy(&path, swarm.context(0).models.join("tiny.gguf")).unwrap();
    start(&swarm, 2, 0).await;
    let question = "What is the capital of France? Answer in one short sentence.";
    let mut texts = Vec::new();
    for stages in [1, 2] {
        let served = serve(&swarm, 0, Some(stages)).await.unwrap();
        let begun = Instant::now();
        let (text, end) = chat(&swarm, 1, &served, request(question, 32)).await;
        println!(
            "{stages} stages: {text:?} {end:?} in {:?} (predicted {:.1} tokens/s)",
            begun.elapsed(),
            served.plan.predicted
        );
        texts.push(text);
    }
    assert!(texts[0].contains("Paris"), "{texts:?}");
    assert_eq!(texts[0], texts[1]);
}

//! Continues a text with a model cut into shards, and says how fast:
//!
//! ```text
//! cargo run -p skep-engine --example generate -- model.gguf "The capital of France is" 10,20
//! ```

use std::io::Write;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use skep_engine::{Chain, Detokenizer, Model, Request, Sampling, Workload, measure, threads};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: generate MODEL.gguf [TEXT] [CUT,CUT]")?;
    let text = arguments.next().unwrap_or_else(|| "The capital of France is".to_owned());
    let cuts: Vec<u32> =
        arguments.next().map(|cuts| cuts.split(',').map(str::parse).collect()).transpose()?.unwrap_or_default();

    #[expect(clippy::disallowed_methods, reason = "an example measures real time")]
    let start = Instant::now();
    let mut out = std::io::stdout().lock();
    let model = Model::open(&path)?;
    let tokenizer = model.tokenizer()?;
    let chain = Chain::load(&path, &cuts)?;
    writeln!(out, "{} {} loaded in {:?}", model.card().name, model.card().quantisation, start.elapsed())?;

    let prompt = tokenizer.encode_completion(&text)?;
    let endings = tokenizer.endings().collect();
    let request = Request { prompt: &prompt, tokens_max: 64, sampling: Sampling::default(), endings };
    let mut stream = Detokenizer::new();
    let mut times: Vec<Duration> = Vec::new();
    write!(out, "{text}")?;
    let mut last = start.elapsed();
    chain.generate(&mut chain.state(1024), &request, |token| {
        times.push(start.elapsed() - std::mem::replace(&mut last, start.elapsed()));
        let shown = write!(out, "{}", stream.push(&tokenizer, token)).and_then(|()| out.flush());
        if shown.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    times.sort_unstable();
    let median = times[times.len() / 2];
    writeln!(out, "\n\n{:.1} tokens/s (median of {}), {} threads", 1.0 / median.as_secs_f64(), times.len(), threads())?;
    for shard in chain.shards() {
        let workload = Workload { prefill_rows: 512, decode_tokens: 32 };
        let speed = measure(shard, workload, &|| start.elapsed())?;
        let memory = shard.memory();
        writeln!(out, "layers {:?}: {speed:?}, {memory:?}", shard.layers())?;
    }
    Ok(())
}

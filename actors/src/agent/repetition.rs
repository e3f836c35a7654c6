//! Notices that an answer goes round in circles, as small models' do, and where its own part ends.
//!
//! Text in, a length out; no I/O. An answer repeats itself when its end is one phrase several times over, or when a
//! sentence comes again. Only agents' prose is watched: what a client asked a model for is its own affair.

use std::collections::BTreeMap;

/// Bytes of the longest phrase that is looked for at the end.
const PHRASE_BYTES_MAX: usize = 400;
/// Times that a phrase stands at the end in a row, and bytes of all of them together, before it is a circle.
const PHRASES_MIN: usize = 3;
const CIRCLE_BYTES_MIN: usize = 48;
/// Bytes of a sentence whose first repetition is one, and of one that may come twice: lists have short lines.
const SENTENCE_BYTES_LONG: usize = 40;
const SENTENCE_BYTES_MIN: usize = 12;
/// Bytes of an answer that are watched: more than agents' answers have. It bounds the work.
const WATCHED_BYTES_MAX: usize = 64 << 10;

/// The watch over one answer.
#[derive(Debug, Default)]
pub(super) struct Repetition {
    /// How often each sentence was seen.
    seen: BTreeMap<String, u32>,
    /// Where the sentence begins that isn't whole yet.
    sentence: usize,
}

impl Repetition {
    /// Looks at an answer that has grown. How many bytes of it are its own, if it repeats itself.
    pub(super) fn own(&mut self, answer: &str) -> Option<usize> {
        if answer.len() > WATCHED_BYTES_MAX {
            return None;
        }
        self.sentence_again(answer).or_else(|| phrase_again(answer))
    }

    fn sentence_again(&mut self, answer: &str) -> Option<usize> {
        while let Some(end) = sentence_end(&answer[self.sentence..]) {
            let begin = self.sentence;
            self.sentence += end;
            let plain = |c: &char| c.is_alphanumeric();
            let words: String =
                answer[begin..self.sentence].chars().filter(plain).flat_map(char::to_lowercase).collect();
            let most = match words.len() {
                ..SENTENCE_BYTES_MIN => continue,
                SENTENCE_BYTES_MIN..SENTENCE_BYTES_LONG => 2,
                _ => 1,
            };
            let count = self.seen.entry(words).or_default();
            *count += 1;
            if *count > most {
                return Some(begin);
            }
        }
        None
    }
}

/// Behind the first sentence or line of `text` that is surely whole.
fn sentence_end(text: &str) -> Option<usize> {
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        if c == '\n' || (c == ' ' && ".!?".contains(before)) {
            return Some(at + 1);
        }
        before = c;
    }
    None
}

/// Where the second of several equal phrases at the end of `text` begins.
fn phrase_again(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    for phrase in 1..=PHRASE_BYTES_MAX.min(bytes.len() / PHRASES_MIN) {
        let equal = (phrase..bytes.len()).rev().take_while(|&at| bytes[at] == bytes[at - phrase]).count();
        let circle = equal + phrase;
        if circle >= PHRASES_MIN * phrase && circle >= CIRCLE_BYTES_MIN {
            return Some(word_boundary(text, text.floor_char_boundary(bytes.len() - equal)));
        }
    }
    None
}

/// `at`, or the beginning of the word that it would cut in two.
fn word_boundary(text: &str, at: usize) -> usize {
    let is_in_word = |c: char| c.is_alphanumeric();
    match text[..at].trim_end_matches(is_in_word).len() {
        // It is one word.
        0 => at,
        begin if text[at..].starts_with(is_in_word) => begin,
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The answer's own part, as it grows character by character.
    fn own(answer: &str) -> Option<&str> {
        let mut watch = Repetition::default();
        let mut ends = answer.char_indices().map(|(at, c)| at + c.len_utf8());
        ends.find_map(|end| watch.own(&answer[..end])).map(|own| &answer[..own])
    }

    #[test]
    fn the_answer_of_a_small_model_that_goes_round_is_cut_to_its_first_round() {
        let sentence = "It is a swarm of agents that can be sent to a server. ";
        assert_eq!(own(&sentence.repeat(5)), Some(sentence));
        assert_eq!(own("Bees, and bees, and bees, and bees, and bees, and bees, and bees"), Some("Bees, and "));
        assert_eq!(own(&format!("Yes{}", "!".repeat(60))), Some("Yes!"));
    }

    #[test]
    fn a_circle_without_an_end_of_its_sentences_is_one_too() {
        let answer = "of the swarm and its nodes and of the work ".repeat(4);
        assert_eq!(own(&answer).unwrap().trim(), "of the swarm and its nodes and of the work");
    }

    #[test]
    fn prose_and_lists_are_left_alone() {
        for answer in [
            "A skep is a hive. A node is a machine. Nodes form a swarm, and a swarm runs agents. Agents spend tokens.",
            "- node a: up\n- node b: up\n- node c: up\n- node d: down\n",
            "Yes. Yes. No. It is what it is. It is so.",
            "----------------------------------------",
        ] {
            assert_eq!(own(answer), None, "{answer}");
        }
    }

    proptest! {
        #[test]
        fn the_own_part_is_a_part_of_the_answer(answer in "[ab.\n äß]{0,300}") {
            let mut watch = Repetition::default();
            if let Some(own) = watch.own(&answer) {
                prop_assert!(answer.is_char_boundary(own) && own <= answer.len());
            }
        }
    }
}

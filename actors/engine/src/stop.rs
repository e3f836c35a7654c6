//! Stop strings over a stream of text: ends it in front of the first one, and holds back what may
//! become one, so that no part of a stop string is ever shown.

use crate::defaults::{STOP_STRING_BYTES_MAX, STOP_STRINGS_MAX};
use crate::error::SampleError;

/// Watches one answer for stop strings.
#[derive(Clone, Debug)]
pub struct StopFilter {
    stops: Vec<String>,
    pending: String,
    stopped: bool,
}

/// What passes through a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Text that may be shown.
    pub text: String,
    /// Which stop string ended the answer, by its index.
    pub stopped_by: Option<usize>,
}

impl StopFilter {
    /// Watches for `stops`: at most [`STOP_STRINGS_MAX`], none empty, each at most [`STOP_STRING_BYTES_MAX`] long.
    pub fn new(stops: Vec<String>) -> Result<Self, SampleError> {
        let fits = |stop: &String| (1..=STOP_STRING_BYTES_MAX).contains(&stop.len());
        if stops.len() > STOP_STRINGS_MAX || !stops.iter().all(fits) {
            return Err(SampleError::StopStrings { count_max: STOP_STRINGS_MAX, bytes_max: STOP_STRING_BYTES_MAX });
        }
        Ok(Self { stops, pending: String::new(), stopped: false })
    }

    /// Takes more text; gives what can't be part of a stop string any more. Nothing passes after a stop.
    pub fn push(&mut self, text: &str) -> Passed {
        if self.stopped {
            return Passed { text: String::new(), stopped_by: None };
        }
        self.pending.push_str(text);
        let first = self
            .stops
            .iter()
            .enumerate()
            .filter_map(|(index, stop)| self.pending.find(stop.as_str()).map(|at| (at, index)))
            .min();
        if let Some((at, index)) = first {
            self.stopped = true;
            self.pending.truncate(at);
            return Passed { text: std::mem::take(&mut self.pending), stopped_by: Some(index) };
        }
        let rest = self.pending.split_off(self.pending.len() - self.held());
        Passed { text: std::mem::replace(&mut self.pending, rest), stopped_by: None }
    }

    /// Ends the answer: gives what was held back.
    pub fn finish(&mut self) -> String {
        self.stopped = true;
        std::mem::take(&mut self.pending)
    }

    /// Bytes at the end that a stop string may start with.
    fn held(&self) -> usize {
        let text = self.pending.as_bytes();
        let longest = |stop: &String| {
            let stop = stop.as_bytes();
            let most = text.len().min(stop.len() - 1);
            (1..=most).rev().find(|&length| text.ends_with(&stop[..length])).unwrap_or(0)
        };
        let held = self.stops.iter().map(longest).max().unwrap_or(0);
        // A stop string starts at a character's first byte, so the cut is one between characters.
        debug_assert!(self.pending.is_char_boundary(text.len() - held), "cuts fall between characters");
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], parts: &[&str]) -> (String, Option<usize>) {
        let mut filter = StopFilter::new(stops.iter().map(|&stop| stop.to_owned()).collect()).unwrap();
        let mut text = String::new();
        for part in parts {
            let passed = filter.push(part);
            text.push_str(&passed.text);
            if passed.stopped_by.is_some() {
                return (text, passed.stopped_by);
            }
        }
        text.push_str(&filter.finish());
        (text, None)
    }

    #[test]
    fn a_stop_string_is_found_across_parts_and_never_shown() {
        assert_eq!(run(&["END", "\n\n"], &["one E", "N", "D two"]), ("one ".to_owned(), Some(0)));
        assert_eq!(run(&["aab"], &["a", "a", "a", "b"]), ("a".to_owned(), Some(0)));
        assert_eq!(run(&["é!"], &["caf", "é", "!"]), ("caf".to_owned(), Some(0)));
    }

    #[test]
    fn what_looked_like_a_stop_string_is_shown_in_the_end() {
        assert_eq!(run(&["END"], &["the E", "N"]), ("the EN".to_owned(), None));
    }

    #[test]
    fn only_what_may_become_a_stop_string_is_held_back() {
        let mut filter = StopFilter::new(vec!["END".to_owned()]).unwrap();
        assert_eq!(filter.push("the E").text, "the ");
        assert_eq!(filter.push("x").text, "Ex");
    }

    #[test]
    fn empty_and_endless_stop_strings_are_refused() {
        assert!(StopFilter::new(vec![String::new()]).is_err());
        assert!(StopFilter::new(vec!["x".repeat(STOP_STRING_BYTES_MAX + 1)]).is_err());
        assert!(StopFilter::new(vec!["x".to_owned(); STOP_STRINGS_MAX + 1]).is_err());
    }

    proptest! {
        #[test]
        fn a_stream_stops_where_the_whole_text_would(
            text in "[abc]{0,30}",
            stops in proptest::collection::vec("[abc]{1,4}", 1..4),
            cut in 1_usize..6,
        ) {
            let whole = stops.iter().filter_map(|stop| text.find(stop.as_str())).min();
            let parts: Vec<String> = text.as_bytes().chunks(cut).map(|part| String::from_utf8_lossy(part).into()).collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let (shown, stopped_by) = run(&stops, &parts);
            prop_assert_eq!(stopped_by.is_some(), whole.is_some());
            // A stop that ends first may hide one that starts earlier but ends later; never shows one.
            prop_assert!(text.starts_with(&shown));
            prop_assert!(stops.iter().all(|stop| !shown.contains(stop)));
            if whole.is_none() {
                prop_assert_eq!(shown, text);
            }
        }
    }
}

//! How the command line shows things: aligned tables, sizes and ages for people, progress, colours that turn off
//! when piped (`anstream`).

use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::OwoColorize;
use serde_json::Value;
use std::{fmt::Display, io::IsTerminal, time::Duration};

/// A line on standard output.
macro_rules! say {
    ($($part:tt)*) => {{
        #[allow(clippy::print_stdout, reason = "the command line's output")]
        { anstream::println!($($part)*) }
    }};
}
/// A line on standard error: progress and remarks, so that standard output can be piped.
macro_rules! note {
    ($($part:tt)*) => {{
        #[allow(clippy::print_stderr, reason = "the command line's remarks")]
        { anstream::eprintln!($($part)*) }
    }};
}
pub(crate) use {note, say};

/// Prints an answer of the API as it is: `--json`.
pub(crate) fn json(value: &Value) {
    say!("{}", serde_json::to_string_pretty(value).expect("JSON prints"));
}

/// Prints rows under a header, each column as wide as its widest cell. Colours don't count as width.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|h| h.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(shown(cell));
        }
    }
    let line = |cells: &[String]| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width.saturating_sub(shown(cell)))));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    say!("{}", line(&header.iter().map(|h| h.to_string()).collect::<Vec<_>>()).dimmed());
    for row in rows {
        say!("{}", line(row));
    }
}

fn shown(cell: &str) -> usize {
    anstream::adapter::strip_str(cell).to_string().chars().count()
}

/// A text cell of the API's answer, `-` if it is absent.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(s) if s.is_empty() => "-".into(),
        Value::String(s) => plain(s),
        other => other.to_string(),
    }
}

/// Text from elsewhere with nothing in it that a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n' || *c == '\t').collect()
}

/// Cuts to one line of at most `max` characters.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let line: String = plain(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= max { line } else { line.chars().take(max.saturating_sub(1)).chain(['…']).collect() }
}

/// Bytes for people.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (n as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A state's word in its colour.
pub(crate) fn state(word: &str) -> String {
    match word {
        "online" | "up" | "completed" | "ok" | "running" => word.green().to_string(),
        "pending" | "draining" | "left" => word.yellow().to_string(),
        "offline" | "down" | "failed" | "lost" => word.red().to_string(),
        _ => word.to_string(),
    }
}

/// A thing that went well.
pub(crate) fn done(what: impl Display) {
    note!("{} {what}", "✓".green());
}

/// A bar for bytes, or a spinner while the total isn't known. Draws nothing when standard error isn't a terminal.
pub(crate) fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is valid"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A spinner beside what is waited for, until it is cleared.
pub(crate) fn waiting(what: impl Into<std::borrow::Cow<'static, str>>) -> ProgressBar {
    let bar = progress();
    bar.set_message(what);
    bar
}

/// Turns a spinner into a bar over `total` bytes.
pub(crate) fn measured(bar: &ProgressBar, total: u64) {
    if bar.length() != Some(total) {
        let style = "{msg} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is valid").progress_chars("=> "));
        bar.set_length(total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_read_well() {
        assert_eq!((bytes(0).as_str(), bytes(1536).as_str(), bytes(98 << 20).as_str()), ("0 B", "1.5 KiB", "98.0 MiB"));
    }

    #[test]
    fn a_foreign_text_can_t_drive_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\x07"), "a[2Jb");
        assert_eq!(one_line("one\ntwo   three", 9), "one two …");
    }
}

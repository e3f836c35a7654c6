//! Who believed what about whom, over time, as one HTML page: because people would rather look.
//!
//! Each machine has a band; its first row is the truth about it, each further row is what one other node believed. A
//! colour that differs from the row above is a mistake, and its length is how long it lasted. Only collects and draws:
//! the world tells it the truth, a task for each node tells it the beliefs.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

/// What a row shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shade {
    /// It is, or is believed to be, up.
    Up,
    /// Down.
    Down,
    /// It said goodbye.
    Left,
    /// Not a member, or nobody runs who could believe anything.
    None,
}

/// The pixels of the picture's width, whatever the time.
const WIDTH: f64 = 1200.0;
/// Left of it: names.
const MARGIN: f64 = 60.0;
/// Changes that are drawn at most: a page of some ten MB. A longer run is cut there, and says so.
const CHANGES_MAX: usize = 200_000;

type Row = (usize, Option<usize>);

/// The changes of one run.
#[derive(Debug, Default)]
pub struct Timeline {
    rows: BTreeMap<Row, Vec<(Duration, Shade)>>,
    events: Vec<(Duration, String)>,
    changes: usize,
}

impl Timeline {
    /// The truth about a machine, from now on.
    pub fn truth(&mut self, at: Duration, of: usize, shade: Shade) {
        self.change(at, (of, None), shade);
    }

    /// What `by` believes about `of`, from now on.
    pub fn belief(&mut self, at: Duration, by: usize, of: usize, shade: Shade) {
        if by != of {
            self.change(at, (of, Some(by)), shade);
        }
    }

    /// Something happened.
    pub fn event(&mut self, at: Duration, what: &str) {
        if self.changes < CHANGES_MAX {
            self.changes += 1;
            self.events.push((at, what.to_owned()));
        }
    }

    fn change(&mut self, at: Duration, row: Row, shade: Shade) {
        let known = self.rows.get(&row).and_then(|changes| changes.last()).map(|(_, shade)| *shade);
        if known != Some(shade) && self.changes < CHANGES_MAX {
            self.changes += 1;
            self.rows.entry(row).or_default().push((at, shade));
        }
    }

    /// The page.
    pub fn page(&self, title: &str, end: Duration) -> String {
        let machines = self.rows.keys().map(|(of, _)| of + 1).max().unwrap_or(0);
        let row_height = if machines > 20 { 2.0 } else { 5.0 };
        let scale = WIDTH / end.as_secs_f64().max(1e-3);
        let x = |at: Duration| MARGIN + at.as_secs_f64() * scale;
        let (mut body, mut y) = (String::new(), 30.0);
        let mut band = usize::MAX;
        for (&(of, by), changes) in &self.rows {
            let height = if by.is_none() { 2.0 * row_height } else { row_height };
            if of != band {
                (band, y) = (of, y + 10.0);
                let _ = writeln!(body, "<text x='4' y='{:.1}'>n{of}</text>", y + 9.0);
            }
            let ends = changes.iter().skip(1).map(|(at, _)| *at).chain([end]);
            for ((from, shade), to) in changes.iter().zip(ends).filter(|((_, shade), _)| *shade != Shade::None) {
                let who = by.map_or("the truth".to_owned(), |by| format!("n{by} believes"));
                let _ = writeln!(
                    body,
                    "<rect class='{}' x='{:.2}' y='{y:.1}' width='{:.2}' height='{:.1}'><title>{who}: n{of} is {} \
                     from {:.3} s to {:.3} s</title></rect>",
                    class(*shade),
                    x(*from),
                    (x(to) - x(*from)).max(0.3),
                    height - if row_height > 2.0 { 1.0 } else { 0.0 },
                    class(*shade),
                    from.as_secs_f64(),
                    to.as_secs_f64()
                );
            }
            y += height;
        }
        let mut marks = String::new();
        for (at, what) in &self.events {
            let what = escaped(what);
            let _ = writeln!(
                marks,
                "<line x1='{0:.2}' x2='{0:.2}' y1='24' y2='{y:.1}'><title>{1:.3} s: {what}</title></line>",
                x(*at),
                at.as_secs_f64()
            );
        }
        let mut axis = String::new();
        for tick in 0..=10 {
            let at = end.mul_f64(f64::from(tick) / 10.0);
            let _ = writeln!(axis, "<text x='{:.1}' y='16'>{:.1} s</text>", x(at), at.as_secs_f64());
        }
        let cut = if self.changes >= CHANGES_MAX { " The picture is cut: too much happened." } else { "" };
        let mut list = String::new();
        for (at, what) in &self.events {
            let _ = writeln!(list, "<tr><td>{:.3}</td><td>{}</td></tr>", at.as_secs_f64(), escaped(what));
        }
        let (title, width) = (escaped(title), MARGIN + WIDTH + 40.0);
        format!(
            "<!doctype html><meta charset='utf-8'><title>{title}</title>\n{STYLE}\n<h1>{title}</h1>\n\
             <p>One band a machine: the thick row is the truth, each thin one is what another node believed. \
             <b class='up'>up</b> <b class='down'>down</b> <b class='left'>said goodbye</b>; white is no member, or nobody \
             to believe anything. Point at a bar or at a line to read it.{cut}</p>\n\
             <svg width='{width:.0}' height='{:.0}'>\n{axis}{body}{marks}</svg>\n\
             <table><tr><th>s</th><th>what happened</th></tr>\n{list}</table>\n",
            y + 10.0
        )
    }
}

const STYLE: &str = "<style>
body { font: 14px system-ui, sans-serif; margin: 24px; color: #222; background: #fff }
h1 { font-size: 18px } svg { font-size: 11px } text { fill: #555 }
rect.up { fill: #7fb77e } rect.down { fill: #d9534f } rect.left { fill: #b5a9d6 }
b.up { color: #4d8f4c } b.down { color: #c0392b } b.left { color: #7d6bb0 }
line { stroke: #333; stroke-width: 1; opacity: .25 } line:hover { opacity: 1; stroke-width: 3 }
table { border-collapse: collapse; margin-top: 16px } td, th { text-align: left; padding: 2px 12px 2px 0 }
</style>";

fn class(shade: Shade) -> &'static str {
    match shade {
        Shade::Up => "up",
        Shade::Down => "down",
        Shade::Left => "left",
        Shade::None => "none",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_mistake_is_as_long_as_it_lasted() {
        let mut timeline = Timeline::default();
        timeline.truth(Duration::ZERO, 0, Shade::Up);
        timeline.belief(Duration::ZERO, 1, 0, Shade::Up);
        timeline.belief(2 * SECOND, 1, 0, Shade::Down);
        timeline.belief(5 * SECOND, 1, 0, Shade::Up);
        let page = timeline.page("a < b", 10 * SECOND);
        assert!(page.contains("n1 believes: n0 is down from 2.000 s to 5.000 s"), "{page}");
        assert!(page.contains("the truth: n0 is up from 0.000 s to 10.000 s"));
        assert!(page.contains("a &lt; b") && !page.contains("a < b"));
    }

    #[test]
    fn nobody_has_a_belief_about_himself_and_what_is_no_news_is_not_drawn() {
        let mut timeline = Timeline::default();
        timeline.belief(Duration::ZERO, 1, 1, Shade::Up);
        timeline.belief(Duration::ZERO, 1, 2, Shade::Up);
        timeline.belief(SECOND, 1, 2, Shade::Up);
        assert_eq!(timeline.changes, 1);
    }
}

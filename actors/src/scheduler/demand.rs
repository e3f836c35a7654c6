//! What a command asks of its node beside cores and memory (hardware, disk, a model, labels), what a node offers, and
//! where the two fall apart. Pure; what is in use at the moment is placement's.

use crate::{
    node::{Card, labels},
    task::Level,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

/// Conditions of one command: more is a query language.
pub const CONDITIONS_MAX: usize = 32;
/// Taints that one command names.
pub const TOLERATES_MAX: usize = 32;
/// A label of this beginning keeps commands away that don't tolerate what stands behind it: `taint.gpu-only`.
pub const TAINT: &str = "taint.";
/// Tolerates every taint.
pub const ANY: &str = "*";

/// What a command needs of its node. Zero and empty ask for nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Demand {
    /// Graphics processors. Counted, not chosen: which of them it uses is the command's affair.
    pub gpus: u16,
    /// Bytes of memory that each of them has at least; alone it asks for one.
    pub vram_bytes: u64,
    /// Bytes free on the disk of the node's folder.
    pub disk_bytes: u64,
    /// A model whose weights lie there, by its name.
    pub model: Option<String>,
    /// Conditions on labels, which all have to hold.
    pub labels: Vec<Condition>,
    /// Names of taints that it puts up with; `*` is all of them.
    pub tolerates: Vec<String>,
    /// At least this strong a fence around it. `None` is any fence; to run without one, [`Level::None`] is asked for.
    pub sandbox: Option<Level>,
}

/// A condition on a node's labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Condition {
    /// `key`: it has the label, whatever it says.
    Has(String),
    /// `!key`: it doesn't have it.
    Lacks(String),
    /// `key=value`.
    Is(String, String),
    /// `key!=value`: it says something else, or isn't there.
    IsNot(String, String),
}

/// What a node offers, by its card.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offer {
    /// Bytes of memory of each graphics processor.
    pub gpus: Vec<u64>,
    /// Bytes of its disk.
    pub disk_bytes: u64,
    /// Bytes that are free on it.
    pub disk_free_bytes: u64,
    /// Names of the models whose weights lie there.
    pub models: BTreeSet<String>,
    /// Its labels, what it says of itself among them.
    pub labels: BTreeMap<String, String>,
    /// The strongest fence that it has.
    pub sandbox: Level,
}

impl Demand {
    /// Graphics processors that it takes.
    pub fn gpus(&self) -> u16 {
        self.gpus.max(u16::from(self.vram_bytes > 0))
    }

    /// The weakest fence that will do.
    pub fn sandbox(&self) -> Level {
        self.sandbox.unwrap_or(Level::Landlock)
    }

    /// Bytes that it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let words = |condition: &Condition| match condition {
            Condition::Has(key) | Condition::Lacks(key) => key.len(),
            Condition::Is(key, value) | Condition::IsNot(key, value) => key.len() + value.len(),
        };
        self.labels.iter().map(|c| size_of::<Condition>() + words(c)).sum::<usize>()
            + self.tolerates.iter().map(|name| size_of::<String>() + name.len()).sum::<usize>()
            + self.model.as_ref().map_or(0, String::len)
    }
}

impl Condition {
    /// Whether labels are as it wants them.
    pub fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Condition::Has(key) => labels.contains_key(key),
            Condition::Lacks(key) => !labels.contains_key(key),
            Condition::Is(key, value) => labels.get(key) == Some(value),
            Condition::IsNot(key, value) => labels.get(key) != Some(value),
        }
    }

    /// What a node is that doesn't meet it.
    fn unmet(&self) -> String {
        match self {
            Condition::Has(key) => format!("has no label {key}"),
            Condition::Lacks(key) => format!("has the label {key}"),
            Condition::Is(..) => format!("is not {self}"),
            Condition::IsNot(key, value) => format!("is {key}={value}"),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Has(key) => write!(f, "{key}"),
            Condition::Lacks(key) => write!(f, "!{key}"),
            Condition::Is(key, value) => write!(f, "{key}={value}"),
            Condition::IsNot(key, value) => write!(f, "{key}!={value}"),
        }
    }
}

impl FromStr for Condition {
    type Err = String;

    /// Reads `key`, `!key`, `key=value` or `key!=value`.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    fn from_str(text: &str) -> Result<Condition, String> {
        let condition = match (text.split_once('='), text.strip_prefix('!')) {
            (Some((key, value)), _) => match key.strip_suffix('!') {
                Some(key) => Condition::IsNot(key.into(), value.into()),
                None => Condition::Is(key.into(), value.into()),
            },
            (None, Some(key)) => Condition::Lacks(key.into()),
            (None, None) => Condition::Has(text.into()),
        };
        let (Condition::Has(key) | Condition::Lacks(key) | Condition::Is(key, _) | Condition::IsNot(key, _)) =
            &condition;
        labels::check_key(key)?;
        if let Condition::Is(_, value) | Condition::IsNot(_, value) = &condition {
            labels::check_value(value)?;
        }
        Ok(condition)
    }
}

impl Offer {
    /// What this card offers.
    pub fn of(card: &Card) -> Offer {
        Offer {
            gpus: card.gpus.iter().map(|gpu| gpu.memory_bytes).collect(),
            disk_bytes: card.disk_bytes,
            disk_free_bytes: card.disk_free_bytes,
            models: card.models.iter().map(|model| model.name.clone()).collect(),
            labels: labels::of(card),
            sandbox: card.sandbox,
        }
    }

    /// Graphics processors that are good enough.
    pub fn gpus_for(&self, demand: &Demand) -> usize {
        self.gpus.iter().filter(|bytes| **bytes >= demand.vram_bytes).count()
    }

    /// Whether it could satisfy this demand if nothing else were done there.
    pub fn satisfies(&self, demand: &Demand) -> bool {
        self.shortfalls(demand).next().is_none()
    }

    /// What is missing, in words that follow the node's name: `has 0 of 1 GPUs`.
    pub fn shortfalls<'a>(&'a self, demand: &'a Demand) -> impl Iterator<Item = String> + 'a {
        let gpus = (self.gpus_for(demand) < usize::from(demand.gpus())).then(|| {
            let with = match demand.vram_bytes >> 20 {
                0 => String::new(),
                mib => format!(" with {mib} MiB"),
            };
            format!("has {} of {} GPUs{with}", self.gpus_for(demand), demand.gpus())
        });
        let disk = (self.disk_bytes < demand.disk_bytes)
            .then(|| format!("has a disk of {} MiB, not {}", self.disk_bytes >> 20, demand.disk_bytes >> 20));
        let model = demand.model.as_ref().filter(|model| !self.models.contains(*model));
        let labels = demand.labels.iter().filter(|condition| !condition.holds(&self.labels));
        let tolerated = |name: &&str| demand.tolerates.iter().any(|t| t == name || t == ANY);
        let taints = self.labels.keys().filter_map(|key| key.strip_prefix(TAINT)).filter(move |name| !tolerated(name));
        let sandbox = (self.sandbox < demand.sandbox())
            .then(|| format!("has sandbox {}, not {}", self.sandbox, demand.sandbox()));
        gpus.into_iter()
            .chain(taints.map(|name| format!("is tainted {name}")))
            .chain(disk)
            .chain(sandbox)
            .chain(model.map(|model| format!("has no model {model}")))
            .chain(labels.map(Condition::unmet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::messages::{CardModel, Gpu};
    use proptest::prelude::*;

    fn offer() -> Offer {
        let gpu = |memory_bytes| Gpu { memory_bytes, ..Gpu::default() };
        let model = CardModel { name: "tiny".into(), digest: String::new(), bytes: 1, layers: 1 };
        Offer::of(&Card {
            os: "linux".into(),
            arch: "aarch64".into(),
            device_type: "pi".into(),
            gpus: vec![gpu(8 << 30), gpu(24 << 30)],
            disk_bytes: 100 << 20,
            disk_free_bytes: 50 << 20,
            models: vec![model],
            labels: BTreeMap::from([("room".into(), "attic".into()), ("os".into(), "a lie".into())]),
            sandbox: Level::Landlock,
            ..Card::default()
        })
    }

    fn wants(labels: &[&str]) -> Demand {
        Demand { labels: labels.iter().map(|text| text.parse().unwrap()).collect(), ..Demand::default() }
    }

    #[test]
    fn conditions_are_read_as_they_are_written() {
        for text in ["gpu", "!gpu", "room=attic", "room!=attic", "room=", "a.b/c-d=x=y", "os!=a!=b"] {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
        for bad in ["", "!", "=x", "!=x", "a b", "a\n=1", "!!a", &"k".repeat(64), &format!("a={}", "v".repeat(256))] {
            assert!(bad.parse::<Condition>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_node_says_what_it_lacks() {
        let offer = offer();
        assert!(offer.satisfies(&Demand::default()));
        assert!(offer.satisfies(&wants(&["room", "!battery", "room=attic", "room!=cellar", "battery!=low"])));
        let short = |demand: Demand| offer.shortfalls(&demand).collect::<Vec<_>>().join("; ");
        let conditions = wants(&["battery", "!room", "room=cellar", "room!=attic"]);
        assert_eq!(short(conditions), "has no label battery; has the label room; is not room=cellar; is room=attic");
        assert_eq!(
            short(Demand { gpus: 2, vram_bytes: 16 << 30, ..Demand::default() }),
            "has 1 of 2 GPUs with 16384 MiB"
        );
        assert_eq!(short(Demand { vram_bytes: 32 << 30, ..Demand::default() }), "has 0 of 1 GPUs with 32768 MiB");
        assert_eq!(short(Demand { disk_bytes: 200 << 20, ..Demand::default() }), "has a disk of 100 MiB, not 200");
        let behind = |level| Demand { sandbox: Some(level), ..Demand::default() };
        assert_eq!(short(behind(Level::Bubblewrap)), "has sandbox landlock, not bubblewrap");
        assert!(offer.satisfies(&behind(Level::Landlock)) && offer.satisfies(&behind(Level::None)));
        let open = Offer { sandbox: Level::None, ..offer.clone() };
        assert!(!open.satisfies(&Demand::default()) && open.satisfies(&behind(Level::None)), "none is asked for");
        assert_eq!(short(Demand { model: Some("huge".into()), ..Demand::default() }), "has no model huge");
        assert!(offer.satisfies(&Demand { gpus: 2, model: Some("tiny".into()), ..Demand::default() }));
    }

    #[test]
    fn what_a_node_says_of_itself_is_not_its_owners_to_give() {
        let offer = offer();
        assert!(offer.satisfies(&wants(&["os=linux", "arch=aarch64", "device=pi"])));
        assert!(!offer.satisfies(&wants(&["os=a lie"])));
    }

    #[test]
    fn a_taint_keeps_away_who_does_not_tolerate_it() {
        let mut offer = offer();
        offer.labels.insert("taint.quiet".into(), "at night".into());
        let tolerates =
            |names: &[&str]| Demand { tolerates: names.iter().map(ToString::to_string).collect(), ..Demand::default() };
        assert!(offer.satisfies(&tolerates(&["quiet"])) && offer.satisfies(&tolerates(&["*"])));
        assert_eq!(offer.shortfalls(&tolerates(&["loud"])).collect::<Vec<_>>(), ["is tainted quiet"]);
    }

    proptest! {
        #[test]
        fn foreign_text_is_a_condition_or_an_error(text in ".{0,80}") {
            if let Ok(condition) = text.parse::<Condition>() {
                prop_assert_eq!(condition.to_string(), text);
            }
        }
    }
}

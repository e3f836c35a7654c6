//! One node's counters and gauges, in a registry of its own: a process may hold a hundred nodes.
//!
//! Rendered as OpenMetrics text for Prometheus, and as a flat map for `/api/metrics`.

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// A node's metrics. Cheap to clone; asking twice for a name gives the same metric.
#[derive(Clone, Default)]
pub struct Metrics {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    registry: Registry,
    counters: BTreeMap<String, Counter>,
    gauges: BTreeMap<String, Gauge>,
}

impl Default for Inner {
    fn default() -> Inner {
        Inner { registry: Registry::with_prefix("skep"), counters: BTreeMap::new(), gauges: BTreeMap::new() }
    }
}

impl Metrics {
    /// The counter `name` (`noun_verb`, no suffix: `_total` is added), made with `help` if it is new.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        let mut inner = self.lock();
        let Inner { registry, counters, .. } = &mut *inner;
        let register = || {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        counters.entry(name.into()).or_insert_with(register).clone()
    }

    /// The gauge `name`, with its unit in its name, made with `help` if it is new.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        let mut inner = self.lock();
        let Inner { registry, gauges, .. } = &mut *inner;
        let register = || {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        gauges.entry(name.into()).or_insert_with(register).clone()
    }

    /// OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.lock().registry).expect("writing to a string can't fail");
        text
    }

    /// Every metric by name.
    pub fn values(&self) -> BTreeMap<String, i64> {
        let inner = self.lock();
        let counters = inner.counters.iter().map(|(name, c)| (name.clone(), c.get() as i64));
        counters.chain(inner.gauges.iter().map(|(name, g)| (name.clone(), g.get()))).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_is_one_metric_and_nodes_share_none() {
        let (a, b) = (Metrics::default(), Metrics::default());
        a.counter("calls_sent", "calls").inc();
        a.counter("calls_sent", "calls").inc();
        b.counter("calls_sent", "calls");
        assert_eq!((a.values()["calls_sent"], b.values()["calls_sent"]), (2, 0));
        assert!(a.text().contains("skep_calls_sent_total 2"));
    }
}

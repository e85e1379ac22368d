//! Gauges with a value for each set. What is not known of one is not shown.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// A gauge.
pub(super) type Gauges = Family<Set, Gauge>;
/// Its name, what it tells, and its values.
pub(super) type Named<'a> = (&'static str, &'static str, &'a Gauges);

/// A set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Set {
    namespace: String,
    name: String,
}

impl Set {
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Show what is known.
    pub(super) fn show(&self, gauges: &Gauges, value: Option<i64>) {
        match value {
            Some(value) => {
                gauges.get_or_create(self).set(value);
            }
            None => {
                gauges.remove(self);
            }
        }
    }

    /// Show nothing of it any more.
    pub(super) fn forget(&self, all: &[Named<'_>]) {
        for (_, _, gauges) in all {
            gauges.remove(self);
        }
    }
}

pub(super) fn register(all: &[Named<'_>], registry: &mut Registry) {
    for (name, help, gauges) in all {
        registry.register(*name, *help, (*gauges).clone());
    }
}

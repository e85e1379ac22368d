//! Metrics of drills, by set. Times are points in time, as those of backups are.

use mainstay_crds::common::backup::{DrillRecord, DrillResult};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// A set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Set {
    namespace: String,
    name: String,
}

/// The metrics.
#[derive(Debug, Default)]
pub struct DrillMetrics {
    proven: Family<Set, Gauge>,
    passed: Family<Set, Gauge>,
    result: Family<Set, Gauge>,
    point: Family<Set, Gauge>,
    time: Family<Set, Gauge>,
}

impl DrillMetrics {
    fn all(&self) -> [(&'static str, &'static str, &Family<Set, Gauge>); 5] {
        [
            (
                "recovery_proven",
                "1 while the condition RecoveryProven is True, 0 while it is False",
                &self.proven,
            ),
            (
                "drill_last_passed_timestamp_seconds",
                "When the last drill that passed was over",
                &self.passed,
            ),
            (
                "drill_last_result",
                "What the last drill came to: 1 passed, 0 failed, -1 skipped",
                &self.result,
            ),
            (
                "drill_recovery_point_seconds",
                "Recovery point as the last drill that passed has measured it",
                &self.point,
            ),
            (
                "drill_recovery_seconds",
                "Recovery time as the last drill that passed has measured it",
                &self.time,
            ),
        ]
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        for (name, help, family) in self.all() {
            registry.register(name, help, family.clone());
        }
    }

    /// What is known of a set with drills, the newest first. What is not known is not shown.
    pub fn set(&self, namespace: &str, name: &str, proven: Option<bool>, drills: &[DrillRecord]) {
        let set = Set {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let show = |family: &Family<Set, Gauge>, value: Option<i64>| match value {
            Some(value) => {
                family.get_or_create(&set).set(value);
            }
            None => {
                family.remove(&set);
            }
        };
        let passed = drills.iter().find(|d| d.result == DrillResult::Passed);
        let ended = passed.and_then(|d| Some(d.ended.as_ref()?.0.as_second()));
        let result = drills.first().map(|d| match d.result {
            DrillResult::Passed => 1,
            DrillResult::Failed => 0,
            DrillResult::Skipped => -1,
        });
        show(&self.proven, proven.map(i64::from));
        show(&self.passed, ended);
        show(&self.result, result);
        show(&self.point, passed.and_then(|d| d.recovery_point_seconds));
        show(&self.time, passed.and_then(|d| d.recovery_seconds));
    }

    /// A set is gone, or has no drills any more.
    pub fn forget(&self, namespace: &str, name: &str) {
        let set = Set {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        for (_, _, family) in self.all() {
            family.remove(&set);
        }
    }
}

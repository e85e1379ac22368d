//! Metrics of drills, by set. Times are points in time, as those of backups are.

use mainstay_crds::common::backup::{DrillRecord, DrillResult};
use prometheus_client::registry::Registry;

use super::sets::{Gauges, Named, Set, register};

/// The metrics.
#[derive(Debug, Default)]
pub struct DrillMetrics {
    proven: Gauges,
    passed: Gauges,
    result: Gauges,
    point: Gauges,
    time: Gauges,
}

impl DrillMetrics {
    fn all(&self) -> [Named<'_>; 5] {
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
        register(&self.all(), registry);
    }

    /// What is known of a set with drills, the newest first. What is not known is not shown.
    pub fn set(&self, namespace: &str, name: &str, proven: Option<bool>, drills: &[DrillRecord]) {
        let set = Set::new(namespace, name);
        let show = |gauges, value| set.show(gauges, value);
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
        Set::new(namespace, name).forget(&self.all());
    }
}

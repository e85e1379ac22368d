//! Metrics of backups, by set. Times are points in time: how old something is follows from them whenever it
//! is looked at, and nothing has to move while nothing happens.

use mainstay_crds::common::backup::RecoveryStatus;
use prometheus_client::registry::Registry;

use super::sets::{Gauges, Named, Set, register};

/// Figures of a set's archive, which its status does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveFigures {
    /// When a piece of the log was stored last, in seconds since 1970.
    pub stored_at: Option<i64>,
    /// Pieces that wait to be stored.
    pub waiting: i64,
    /// Their size in bytes.
    pub waiting_bytes: i64,
}

/// The metrics.
#[derive(Debug, Default)]
pub struct BackupMetrics {
    healthy: Gauges,
    last: Gauges,
    earliest: Gauges,
    latest: Gauges,
    stored: Gauges,
    archived: Gauges,
    waiting: Gauges,
    waiting_bytes: Gauges,
}

impl BackupMetrics {
    fn all(&self) -> [Named<'_>; 8] {
        [
            (
                "backup_healthy",
                "1 while the condition BackupHealthy is True",
                &self.healthy,
            ),
            (
                "backup_last_success_timestamp_seconds",
                "When the newest backup was complete",
                &self.last,
            ),
            (
                "recovery_earliest_timestamp_seconds",
                "The earliest moment that can be recovered",
                &self.earliest,
            ),
            (
                "recovery_latest_timestamp_seconds",
                "The latest moment that can be recovered",
                &self.latest,
            ),
            (
                "backup_stored_bytes",
                "Size of all backups as stored, without the log",
                &self.stored,
            ),
            (
                "archive_last_success_timestamp_seconds",
                "When a piece of the log was stored last",
                &self.archived,
            ),
            (
                "archive_waiting_pieces",
                "Pieces of the log that wait to be stored",
                &self.waiting,
            ),
            (
                "archive_waiting_bytes",
                "Size of the pieces of the log that wait to be stored",
                &self.waiting_bytes,
            ),
        ]
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        register(&self.all(), registry);
    }

    /// What is known of a set. What is not known is not shown.
    pub fn set(
        &self,
        namespace: &str,
        name: &str,
        healthy: bool,
        recovery: &RecoveryStatus,
        archive: Option<ArchiveFigures>,
    ) {
        let set = Set::new(namespace, name);
        let show = |gauges, value| set.show(gauges, value);
        let last = recovery.last_backup.as_ref();
        show(&self.healthy, Some(i64::from(healthy)));
        show(
            &self.last,
            last.and_then(|b| Some(b.at.as_ref()?.0.as_second())),
        );
        let second = |t: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time| t.0.as_second();
        show(&self.earliest, recovery.earliest.as_ref().map(second));
        show(&self.latest, recovery.latest.as_ref().map(second));
        show(&self.stored, recovery.stored_bytes);
        show(&self.archived, archive.and_then(|a| a.stored_at));
        show(&self.waiting, archive.map(|a| a.waiting));
        show(&self.waiting_bytes, archive.map(|a| a.waiting_bytes));
    }

    /// A set is gone, or has no backups any more.
    pub fn forget(&self, namespace: &str, name: &str) {
        Set::new(namespace, name).forget(&self.all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn what_is_known_is_shown_and_goes_with_the_set() {
        let metrics = Metrics::default();
        let recovery = RecoveryStatus {
            stored_bytes: Some(7),
            ..RecoveryStatus::default()
        };
        metrics.backups.set("shop", "db", true, &recovery, None);
        let text = metrics.text().unwrap();
        let of = r#"{namespace="shop",name="db"}"#;
        assert!(
            text.contains(&format!("mainstay_backup_stored_bytes{of} 7")),
            "{text}"
        );
        assert!(!text.contains("archive_waiting_pieces{"), "{text}");
        metrics.backups.forget("shop", "db");
        assert!(!metrics.text().unwrap().contains(of));
    }
}

//! The metrics that every operator has.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::backups::BackupMetrics;
use super::drills::DrillMetrics;
use super::service::ServiceMetrics;
use crate::outcome::Outcomes;

/// Content type of the text form.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels of a pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pass {
    kind: &'static str,
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    kind: &'static str,
    predicate: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: &'static str,
    code: u16,
}

type Histograms = Family<Kind, Histogram, fn() -> Histogram>;

/// The registry, with the metrics of passes and of API requests. An operator adds its own.
pub struct Metrics {
    registry: Mutex<Registry>,
    passes: Family<Pass, Counter>,
    durations: Histograms,
    backing_off: Family<Kind, Gauge>,
    blocked: Family<Step, Counter>,
    requests: Family<Request, Counter>,
    leader: Gauge,
    /// Of how sets serve.
    pub service: ServiceMetrics,
    /// Of backups, where an operator makes any.
    pub backups: BackupMetrics,
    /// Of drills, where an operator makes any.
    pub drills: DrillMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("mainstay")),
            passes: Family::default(),
            durations: Family::new_with_constructor(|| {
                Histogram::new([
                    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
                ])
            }),
            backing_off: Family::default(),
            blocked: Family::default(),
            requests: Family::default(),
            leader: Gauge::default(),
            service: ServiceMetrics::default(),
            backups: BackupMetrics::default(),
            drills: DrillMetrics::default(),
        };
        metrics.extend(|registry| {
            registry.register(
                "reconciles",
                "Passes over an object, by what they came to",
                metrics.passes.clone(),
            );
            registry.register(
                "reconcile_duration_seconds",
                "Time that a pass took",
                metrics.durations.clone(),
            );
            registry.register(
                "objects_in_backoff",
                "Objects whose last pass failed",
                metrics.backing_off.clone(),
            );
            registry.register(
                "steps_blocked",
                "Steps that a rule held back, once a pass",
                metrics.blocked.clone(),
            );
            registry.register(
                "api_requests",
                "Requests to the API server; code 0 is no answer",
                metrics.requests.clone(),
            );
            registry.register(
                "leader",
                "1 while this replica leads",
                metrics.leader.clone(),
            );
            metrics.service.register(registry);
            metrics.backups.register(registry);
            metrics.drills.register(registry);
        });
        metrics
    }
}

impl Metrics {
    /// Add metrics of one's own.
    pub fn extend(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A pass over an object of `kind` ended. `label` names an error in one word of a bounded set;
    /// `failing` is how many objects of the kind are in back-off.
    pub fn pass<E>(
        &self,
        kind: &'static str,
        took: Duration,
        outcomes: &Outcomes<E>,
        label: impl Fn(&E) -> &'static str,
        failing: usize,
    ) {
        let blocked = outcomes.blocked().next();
        let (outcome, reason) = match (outcomes.errors(), blocked, outcomes.waits().next()) {
            ([error, ..], _, _) => ("error", label(error)),
            ([], Some(first), _) => ("blocked", first.predicate),
            ([], None, Some(first)) => ("progressing", first.predicate),
            ([], None, None) => ("done", ""),
        };
        self.passes
            .get_or_create(&Pass {
                kind,
                outcome,
                reason,
            })
            .inc();
        self.durations
            .get_or_create(&Kind { kind })
            .observe(took.as_secs_f64());
        self.backing_off
            .get_or_create(&Kind { kind })
            .set(i64::try_from(failing).unwrap_or(i64::MAX));
        for wait in outcomes.blocked() {
            self.blocked
                .get_or_create(&Step {
                    kind,
                    predicate: wait.predicate,
                })
                .inc();
        }
    }

    /// A request to the API server ended; none for a code when there was no answer.
    pub fn request(&self, verb: &'static str, code: Option<u16>) {
        self.requests
            .get_or_create(&Request {
                verb,
                code: code.unwrap_or_default(),
            })
            .inc();
    }

    /// Whether this replica leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All of them in the text form.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(
            &mut text,
            &self.registry.lock().unwrap_or_else(PoisonError::into_inner),
        )?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Outcome, Wait};

    #[test]
    fn a_pass_is_counted_by_what_it_came_to() {
        let metrics = Metrics::default();
        let mut outcomes = Outcomes::<&'static str>::default();
        metrics.pass("Postgres", Duration::from_millis(3), &outcomes, |e| e, 0);
        let wait = |predicate| Wait {
            step: "restart db-2".into(),
            predicate,
            reason: "r".into(),
            after: None,
        };
        outcomes.record(Ok(Outcome::Progressing(wait("wait_until_it_serves"))));
        metrics.pass("Postgres", Duration::from_millis(3), &outcomes, |e| e, 0);
        outcomes.record(Ok(Outcome::Blocked(wait("primary_last"))));
        metrics.pass("Postgres", Duration::from_millis(3), &outcomes, |e| e, 0);
        outcomes.record(Err("conflict"));
        metrics.pass("Postgres", Duration::from_millis(3), &outcomes, |e| e, 1);
        metrics.request("patch", Some(409));
        let text = metrics.text().unwrap();
        for line in [
            r#"mainstay_reconciles_total{kind="Postgres",outcome="done",reason=""} 1"#,
            r#"mainstay_reconciles_total{kind="Postgres",outcome="progressing",reason="wait_until_it_serves"} 1"#,
            r#"mainstay_reconciles_total{kind="Postgres",outcome="blocked",reason="primary_last"} 1"#,
            r#"mainstay_reconciles_total{kind="Postgres",outcome="error",reason="conflict"} 1"#,
            r#"mainstay_objects_in_backoff{kind="Postgres"} 1"#,
            r#"mainstay_steps_blocked_total{kind="Postgres",predicate="primary_last"} 2"#,
            r#"mainstay_api_requests_total{verb="patch",code="409"} 1"#,
            r#"mainstay_reconcile_duration_seconds_count{kind="Postgres"} 4"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let blocked_by =
            "steps_blocked_total{kind=\"Postgres\",predicate=\"wait_until_it_serves\"}";
        assert!(
            !text.contains(blocked_by),
            "what goes on by itself is not blocked"
        );
    }
}

//! What a pass found and came to.

use std::time::Duration;

use jiff::Timestamp;
use mainstay_shared::apply::{ApplyError, Cause};
use mainstay_shared::conditions::reasons;

use crate::observe::Observed;
use crate::observe::identity::Identity;
use crate::plan::{Plan, Seat};
use crate::status::Obstacle;
use crate::validate::Validated;

/// What a pass came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Look again after this time, if nothing happens earlier.
    pub(super) after: Option<Duration>,
    /// Whether something failed: then the pauses grow.
    pub(super) failed: bool,
}

impl Outcome {
    pub(super) fn by(&mut self, after: Duration) {
        self.after = Some(self.after.map_or(after, |a| a.min(after)));
    }

    pub(super) fn at(&mut self, when: Timestamp, now: Timestamp) {
        let left = Duration::try_from(when.duration_since(now)).unwrap_or_default();
        // A little later than due: by then the clock is past it.
        self.by(left + Duration::from_secs(1));
    }
}

/// What the pass found and did, for the status.
#[derive(Default)]
pub(super) struct Report {
    pub(super) outcome: Outcome,
    pub(super) observed: Observed,
    pub(super) seat: Option<Seat>,
    pub(super) validated: Option<Validated>,
    pub(super) plan: Option<Plan>,
    pub(super) identity: Option<Identity>,
    pub(super) obstacles: Vec<Obstacle>,
    pub(super) working: bool,
}

impl Report {
    pub(super) fn obstacle(&mut self, reason: &'static str, message: String, stalled: bool) {
        self.obstacles.push(Obstacle {
            reason,
            message,
            stalled,
        });
    }

    pub(super) fn failed(&mut self, errors: Vec<ApplyError>) {
        for error in errors {
            self.outcome.failed = true;
            if matches!(error.cause, Cause::NamespaceGoing) {
                tracing::info!(%error, "nothing is made any more");
            } else {
                tracing::warn!(%error, "a step of the pass failed");
            }
            let stalled = error.cause.stalled();
            let reason = stalled.unwrap_or(reasons::FAILED);
            self.obstacle(reason, error.to_string(), stalled.is_some());
        }
        // The one that a person must mend is shown.
        self.obstacles.sort_by_key(|o| !o.stalled);
    }
}

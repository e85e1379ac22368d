//! The Lease, which says who may be primary.

use super::report::{PassError, Report};
use super::{LOOK, Pass};
use crate::apply::io;
use crate::conditions::reasons;
use crate::operator::engine::Engine;
use crate::outcome::{Outcome, Wait};

impl<E: Engine> Pass<'_, E> {
    /// Whether the Lease can be decided on. One that an earlier set of this name left behind, with
    /// none of its data left, is deleted; the watch then brings the next pass about.
    pub(super) async fn lease_is_usable(&self, report: &mut Report<E>) -> bool {
        let Some(lease) = &report.observed.lease else {
            return true;
        };
        let record = match &lease.record {
            Ok(record) => record,
            Err(error) => {
                let wait = Wait {
                    step: "find out who may be primary".to_owned(),
                    predicate: "wait_for_a_readable_lease",
                    reason: error.to_string(),
                    after: None,
                };
                report.stall(reasons::FAILED, wait);
                return false;
            }
        };
        let is_left_behind = record.system_identifier.is_some()
            && self.before.system_identifier.is_none()
            && report.observed.instances.is_empty();
        if !is_left_behind || self.is_paused() {
            return true;
        }
        tracing::info!(set = %self.set, "deleting the Lease of an earlier set without data");
        if let Some(seen) = &lease.seen {
            let deleted = io::delete(&self.context.client, seen).await;
            report.outcomes.request(deleted.map_err(PassError::from));
        }
        report.working = true;
        report.progress(Outcome::Progressing(Wait {
            step: "delete the Lease of an earlier set without data".to_owned(),
            predicate: "wait_for_the_cache_to_catch_up",
            reason: format!("the Lease {} is still there", self.set.name),
            after: Some(LOOK),
        }));
        false
    }
}

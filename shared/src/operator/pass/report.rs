//! What a pass found and came to.

use std::fmt::Display;
use std::time::Duration;

use jiff::Timestamp;
use mainstay_backup::api::Report as BackupReport;

use super::backups::Told;
use crate::apply::{ApplyError, Cause};
use crate::backups::drill::Ground;
use crate::conditions::reasons;
use crate::operator::desired::DesiredError;
use crate::operator::desired::credentials::CredentialsError;
use crate::operator::engine::Engine;
use crate::operator::material::MaterialError;
use crate::operator::observe::Observed;
use crate::operator::observe::identity::{Identity, IdentityError};
use crate::operator::plan::{Plan, Seat};
use crate::operator::status::Obstacle;
use crate::operator::steer::Steered;
use crate::operator::validated::{Common, Validated};
use crate::outcome::{Outcome, Outcomes, Wait};

/// A step of the pass failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassError {
    #[error(transparent)]
    Request(Box<ApplyError>),
    #[error(transparent)]
    Desired(#[from] DesiredError),
    /// The stored authority cannot be used; it is never replaced.
    #[error(transparent)]
    Authority(MaterialError),
    #[error(transparent)]
    Material(#[from] MaterialError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("an object cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<ApplyError> for PassError {
    fn from(error: ApplyError) -> Self {
        Self::Request(Box::new(error))
    }
}

impl From<CredentialsError> for PassError {
    fn from(error: CredentialsError) -> Self {
        match error {
            CredentialsError::Entropy(error) => Self::Material(error.into()),
            CredentialsError::Json(error) => Self::Json(error),
        }
    }
}

impl PassError {
    /// Reason for the condition `Stalled`, when trying again does not help until a person acts.
    fn stalled(&self) -> Option<&'static str> {
        match self {
            Self::Request(error) => error.cause.stalled(),
            Self::Authority(_) => Some(reasons::FAILED),
            _ => None,
        }
    }

    /// A short name for metrics, from a bounded set.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Request(error) => error.cause.label(),
            Self::Desired(_) => "desired",
            Self::Authority(_) => "authority",
            Self::Material(_) => "material",
            Self::Identity(_) => "identity",
            Self::Json(_) => "encode",
        }
    }

    pub(super) fn log(&self) {
        match self {
            Self::Request(error) if matches!(error.cause, Cause::NamespaceGoing) => {
                tracing::info!(%error, "nothing is made any more");
            }
            _ => tracing::warn!(error = %self, "a step of the pass failed"),
        }
    }
}

/// What the pass found and did, for the status.
#[derive(Default)]
pub(super) struct Report<E: Engine> {
    pub(super) outcomes: Outcomes<PassError>,
    pub(super) observed: Observed,
    pub(super) seat: Option<Seat>,
    pub(super) validated: Option<Validated<E>>,
    pub(super) plan: Option<Plan>,
    pub(super) identity: Option<Identity>,
    /// What the engine did and grants, of a set that leads itself.
    pub(super) steered: Option<Steered>,
    pub(super) working: bool,
    pub(super) backups: Option<Told>,
    /// What the primary's backup container says; none where it does not answer.
    pub(super) primary_backup: Option<BackupReport>,
    /// What can be recovered, or why that is not known; none while backups were not looked at.
    pub(super) ground: Option<Result<Ground, String>>,
    /// What is kept of a set that ends, in a sentence.
    pub(super) kept: Option<String>,
    /// The last backup of a set that ends, once it is complete.
    pub(super) final_backup: Option<String>,
    stalls: Vec<Obstacle>,
}

impl<E: Engine> Report<E> {
    /// A report of what is observed, with nothing done yet.
    pub(super) fn of(observed: Observed) -> Self {
        Self {
            observed,
            ..Self::default()
        }
    }

    /// What every engine has of the resource as it is meant; none where it is wrong, or was not looked at.
    pub(super) fn common(&self) -> Option<&Common> {
        self.validated.as_ref().map(|v| &v.common)
    }

    /// The specification asks for what cannot be.
    pub(super) fn invalid(&mut self, problems: &[impl Display]) {
        let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let wait = Wait {
            step: "work on the specification".to_owned(),
            predicate: "wait_for_a_valid_specification",
            reason: words.join(" "),
            after: None,
        };
        self.stall(reasons::INVALID, wait);
    }

    /// A step waits for a person, whom the wait's reason tells what to do.
    pub(super) fn stall(&mut self, reason: &'static str, wait: Wait) {
        self.stalls.push(Obstacle {
            reason,
            message: wait.reason.clone(),
            stalled: true,
        });
        self.progress(Outcome::Blocked(wait));
    }

    /// A step is not done, and did not fail.
    pub(super) fn progress(&mut self, step: Outcome) {
        self.outcomes.record(Ok(step));
    }

    /// A step failed; it is tried again.
    pub(super) fn failed(&mut self, error: impl Into<PassError>) {
        self.outcomes.record(Err(error.into()));
    }

    /// Look again when something becomes due, if nothing happens earlier.
    pub(super) fn look_at(&mut self, when: Timestamp, now: Timestamp) {
        let left = Duration::try_from(when.duration_since(now)).unwrap_or_default();
        // A little later than due: by then the clock is past it.
        self.outcomes.look_after(left + Duration::from_secs(1));
    }

    /// What keeps the pass from doing what it should, first what a person must mend.
    pub(super) fn obstacles(&self) -> Vec<Obstacle> {
        let errors = self.outcomes.errors().iter().map(|error| {
            let stalled = error.stalled();
            Obstacle {
                reason: stalled.unwrap_or(reasons::FAILED),
                message: error.to_string(),
                stalled: stalled.is_some(),
            }
        });
        let mut all: Vec<Obstacle> = self.stalls.iter().cloned().chain(errors).collect();
        all.sort_by_key(|obstacle| !obstacle.stalled);
        all
    }
}

//! Asking for an `Operation`, and following it to its end.

use anyhow::{Context as _, Result};
use kube::api::PostParams;
use mainstay_crds::operation::{
    Action, Operation, OperationPhase, OperationSpec, RotatePassword, Target,
};

use crate::Asked;
use crate::follow::{Look, Progress};
use crate::sets::{Set, generated};

/// What a person asks for, and in which words it is told.
pub struct Wish {
    /// What is done.
    pub action: Action,
    /// Whose password is changed, where one is.
    pub rotate_password: Option<RotatePassword>,
    /// Seconds after which it is given up.
    pub timeout: Option<i32>,
    /// What it is for, in the name of the object.
    pub purpose: &'static str,
    /// What could not be done, where the object is refused.
    pub refused: &'static str,
    /// What is said of it before the message of a failure.
    pub failed: &'static str,
    /// The same when it was cancelled.
    pub cancelled: &'static str,
}

impl Wish {
    fn object(&self, set: &Set) -> Operation {
        Operation {
            metadata: generated(&set.name, self.purpose),
            spec: OperationSpec {
                target: Target {
                    kind: set.kind.clone(),
                    name: set.name.clone(),
                },
                action: self.action,
                to: None,
                destroy_keys: None,
                rotate_password: self.rotate_password.clone(),
                timeout_seconds: self.timeout,
                cancel: None,
            },
            status: None,
        }
    }

    fn look(&self, operation: &Operation) -> Look {
        let status = operation.status.clone().unwrap_or_default();
        let message = status.message.unwrap_or_default();
        match status.phase.unwrap_or_default() {
            OperationPhase::Pending | OperationPhase::Running => Look::On(Progress {
                message,
                bytes: None,
            }),
            OperationPhase::Succeeded => Look::Done(message),
            OperationPhase::Failed => Look::Failed(format!("{}: {message}", self.failed)),
            OperationPhase::Cancelled => Look::Failed(format!("{}: {message}", self.cancelled)),
        }
    }

    /// Make the object, and follow it unless nobody waits. `told` says what was made, by its name.
    ///
    /// # Errors
    /// It is refused, or does not succeed.
    pub async fn ask(
        &self,
        set: &Set,
        mut asked: Asked<'_>,
        no_wait: bool,
        told: impl FnOnce(&str) -> String,
    ) -> Result<()> {
        let made = asked
            .scene
            .api::<Operation>()
            .create(&PostParams::default(), &self.object(set))
            .await
            .context(self.refused)?;
        let told = told(made.metadata.name.as_deref().unwrap_or_default());
        asked
            .conclude(made, &told, no_wait, |operation| self.look(operation))
            .await
    }
}

//! Another program of the agent, beside the running engine. I/O.

use std::path::PathBuf;
use std::time::Duration;

use mainstay_shared::agent::api::{GivenUp, Program, Upgrade};
use mainstay_shared::agent::init::protocol::Command;
use mainstay_shared::agent::program::{Own, sha256_in};
use mainstay_shared::agent::server::{Answer, Refusal};
use tokio::time::sleep;

use super::{Machine, Task};

/// By then the answer has left.
const FAREWELL: Duration = Duration::from_millis(200);

/// What this process runs. Reading it takes a moment.
pub(super) fn identify() -> Task<Option<Program>> {
    let found = tokio::task::spawn_blocking(Own::find);
    Box::pin(async move {
        match found.await {
            Ok(Ok(own)) => Some(own.program),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the agent's own program cannot be read: it is not upgraded in place");
                None
            }
            Err(_) => None,
        }
    })
}

impl Machine {
    /// It is known what this process runs.
    pub(super) fn identified(&mut self, program: Option<Program>) {
        self.program = program;
        self.identifying = None;
    }

    /// PID 1 is told once that this agent works: it listens, and has looked, decided and told.
    pub(super) async fn say_works(&mut self) {
        if !self.works {
            // A lost connection ends this process elsewhere.
            self.works = self.init.send(Command::Works).await.is_ok();
        }
    }

    /// The program that PID 1 gave up last.
    pub(super) fn given_up(&self) -> Option<GivenUp> {
        let given_up = self.init.heard().borrow().state.given_up.clone()?;
        Some(GivenUp {
            sha256: sha256_in(&given_up.program)?.to_owned(),
            why: given_up.why,
        })
    }

    /// Another program takes this one's place, if nothing long is under way that would be lost.
    pub(super) fn make_room(&mut self, wish: &Upgrade, program: PathBuf, answer: Answer) {
        let starts = self.init.heard().borrow().state.starts;
        let busy =
            self.work.is_some() || self.handing.is_some() || self.restart.is_some() || self.leaving;
        let refusal = if wish.nonce == self.nonce(starts) {
            busy.then(|| Refusal::Impossible("something else is being done just now".to_owned()))
        } else {
            Some(Refusal::Outdated)
        };
        if let Some(refusal) = refusal {
            let _ = answer.send(Err(refusal));
            return;
        }
        tracing::info!(
            program = wish.sha256,
            reason = wish.reason,
            "another agent takes over"
        );
        let _ = answer.send(Ok(()));
        let init = self.init.clone();
        tokio::spawn(async move {
            sleep(FAREWELL).await;
            let program = program.display().to_string();
            // A lost connection ends this process elsewhere.
            let _ = init.send(Command::TryOut { program }).await;
        });
    }
}

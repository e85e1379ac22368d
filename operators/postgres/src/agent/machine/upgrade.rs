//! Another program of the agent, beside the running engine. I/O.

use std::path::PathBuf;

use mainstay_shared::agent::api::{Program, Upgrade};
use mainstay_shared::agent::init::protocol::Command;
use mainstay_shared::agent::server::{Answer, Refusal};
use mainstay_shared::agent::upgrade;

use super::Machine;

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
        upgrade::make_room(&self.init, wish, program, answer, refusal);
    }
}

//! What the running engine has become: kept in memory for the next process beside it, so that clients do not notice when the
//! agent ends. I/O.

use std::fs;
use std::path::PathBuf;

use mainstay_shared::agent::init::protocol::Engine;
use mainstay_shared::agent::open::is_open;
use mainstay_shared::agent::past;
use mainstay_shared::agent::state::absent;
use mainstay_shared::election::member::Ballot;
use mainstay_shared::election::message::Wanted;
use serde::{Deserialize, Serialize};

use super::Machine;

const FILE: &str = "served.json";

/// What a start of the engine has become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Served {
    /// Number of the start.
    start: u64,
    /// Where its recovery ended.
    pub(super) recovered: u64,
    /// For which ballot it let clients in.
    open: Option<Ballot>,
}

impl Machine {
    fn served_file(&self) -> PathBuf {
        self.place.run().join(FILE)
    }

    /// Of the engine that runs.
    pub(super) fn served(&self) -> Option<&Served> {
        let heard = self.engine.init().heard();
        let state = &heard.borrow().state;
        let running = matches!(state.engine, Engine::Running { .. });
        let served = self.served.as_ref();
        served.filter(|s| running && s.start == state.starts)
    }

    /// It writes a history of its own, from here on.
    pub(super) fn has_recovered(&mut self, start: u64, at: u64) {
        if self.served().is_none() {
            self.serve(Served {
                start,
                recovered: at,
                open: None,
            });
        }
    }

    /// Note for whom the election opens the door, before it is.
    pub(super) fn note_open(&mut self) {
        let Wanted::Primary { ballot, open, .. } = self.wanted() else {
            return;
        };
        let before = self.served().filter(|s| s.open.as_ref() != Some(&ballot));
        if open && let Some(served) = before.cloned() {
            self.serve(Served {
                open: Some(ballot),
                ..served
            });
        }
    }

    /// Whether clients are let in.
    pub(super) fn lets_in(&self, wanted: &Wanted) -> bool {
        let open_for = self.served().and_then(|s| s.open.as_ref());
        is_open(
            wanted,
            open_for.filter(|b| self.promoted().as_ref() == Some(*b)),
        )
    }

    fn serve(&mut self, served: Served) {
        if let Err(error) = past::note(&self.served_file(), &served) {
            tracing::warn!(%error, "what the engine has become could not be kept in memory");
        }
        self.served = Some(served);
    }

    /// What the process before knew of the engine that runs.
    pub(super) fn resume_served(&mut self) {
        self.served = past::read(&self.served_file());
    }

    /// Nothing of an engine before is true of the next.
    pub(super) fn forget_served(&mut self) -> Result<(), String> {
        self.served = None;
        let file = self.served_file();
        absent(fs::remove_file(&file)).map_err(|e| format!("{}: {e}", file.display()))
    }
}

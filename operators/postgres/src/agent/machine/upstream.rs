//! Whom a replica receives from: kept for the next process beside a running engine, and given up when
//! that one has no log any more of what comes next. I/O.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::init::protocol::Engine;
use mainstay_shared::agent::past;
use mainstay_shared::agent::state::absent;
use mainstay_shared::agent::task::Task;
use mainstay_shared::election::member::Ballot;
use mainstay_shared::election::message::{Room, Wanted};
use mainstay_shared::names;

use super::super::decide::Role;
use super::super::history::Parting;
use super::super::monitor::Sight;
use super::super::recovery;
use super::super::source::{Source, lacks_log_after};
use super::Machine;

const FILE: &str = "upstream.json";
/// Who has received nothing for so long asks the primary whether it still has what comes next.
const STARVING: Duration = Duration::from_secs(15);
/// Who has received for so long has the file of the log that a stream begins with.
const FLOWING: Duration = Duration::from_secs(10);

/// A replica that receives nothing.
#[derive(Default)]
pub(super) struct Hunger {
    /// Since when, or since it was last asked about.
    since: Option<Duration>,
    pub(super) asking: Option<Task<Result<bool, String>>>,
    /// Whose log it is about.
    of: Option<Ballot>,
    /// What comes after this place.
    at: u64,
    /// Where it is while it takes no connections yet.
    stuck: Option<u64>,
}

impl Machine {
    fn upstream_file(&self) -> PathBuf {
        self.place.run().join(FILE)
    }

    /// From now on the configuration names that one, or nobody. It is kept before it is rendered, in
    /// memory, as long as the pod.
    pub(super) fn set_upstream(&mut self, upstream: Option<Ballot>) -> Result<(), String> {
        if upstream == self.upstream && upstream.is_some() {
            return Ok(());
        }
        let file = self.upstream_file();
        let kept = match &upstream {
            Some(ballot) => past::note(&file, ballot),
            None => absent(fs::remove_file(&file)),
        };
        kept.map_err(|e| format!("{}: {e}", file.display()))?;
        self.upstream = upstream;
        Ok(())
    }

    /// What the process before rendered for the engine that runs.
    pub(super) fn resume_upstream(&mut self) {
        self.upstream = past::read(&self.upstream_file());
    }

    /// Note since when it receives, after a look at an engine or where none runs.
    pub(super) fn note_receiving(&mut self, receives: bool) {
        self.receiving_since = match self.receiving_since {
            since @ Some(_) if receives => since,
            _ => receives.then(boottime),
        };
    }

    /// Whether new files of the log are filled with zeros first.
    ///
    /// A primary that has just been promoted lets clients in only when a replica has stored something of its
    /// timeline, for which that replica makes a new file: it does not write and sync 16 MiB of zeros before, unless
    /// the volume has little room, where only a filled file keeps its place.
    pub(super) fn fills_files(&self) -> bool {
        let flows = |since| boottime().saturating_sub(since) >= FLOWING;
        matches!(self.wanted(), Wanted::Primary { .. })
            || self.disk.room() != Room::Ample
            || self.receiving_since.is_some_and(flows)
    }

    /// A replica that has received nothing for a while asks the primary whether it ever will.
    pub(super) fn feel_hunger(&mut self) {
        let starving = match &*self.monitor.sight.borrow() {
            Sight::Up { vitals, .. } if vitals.in_recovery && !vitals.receiving => {
                // Only the end of the own log tells what has to come next.
                vitals.at_end.then_some(vitals.position)
            }
            // Rewound data takes no connections before it is whole.
            Sight::NotYet if self.upstream.is_some() => {
                let at = self.recovering();
                if at.is_none() || at != self.hunger.stuck {
                    self.hunger = Hunger {
                        stuck: at,
                        ..Hunger::default()
                    };
                }
                at
            }
            _ => {
                self.hunger = Hunger::default();
                return;
            }
        };
        let Some(upstream) = self.upstream.clone() else {
            self.hunger = Hunger::default();
            return;
        };
        let now = boottime();
        let since = *self.hunger.since.get_or_insert(now);
        let (Some(position), None) = (starving, &self.hunger.asking) else {
            return;
        };
        if now.saturating_sub(since) < STARVING || self.started_as != Role::Replica {
            return;
        }
        let leader = self.leader().filter(|(ballot, ..)| *ballot == upstream);
        let (Some((_, name, address)), Some((config, _)), Some(tls)) = (
            leader,
            &self.mounts.config,
            self.client_tls.borrow().clone(),
        ) else {
            return;
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return;
        };
        let source = Source {
            address,
            host: names::instance_host(&name, &config.set, &config.namespace),
            tls,
        };
        self.hunger.since = Some(now);
        self.hunger.of = Some(upstream);
        self.hunger.at = position;
        self.hunger.asking = Some(Box::pin(
            async move { lacks_log_after(&source, position).await },
        ));
    }

    /// Where the file of the log begins that an engine is at which takes no connections yet.
    fn recovering(&self) -> Option<u64> {
        let engine = self.engine.state().engine;
        let Engine::Running { pid } = engine else {
            return None;
        };
        let size = recovery::size(&self.place.data().join("pg_wal"))?;
        recovery::begin(&recovery::file(pid)?, size)
    }

    /// The primary has answered.
    pub(super) fn answered(&mut self, lacks: Result<bool, String>) {
        self.hunger.asking = None;
        let of = self.hunger.of.take();
        // It may have got on meanwhile.
        let still = match &*self.monitor.sight.borrow() {
            Sight::Up { vitals, .. } => !vitals.receiving && vitals.position == self.hunger.at,
            Sight::NotYet => self.recovering() == Some(self.hunger.at),
            Sight::Dark(_) => false,
        };
        match (lacks, of) {
            (Ok(true), Some(of)) if still && self.upstream.as_ref() == Some(&of) => {
                tracing::warn!("the primary has no log any more of what comes next here");
                self.engine.last_error = Some(
                    "it was away for so long that the primary has not kept the log that it lacks: its data is copied anew"
                        .to_owned(),
                );
                self.parted = Some((of, Parting::Outdated));
            }
            (Ok(_), _) => {}
            (Err(why), _) => tracing::info!(%why, "the primary was asked for its log"),
        }
    }
}

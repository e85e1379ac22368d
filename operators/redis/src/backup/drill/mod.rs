//! Redis in a drill: it starts from what the restore has written, goes through every value, and is asked what users want
//! to know. I/O; the frame is [`mainstay_shared::backups::container::drill`]. [`ways`] says who answers what, and [`answers`]
//! what an answer means.
//!
//! Shards of a cluster are started one after the other, so that one needs no more memory than an instance has.

pub mod answers;
mod asking;
pub mod ways;

use std::path::Path;
use std::time::Duration;

use mainstay_backup::drill::DrillReport;
use mainstay_shared::backups::container::drill::words::Findings;
use mainstay_shared::backups::container::drill::{self, DrillError, Scratch};
use mainstay_shared::backups::container::restoring::make;

use super::restore::Reached;
use super::restore::server::{Reads, Server};
use super::restore::shares::{self, Restored, named};
use super::settings::{DrillCheck, DrillSettings};
use super::shards::Slots;
use crate::agent::place::{self, Place};
use answers::what;
use asking::{ask, in_slots, let_ask, marked, ways};
use ways::{Answer, Way, verdict};

/// Built-in check: Redis starts from what was restored, and every value in it is sound.
pub const START: &str = "Redis starts";
/// Built-in check: what it has read is what was restored, by its mark.
pub const MARK: &str = "it is the restored dataset";
/// Built-in check of a cluster's shard: it has keys of its slots alone.
pub const SLOTS: &str = "its keys are of its slots";
/// Built-in check, told of only where it does not hold: what was restored can be stopped again.
pub const STOP: &str = "Redis stops in order";

/// Makes the drill, and leaves a [`DrillReport`] as last words.
///
/// # Errors
/// It did not pass.
pub async fn run() -> Result<(), DrillError> {
    let place = Place::from_environment().map_err(DrillError::setting)?;
    let look = async |settings: DrillSettings, reached: Reached, report: &mut DrillReport| {
        look(&place, &settings, &reached, report).await
    };
    drill::run(&place.root, look).await
}

async fn look(
    place: &Place,
    settings: &DrillSettings,
    reached: &Reached,
    report: &mut DrillReport,
) -> Result<Findings, String> {
    // There is no log: the newest write is as old as the snapshot, of several as the oldest of them.
    report.last_commit = reached.taken;
    let shards = if settings.every_shard {
        shares::read(&place.data())?
    } else {
        // Each shard of a cluster has a position of its own, and no promotion is noted in it.
        report.position = Some(reached.offset.to_string());
        report.history = Some(reached.timeline.to_string());
        vec![Restored::whole()]
    };
    let program = place::server(settings.flavour)?;
    let scratch = Scratch::make(place.volume().join("redis.drill"))?;
    let mut course = Course {
        settings,
        reached,
        shards: &shards,
        findings: Findings::default(),
        ways: None,
        answers: vec![Vec::new(); settings.checks.len()],
    };
    let (mut silent, mut ends) = (false, Vec::new());
    for (number, shard) in shards.iter().enumerate() {
        let folder = scratch.path().join(number.to_string());
        make(&folder).map_err(|e| format!("the data volume: {e}"))?;
        let started = start(&program, &shard.folder(&place.data()), &folder, settings).await;
        let what = named(START, number, shards.len());
        let Some(server) = course.findings.start(&what, started, report) else {
            silent = true;
            continue;
        };
        let looked = course.look(&server, number, shard).await;
        looked.map_err(|why| named(&why, number, shards.len()))?;
        if let Err(why) = server.end("NOSAVE").await {
            ends.push((named(STOP, number, shards.len()), why));
        }
    }
    if silent {
        report.answered = None;
    }
    Ok(course.over(ends))
}

/// Starts one on what was restored, and waits until it has gone through all of it.
async fn start(
    program: &Path,
    data: &Path,
    scratch: &Path,
    settings: &DrillSettings,
) -> Result<Server, String> {
    let reads = Reads::Kept(settings.persistence);
    let mut server = Server::start(program, data, scratch, settings.databases, reads)?;
    server.read(|_| ()).await?;
    Ok(server)
}

/// What is known after some of the shards.
struct Course<'a> {
    settings: &'a DrillSettings,
    reached: &'a Reached,
    shards: &'a [Restored],
    findings: Findings,
    /// Who is asked which check; once somebody has started who says what keys are.
    ways: Option<Vec<Way>>,
    /// What was answered to each check.
    answers: Vec<Vec<Result<Answer, String>>>,
}

impl Course<'_> {
    /// Asks one that has started, which is this shard.
    async fn look(
        &mut self,
        server: &Server,
        number: usize,
        shard: &Restored,
    ) -> Result<(), String> {
        let of = self.shards.len();
        let found = marked(server, self.reached).await;
        self.findings.add(&named(MARK, number, of), found);
        if self.settings.every_shard {
            let found = in_slots(server, &shard.slots).await;
            self.findings.add(&named(SLOTS, number, of), found);
        }
        let_ask(server).await?;
        let checks = &self.settings.checks;
        if self.ways.is_none() {
            self.ways = Some(if self.settings.every_shard {
                let slots: Vec<&[Slots]> = self.shards.iter().map(|s| &s.slots[..]).collect();
                ways(server, checks, &slots).await
            } else {
                vec![Way::All; checks.len()]
            });
        }
        let limit = Duration::from_secs(self.settings.question_seconds.into());
        let asked = checks.iter().zip(self.ways.iter().flatten());
        for ((check, way), answers) in asked.zip(&mut self.answers) {
            if way.leads_to(number) {
                answers.push(ask(server, check, limit).await);
            }
        }
        Ok(())
    }

    /// What was found, with checks in their order. `ends`: who did not stop.
    fn over(mut self, ends: Vec<(String, String)>) -> Findings {
        let checks: &[DrillCheck] = &self.settings.checks;
        let asked = checks.iter().zip(self.ways.iter().flatten());
        for ((check, way), answers) in asked.zip(&self.answers) {
            if let Some(found) = verdict(check, way, answers, self.shards.len()) {
                self.findings.add(&what(check), found);
            }
        }
        for (what, why) in ends {
            self.findings.add(&what, Err(why));
        }
        self.findings
    }
}

mod beginning;
mod course;
mod moments;
mod on_demand;
mod skipped;
mod verdict;

use jiff::ToSpan;
use mainstay_backup::drill::DrillReport;

use super::super::fixture::{entry, noon, report};
use super::pod::{Ended, Phase};
use super::*;
use crate::conditions::{State, reasons};
use crate::metadata::tests::db;

/// Every Sunday at three; noon is on a Sunday.
fn sundays() -> Cron {
    Cron::parse("0 3 * * 0").unwrap()
}

fn three() -> Timestamp {
    "2026-03-01T03:00:00Z".parse().unwrap()
}

/// A set whose drills are asked for.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
struct World {
    now: Timestamp,
    cron: Cron,
    target: DrillTarget,
    keep: bool,
    paused: bool,
    wanted: bool,
    ground: Result<Ground, String>,
    recovery: RecoveryStatus,
    begun: Vec<Drill>,
    asked: Vec<Operation>,
    instances: Vec<Instance>,
    apart: bool,
}

impl World {
    fn new() -> Self {
        Self {
            now: noon(),
            cron: sundays(),
            target: DrillTarget::Latest,
            keep: false,
            paused: false,
            wanted: true,
            ground: ground(Some(&report(vec![entry(600)]))),
            recovery: RecoveryStatus::default(),
            begun: vec![],
            asked: vec![],
            instances: vec![],
            apart: true,
        }
    }

    fn wish(&self) -> Wish<'_> {
        Wish {
            cron: &self.cron,
            target: self.target,
            keep: self.keep,
            seconds: 14_400,
        }
    }

    fn look<T>(&self, f: impl FnOnce(&Setting<'_>) -> T) -> T {
        f(&Setting {
            now: self.now,
            set: &db(),
            wish: self.wanted.then(|| self.wish()),
            records: &self.recovery.drills,
            begun: &self.begun,
            asked: &self.asked,
            instances: &self.instances,
            apart: self.apart,
            ground: self.ground.as_ref().copied().map_err(String::as_str),
            paused: self.paused,
        })
    }

    fn decide(&self) -> Decision {
        self.look(decide)
    }

    fn condition(&self) -> (State, &'static str, String) {
        condition(&self.wish(), self.now, &self.recovery.drills)
    }

    /// One that was begun at noon, with this pod.
    fn going(mut self, pod: Option<PodSeen>) -> Self {
        self.begun = vec![Drill {
            name: "db-drill-202603010300".into(),
            due: three(),
            moment: None,
            told: true,
            begun: Some(noon()),
            pod,
        }];
        self
    }

    fn recorded(&self) -> DrillRecord {
        match self.decide() {
            Decision::Record(record) => record,
            other => panic!("{other:?}"),
        }
    }

    fn waits(&self) -> String {
        match self.decide() {
            Decision::Wait(why) => why,
            other => panic!("{other:?}"),
        }
    }
}

fn passed() -> DrillReport {
    DrillReport {
        passed: true,
        message: "the backup is good".into(),
        backup: Some("20260301t020000z-0011223344556677".parse().unwrap()),
        bytes: 4 << 30,
        key: Some("age1x".into()),
        position: Some("0/3000148".into()),
        history: Some("1".into()),
        last_commit: Some(noon() - 7.seconds()),
        begun: Some(noon() + 10.seconds()),
        answered: Some(noon() + 100.seconds()),
        ended: Some(noon() + 130.seconds()),
        checks: 4,
        ..DrillReport::default()
    }
}

fn ended(code: i32, words: &str) -> Ended {
    Ended {
        code,
        reason: None,
        words: Some(words.to_owned()),
    }
}

fn pod(phase: Phase, all: &[(&str, Ended)]) -> PodSeen {
    PodSeen {
        phase,
        started: true,
        ended: all
            .iter()
            .map(|(n, e)| ((*n).to_owned(), e.clone()))
            .collect(),
        ..PodSeen::default()
    }
}

fn told(report: &DrillReport) -> PodSeen {
    let words = serde_json::to_string(report).unwrap();
    let (phase, code) = if report.passed {
        (Phase::Succeeded, 0)
    } else {
        (Phase::Failed, 1)
    };
    pod(
        phase,
        &[("restore", ended(0, "{}")), ("drill", ended(code, &words))],
    )
}

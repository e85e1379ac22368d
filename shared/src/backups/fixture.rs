//! A set of three with backup containers, for tests.
#![allow(clippy::unwrap_used, reason = "for tests only")]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use mainstay_backup::api::{
    ArchiveState, BackupEntry, OrderResult, Outcome, OwnerState, Report, Running,
};
use mainstay_crds::backup::Backup;
use serde_json::{Value, json};

use super::plan::Step;
use super::setting::{Member, Setting};

/// Noon of some day.
pub(super) fn noon() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// An object called `name`.
pub(super) fn backup(name: &str, spec: &Value) -> Backup {
    let mut whole = json!({"target": {"kind": "Postgres", "name": "db"}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": 1,
            "creationTimestamp": "2026-03-01T11:00:00Z"},
        "spec": whole,
    }))
    .unwrap()
}

/// A backup in the catalogue that was begun so many minutes before noon, and took one.
pub(super) fn entry(minutes: i64) -> BackupEntry {
    let begun = noon() - SignedDuration::from_mins(minutes);
    let ended = begun + SignedDuration::from_mins(1);
    BackupEntry {
        id: format!("{}-0011223344556677", begun.strftime("%Y%m%dt%H%M%Sz"))
            .parse()
            .unwrap(),
        parent: None,
        order: None,
        begun,
        ended,
        consistent_at: ended,
        plain_bytes: 4 << 30,
        stored_bytes: 1 << 30,
        log_from: Some("000000010000000000000010".parse().unwrap()),
        history: Some("00000001-0".parse().unwrap()),
        broken: None,
    }
}

/// A report of a healthy container whose repository holds these.
pub(super) fn report(catalogue: Vec<BackupEntry>) -> Report {
    let mut report = Report {
        nonce: "n1".into(),
        earliest: catalogue.first().map(|b| b.consistent_at),
        latest: Some(noon()),
        catalogue,
        catalogue_at: Some(noon()),
        ..Report::default()
    };
    report.ownership.state = OwnerState::Ours;
    report.archive.state = ArchiveState::Ok;
    report
}

pub(super) fn running(order: &str, plain_bytes: u64, total_bytes: Option<u64>) -> Running {
    Running {
        order: order.into(),
        id: "20260301t120000z-8899aabbccddeeff".parse().unwrap(),
        begun: noon(),
        step: "copies files".into(),
        incremental: false,
        plain_bytes,
        stored_bytes: plain_bytes / 4,
        total_bytes,
        rate: 1 << 20,
    }
}

pub(super) fn result(order: &str, outcome: Outcome) -> OrderResult {
    OrderResult {
        order: order.into(),
        at: noon(),
        outcome,
    }
}

/// The set.
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) repository: Option<&'static str>,
    /// What the container of each says, by the name of the instance; its pod has the same uid.
    pub(super) reports: BTreeMap<&'static str, Result<Report, &'static str>>,
    pub(super) candidates: Vec<&'static str>,
    pub(super) refusals: BTreeMap<String, String>,
    pub(super) backups: Vec<Backup>,
}

impl World {
    pub(super) fn new(backups: Vec<Backup>) -> Self {
        let reports = ["db-1", "db-2", "db-3"].map(|name| (name, Ok(report(vec![entry(600)]))));
        Self {
            now: noon(),
            repository: Some("s3://bucket/shop/db"),
            reports: reports.into(),
            candidates: vec!["db-2", "db-3", "db-1"],
            refusals: BTreeMap::new(),
            backups,
        }
    }

    pub(super) fn report(&mut self, name: &str) -> &mut Report {
        self.reports.get_mut(name).unwrap().as_mut().unwrap()
    }

    /// With a setting made of it.
    pub(super) fn look<T>(&self, f: impl FnOnce(&[Backup], &Setting<'_>) -> T) -> T {
        let members: Vec<Member<'_>> = self
            .reports
            .iter()
            .map(|(name, report)| Member {
                name,
                pod_uid: name,
                report: report.as_ref().map_err(|why| *why),
            })
            .collect();
        let setting = Setting {
            now: self.now,
            set: ("Postgres", "db"),
            repository: self.repository,
            members: &members,
            seat: "db-1",
            candidates: &self.candidates,
            unsuitable: "no instance serves",
            chain: 6,
            refusals: &self.refusals,
        };
        f(&self.backups, &setting)
    }

    /// One pass: what is said stands from then on.
    pub(super) fn pass(&mut self) -> Vec<Step> {
        let steps = self.look(super::plan::steps);
        for step in &steps {
            let name = &step.backup.metadata.name;
            let found = self.backups.iter_mut().find(|b| b.metadata.name == *name);
            if let (Some(found), Some(status)) = (found, &step.status) {
                found.status = Some(status.clone());
            }
        }
        steps
    }
}

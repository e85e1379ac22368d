//! What the chart shows and alerts on is there.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use mainstay_crds::common::backup::{DrillRecord, RecoveryStatus};
use serde_json::Value;

use super::backups::ArchiveFigures;
use super::metrics::Metrics;
use super::service::Service;
use crate::outcome::{Outcome, Outcomes, Wait};

fn chart(file: &str) -> String {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/mainstay");
    std::fs::read_to_string(chart.join(file)).unwrap()
}

/// Names of metrics in a text.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|w| w.starts_with("mainstay_")).collect()
}

/// Names of all metrics that an operator can have.
fn shown() -> BTreeSet<String> {
    let metrics = Metrics::default();
    let mut outcomes = Outcomes::<&'static str>::default();
    outcomes.record(Ok(Outcome::Blocked(Wait {
        step: "s".into(),
        predicate: "p",
        reason: "r".into(),
        after: None,
    })));
    metrics.pass("Postgres", Duration::from_millis(3), &outcomes, |e| e, 0);
    metrics.request("patch", Some(200));
    let service = Service::default().instances(Some("1/1"));
    let service = Service {
        certificate_ends: Some(1),
        ..service
    };
    metrics.service.set("shop", "db", service);
    let recovery: RecoveryStatus = serde_json::from_value(serde_json::json!({
        "earliest": "2026-01-02T03:04:05Z",
        "latest": "2026-01-03T03:04:05Z",
        "lastBackup": {"id": "b", "at": "2026-01-02T03:04:05Z"},
        "storedBytes": 7,
    }))
    .unwrap();
    let archive = ArchiveFigures {
        stored_at: Some(1),
        waiting: 1,
        waiting_bytes: 1,
    };
    let backups = &metrics.backups;
    backups.set("shop", "db", true, &recovery, Some(archive));
    let drill: DrillRecord = serde_json::from_value(serde_json::json!({
        "due": "2026-01-02T03:04:05Z",
        "ended": "2026-01-02T03:04:05Z",
        "result": "Passed",
        "message": "",
        "recoveryPointSeconds": 1,
        "recoverySeconds": 1,
    }))
    .unwrap();
    metrics.drills.set("shop", "db", Some(true), &[drill]);
    let text = metrics.text().unwrap();
    named(&text).into_iter().map(ToOwned::to_owned).collect()
}

#[test]
fn the_chart_speaks_of_metrics_that_are_there() {
    let shown = shown();
    for file in ["templates/prometheus-rule.yaml", "files/dashboard.json"] {
        let text = chart(file);
        let named = named(&text);
        assert!(named.len() > 5, "{file}: {named:?}");
        let missing: Vec<_> = named.iter().filter(|n| !shown.contains(**n)).collect();
        assert!(missing.is_empty(), "{file}: {missing:?} of {shown:#?}");
    }
}

#[test]
fn each_panel_of_the_dashboard_asks_something_and_has_its_place() {
    let board: Value = serde_json::from_str(&chart("files/dashboard.json")).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = ["x", "y"].map(|axis| panel["gridPos"][axis].as_u64().unwrap());
        assert!(places.insert(place), "{panel}");
        let asks = panel["targets"].as_array().into_iter().flatten();
        let asks = asks.filter(|t| !named(t["expr"].as_str().unwrap()).is_empty());
        assert!(panel["type"] == "row" || asks.count() > 0, "{panel}");
    }
    assert!(panels.len() > 10);
}

//! What a person would look at after a failure.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;
use kube::api::{ListParams, LogParams};
use mainstay_crds::postgres::Postgres;
use mainstay_crds::redis::Redis;

use super::kit::Sandbox;

/// Lines of a log that are read.
const READ: i64 = 5000;
/// Lines of it that are told.
const TOLD: usize = 60;

/// The last lines of a log: of those that differ in their numbers only, the last.
fn telling(log: &str) -> String {
    let mut known = HashSet::new();
    let without_numbers =
        |line: &str| -> String { line.chars().filter(|c| !c.is_ascii_digit()).collect() };
    let lines = log.lines().rev();
    let mut lines: Vec<_> = lines
        .filter(|line| known.insert(without_numbers(line)))
        .take(TOLD)
        .collect();
    lines.reverse();
    lines.join("\n")
}

impl Sandbox<'_> {
    /// What a person would look at after a failure: resources, pods, claims, events, logs.
    pub async fn diagnose(&self) -> String {
        let mut seen = Vec::new();
        let all = ListParams::default();
        for pg in self
            .api::<Postgres>()
            .list(&all)
            .await
            .into_iter()
            .flatten()
        {
            let status = serde_json::to_string_pretty(&pg.status).unwrap_or_default();
            seen.push(format!("Postgres {}: {status}", pg.name_any()));
        }
        for redis in self.api::<Redis>().list(&all).await.into_iter().flatten() {
            let status = serde_json::to_string_pretty(&redis.status).unwrap_or_default();
            seen.push(format!("Redis {}: {status}", redis.name_any()));
        }
        for claim in self
            .api::<PersistentVolumeClaim>()
            .list(&all)
            .await
            .into_iter()
            .flatten()
        {
            let phase = claim.status.as_ref().and_then(|s| s.phase.clone());
            seen.push(format!("claim {}: {phase:?}", claim.name_any()));
        }
        for event in self.api::<Event>().list(&all).await.into_iter().flatten() {
            let on = event.involved_object.name.unwrap_or_default();
            seen.push(format!(
                "event {on}: {:?} {:?}",
                event.reason, event.message
            ));
        }
        let pods = self.api::<Pod>();
        for pod in pods.list(&all).await.into_iter().flatten() {
            let name = pod.name_any();
            let status = serde_json::to_string(&pod.status).unwrap_or_default();
            seen.push(format!("pod {name}: {status}"));
            for previous in [false, true] {
                let which = LogParams {
                    previous,
                    tail_lines: Some(READ),
                    ..LogParams::default()
                };
                if let Ok(log) = pods.logs(&name, &which).await {
                    let before = if previous { ", before its restart" } else { "" };
                    seen.push(format!("log of {name}{before}:\n{}", telling(&log)));
                }
            }
        }
        seen.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::telling;

    #[test]
    fn a_line_that_comes_again_and_again_hides_no_other() {
        let again = (0..500).map(|n| format!("10:{n} [{n}] refused\n"));
        let log = format!("10:01 the primary is lost\n{}", again.collect::<String>());
        assert_eq!(
            telling(&log),
            "10:01 the primary is lost\n10:499 [499] refused"
        );
    }
}

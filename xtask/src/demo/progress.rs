//! Waits for the `Postgres` and says, as its status changes, what it does and waits for.

use std::error::Error;
use std::time::{Duration, Instant};

use kube::{Api, Client};
use mainstay_crds::postgres::{Postgres, PostgresStatus};
use mainstay_e2e::cluster::Steps;

use super::{NAMESPACE, SET};

/// How often the status is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long without a word until that itself is said.
const SILENCE: Duration = Duration::from_secs(10);
/// How long it may take before the demo gives up.
const PATIENCE: Duration = Duration::from_mins(5);

/// What is said of a set that is ready.
pub struct Ready {
    /// Full version.
    pub version: String,
    /// Ready instances and wanted ones.
    pub instances: String,
    /// Name of the primary.
    pub primary: String,
}

/// Waits until the newest spec is ready, with a line for each change of what is to be said.
pub async fn until_ready(client: &Client, steps: &Steps) -> Result<Ready, Box<dyn Error>> {
    let api: Api<Postgres> = Api::namespaced(client.clone(), NAMESPACE);
    let start = Instant::now();
    let mut told = String::new();
    let mut silent_since = Instant::now();
    loop {
        let postgres = api.get(SET).await?;
        let status = postgres.status.clone().unwrap_or_default();
        let current = status.observed_generation == postgres.metadata.generation;
        if current && is_settled(&status) {
            steps.done(&format!("{SET} is ready: {}", summary(&status)));
            return Ok(Ready {
                version: status.version.unwrap_or_default(),
                instances: status.ready.unwrap_or_default(),
                primary: status.primary.unwrap_or_default(),
            });
        }
        let said = if current {
            summary(&status)
        } else {
            "the operator has not looked at it yet".to_owned()
        };
        if said != told && (current || silent_since.elapsed() > SILENCE) {
            steps.done(&format!("{SET}: {said}"));
            told = said;
            silent_since = Instant::now();
        }
        if start.elapsed() > PATIENCE {
            return Err(format!(
                "{SET} is not ready after {} s: {told}\nlook at: kubectl --namespace {NAMESPACE} \
                 describe postgres {SET}, and at the operator's log",
                PATIENCE.as_secs()
            )
            .into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn condition<'a>(status: &'a PostgresStatus, name: &str) -> Option<(bool, &'a str)> {
    let found = status.conditions.iter().find(|c| c.type_ == name)?;
    Some((found.status == "True", found.message.as_str()))
}

/// Ready, and every instance is.
fn is_settled(status: &PostgresStatus) -> bool {
    let ready = condition(status, "Ready").is_some_and(|(is, _)| is);
    let reconciling = condition(status, "Reconciling").is_some_and(|(is, _)| is);
    ready && !reconciling && status.instances.iter().all(|i| i.ready)
}

/// In a line what the status says.
fn summary(status: &PostgresStatus) -> String {
    let mut parts = vec![format!(
        "{} ready",
        status.ready.as_deref().unwrap_or("none")
    )];
    if let Some((true, message)) = condition(status, "Stalled") {
        parts.push(format!("stalled: {message}"));
    }
    for instance in status.instances.iter().filter(|i| !i.ready) {
        let state = instance.state.as_deref().unwrap_or("not ready yet");
        // Most states name their instance themselves.
        let named = state.split([' ', ':']).any(|word| word == instance.name);
        parts.push(if named {
            state.to_owned()
        } else {
            format!("{}: {state}", instance.name)
        });
    }
    for wait in &status.waiting_for {
        // An instance that starts has said so above, in the same words.
        if !parts.iter().any(|part| part.ends_with(&wait.reason)) {
            parts.push(format!("{} waits: {}", wait.step, wait.reason));
        }
    }
    if let Some((false, message)) = condition(status, "Ready")
        && parts.len() == 1
        && !message.is_empty()
    {
        parts.push(message.to_owned());
    }
    if let Some(survives) = &status.survives
        && is_settled(status)
    {
        let may = |can: bool| if can { "can" } else { "cannot yet" };
        let why = survives.reason.as_ref().map(|r| format!(" ({r})"));
        parts.push(format!(
            "a node {} be lost, a zone {}{}",
            may(survives.node),
            may(survives.zone),
            why.unwrap_or_default()
        ));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(value: Value) -> PostgresStatus {
        serde_json::from_value(value).unwrap()
    }

    fn of(kind: &str, is: &str) -> Value {
        json!({"type": kind, "status": is, "reason": "R", "message": "why",
               "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn ready_with_an_instance_missing_is_not_settled() {
        let instance = |ready: bool| json!({"name": "db-2", "role": "Replica", "ready": ready});
        let with = |ready| {
            status(json!({"conditions": [of("Ready", "True")], "instances": [instance(ready)]}))
        };
        assert!(is_settled(&with(true)));
        assert!(!is_settled(&with(false)));
        let unknown = status(json!({"conditions": [of("Ready", "Unknown")]}));
        assert!(!is_settled(&unknown));
    }

    #[test]
    fn what_is_waited_for_is_said() {
        let said = summary(&status(json!({
            "ready": "1/3",
            "conditions": [of("Stalled", "True")],
            "instances": [{"name": "db-2", "role": "Unknown", "ready": false, "state": "copies the data of db-1"}],
            "waitingFor": [{"step": "restart db-1", "predicate": "primary_last",
                            "reason": "replicas go first", "since": "2026-01-01T00:00:00Z"}],
        })));
        assert_eq!(
            said,
            "1/3 ready; stalled: why; db-2: copies the data of db-1; restart db-1 waits: replicas go first"
        );
    }
}

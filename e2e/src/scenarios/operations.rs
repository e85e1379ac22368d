//! What is asked for once: another primary, by a person or because its node takes no pods any more.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, Patch, PatchParams, PostParams};
use mainstay_crds::operation::{Operation, OperationPhase, OperationStatus};
use serde_json::{Value, json};

use super::failover::{another_primary, equal, primary, written};
use super::failures::node_of;
use super::kit::{INSTANCES, Look, READY, Sandbox};

/// Ask for a switchover of the Postgres `db`, unless `more` says otherwise; `more` is merged into its spec.
pub(crate) async fn ask(s: &Sandbox<'_>, name: &str, more: &Value) -> Result<()> {
    let mut spec = json!({"target": {"kind": "Postgres", "name": "db"}, "action": "Switchover"});
    for (key, value) in more.as_object().context("fields")? {
        spec[key] = value.clone();
    }
    let operation: Operation = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Operation",
        "metadata": {"name": name}, "spec": spec,
    }))?;
    let operations = s.api::<Operation>();
    operations
        .create(&PostParams::default(), &operation)
        .await?;
    Ok(())
}

/// Wait until an operation's status is as wanted.
async fn until(
    s: &Sandbox<'_>,
    name: &str,
    what: &str,
    wanted: impl Fn(&OperationStatus) -> bool,
) -> Result<OperationStatus> {
    s.until(&format!("operation {name} to {what}"), READY, || async {
        let seen = s.api::<Operation>().get(name).await?.status;
        let status = seen.unwrap_or_default();
        Ok(if wanted(&status) {
            Look::Done(status)
        } else {
            Look::seen(&status)
        })
    })
    .await
}

/// Wait until an operation is over.
pub(crate) async fn over(s: &Sandbox<'_>, name: &str) -> Result<OperationStatus> {
    let is_over = |status: &OperationStatus| status.phase.is_some_and(OperationPhase::is_over);
    until(s, name, "end", is_over).await
}

/// Wait until an operation says something.
async fn says(s: &Sandbox<'_>, name: &str, words: &str) -> Result<()> {
    let says = |status: &OperationStatus| {
        let message = status.message.as_ref();
        message.is_some_and(|message| message.contains(words))
    };
    until(s, name, &format!("say {words:?}"), says).await?;
    Ok(())
}

/// A switchover on request, to a given instance, while a client writes.
pub async fn switchover(s: &Sandbox<'_>) -> Result<()> {
    let (writer, before) = written(s).await?;
    let pods = s.pod_uids("db").await?;
    let replica = INSTANCES.into_iter().find(|i| *i != before);
    let to = replica.context("there are three")?;
    ask(s, "move", &json!({"to": to})).await?;
    let done = over(s, "move").await?;
    ensure!(done.phase == Some(OperationPhase::Succeeded), "{done:?}");
    // Until it has been looked at the status may name nobody.
    s.settled("db", READY).await?;
    ensure!(primary(s, "db").await? == to, "{done:?}");
    // Once more, to whoever lacks least.
    ask(s, "again", &json!({})).await?;
    let done = over(s, "again").await?;
    ensure!(done.phase == Some(OperationPhase::Succeeded), "{done:?}");
    s.settled("db", READY).await?;
    ensure!(primary(s, "db").await? != to, "{done:?}");
    equal(s).await?;
    ensure!(s.pod_uids("db").await? == pods, "a pod was replaced");
    let gap = writer.holds().await?;
    s.say(&format!("writes paused for {gap:?} at most"));
    Ok(())
}

/// What cannot be done is refused with a sentence, waits with a reason, and can be cancelled.
pub async fn switchover_refused(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({"instances": 2})).await?;
    s.settled("db", READY).await?;
    ask(s, "nobody", &json!({"to": "db-9"})).await?;
    let refused = over(s, "nobody").await?;
    let message = refused.message.clone().unwrap_or_default();
    ensure!(refused.phase == Some(OperationPhase::Failed), "{refused:?}");
    ensure!(message.contains("db-9 is no instance of db"), "{message}");

    // A second instance that nothing can be handed over to, since its pod has no place to run.
    let now = primary(s, "db").await?;
    let other = INSTANCES.into_iter().find(|i| *i != now);
    let other = other.context("there are two")?;
    let node = node_of(s, other).await?;
    cordon(s, &node, true).await?;
    let outcome = async {
        let force = kube::api::DeleteParams::default().grace_period(0);
        s.api::<Pod>().delete(other, &force).await?;
        ask(s, "wait", &json!({"to": other})).await?;
        says(s, "wait", other).await?;
        let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
        let operations = s.api::<Operation>();
        let parameters = PatchParams::default();
        operations.patch("wait", &parameters, &patch).await?;
        let cancelled = over(s, "wait").await?;
        ensure!(
            cancelled.phase == Some(OperationPhase::Cancelled),
            "{cancelled:?}"
        );
        ask(s, "late", &json!({"to": other, "timeoutSeconds": 10})).await?;
        let late = over(s, "late").await?;
        let message = late.message.clone().unwrap_or_default();
        ensure!(late.phase == Some(OperationPhase::Failed), "{late:?}");
        ensure!(
            message.contains("after 10 s") && message.contains(other),
            "{message}"
        );
        anyhow::Ok(())
    };
    let outcome = outcome.await;
    cordon(s, &node, false).await?;
    outcome?;
    ensure!(primary(s, "db").await? == now, "nothing changed role");
    s.settled("db", READY).await?;
    Ok(())
}

/// Take a node out of scheduling, or put it back.
pub(crate) async fn cordon(s: &Sandbox<'_>, node: &str, cordoned: bool) -> Result<()> {
    let nodes: Api<Node> = Api::all(s.ctx.client.clone());
    let patch = Patch::Merge(json!({"spec": {"unschedulable": cordoned}}));
    nodes.patch(node, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// The primary's node takes no pods any more: another instance takes over before anybody drains it.
pub async fn cordoned(s: &Sandbox<'_>) -> Result<()> {
    let (writer, before) = written(s).await?;
    let pods = s.pod_uids("db").await?;
    let node = node_of(s, &before).await?;
    cordon(s, &node, true).await?;
    let outcome = async {
        let after = another_primary(s, &before).await?;
        s.settled("db", READY).await?;
        ensure!(primary(s, "db").await? == after, "it moved again");
        writer.more(50).await?;
        anyhow::Ok(())
    };
    let outcome = outcome.await;
    cordon(s, &node, false).await?;
    outcome?;
    equal(s).await?;
    ensure!(s.pod_uids("db").await? == pods, "a pod was replaced");
    let gap = writer.holds().await?;
    s.say(&format!("writes paused for {gap:?} at most"));
    Ok(())
}

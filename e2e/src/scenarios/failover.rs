//! A set with a client that writes all the while and keeps a ledger of what was acknowledged, for when
//! the primary is lost or leaves. How it does is in `crate::chaos`.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::failures::node_of;
use super::kit::{INSTANCES, Look, READY, Sandbox};
use super::set::Kind;
use super::writer::Writer;
use crate::chaos::fault::Place;

/// The primary's name, by the status.
pub(crate) async fn primary(s: &Sandbox<'_>, set: &str) -> Result<String> {
    Kind::Postgres.primary(s, set).await
}

/// Wait until another instance is primary.
pub(crate) async fn another_primary(s: &Sandbox<'_>, before: &str) -> Result<String> {
    Kind::Postgres.another_primary(s, before).await
}

/// A set of three with a writer on a node that is not the primary's. Returns the primary too.
pub(crate) async fn written<'a>(s: &'a Sandbox<'a>) -> Result<(Writer<'a>, String)> {
    written_as(s, &json!({"instances": 3}), Place::WithReplica, false).await
}

/// Such a `Postgres` as is asked for, with a writer at a place, which repeats what it does not know if it is
/// missing, or in any case. Returns the primary too.
pub(crate) async fn written_as<'a>(
    s: &'a Sandbox<'a>,
    spec: &Value,
    place: Place,
    in_any_case: bool,
) -> Result<(Writer<'a>, String)> {
    let (node, before) = set_with_place(s, Kind::Postgres, spec, place).await?;
    Ok((Writer::start(s, &node, in_any_case).await?, before))
}

/// Such a set, and the node that is such a place, with who is primary.
pub(crate) async fn set_with_place(
    s: &Sandbox<'_>,
    kind: Kind,
    spec: &Value,
    place: Place,
) -> Result<(String, String)> {
    kind.apply(s, "db", spec).await?;
    kind.settled(s, "db").await?;
    let before = kind.primary(s, "db").await?;
    let beside = match place {
        Place::WithReplica => kind.replicas(s, &before).await?.into_iter().next(),
        Place::WithPrimary => Some(before.clone()),
    };
    let node = node_of(s, &beside.context("it has a replica")?).await?;
    Ok((node, before))
}

/// A question about the rows that are there by now, and the primary's answer.
async fn rows(s: &Sandbox<'_>) -> Result<(String, String)> {
    let now = primary(s, "db").await?;
    let last = "select max(id) from mainstay_ledger where run = 'workload'";
    let last = s.admin_sql_in(&now, "app", last).await?;
    // The client writes all the while: its rows up to here are compared, and all others.
    let sum = format!(
        "select count(*), md5(string_agg(run || id, ',' order by run, id)) from mainstay_ledger \
         where run <> 'workload' or id <= {last}"
    );
    let expected = s.admin_sql_in(&now, "app", &sum).await?;
    Ok((sum, expected))
}

/// All instances hold the same rows, and stream.
pub(crate) async fn equal(s: &Sandbox<'_>) -> Result<()> {
    s.settled("db", READY).await?;
    let (sum, expected) = s
        .until("the primary's rows", READY, || async {
            Ok(match rows(s).await {
                Ok(found) => Look::Done(found),
                Err(error) => Look::NotYet(format!("{error:#}")),
            })
        })
        .await?;
    for instance in INSTANCES {
        s.until(&format!("the rows on {instance}"), READY, || async {
            Ok(match s.admin_sql_in(instance, "app", &sum).await {
                Ok(rows) if rows == expected => Look::Done(()),
                other => Look::seen(&other),
            })
        })
        .await?;
    }
    Ok(())
}

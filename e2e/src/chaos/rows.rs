//! What is there at the end: on whoever leads, and on all.

use anyhow::{Context as _, Result};
use mainstay_workload::ledger::{Entry, Outcome};

use super::verdict::CLIENT;
use crate::scenarios::failover;
use crate::scenarios::kit::{self, Look, READY, Sandbox};
use crate::scenarios::set::{self, Kind};
use crate::scenarios::writer::{self, Rows, Writer};

/// Every row of every ledger.
const ROWS: &str = "select run || ' ' || id from mainstay_ledger";

/// The numbers of all ledgers that the primary has. Whatever is there all the while is among them: a write
/// that a ledger has was there before, or is lost. Whoever leads is asked: on a busy machine that may be
/// somebody else by now.
///
/// # Errors
/// It cannot be asked, for long.
pub async fn all(s: &Sandbox<'_>, kind: Kind, writer: &Writer<'_>) -> Result<Rows> {
    s.until("the rows of all ledgers", READY, || async {
        let asked = async {
            match kind {
                Kind::Postgres => {
                    let leads = kind.primary(s, "db").await?;
                    let rows = s.admin_sql_in(&leads, "app", ROWS).await?;
                    writer::rows(&rows).context("the rows of all ledgers")
                }
                Kind::Redis => writer.rows(None).await,
                Kind::RedisCluster => of_shards(s, writer).await,
            }
        };
        Ok(match asked.await {
            Ok(rows) => Look::Done(rows),
            Err(error) => Look::NotYet(format!("{error:#}")),
        })
    })
    .await
}

/// All instances have the same.
///
/// # Errors
/// One has not, for long.
pub async fn equal(s: &Sandbox<'_>, kind: Kind, writer: &Writer<'_>) -> Result<()> {
    match kind {
        Kind::Postgres => failover::equal(s).await,
        Kind::Redis | Kind::RedisCluster => same_everywhere(s, kind, writer).await,
    }
}

fn host(s: &Sandbox<'_>, instance: &str) -> String {
    kit::host(&s.namespace, "db", instance)
}

/// What the primaries of all shards have.
async fn of_shards(s: &Sandbox<'_>, writer: &Writer<'_>) -> Result<Rows> {
    let mut all = Rows::new();
    for shard in set::shards(s, "db").await? {
        for (run, ids) in writer.rows(Some(&host(s, &shard.primary))).await? {
            all.entry(run).or_default().extend(ids);
        }
    }
    Ok(all)
}

async fn same_everywhere(s: &Sandbox<'_>, kind: Kind, writer: &Writer<'_>) -> Result<()> {
    // The client writes all the while: its numbers up to here are compared, and all others.
    let last = newest(&writer.ledger().await?);
    let so_far = |mut rows: Rows| {
        if let Some(own) = rows.get_mut(CLIENT) {
            own.retain(|id| *id <= last);
        }
        rows
    };
    if kind == Kind::RedisCluster {
        for shard in set::shards(s, "db").await? {
            let expected = so_far(writer.rows(Some(&host(s, &shard.primary))).await?);
            has_all(s, writer, &shard.replicas, &expected, &so_far).await?;
        }
        return Ok(());
    }
    let expected = so_far(all(s, kind, writer).await?);
    has_all(s, writer, kind.instances(), &expected, &so_far).await
}

/// Each of these instances has that, and no more of what counts.
async fn has_all<I: AsRef<str>>(
    s: &Sandbox<'_>,
    writer: &Writer<'_>,
    instances: &[I],
    expected: &Rows,
    so_far: &(dyn Fn(Rows) -> Rows + Sync),
) -> Result<()> {
    for instance in instances {
        let (name, host) = (instance.as_ref(), host(s, instance.as_ref()));
        s.until(&format!("the rows on {name}"), READY, || async {
            Ok(match writer.rows(Some(&host)).await.map(so_far) {
                Ok(rows) if rows == *expected => Look::Done(()),
                Ok(rows) => Look::seen(&differences(expected, &rows)),
                Err(error) => Look::NotYet(format!("{error:#}")),
            })
        })
        .await?;
    }
    Ok(())
}

/// The newest number of which is known that it is there.
fn newest(entries: &[Entry]) -> u64 {
    let there = entries.iter().filter(|e| e.outcome >= Outcome::Taken);
    there.map(|e| e.id).max().unwrap_or(0)
}

/// How many numbers of each ledger one has and the other lacks.
fn differences(one: &Rows, other: &Rows) -> Vec<(String, usize, usize)> {
    let nothing = std::collections::BTreeSet::new();
    let names: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let counts = names.into_iter().map(|name| {
        let here = one.get(name).unwrap_or(&nothing);
        let there = other.get(name).unwrap_or(&nothing);
        let missing = here.difference(there).count();
        (name.clone(), missing, there.difference(here).count())
    });
    counts.filter(|(_, less, more)| less + more > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_by_ledger() {
        let rows = |text| writer::rows(text).unwrap();
        let one = rows("workload 1\nworkload 2\ndb-1-1 1");
        assert_eq!(differences(&one, &one), []);
        let other = rows("workload 2\nworkload 3\ndb-1-1 1\ndb-2-2 9");
        let expected = [("db-2-2".to_owned(), 0, 1), ("workload".to_owned(), 1, 1)];
        assert_eq!(differences(&one, &other), expected);
    }
}

//! Drills: what is whole passes, and whatever is not is told.

use std::fs;
use std::time::Instant;

use jiff::SignedDuration;
use mainstay_backup::drill::{CHECKS, DrillReport};
use mainstay_postgres::backup::api::RestoreStep;
use mainstay_postgres::backup::drill::{AMCHECK, CHECKSUMS, START};
use mainstay_postgres::backup::settings::Target;

use crate::kit::{Node, Where, World};

/// Statements on the ledger that hold with that many rows.
const EMPTY: &str = "select count(*) = 0 from ledger";

/// A repository with a backup and log of a set that is gone, and how many rows it had.
async fn repository(prepare: impl Fn(&Node)) -> (World, usize) {
    let world = World::new(Where::S3, true).await;
    let mut one = world.node("db-1");
    one.begin();
    one.sql("create role app login");
    one.write(100);
    prepare(&one);
    one.sql("grant select on ledger to app");
    // What comes with the data does not hinder who looks at all of it.
    one.sql("create database other");
    one.sql("alter database other set statement_timeout = '1ms'");
    one.sql("alter database other set default_transaction_read_only = on");
    world.back_up(&one, "order", false);
    one.write(50);
    one.switch();
    world.archived(&one);
    let rows = one.rows().len();
    (world, rows)
}

fn restored(world: &World, name: &str) -> Node {
    let node = world.node(name);
    let report = world.restore(&node, Target::Latest);
    assert_eq!(report.step, RestoreStep::Done, "{report:?}");
    node
}

fn names(report: &DrillReport) -> Vec<&str> {
    report.failed.iter().map(|f| f.what.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_whole_passes_and_statements_that_do_not_hold_are_told() {
    let start = Instant::now();
    let (world, rows) = repository(|_| ()).await;
    let node = restored(&world, "drill-1");
    let count = rows.to_string();
    let good = [
        ("select count(*) from ledger", Some(count.as_str())),
        ("select max(n) = count(*) from ledger", None),
    ];
    let report = node.drill(&good);
    assert!(report.passed, "{report:?}\n{}", node.log());
    // The server's start, tables and indexes, checksums, and the two.
    assert_eq!((report.checks, &report.failed[..]), (5, &[][..]));
    let (begun, answered) = (report.begun.unwrap(), report.answered.unwrap());
    assert!(begun < answered && answered < report.ended.unwrap());
    assert!(
        report.key.as_ref().unwrap().starts_with("age1"),
        "{report:?}"
    );
    assert_eq!(report.history.as_deref(), Some("1"));
    assert!(report.backup.is_some() && report.position.is_some() && report.bytes > 1 << 20);
    let age = begun.duration_since(report.last_commit.unwrap());
    assert!(
        age > SignedDuration::ZERO && age.unsigned_abs() < start.elapsed(),
        "{age}"
    );

    // It can be looked at once more, and what does not hold is told of each.
    let bad = [
        (EMPTY, None),
        ("select count(*) from ledger", Some("7")),
        ("select no_such_function()", None),
        ("select pg_sleep(60)", None),
        (
            "insert into ledger (filling) values ('x') returning true",
            None,
        ),
        ("create temporary table t (n int)", None),
        ("select pg_read_file('/etc/hostname')", None),
        ("select n from ledger where n < 0", None),
        ("set statement_timeout = 0; select true", None),
        ("select 1", None),
    ];
    let report = node.drill(&bad);
    assert!(!report.passed);
    assert_eq!(
        names(&report),
        bad[..CHECKS].iter().map(|b| b.0).collect::<Vec<_>>()
    );
    let found: Vec<&str> = report.failed.iter().map(|f| f.found.as_str()).collect();
    for (found, word) in found.iter().zip([
        "`f`",
        "where `7` was expected",
        "does not exist",
        "statement timeout",
        "read-only transaction",
        "read-only transaction",
        "permission denied",
        "no row",
    ]) {
        assert!(found.contains(word), "{found}: {word}");
    }
    assert!(
        report.message.contains("8 more of 13 checks"),
        "{}",
        report.message
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn damage_inside_of_the_data_fails_it() {
    // An index whose order is not what its comparison says any more: each page is as it was written.
    let unordered = |one: &Node| {
        one.sql(
            "create function cmp(int, int) returns int language sql immutable as 'select btint4cmp($1, $2)';
             create operator class changed for type int using btree as
                 operator 1 <, operator 2 <=, operator 3 =, operator 4 >=, operator 5 >, function 1 cmp(int, int);
             create index by_changed on ledger (n changed);
             create or replace function cmp(int, int) returns int language sql immutable as 'select btint4cmp($2, $1)'",
        );
    };
    let (world, rows) = repository(unordered).await;
    let node = restored(&world, "drill-1");
    let count = rows.to_string();
    let counted = [("select count(*) from ledger", Some(count.as_str()))];
    let report = node.drill(&counted);
    assert_eq!(names(&report), [AMCHECK], "{report:?}");
    assert!(report.failed[0].found.contains("by_changed"), "{report:?}");

    // A page that is another than was written, after the restore has checked it.
    let mut look = restored(&world, "drill-2");
    look.start(None);
    let file = look
        .data()
        .join(look.sql("select pg_relation_filepath('ledger')"));
    look.stop(true);
    let mut content = fs::read(&file).unwrap();
    content[8192 + 5000] ^= 1;
    fs::write(&file, content).unwrap();
    let report = look.drill(&counted);
    assert_eq!(
        names(&report),
        [counted[0].0, AMCHECK, CHECKSUMS],
        "{report:?}"
    );
    assert!(
        report.failed[0].found.contains("invalid page"),
        "{report:?}"
    );

    // Data on which PostgreSQL does not even start.
    fs::remove_dir_all(look.data().join("pg_xact")).unwrap();
    let report = look.drill(&counted);
    assert!(!report.passed && report.answered.is_none());
    assert_eq!(names(&report), [START], "{report:?}");
    assert!(
        report.message.contains("could not access status"),
        "{}",
        report.message
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_a_restore_nothing_passes() {
    let (mut world, _) = repository(|_| ()).await;
    world.other_keys();
    let node = world.node("drill-1");
    let report = world.restore(&node, Target::Latest);
    assert_eq!(report.step, RestoreStep::Failed);
    let report = node.drill(&[]);
    assert!(!report.passed && report.checks == 0);
    assert!(
        report.message.starts_with("nothing was restored: "),
        "{}",
        report.message
    );
}

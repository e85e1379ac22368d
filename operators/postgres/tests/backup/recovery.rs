//! Base backups, and recovery to points.

use mainstay_backup::api::Order;
use mainstay_postgres::backup::settings::Target;

use crate::kit::{Random, Where, World, keep, major, take, upto};

#[allow(clippy::too_many_lines, reason = "one history, and many points of it")]
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn to_a_name_a_place_a_transaction_and_random_moments_over_increments() {
    let world = World::new(Where::S3, true).await;
    let mut one = world.node("db-1");
    one.begin();
    one.write(300);
    let full = world.back_up(&one, "full", false);
    assert_eq!((&full.parent, &full.broken), (&None, &None));
    one.write(300);
    let increment = world.back_up(&one, "increment", true);
    if major() >= 17 {
        assert_eq!(increment.parent, Some(full.id.clone()));
        assert!(
            increment.plain_bytes < full.plain_bytes / 2,
            "{increment:?}"
        );
    } else {
        assert_eq!(increment.parent, None, "there are none before 17");
    }
    // The same order again makes no second backup.
    world.order(&one, &take("increment", true)).unwrap();
    one.write(300);
    let third = world.back_up(&one, "increment-2", true);
    if major() >= 17 {
        assert_eq!(third.parent, Some(increment.id.clone()));
    }
    one.write(300);
    let xid = one.sql("with row as (insert into ledger (filling) values ('by its number') returning 1) select pg_current_xact_id()::text from row");
    let upto_xid = one.rows();
    one.write(50);
    let lsn = one.sql("select pg_current_wal_insert_lsn()");
    let upto_lsn = one.rows();
    one.write(50);
    one.sql("select pg_create_restore_point('before the accident')");
    let upto_name = one.rows();
    one.sql("create table copy as select n, pg_xact_commit_timestamp(xmin) as at from ledger");
    let ledger = one.ledger();
    one.sql("drop table ledger");
    let report = world.archived(&one);
    assert!(report.gaps.is_empty());

    let (node, named) = world.restored("name", &Target::Name("before the accident".into()));
    assert_eq!(node.rows(), upto_name, "{named:?}");
    let message = named.message;
    assert!(message.contains("before the accident"), "{message}");
    drop(node);
    let (node, _) = world.restored("xid", &Target::Xid(xid.parse().unwrap()));
    assert_eq!(node.rows(), upto_xid);
    drop(node);
    let (node, _) = world.restored("lsn", &Target::Lsn(lsn));
    assert_eq!(node.rows(), upto_lsn);
    drop(node);
    let (node, _) = world.restored("latest", &Target::Latest);
    assert!(
        node.try_sql("select from ledger").is_err(),
        "it was dropped"
    );
    drop(node);

    // Moments between the backups' and the last row's.
    let earliest = report.earliest.unwrap().as_microsecond();
    let last = ledger.last().unwrap().1;
    let moments = Random::new().moments(&ledger, earliest, last, 20);
    for (round, moment) in moments.into_iter().enumerate() {
        let expected = upto(&ledger, moment);
        let time = jiff::Timestamp::from_microsecond(moment).unwrap();
        let (node, report) = world.restored(&format!("moment-{round}"), &Target::Time(time));
        assert_eq!(node.rows(), expected, "{time} {report:?}");
    }

    // What cannot be reached.
    let never = world.refused("never", &Target::Name("no such point".into()));
    assert!(
        never.contains("before configured recovery target was reached")
            && never.contains("committed at"),
        "{never}"
    );
    let early = world.refused(
        "early",
        &Target::Time("2020-01-01T00:00:00Z".parse().unwrap()),
    );
    assert!(early.contains("is before"), "{early}");
    let beyond = world.refused("beyond", &Target::Lsn("7F/0".into()));
    assert!(beyond.contains("beyond"), "{beyond}");

    // Retention leaves what the newest needs.
    world.order(&one, &keep(1)).unwrap();
    let report = world.until(&one, "pruned", |r| r.prune.is_some());
    let prune = report.prune.unwrap();
    assert_eq!(prune.error, None);
    assert_eq!(
        prune.backups.len(),
        if major() >= 17 { 0 } else { 2 },
        "{}",
        prune.plan
    );
    let (node, _) = world.restored("after", &Target::Name("before the accident".into()));
    assert_eq!(node.rows(), upto_name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backup_of_a_replica_restores_and_a_cancelled_one_is_none() {
    let world = World::new(Where::Folder, false).await;
    let (mut one, mut two) = (world.node("db-1"), world.node("db-2"));
    one.begin();
    one.write(200);
    two.follow(&one);
    world.until(&two, "ours", |r| {
        r.ownership.owner.is_some() && r.ownership.reason.is_none()
    });
    world.order(&two, &take("of a replica", false)).unwrap();
    let second = take("another", false);
    let busy = world.order(&two, &second).unwrap_err();
    assert!(busy.contains("is being made"), "{busy}");
    // The primary goes on, so that the log of the backup is finished.
    while world.report(&two).is_none_or(|r| r.results.is_empty()) {
        one.write(20);
        one.switch();
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    let report = world.until(&two, "done", |r| !r.catalogue.is_empty());
    assert_eq!(report.catalogue[0].broken, None);
    world.archived(&one);
    let rows = one.rows();
    let (node, _) = world.restored("new", &Target::Latest);
    assert_eq!(node.rows(), rows);

    world.order(&one, &second).unwrap();
    let cancel = Order::Cancel {
        order: "another".into(),
    };
    world.order(&one, &cancel).unwrap();
    let report = world.until(&one, "cancelled", |r| {
        r.results.iter().any(|r| r.order == "another")
    });
    assert_eq!(
        report.results[0].outcome,
        mainstay_backup::api::Outcome::Cancelled
    );
    assert_eq!(
        world
            .keys("backups")
            .iter()
            .filter(|key| key.ends_with("manifest.json"))
            .count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_database_of_many_files_whose_list_is_long() {
    let world = World::new(Where::Folder, false).await;
    let mut one = world.node("db-1");
    one.begin();
    // A line of the list has some 150 bytes: more than is held at a time between who reads and who stores.
    for round in 0..8 {
        one.sql(&format!(
            "do $$ begin for i in 1..500 loop execute format('create table many_%s_%s (n int)', {round}, i); end loop; end $$"
        ));
    }
    one.write(10);
    world.back_up(&one, "order", false);
    world.archived(&one);
    let rows = one.rows();
    let (node, _) = world.restored("db-2", &Target::Latest);
    assert_eq!(node.rows(), rows);
    let tables = node.sql("select count(*) from pg_class where relname like 'many%'");
    assert_eq!(tables, "4000");
}

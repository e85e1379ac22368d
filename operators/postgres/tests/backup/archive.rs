//! The log on its way into the repository.

use std::time::{Duration, Instant};

use mainstay_backup::api::{ArchiveState, OwnerState};
use mainstay_postgres::backup::settings::Target;

use crate::kit::{Where, World, take};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_hole_after_a_primary_is_lost_with_what_it_had_not_stored() {
    let world = World::new(Where::S3, true).await;
    let (mut one, mut two) = (world.node("db-1"), world.node("db-2"));
    one.begin();
    let report = world.until(&one, "the owner", |r| r.ownership.state == OwnerState::Ours);
    two.follow(&one);
    let other = world.until(&two, "the owner", |r| r.ownership.state == OwnerState::Ours);
    assert_eq!(
        report.ownership.owner, other.ownership.owner,
        "derived alike"
    );
    one.write(500);
    world.archived(&one);
    world.back_up(&one, "order-1", false);
    one.write(500);

    // From here on the primary stores nothing, and the replica keeps everything.
    one.stop_sidecar();
    let segments = || {
        world
            .keys("log")
            .iter()
            .filter(|key| !key.contains("origin"))
            .count()
    };
    let before = segments();
    for _ in 0..5 {
        one.write(200);
        one.switch();
    }
    // So that a segment is left part of the way: at its very beginning there would be no `.partial`.
    one.write(20);
    world.until(&two, "kept", |r| r.archive.waiting_pieces >= 5);
    assert_eq!(segments(), before, "nobody stores");
    let rows = one.rows();
    two.has_all_of(&one);
    one.stop(false);
    std::fs::remove_dir_all(one.data()).unwrap();

    two.promote();
    two.write(100);
    let report = world.archived(&two);
    assert_eq!(report.archive.reason, None);
    assert!(report.gaps.is_empty(), "{report:#?}");
    // Pieces are stored several at a time: the newest one is not the last one.
    let begun = Instant::now();
    let keys = loop {
        let keys = world.keys("log");
        if keys.iter().any(|key| key.contains(".partial.")) {
            break keys;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{keys:#?}\n{}",
            two.log()
        );
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(
        keys.iter()
            .any(|key| key.contains("00000002-") && key.contains(".lineage.")),
        "{keys:#?}"
    );
    let all = two.rows();
    assert!(all.len() > rows.len());

    let (mut new, report) = world.restored("db-3", &Target::Latest);
    assert_eq!(new.rows(), all);
    // Before the fork, on the timeline that was left.
    assert!(report.reached.unwrap().timeline >= 3);

    // What was restored is another instance: the same repository is not its own.
    new.start_sidecar();
    let report = world.until(&new, "refused", |r| {
        r.ownership.state == OwnerState::Refused
    });
    assert_eq!(report.archive.state, ArchiveState::Broken, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn while_the_store_is_away_the_log_is_kept_and_told() {
    let mut world = World::new(Where::S3, false).await;
    let mut one = world.node("db-1");
    one.begin();
    one.write(100);
    world.archived(&one);
    world.server.as_mut().unwrap().kill().await.unwrap();
    for _ in 0..6 {
        one.write(50);
        one.switch();
    }
    let report = world.until(&one, "told", |r| {
        r.archive.state == ArchiveState::Unreachable && r.archive.waiting_pieces >= 6
    });
    assert!(report.archive.waiting_pieces >= 6 && report.archive.waiting_bytes >= 6 << 20);
    assert!(report.archive.reason.unwrap().contains("not reached"));
    // An orderly stop does not wait for the store, and says so.
    let took = one.stop(true);
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(one.postgres_log().contains("is kept: "), "{}", one.log());
    one.start(None);
    // For longer than PostgreSQL would try before it paused for a minute.
    std::thread::sleep(Duration::from_secs(10));
    world.server.as_mut().unwrap().resume().await.unwrap();
    let begun = Instant::now();
    let report = world.archived(&one);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(
        (report.archive.waiting_pieces, report.archive.reason),
        (0, None)
    );
    assert!(
        one.sql("select count(*) from pg_ls_dir('pg_wal/archive_status') f where f like '%.ready'")
            .parse::<u32>()
            .unwrap()
            <= 7
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn another_instance_is_refused_and_writes_nothing() {
    for place in [Where::Folder, Where::S3] {
        let world = World::new(place, false).await;
        let (mut one, mut stranger) = (world.node("db-1"), world.node("other-1"));
        for node in [&mut one, &mut stranger] {
            node.initialise();
            node.start(None);
        }
        one.start_sidecar();
        one.write(10);
        world.archived(&one);
        let before = world.keys("");
        stranger.start_sidecar();
        stranger.write(10);
        stranger.switch();
        let report = world.until(&stranger, "refused", |r| {
            r.ownership.state == OwnerState::Refused && r.archive.state == ArchiveState::Broken
        });
        let reason = report.ownership.reason.unwrap();
        assert!(reason.contains("belongs to shop/db-1"), "{reason}");
        let refused = world.order(&stranger, &take("x", false));
        assert!(refused.unwrap_err().contains("belongs to"));
        one.stop_sidecar();
        let after = world.keys("");
        assert!(
            after
                .iter()
                .all(|key| before.contains(key) || key.starts_with("log/")),
            "{after:#?}"
        );
        let owner = std::fs::read_to_string(world.files().join("owner/00000001.json")).unwrap();
        assert!(owner.contains("shop/db-1") && world.keys("owner").len() == 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_database_can_be_recovered_to_a_file_of_the_log_ago() {
    let world = World::new(Where::Folder, false).await;
    let mut one = world.node("db-1");
    // A minute in a set. What comes on top of it is the same.
    one.archive_timeout = 20;
    let timeout = Duration::from_secs(one.archive_timeout);
    one.begin();
    one.write(10);
    world.back_up(&one, "order-1", false);
    // Nobody writes.
    let begun = Instant::now();
    let mut worst = Duration::ZERO;
    while begun.elapsed() < 3 * timeout {
        std::thread::sleep(Duration::from_secs(1));
        let Some(report) = world.report(&one) else {
            continue;
        };
        let latest = report.latest.or(report.earliest).unwrap();
        let age = jiff::Timestamp::now().duration_since(latest).unsigned_abs();
        worst = worst.max(age);
    }
    println!("recovery point of an idle database: {worst:?} at worst");
    assert!(worst <= timeout + Duration::from_secs(15), "{worst:?}");
}

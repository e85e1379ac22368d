//! A replica's data from the set's own repository: it follows the primary from where the log that is stored ends.

use std::fs;
use std::time::{Duration, Instant};

use mainstay_postgres::backup::api::RestoreStep;

use crate::kit::{Node, Where, World, major};

/// Longest wait.
const LONG: Duration = Duration::from_mins(2);

/// A primary with a backup, log after it, and rows that are not stored yet.
async fn primary(place: Where) -> (World, Node) {
    let world = World::new(place, true).await;
    let mut one = world.node("db-1");
    one.begin();
    one.write(100);
    world.back_up(&one, "order", false);
    one.write(100);
    one.switch();
    world.archived(&one);
    (world, one)
}

/// From here on it is data, as the agent makes it.
fn taken(node: &Node) {
    let seeded = node.path("/var/lib/postgresql/data/pgdata.seeded");
    fs::File::create(seeded.join("standby.signal")).unwrap();
    fs::rename(seeded, node.data()).unwrap();
    node.give();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_seeded_replica_streams_from_where_the_stored_log_ends() {
    let (world, one) = primary(Where::S3).await;
    let identifier = one.sql("select system_identifier from pg_control_system()");
    let mut two = world.node("db-2");
    let report = world.seed(&two, &identifier, major());
    assert_eq!(report.step, RestoreStep::Done, "{report:?}\n{}", two.log());
    assert!(report.backup.is_some() && report.bytes > 1 << 20);
    assert!(!two.data().exists(), "it is no data yet");
    let work = two.path("/var/lib/postgresql/data/pgdata.restore");
    assert!(!work.exists(), "what is left of it");
    // What comes after it was made is not in the repository.
    one.write(50);
    taken(&two);
    two.start(Some(&one));
    let same = "select pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn()";
    let rows = one.rows();
    let begun = Instant::now();
    while two.try_sql(same).is_err() || two.rows() != rows {
        assert!(begun.elapsed() < LONG, "{}", two.postgres_log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(two.sql("select pg_is_in_recovery()"), "t");
    assert_eq!(
        one.sql("select count(*) from pg_stat_replication where state = 'streaming'"),
        "1"
    );
    // Where there is data nothing is done.
    two.stop(true);
    world.seed(&two, &identifier, major());
    assert!(!two.path("/var/lib/postgresql/data/pgdata.seeded").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_hinders_it_is_told_and_leaves_nothing() {
    let (mut world, one) = primary(Where::S3).await;
    let identifier = one.sql("select system_identifier from pg_control_system()");
    let refused = |world: &World, name: &str, identifier: &str, word: &str| {
        let node = world.node(name);
        let report = world.seed(&node, identifier, major());
        assert_eq!(report.step, RestoreStep::Failed, "{report:?}");
        assert!(report.message.contains(word), "{report:?}");
        let volume = node.path("/var/lib/postgresql/data");
        let left: Vec<_> = fs::read_dir(volume).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    };
    refused(&world, "db-2", "7000000000000000001", "is of other data");
    // Log that is lost: the primary has none from there on either.
    one.write(10);
    one.switch();
    one.write(10);
    one.switch();
    world.archived(&one);
    let keys = world.keys("log/");
    let segments: Vec<&String> = keys.iter().filter(|key| !key.contains("origin")).collect();
    let lost = segments[segments.len() - 2];
    fs::remove_file(world.files().join(lost)).unwrap();
    refused(&world, "db-3", &identifier, "is missing");
    world.other_keys();
    refused(&world, "db-4", &identifier, "another instance's key");
}

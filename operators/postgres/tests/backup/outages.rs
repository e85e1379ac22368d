//! A store that goes away in the middle of a backup and of a restore, and one whose credentials are no good any more.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_backup::api::{ArchiveState, Outcome};
use mainstay_postgres::backup::api::RestoreStep;
use mainstay_postgres::backup::settings::{SECRET_ACCESS_KEY, SECRETS, Target};

use crate::kit::{BUCKET, Node, Where, World, bytes, long, take};

/// What passes in a second: so that something is under way for several seconds after its middle was seen, on a busy
/// machine too.
const SLOWLY: Option<u64> = Some(3 << 20);
/// When so much of it has passed, it is in the middle.
const MIDDLE: u64 = 9 << 20;

/// A database with 24 MiB that do not compress, and a ledger.
async fn database() -> (World, Node) {
    let mut world = World::new(Where::S3, false).await;
    world.bytes_per_second = SLOWLY;
    let mut one = world.node("db-1");
    one.initialise();
    one.start(None);
    one.sql("create table noise (content bytea)");
    one.sql("alter table noise alter column content set storage external");
    one.sql(
        "insert into noise select string_agg(sha512((random()::text || n)::bytea), '') \
         from generate_series(1, 400000) n group by n % 400",
    );
    one.write(100);
    one.start_sidecar();
    world.archived(&one);
    (world, one)
}

/// Waits until what a node does has brought so much into a folder.
fn until_there(node: &Node, folder: &Path, so_much: u64) {
    let begun = Instant::now();
    while bytes(folder) < so_much {
        assert!(begun.elapsed() < long(), "{}", node.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until a restore into a node is in the middle.
fn in_the_middle(node: &Node) {
    let folder = node.path("/var/lib/postgresql/data/pgdata.restore");
    until_there(node, &folder, MIDDLE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backup_and_a_restore_go_on_where_the_store_went_away() {
    let (mut world, mut one) = database().await;
    // Figures of what runs are told every few seconds only: it might be over by then.
    let bucket = world.server.as_ref().unwrap().store().data.join(BUCKET);
    let before = bytes(&bucket);
    world.order(&one, &take("order", false)).unwrap();
    until_there(&one, &bucket, before + MIDDLE);
    world.server.as_mut().unwrap().kill().await.unwrap();
    one.until_said("a part is sent again");
    world.server.as_mut().unwrap().resume().await.unwrap();
    let report = world.until(&one, "over", |r| !r.results.is_empty());
    let [result] = &report.results[..] else {
        panic!("{report:#?}");
    };
    assert!(
        matches!(&result.outcome, Outcome::Done { .. }),
        "{result:?}\n{}",
        one.log()
    );
    one.write(100);
    let report = world.archived(&one);
    assert!(report.gaps.is_empty(), "{report:#?}");
    let sum = "select md5(string_agg(md5(content), '' order by md5(content))) from noise";
    let (rows, noise) = (one.rows(), one.sql(sum));
    one.stop_sidecar();
    one.stop(true);

    let mut new = world.node("db-2");
    let restore = world.begin_restore(&new, Target::Latest, None);
    in_the_middle(&new);
    world.server.as_mut().unwrap().kill().await.unwrap();
    new.until_said("reading goes on where it broke off");
    world.server.as_mut().unwrap().resume().await.unwrap();
    let report = World::end_restore(&new, restore);
    assert_eq!(report.step, RestoreStep::Done, "{report:?}\n{}", new.log());
    new.start(None);
    assert_eq!((new.rows(), new.sql(sum)), (rows, noise));
    drop(new);

    // For longer than anybody waits: nothing half-restored, and it may be tried again.
    let away = world.node("db-3");
    let restore = world.begin_restore(&away, Target::Latest, None);
    in_the_middle(&away);
    world.server.as_mut().unwrap().kill().await.unwrap();
    let report = World::end_restore(&away, restore);
    assert_eq!(report.step, RestoreStep::Failed, "{report:?}");
    assert!(
        report.retryable && report.message.contains("not reached"),
        "{report:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn credentials_that_are_no_good_any_more_are_told_and_lose_nothing() {
    let world = World::new(Where::S3, true).await;
    let mut one = world.node("db-1");
    one.begin();
    one.write(100);
    world.archived(&one);
    world.back_up(&one, "order", false);

    // As the store had replaced them.
    fs::write(one.path(SECRETS).join(SECRET_ACCESS_KEY), "of yesterday").unwrap();
    // Until it has been read, what was opened before is used.
    let words = "the secret does not belong";
    world.until(&one, "told", |r| {
        r.ownership
            .reason
            .as_ref()
            .is_some_and(|reason| reason.contains(words))
    });
    for _ in 0..3 {
        one.write(20);
        one.switch();
    }
    let report = world.until(&one, "kept", |r| {
        r.archive.state == ArchiveState::Unreachable && r.archive.waiting_pieces >= 3
    });
    let reason = report.archive.reason.unwrap();
    assert!(reason.contains(words), "{reason}");
    // The new ones.
    world.mount(&one);
    one.give();
    let report = world.archived(&one);
    assert_eq!((report.archive.waiting_pieces, report.gaps.len()), (0, 0));
    let rows = one.rows();
    let (node, _) = world.restored("db-2", &Target::Latest);
    assert_eq!(node.rows(), rows);
}

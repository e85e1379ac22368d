//! A repository on a volume: the same as in a bucket, and what only a volume does.

use mainstay_backup::api::ArchiveState;
use mainstay_postgres::backup::settings::Target;

use crate::kit::{Where, World};
use crate::volume::{allow, folders};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn archived_backed_up_and_restored_in_a_folder_that_two_instances_mount() {
    let world = World::new(Where::Folder, true).await;
    let (mut one, mut two) = (world.node("db-1"), world.node("db-2"));
    one.begin();
    one.write(300);
    let report = world.archived(&one);
    assert_eq!(report.ownership.unguarded, None, "names are given once");
    world.back_up(&one, "full", false);
    one.write(300);
    two.follow(&one);
    one.write(100);
    let name = one.switch();
    world.until(&two, "let go what the primary stored", |r| {
        r.archive.waiting_pieces == 0 && r.archive.last_piece.as_ref() >= Some(&name)
    });
    // From the replica, as it is done where there is one. What it needs of the log the primary stores.
    let second = std::thread::scope(|scope| {
        let backup = scope.spawn(|| world.back_up(&two, "second", true));
        while !backup.is_finished() {
            one.switch();
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        backup.join().unwrap()
    });
    assert_eq!(second.broken, None);
    // A crash in between: the same pieces come again.
    one.stop_sidecar();
    one.write(100);
    one.stop(false);
    one.start(None);
    one.start_sidecar();
    one.write(100);
    let report = world.archived(&one);
    assert!(report.gaps.is_empty(), "{report:#?}");
    let rows = one.rows();

    // Whoever restores only reads.
    let all = folders(&world.folder.path().join("repository"));
    let before = world.keys("");
    one.stop_sidecar();
    two.stop_sidecar();
    for folder in &all {
        allow(folder, false);
    }
    let (new, _) = world.restored("db-3", &Target::Latest);
    assert_eq!(new.rows(), rows);
    for folder in &all {
        allow(folder, true);
    }
    assert_eq!(world.keys(""), before);
    let staged = before.iter().any(|key| key.contains('#'));
    assert!(!staged, "nothing is left half-written: {before:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_volume_that_takes_nothing_is_told_and_goes_on_by_itself() {
    let world = World::new(Where::Folder, false).await;
    let mut one = world.node("db-1");
    one.begin();
    one.write(100);
    world.archived(&one);
    world.back_up(&one, "order-1", false);
    let all = folders(&world.files().join("log"));
    for folder in &all {
        allow(folder, false);
    }
    for _ in 0..4 {
        one.write(50);
        one.switch();
    }
    let report = world.until(&one, "told", |r| {
        r.archive.state == ArchiveState::Unreachable && r.archive.waiting_pieces >= 4
    });
    let reason = report.archive.reason.unwrap();
    assert!(
        reason.contains("the volume does not allow it") && reason.contains("999"),
        "{reason}"
    );
    for folder in &all {
        allow(folder, true);
    }
    let report = world.archived(&one);
    assert_eq!(
        (report.archive.waiting_pieces, report.archive.reason),
        (0, None)
    );
    assert!(report.gaps.is_empty());
    let rows = one.rows();
    let (new, _) = world.restored("db-2", &Target::Latest);
    assert_eq!(new.rows(), rows);
}

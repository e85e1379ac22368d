//! Log that a store does not take, on a small volume, where the archive shall give way.

use std::time::Duration;

use jiff::Timestamp;
use mainstay_backup::api::ArchiveState;
use mainstay_postgres::agent::place::DATA;
use mainstay_postgres::backup::settings::Target;

use crate::kit::{Node, Where, World};
use crate::volume::Volume;

/// The volume: more than PostgreSQL keeps of its log by itself, and data.
const SIZE: u64 = 192 << 20;

/// Writes a row and a MiB of log, so many times.
fn fill(node: &Node, times: u32) {
    node.sql(&format!(
        "do $$ begin for i in 1..{times} loop
             insert into ledger (filling) values ('full');
             perform pg_logical_emit_message(true, 'test', repeat('x', 1000000));
             commit;
         end loop; end $$"
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn log_is_let_go_before_it_fills_the_volume_and_a_new_backup_goes_on_after_the_gap() {
    let mut world = World::new(Where::S3, true).await;
    world.break_archive = true;
    let mut one = world.node("db-1");
    let volume = Volume::new(one.path(DATA), SIZE);
    // It is root's.
    world.mount(&one);
    one.give();
    one.begin();
    one.write(100);
    world.archived(&one);
    world.back_up(&one, "before", false);
    one.write(100);
    world.archived(&one);
    let report = world.until(&one, "a moment after the backup", |r| r.latest > r.earliest);
    let before = report.latest.unwrap();

    world.server.as_mut().unwrap().kill().await.unwrap();
    // The container starts anew meanwhile, and does not get to the store at all.
    one.stop_sidecar();
    one.start_sidecar();
    fill(&one, 8);
    let in_gap = Timestamp::now();
    fill(&one, 8);
    let (mut least, mut written) = (u64::MAX, 0);
    let let_go = || world.report(&one).is_some_and(|r| r.archive.let_go > 0);
    let mut beyond = 0;
    // Far beyond what the volume holds.
    while beyond < 64 {
        assert!(written < 4 * (SIZE >> 20), "{}", one.log());
        fill(&one, 1);
        written += 1;
        least = least.min(volume.free());
        if volume.free() < 32 << 20 {
            // As fast as a disk of that size might be: what is let go has to go first.
            std::thread::sleep(Duration::from_millis(250));
        }
        if beyond > 0 || let_go() {
            beyond += 1;
        }
    }
    println!(
        "{written} MiB were written, {} MiB stayed free",
        least >> 20
    );
    let report = world.until(&one, "told", |r| {
        r.archive.let_go > 0 && r.archive.state == ArchiveState::Unreachable
    });
    assert!(report.gaps.is_empty(), "nobody knows of its end yet");
    assert!(least > 1 << 20, "{least} bytes were left");

    // The store is back.
    world.server.as_mut().unwrap().resume().await.unwrap();
    let report = world.archived(&one);
    assert_eq!(report.archive.let_go, 0);
    let [gap] = &report.gaps[..] else {
        panic!("{:#?}", report.gaps);
    };
    println!("a gap from {} to {}", gap.after, gap.before);
    world.back_up(&one, "after", false);
    one.write(100);
    world.archived(&one);
    let rows = one.rows();
    one.stop_sidecar();
    one.stop(true);

    let (node, _) = world.restored("latest", &Target::Latest);
    assert_eq!(node.rows(), rows);
    let (node, _) = world.restored("old", &Target::Time(before));
    let old = node.rows();
    assert!(!old.is_empty() && rows.starts_with(&old));
    // Never a silent wrong point.
    world.refused("gap", &Target::Time(in_gap));
    drop(volume);
}

//! Primaries that are lost with their volumes, one after the other.

use jiff::Timestamp;
use mainstay_postgres::backup::settings::Target;

use crate::kit::{Node, Random, Where, World, major, upto};

/// The primary writes what only its replica has, and is lost with all of its data. The replica takes over.
fn lost(mut primary: Node, successor: &Node) {
    primary.stop_sidecar();
    primary.write(50);
    primary.switch();
    primary.write(50);
    successor.has_all_of(&primary);
    primary.stop(false);
    std::fs::remove_dir_all(primary.data()).unwrap();
    successor.promote();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn moments_of_three_timelines_over_one_chain_of_increments() {
    let world = World::new(Where::S3, true).await;
    let (mut one, mut two) = (world.node("db-1"), world.node("db-2"));
    one.begin();
    one.write(100);
    two.follow(&one);
    let full = world.back_up(&one, "full", false);
    let earliest = world.until(&one, "a first moment", |r| r.earliest.is_some());
    one.write(200);
    one.sql("select pg_create_restore_point('on the first')");
    let on_first = one.rows();
    lost(one, &two);
    let first_fork = two.ledger().last().unwrap().1;

    two.write(100);
    let mut three = world.node("db-3");
    three.follow(&two);
    two.write(100);
    let second = world.back_up(&two, "second", true);
    two.write(100);
    lost(two, &three);
    let second_fork = three.ledger().last().unwrap().1;

    three.write(100);
    let third = world.back_up(&three, "third", true);
    if major() >= 17 {
        // The log's summaries of a replica reach back over the fail-over.
        assert_eq!(second.parent, Some(full.id.clone()));
        assert_eq!(third.parent, Some(second.id));
    }
    three.write(100);
    let report = world.archived(&three);
    assert!(report.gaps.is_empty(), "{report:#?}");
    let ledger = three.ledger();
    assert!(ledger.len() >= 1000, "nothing was lost: {}", ledger.len());
    three.stop_sidecar();
    three.stop(true);

    let (node, _) = world.restored("latest", &Target::Latest);
    assert_eq!(node.rows(), upto(&ledger, i64::MAX));
    drop(node);
    // A name says nothing of when: the backup before it has to be said.
    let name = Target::Name("on the first".into());
    let (node, _) = world.restored_from("named", &name, Some(full.id));
    assert_eq!(node.rows(), on_first);
    drop(node);
    let earliest = earliest.earliest.unwrap().as_microsecond();
    let last = ledger.last().unwrap().1;
    let mut all = vec![first_fork, second_fork];
    let mut random = Random::new();
    for (from, to) in [
        (earliest, first_fork),
        (first_fork, second_fork),
        (second_fork, last),
    ] {
        all.extend(random.moments(&ledger, from, to, 3));
    }
    for (round, moment) in all.into_iter().enumerate() {
        let time = Timestamp::from_microsecond(moment).unwrap();
        let (node, report) = world.restored(&format!("moment-{round}"), &Target::Time(time));
        assert_eq!(node.rows(), upto(&ledger, moment), "{time} {report:?}");
    }
}

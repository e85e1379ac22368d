//! A bucket that keeps versions and locks them: who may write may put something over what is there, and destroys nothing.

use std::fs;

use mainstay_postgres::backup::settings::Target;

use crate::kit::{BUCKET, Where, World, keep};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_put_over_a_backup_or_its_log_is_passed_over_and_retention_waits_for_locks() {
    let world = World::new(Where::Locked, true).await;
    let mut one = world.node("db-1");
    one.begin();
    one.write(100);
    let first = world.back_up(&one, "first", false);
    one.write(100);
    let second = world.back_up(&one, "second", false);
    for _ in 0..3 {
        one.write(50);
        one.switch();
    }
    let report = world.archived(&one);
    assert!(report.gaps.is_empty() && report.unread.is_empty());
    let rows = one.rows();

    // The first backup is to go, and its lock does not let it.
    world.order(&one, &keep(1)).unwrap();
    let report = world.until(&one, "pruned", |r| r.prune.is_some());
    let prune = report.prune.unwrap();
    assert!(prune.backups.is_empty(), "{prune:#?}");
    let manifest = format!("backups/{}/manifest.json", first.id);
    assert!(
        prune.waits.iter().any(|waits| waits.contains(&manifest)),
        "{prune:#?}"
    );
    assert_eq!(report.catalogue.len(), 2, "both are backups still");
    one.stop_sidecar();
    one.stop(true);

    // Everything that the second backup needs is replaced, its manifest by one that is valid.
    let store = world.server.as_ref().unwrap().store();
    let rubbish = world.folder.path().join("rubbish");
    fs::write(&rubbish, "what somebody else wrote").unwrap();
    let put = async |key: &str, body: &std::path::Path| {
        let path = format!("/{BUCKET}/{}/{key}", world.prefix);
        let answer = store.ask("PUT", &path, &[], Some(body)).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let (mine, others): (Vec<String>, Vec<String>) = world
        .keys("backups")
        .into_iter()
        .partition(|key| key.contains(&second.id.to_string()));
    let older = others.iter().find(|key| key.ends_with("manifest.json"));
    let older = world.files().join(older.unwrap());
    let mut replaced = 0;
    for key in mine.iter().chain(&world.keys("log")) {
        replaced += 1;
        if key.ends_with("manifest.json") {
            let copy = world.folder.path().join("older");
            fs::copy(&older, &copy).unwrap();
            put(key, &copy).await;
        } else {
            put(key, &rubbish).await;
        }
    }
    assert!(replaced > 6, "{mine:?}");

    let (node, report) = world.restored("db-2", &Target::Latest);
    assert_eq!(node.rows(), rows, "{report:?}");
    assert!(
        node.log().contains(&second.id.to_string()),
        "the newest backup was taken: {}",
        node.log()
    );
}

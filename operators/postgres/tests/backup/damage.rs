//! Every kind of damage is a clear failure with nothing half-restored.

use std::fs;
use std::path::PathBuf;

use mainstay_postgres::backup::settings::Target;

use crate::kit::{Where, World};

/// A repository with a backup and log, nobody alive.
async fn repository() -> (World, Vec<u32>) {
    let world = World::new(Where::Folder, true).await;
    let mut one = world.node("db-1");
    one.begin();
    one.write(100);
    world.back_up(&one, "order", false);
    for _ in 0..4 {
        one.write(50);
        one.switch();
    }
    world.archived(&one);
    let rows = one.rows();
    (world, rows)
}

struct Saved {
    path: PathBuf,
    content: Vec<u8>,
}

impl Saved {
    fn of(world: &World, key: &str) -> Self {
        let path = world.files().join(key);
        let content = fs::read(&path).unwrap();
        Self { path, content }
    }

    fn back(&self) {
        fs::write(&self.path, &self.content).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_object_truncated_deleted_changed_and_swapped() {
    let (world, rows) = repository().await;
    let find = |part: &str| {
        let keys = world.keys("");
        let found = keys
            .iter()
            .filter(|key| key.contains(part))
            .cloned()
            .collect::<Vec<_>>();
        assert!(!found.is_empty(), "{part}: {keys:#?}");
        found
    };
    let data = find("/data/");
    let manifest = find("manifest.json");
    let log: Vec<String> = find("log/")
        .into_iter()
        .filter(|key| key.ends_with(".zst.age") && !key.contains(".lineage"))
        .collect();
    // One in the middle of what is replayed.
    let piece = &log[log.len() - 2];
    let other = &log[log.len() - 3];
    let mut tried = 0;
    let mut fails = |what: &str, words: &[&str]| {
        tried += 1;
        println!("{what}");
        let message = world.refused(&format!("damaged-{tried}"), &Target::Latest);
        assert!(
            words.iter().any(|word| message.contains(word)),
            "{what}: {message}"
        );
        println!("  {message}");
    };
    for (name, key) in [
        ("data", &data[0]),
        ("the manifest", &manifest[0]),
        ("log", piece),
    ] {
        let saved = Saved::of(&world, key);
        fs::write(&saved.path, &saved.content[..saved.content.len() / 2]).unwrap();
        fails(
            &format!("{name} truncated"),
            &["damaged", "missing", "no backup", "bytes"],
        );
        let mut changed = saved.content.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        fs::write(&saved.path, &changed).unwrap();
        fails(
            &format!("{name} changed"),
            &["damaged", "sealed", "no backup"],
        );
        fs::remove_file(&saved.path).unwrap();
        fails(
            &format!("{name} deleted"),
            &["no such object", "no backup", "is missing"],
        );
        saved.back();
    }
    let (one, two) = (Saved::of(&world, piece), Saved::of(&world, other));
    fs::write(&one.path, &two.content).unwrap();
    fails("log swapped", &["damaged"]);
    one.back();
    let (one, two) = (Saved::of(&world, &data[0]), Saved::of(&world, &data[1]));
    fs::write(&one.path, &two.content).unwrap();
    fails("data swapped", &["damaged"]);
    one.back();

    // As it was, it restores.
    let (node, _) = world.restored("whole", &Target::Latest);
    assert_eq!(node.rows(), rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_other_keys_nothing_is_opened() {
    let (mut world, _) = repository().await;
    world.other_keys();
    let message = world.refused("new", &Target::Latest);
    assert!(message.contains("no backup"), "{message}");
}

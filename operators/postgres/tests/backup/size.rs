//! How large a repository gets, for docs/benchmarks.md: `cargo xtask bench backup-size`. Not a test: it asserts no figure.

use std::fs;
use std::path::Path;

use crate::figures::fill;
use crate::kit::{Node, Where, World, bytes, command, major};
use crate::meter::{megabytes, number};

/// Increments after the full backup.
const INCREMENTS: u32 = 10;
/// pgBackRest, where it is installed.
const PGBACKREST: &str = "/usr/bin/pgbackrest";
/// The newest PostgreSQL that Debian 12's pgBackRest (2.45) knows.
const KNOWN: u32 = 15;

/// Of a thousand rows one is changed, all over the table, and some are added at its end.
fn change(node: &Node, round: u32, mib: u64) {
    node.sql(&format!(
        "update filling set a = md5(a) || md5(b) where n % 1000 = {round};
         insert into filling select n, md5(n::text) || md5((n * 3)::text), repeat('y', 120)
         from generate_series(1, {}) n",
        mib * 4
    ));
}

fn told(what: &str, backups: u64, log: u64) {
    let (backups, log) = (megabytes(backups), megabytes(log));
    println!("  {what}: {backups:.1} MB of backups, {log:.1} MB of log");
}

fn ours(world: &World, mib: u64) {
    let mut node = world.node("db-1");
    node.initialise_with(16);
    node.start(None);
    fill(&node, mib);
    node.start_sidecar();
    world.archived(&node);
    let log = bytes(&world.files().join("log"));
    let full = world.back_up(&node, "full", false);
    let one = bytes(&world.files().join("backups"));
    for round in 1..=INCREMENTS {
        change(&node, round, mib);
        world.back_up(&node, &format!("increment-{round}"), true);
    }
    println!("  the database: {:.0} MB", megabytes(full.plain_bytes));
    told("ours, the full one", one, 0);
    let (backups, all) = (world.files().join("backups"), world.files().join("log"));
    told(
        "ours, with ten increments",
        bytes(&backups),
        bytes(&all) - log,
    );
}

fn theirs(world: &World, mib: u64) {
    let mut node = world.node("db-2");
    node.initialise_with(16);
    node.start(None);
    let home = node.root.join("pgbackrest");
    let file = node.root.join("pgbackrest.conf");
    let of = |name: &str| {
        let folder = home.join(name);
        fs::create_dir_all(&folder).unwrap();
        folder.display().to_string()
    };
    let text = format!(
        "[global]\nrepo1-path={}\nlog-path={}\nlock-path={}\nspool-path={}\ncompress-type=zst\ncompress-level=3\n\
         start-fast=y\nrepo1-retention-full=9999999\nlog-level-console=warn\n[db]\npg1-path={}\npg1-socket-path={}\npg1-user=postgres\n",
        of("repository"),
        of("log"),
        of("lock"),
        of("spool"),
        node.data().display(),
        node.sockets()
    );
    fs::write(&file, text).unwrap();
    node.give();
    let run = |arguments: &[&str]| {
        let mut pgbackrest = command(PGBACKREST);
        pgbackrest
            .arg(format!("--config={}", file.display()))
            .arg("--stanza=db");
        assert!(
            pgbackrest.args(arguments).status().unwrap().success(),
            "{arguments:?}"
        );
    };
    node.sql(&format!(
        "alter system set archive_command = '{PGBACKREST} --config={} --stanza=db archive-push \"%p\"'",
        file.display()
    ));
    // It refuses `always`.
    node.sql("alter system set archive_mode = 'on'");
    node.stop(true);
    node.start(None);
    run(&["stanza-create"]);
    fill(&node, mib);
    run(&["--type=full", "backup"]);
    let (backups, log) = (
        home.join("repository/backup"),
        home.join("repository/archive"),
    );
    let before = bytes(&log);
    told("pgBackRest, the full one", bytes(&backups), 0);
    for round in 1..=INCREMENTS {
        change(&node, round, mib);
        run(&["--type=incr", "backup"]);
    }
    told(
        "pgBackRest, with ten increments",
        bytes(&backups),
        bytes(&log) - before,
    );
}

#[ignore = "figures: cargo xtask bench backup-size"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn size() {
    let mib = number("MAINSTAY_FIGURES_MIB", 1024);
    println!(
        "PostgreSQL {}, {mib} MiB, a full backup and {INCREMENTS} increments",
        major()
    );
    let world = World::new(Where::S3, false).await;
    ours(&world, mib);
    if major() <= KNOWN && Path::new(PGBACKREST).exists() {
        theirs(&world, mib);
    }
}

//! Backups and what becomes of them.

use age::secrecy::ExposeSecret as _;
use jiff::{SignedDuration, Timestamp};
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::crypto::{Keyring, Protection};
use mainstay_backup::layout;
use mainstay_backup::manifest::Manifest;
use mainstay_backup::retention::leftovers;
use mainstay_backup::stream::GetError;

use crate::kit::{Kit, SPLIT, TestEngine, back_up, content, encrypted, restore};

/// Empty, of one part, of several objects, and of exactly as much as one object takes.
fn engine() -> TestEngine {
    TestEngine::with(&[
        ("empty", Vec::new()),
        ("small.txt", b"few words\n".to_vec()),
        ("base/large", content(1, 20 << 20)),
        ("base/even", content(2, usize::try_from(SPLIT).unwrap())),
    ])
}

async fn round_trip(kit: &Kit, protection: Protection) -> Manifest {
    let (repository, owned) = kit.owned(protection).await;
    let engine = engine();
    let manifest = back_up(&repository.writer(owned), &engine, None)
        .await
        .unwrap();
    let catalogue = Catalogue::read(&repository, None).await.unwrap();
    assert_eq!(catalogue.backups, std::slice::from_ref(&manifest));
    assert!(
        catalogue.unfinished.is_empty() && catalogue.unread.is_empty(),
        "{catalogue:?}"
    );
    for file in &manifest.files {
        let back = restore(&repository, file).await.unwrap();
        assert!(
            back == engine.files[&file.name],
            "{} came back as {} bytes",
            file.name,
            back.len()
        );
    }
    let large = manifest
        .files
        .iter()
        .find(|file| file.name == "base/large")
        .unwrap();
    assert_eq!(large.objects.len(), 7, "20 MiB in objects of 3");
    let even = manifest
        .files
        .iter()
        .find(|file| file.name == "base/even")
        .unwrap();
    assert_eq!(even.objects.len(), 1);
    manifest
}

pub async fn stored_and_restored(kit: Kit) {
    let manifest = round_trip(&kit, Protection::Plain).await;
    assert!(manifest.recipients.is_empty() && !manifest.files[0].digest.keyed);
}

pub async fn encrypted_and_restored(kit: Kit) {
    let escrow = age::x25519::Identity::generate().to_public().to_string();
    let keyring = Keyring::generate([3; 32]);
    let manifest = round_trip(
        &kit,
        encrypted(keyring.clone(), std::slice::from_ref(&escrow)),
    )
    .await;
    assert_eq!(
        manifest.recipients,
        [keyring.recipient().unwrap().to_string(), escrow]
    );
    assert!(manifest.files.iter().all(|file| file.digest.keyed));
    // Nobody without the keys reads it, or takes its manifest for his own.
    let stranger = kit.repository(encrypted(Keyring::generate([4; 32]), &[]));
    let catalogue = Catalogue::read(&stranger, None).await.unwrap();
    assert!(catalogue.backups.is_empty());
    assert!(
        catalogue.unread[0].why.contains("another instance's key"),
        "{:?}",
        catalogue.unread
    );
    let error = restore(&stranger, &manifest.files[0]).await.unwrap_err();
    assert!(matches!(error, GetError::NoKey { .. }), "{error}");
}

pub async fn an_engine_that_fails_leaves_no_backup(kit: Kit) {
    let (repository, owned) = kit.owned(Protection::Plain).await;
    let writer = repository.writer(owned);
    let mut engine = engine();
    engine.fails_after = Some(2);
    let error = back_up(&writer, &engine, None).await.unwrap_err();
    assert_eq!(error.to_string(), "the engine: it was told to fail");
    let catalogue = Catalogue::read(&repository, None).await.unwrap();
    assert!(catalogue.backups.is_empty());
    let [unfinished] = catalogue.unfinished.as_slice() else {
        panic!("{catalogue:?}");
    };
    assert!(
        unfinished.objects > 1 && unfinished.begun.is_some(),
        "{unfinished:?}"
    );
    let owners = repository.owners().await.unwrap();
    let after = SignedDuration::from_hours(24);
    let now = Timestamp::now();
    assert!(
        leftovers(&catalogue.unfinished, &owners, None, after, now).is_empty(),
        "it is too young to go"
    );
    let later = now.checked_add(SignedDuration::from_hours(25)).unwrap();
    let going = leftovers(&catalogue.unfinished, &owners, None, after, later);
    assert_eq!(going, std::slice::from_ref(&unfinished.id));
    let plan = mainstay_backup::retention::Plan::default();
    mainstay_backup::prune::prune(&writer, &engine, &catalogue, &plan, &going)
        .await
        .unwrap();
    let left = repository.store().list(layout::BACKUPS).await.unwrap();
    assert_eq!(left, [], "something of it stays");
}

pub async fn every_damage_is_seen(kit: Kit) {
    let (repository, owned) = kit.owned(encrypted(Keyring::generate([3; 32]), &[])).await;
    let writer = repository.writer(owned);
    let older = back_up(
        &writer,
        &TestEngine::with(&[("f", content(5, 100_000))]),
        None,
    )
    .await
    .unwrap();
    let manifest = back_up(
        &writer,
        &TestEngine::with(&[("f", content(6, 100_000))]),
        None,
    )
    .await
    .unwrap();
    let file = &manifest.files[0];
    let path = kit.files().join(&file.objects[0].key);
    let whole = std::fs::read(&path).unwrap();
    // A server that keeps versions is told which one: then no later one counts.
    let mut newest = file.clone();
    newest.objects[0].version = None;
    let damaged = async |what: &str, bytes: &[u8], expected: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = restore(&repository, &newest).await.unwrap_err();
        assert!(matches!(error, GetError::Damaged { .. }), "{what}: {error}");
        assert!(error.to_string().contains(expected), "{what}: {error}");
    };
    damaged("cut short", &whole[..whole.len() - 1], "bytes, and had").await;
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    damaged("changed", &flipped, "damaged").await;
    let other = std::fs::read(kit.files().join(&older.files[0].objects[0].key)).unwrap();
    damaged("swapped for another", &other, "").await;
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(
        restore(&repository, &newest).await.unwrap(),
        content(6, 100_000)
    );
    std::fs::remove_file(&path).unwrap();
    let error = restore(&repository, &newest).await.unwrap_err().to_string();
    assert!(error.contains("there is no such object"), "{error}");
    // A manifest that was replaced by an older one, valid by itself.
    let older_manifest = std::fs::read(kit.files().join(layout::manifest(&older.id))).unwrap();
    std::fs::write(
        kit.files().join(layout::manifest(&manifest.id)),
        older_manifest,
    )
    .unwrap();
    let catalogue = Catalogue::read(&repository, None).await.unwrap();
    assert_eq!(catalogue.backups, [older]);
    assert!(
        catalogue.unread[0].why.contains("another backup"),
        "{:?}",
        catalogue.unread
    );
}

pub async fn keys_come_back_from_escrow_and_rotate(kit: Kit) {
    let escrow = age::x25519::Identity::generate();
    let names = [escrow.to_public().to_string()];
    let first = Keyring::generate([3; 32]);
    let (repository, owned) = kit.owned(encrypted(first.clone(), &names)).await;
    let writer = repository.writer(owned.clone());
    let key = writer.keep_keys().await.unwrap().unwrap();
    assert_eq!(
        writer.keep_keys().await.unwrap(),
        Some(key.clone()),
        "keeping them again is a success"
    );
    let old = back_up(
        &writer,
        &TestEngine::with(&[("f", b"before".to_vec())]),
        None,
    )
    .await
    .unwrap();

    let rotated = kit.repository(encrypted(first.rotated(), &names));
    let writer = rotated.writer(owned);
    let next_key = writer.keep_keys().await.unwrap().unwrap();
    assert_ne!(key, next_key);
    let new = back_up(
        &writer,
        &TestEngine::with(&[("f", b"after".to_vec())]),
        None,
    )
    .await
    .unwrap();
    assert_ne!(
        old.recipients[0], new.recipients[0],
        "new objects are for the new key"
    );

    // The Secret is gone; the escrow key opens what opens everything.
    let (sealed, _) = rotated
        .store()
        .read(&next_key, None, 1 << 16)
        .await
        .unwrap();
    let text = age::decrypt(&escrow, &sealed).unwrap();
    let keyring = Keyring::parse(std::str::from_utf8(&text).unwrap()).unwrap();
    assert_eq!(
        keyring.to_text().expose_secret(),
        std::str::from_utf8(&text).unwrap()
    );
    let restored = kit.repository(Protection::opening(keyring));
    let catalogue = Catalogue::read(&restored, None).await.unwrap();
    assert_eq!(catalogue.backups.len(), 2);
    for (backup, expected) in [(old, "before"), (new, "after")] {
        assert_eq!(
            restore(&restored, &backup.files[0]).await.unwrap(),
            expected.as_bytes()
        );
    }
}

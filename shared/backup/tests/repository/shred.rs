//! Keys that are destroyed: their copies go, nothing of anybody else's, and who else opens the backups is told.

use std::path::Path;
use std::process::Command;

use age::secrecy::ExposeSecret as _;
use jiff::{SignedDuration, Timestamp};
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::crypto::{Keyring, Protection};
use mainstay_backup::escrow::{self, EscrowError};
use mainstay_backup::manifest::Manifest;
use mainstay_backup::shred::{ShredReport, ShredSettings, shred};
use mainstay_backup::spec::{PlaceSpec, RepositorySpec};
use mainstay_e2e::tools::{Need, require};

use crate::kit::{Kit, TestEngine, Where, back_up, encrypted, restore};
use crate::locks::lock;

fn public(ring: &Keyring) -> Vec<String> {
    let all = ring.identities().iter();
    all.map(|identity| identity.to_public().to_string())
        .collect()
}

fn settings(ring: &Keyring, others_stay: bool) -> ShredSettings {
    ShredSettings {
        // Whoever does it has opened the store by then.
        repository: RepositorySpec {
            place: PlaceSpec::Volume {
                claim: String::new(),
                path: String::new(),
            },
            prefix: String::new(),
            authority: None,
            bytes_per_second: None,
            concurrency: None,
            encryption: None,
        },
        recipients: public(ring),
        others_stay,
    }
}

async fn does(kit: &Kit, ring: &Keyring, others_stay: bool) -> ShredReport {
    shred(&kit.store(), &settings(ring, others_stay))
        .await
        .unwrap()
}

/// A backup of a repository with these keys, whose copies are kept.
async fn backup(kit: &Kit, ring: &Keyring, escrow: &[String]) -> Manifest {
    let (repository, owned) = kit.owned(encrypted(ring.clone(), escrow)).await;
    let writer = repository.writer(owned);
    writer.keep_keys().await.unwrap();
    let engine = TestEngine::with(&[("f", b"a patient".to_vec())]);
    back_up(&writer, &engine, None).await.unwrap()
}

async fn copies(kit: &Kit) -> usize {
    kit.store().list("keys/").await.unwrap().len()
}

/// Whether `age` opens the first object of a backup with this identity, as a stranger would.
fn opens_by_hand(kit: &Kit, manifest: &Manifest, identity: &Path) -> bool {
    let object = std::fs::read(kit.files().join(&manifest.files[0].objects[0].key)).unwrap();
    let stored = kit.folder.path().join("object");
    std::fs::write(&stored, object).unwrap();
    let output = Command::new("age")
        .args(["--decrypt", "--identity"])
        .args([identity, &stored])
        .output()
        .unwrap();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("no identity matched"), "{said}");
    }
    output.status.success()
}

pub async fn without_escrow_nobody_opens_them(kit: Kit) {
    require(&[Need {
        program: "age",
        package: "age",
    }])
    .await
    .unwrap();
    let ring = Keyring::generate([3; 32]);
    let manifest = backup(&kit, &ring, &[]).await;
    let report = does(&kit, &ring, false).await;
    assert!(report.done, "{report:?}");
    assert_eq!(
        (report.removed, report.backups, report.others.len()),
        (0, 1, 0)
    );

    // The Secret is gone. What somebody makes up instead opens nothing, and is told so.
    let other = Keyring::generate([4; 32]);
    let text = kit.folder.path().join("other.key");
    std::fs::write(&text, other.to_text().expose_secret()).unwrap();
    assert!(kit.place == Where::Locks || !opens_by_hand(&kit, &manifest, &text));
    let repository = kit.repository(Protection::opening(other));
    let why = restore(&repository, &manifest.files[0]).await.unwrap_err();
    assert!(why.to_string().contains("no key at hand opens"), "{why}");
    let catalogue = Catalogue::read(&repository, None).await.unwrap();
    assert!(catalogue.backups.is_empty());
    assert!(
        catalogue.unread[0].why.contains("another instance's key"),
        "{catalogue:?}"
    );
}

pub async fn escrow_has_to_be_accepted_and_still_reads_what_is_its_own(kit: Kit) {
    require(&[Need {
        program: "age",
        package: "age",
    }])
    .await
    .unwrap();
    let holders = [(); 2].map(|()| age::x25519::Identity::generate());
    let names = holders.each_ref().map(|h| h.to_public().to_string());
    let ring = Keyring::generate([3; 32]);
    // The second was no recipient yet when the first backup was made.
    let old = backup(&kit, &ring, &names[..1]).await;
    let ring = ring.rotated();
    backup(&kit, &ring, &names).await;
    let others = Keyring::generate([5; 32]);
    assert!(!does(&kit, &others, true).await.done, "it is not theirs");
    assert_eq!(copies(&kit).await, 2);
    let refused = does(&kit, &ring, false).await;
    assert!(!refused.done && !refused.passes, "{refused:?}");
    for name in &names {
        assert!(
            refused.message.contains(name.as_str()),
            "{}",
            refused.message
        );
    }
    assert_eq!(copies(&kit).await, 2, "nothing was removed");
    let held = escrow::keys(&kit.store(), holders[1].to_string().expose_secret()).await;
    assert_eq!(public(&held.unwrap()), public(&ring));

    let report = does(&kit, &ring, true).await;
    assert!(report.done, "{report:?}");
    assert_eq!((report.removed, report.backups), (2, 2));
    let mut told = report.others.clone();
    told.sort();
    let mut expected = names.to_vec();
    expected.sort();
    assert_eq!(told, expected);
    let gone = escrow::keys(&kit.store(), holders[1].to_string().expose_secret()).await;
    assert!(matches!(gone, Err(EscrowError::None)), "{gone:?}");
    // Again: there is nothing left to do.
    let again = does(&kit, &ring, true).await;
    assert!(again.done && again.removed == 0, "{again:?}");

    if kit.place == Where::Locks {
        // A folder that the server keeps versions in is not for reading by hand.
        return;
    }
    let [first, second] = holders.each_ref().map(|holder| {
        let file = kit.folder.path().join(holder.to_public().to_string());
        std::fs::write(&file, holder.to_string().expose_secret()).unwrap();
        file
    });
    assert!(opens_by_hand(&kit, &old, &first), "it was encrypted to it");
    assert!(!opens_by_hand(&kit, &old, &second), "it needed the copy");
}

pub async fn older_versions_of_copies_go_too_and_what_is_locked_is_told(kit: Kit) {
    let holder = age::x25519::Identity::generate();
    let names = [holder.to_public().to_string()];
    let ring = Keyring::generate([3; 32]);
    backup(&kit, &ring, &names).await;
    let key = kit.store().list("keys/").await.unwrap()[0].key.clone();
    // Somebody has deleted it: a list does not show it, and its version is there.
    let path = format!("/{}/{}/{key}", crate::kit::LOCKS, kit.prefix);
    let answer = kit
        .server
        .store()
        .ask("DELETE", &path, &[], None)
        .await
        .unwrap();
    assert!(answer.status < 300, "{answer:?}");
    assert_eq!(copies(&kit).await, 0);
    let version = kit.store().versions(&key).await.unwrap();
    assert_eq!(version.len(), 2);
    let report = does(&kit, &ring, true).await;
    assert!(report.done && report.removed == 1, "{report:?}");
    assert!(kit.store().versions(&key).await.unwrap().is_empty());

    // And one that a lock keeps.
    backup(&kit, &ring, &names).await;
    let until = Timestamp::now() + SignedDuration::from_hours(1);
    lock(&kit, &key, until).await;
    let report = does(&kit, &ring, true).await;
    assert!(report.done, "{report:?}");
    assert_eq!((report.removed, report.kept.len()), (0, 1));
    let kept = &report.kept[0];
    assert_eq!(kept.key, key);
    assert_eq!(
        kept.until.map(Timestamp::as_second),
        Some(until.as_second())
    );
    let held = escrow::keys(&kit.store(), holder.to_string().expose_secret()).await;
    assert!(held.is_ok(), "it is there still: {held:?}");
}

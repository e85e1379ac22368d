//! A bucket that keeps versions, and locks them.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::crypto::Protection;
use mainstay_backup::layout;
use mainstay_backup::pieces::PieceKind;
use mainstay_backup::prune::prune;
use mainstay_backup::repository::{Content, PieceOutcome};
use mainstay_backup::retention::Plan;

use crate::kit::{Kit, LOCKS, TestEngine, back_up, restore};
use crate::log::label;

/// Locks a version of an object as its owner would, with another client.
pub async fn lock(kit: &Kit, key: &str, until: Timestamp) {
    let body = kit.folder.path().join("retention.xml");
    let text = format!(
        "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>GOVERNANCE</Mode>\
         <RetainUntilDate>{}</RetainUntilDate></Retention>",
        until.strftime("%Y-%m-%dT%H:%M:%SZ")
    );
    std::fs::write(&body, &text).unwrap();
    let script = "openssl dgst -md5 -binary \"$0\" | base64";
    let sum = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(&body)
        .output()
        .unwrap()
        .stdout;
    let sum = format!("Content-MD5: {}", String::from_utf8(sum).unwrap().trim());
    let path = format!("/{LOCKS}/{}/{key}?retention=", kit.prefix);
    let answer = kit
        .server
        .store()
        .ask("PUT", &path, &[&sum], Some(&body))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}

pub async fn versions_are_recorded_and_what_is_locked_waits(kit: Kit) {
    let (repository, owned) = kit.owned(Protection::Plain).await;
    let bucket = repository.store().bucket().await.unwrap().unwrap();
    assert!(bucket.versions && bucket.locks, "{bucket:?}");
    let writer = repository.writer(owned);
    let engine = TestEngine::with(&[("f", b"what was".to_vec())]);
    let manifest = back_up(&writer, &engine, None).await.unwrap();
    let object = &manifest.files[0].objects[0];
    assert!(object.version.is_some(), "{object:?}");

    // Whoever may write may put something over it: what the manifest names is read all the same.
    let other = kit.folder.path().join("other");
    std::fs::write(&other, "what somebody else wrote").unwrap();
    let path = format!("/{LOCKS}/{}/{}", kit.prefix, object.key);
    let answer = kit
        .server
        .store()
        .ask("PUT", &path, &[], Some(&other))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        repository
            .store()
            .versions(&object.key)
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        restore(&repository, &manifest.files[0]).await.unwrap(),
        b"what was"
    );

    let until = Timestamp::now()
        .checked_add(SignedDuration::from_hours(1))
        .unwrap();
    let key = layout::manifest(&manifest.id);
    lock(&kit, &key, until).await;
    let catalogue = Catalogue::read(&repository, None).await.unwrap();
    let plan = Plan {
        expire: vec![manifest.id.clone()],
        ..Plan::default()
    };
    let pruned = prune(&writer, &engine, &catalogue, &plan, &[])
        .await
        .unwrap();
    assert!(pruned.backups.is_empty());
    assert_eq!(pruned.waits.len(), 1, "{pruned:?}");
    assert_eq!(
        (
            &pruned.waits[0].key,
            pruned.waits[0].until.map(Timestamp::as_second)
        ),
        (&key, Some(until.as_second()))
    );
    // It is a backup still, whole.
    let catalogue = Catalogue::read(&repository, None).await.unwrap();
    assert_eq!(catalogue.backups, std::slice::from_ref(&manifest));
    assert_eq!(
        restore(&repository, &manifest.files[0]).await.unwrap(),
        b"what was"
    );
}

pub async fn an_overwritten_piece_is_found_in_its_older_version(kit: Kit) {
    let (repository, owned) = kit.owned(Protection::Plain).await;
    let writer = repository.writer(owned);
    let content = Content::Bytes(Bytes::from_static(b"the log"));
    let outcome = writer
        .put_piece(&label("1"), &label("1"), PieceKind::Whole, content)
        .await
        .unwrap();
    let PieceOutcome::Stored(key) = outcome else {
        panic!("{outcome:?}");
    };
    let path = format!("/{LOCKS}/{}/{}", kit.prefix, layout::piece(&key));
    let other = kit.folder.path().join("other");
    std::fs::write(&other, "not the log").unwrap();
    for method in ["PUT", "DELETE"] {
        let body = (method == "PUT").then_some(other.as_path());
        let answer = kit
            .server
            .store()
            .ask(method, &path, &[], body)
            .await
            .unwrap();
        assert!(answer.status < 300, "{answer:?}");
        assert!(
            repository
                .read_piece(&key, None, &mut tokio::io::sink())
                .await
                .is_err(),
            "after {method}"
        );
        let version = repository
            .good_version(&key)
            .await
            .unwrap()
            .expect("an older version");
        let mut back = Vec::new();
        repository
            .read_piece(&key, Some(&version), &mut back)
            .await
            .unwrap();
        assert_eq!(back, b"the log", "after {method}");
    }
}

pub async fn a_manifest_that_was_replaced_or_deleted_counts_in_its_older_version(kit: Kit) {
    let (repository, owned) = kit.owned(Protection::Plain).await;
    let writer = repository.writer(owned);
    let engine = TestEngine::with(&[("f", b"what was".to_vec())]);
    let manifest = back_up(&writer, &engine, None).await.unwrap();
    // Another backup's is whole, and not taken for this one's.
    let other = back_up(&writer, &engine, None).await.unwrap();
    let body = kit.folder.path().join("body");
    std::fs::write(&body, other.seal(None).unwrap()).unwrap();
    let key = layout::manifest(&manifest.id);
    let path = format!("/{LOCKS}/{}/{key}", kit.prefix);
    for method in ["PUT", "DELETE"] {
        let body = (method == "PUT").then_some(body.as_path());
        let store = kit.server.store();
        let answer = store.ask(method, &path, &[], body).await.unwrap();
        assert!(answer.status < 300, "{answer:?}");
        let catalogue = Catalogue::read(&repository, None).await.unwrap();
        assert_eq!(catalogue.backups.len(), 2, "after {method}: {catalogue:?}");
        assert!(catalogue.unfinished.is_empty() && catalogue.unread.is_empty());
        assert!(catalogue.backups.contains(&manifest), "after {method}");
    }
    // Retention takes all of its versions: it does not come back.
    let catalogue = Catalogue::read(&repository, None).await.unwrap();
    let plan = Plan {
        expire: vec![manifest.id.clone()],
        ..Plan::default()
    };
    let pruned = prune(&writer, &engine, &catalogue, &plan, &[]).await;
    assert_eq!(pruned.unwrap().backups, std::slice::from_ref(&manifest.id));
    let catalogue = Catalogue::read(&repository, None).await.unwrap();
    assert_eq!(catalogue.backups, [other]);
    assert!(catalogue.unfinished.is_empty(), "{catalogue:?}");
}

/// As another client does it.
async fn ask(kit: &Kit, method: &str, key: &str, body: Option<&str>) {
    let file = body.map(|text| {
        let file = kit.folder.path().join("asked");
        std::fs::write(&file, text).unwrap();
        file
    });
    let path = format!("/{LOCKS}/{}/{key}", kit.prefix);
    let store = kit.server.store();
    let answer = store
        .ask(method, &path, &[], file.as_deref())
        .await
        .unwrap();
    assert!(answer.status < 300, "{answer:?}");
}

pub async fn a_manifest_whose_newest_version_is_locked_stays_a_backup(kit: Kit) {
    let (repository, owned) = kit.owned(Protection::Plain).await;
    let writer = repository.writer(owned);
    let engine = TestEngine::with(&[("f", b"what was".to_vec())]);
    let manifest = back_up(&writer, &engine, None).await.unwrap();
    let key = layout::manifest(&manifest.id);
    ask(&kit, "PUT", &key, Some("what somebody else wrote")).await;
    let until = Timestamp::now().checked_add(SignedDuration::from_hours(1));
    lock(&kit, &key, until.unwrap()).await;
    let plan = Plan {
        expire: vec![manifest.id.clone()],
        ..Plan::default()
    };
    let catalogue = Catalogue::read(&repository, None).await.unwrap();
    let pruned = prune(&writer, &engine, &catalogue, &plan, &[]).await;
    let pruned = pruned.unwrap();
    assert!(pruned.backups.is_empty(), "{pruned:?}");
    assert_eq!(pruned.waits.len(), 1, "{pruned:?}");
    let catalogue = Catalogue::read(&repository, None).await.unwrap();
    assert_eq!(catalogue.backups, [manifest], "{catalogue:?}");
    assert!(catalogue.unread.is_empty(), "{catalogue:?}");
}

pub async fn a_manifest_below_a_mark_is_a_backup_while_its_objects_are_there(kit: Kit) {
    let (repository, owned) = kit.owned(Protection::Plain).await;
    let writer = repository.writer(owned);
    let engine = TestEngine::with(&[("f", b"what was".to_vec()), ("g", b"and more".to_vec())]);
    let manifest = back_up(&writer, &engine, None).await.unwrap();
    let object = &manifest.files[0].objects[0];
    // Marks on both: the version that the manifest names is read all the same.
    ask(&kit, "DELETE", &layout::manifest(&manifest.id), None).await;
    ask(&kit, "DELETE", &object.key, None).await;
    let catalogue = Catalogue::read(&repository, None).await.unwrap();
    assert_eq!(catalogue.backups, std::slice::from_ref(&manifest));
    let back = restore(&repository, &manifest.files[0]).await.unwrap();
    assert_eq!(back, b"what was");

    let version = object.version.as_deref();
    repository
        .store()
        .delete(&object.key, version)
        .await
        .unwrap();
    let catalogue = Catalogue::read(&repository, None).await.unwrap();
    assert!(catalogue.backups.is_empty(), "{catalogue:?}");
    assert_eq!(catalogue.unfinished.len(), 1, "{catalogue:?}");
    assert_eq!(catalogue.unfinished[0].id, manifest.id);
    // What is left of it is cleared away like that of any other.
    let leftovers = [manifest.id.clone()];
    prune(&writer, &engine, &catalogue, &Plan::default(), &leftovers)
        .await
        .unwrap();
    let catalogue = Catalogue::read(&repository, None).await.unwrap();
    assert!(catalogue.backups.is_empty() && catalogue.unfinished.is_empty());
}

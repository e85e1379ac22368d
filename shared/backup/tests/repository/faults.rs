//! Stores that refuse, break off, or are to be spared.

use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use age::secrecy::SecretString;
use bytes::Bytes;
use mainstay_backup::crypto::{Keyring, Protection};
use mainstay_backup::layout::{self, Coding};
use mainstay_backup::manifest::FileEntry;
use mainstay_backup::store::{Limits, Place, Reason, S3, Settings, Store};
use mainstay_backup::stream::{Getting, Putting};
use mainstay_e2e::object_store::Server;

use crate::kit::{self, Kit, PLAIN, backup_id, content, encrypted};

pub async fn refusals_say_what_to_do(kit: Kit) {
    let with = async |change: &dyn Fn(&mut S3)| {
        let mut settings = kit.settings();
        if let Place::S3(s3) = &mut settings.place {
            change(s3);
        }
        let store = Store::open(&settings).unwrap();
        store
            .create("x", Bytes::from_static(b"x"))
            .await
            .unwrap_err()
    };
    let error = with(&|s3| s3.secret_access_key = SecretString::from("wrong".to_owned())).await;
    assert_eq!(error.reason, Reason::WrongSecret, "{error}");
    let error = with(&|s3| s3.access_key_id = "nobody".into()).await;
    assert_eq!(error.reason, Reason::UnknownKey, "{error}");
    let error = with(&|s3| s3.bucket = "nowhere".into()).await;
    assert_eq!(error.reason, Reason::NoSuchBucket, "{error}");
    let error = with(&|s3| s3.region = "eu-north-9".into()).await;
    assert!(
        matches!(error.reason, Reason::WrongRegion { .. }),
        "{error}"
    );
    let error = with(&|s3| s3.endpoint = Some("https://127.0.0.1:1".into())).await;
    assert!(
        matches!(error.reason, Reason::Unreachable { .. }),
        "{error}"
    );
    let error = with(&|s3| s3.endpoint = Some("https://store.invalid".into())).await;
    assert!(
        matches!(error.reason, Reason::Unreachable { .. }),
        "{error}"
    );
    // A name that the certificate does not have, and an authority that nobody named.
    let port = kit
        .server
        .store()
        .endpoint
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();
    let error = with(&|s3| s3.endpoint = Some(format!("https://localhost:{port}"))).await;
    assert!(
        matches!(error.reason, Reason::Certificate { .. }),
        "{error}"
    );
    let mut settings = kit.settings();
    settings.authority = None;
    let error = Store::open(&settings)
        .unwrap()
        .create("x", Bytes::new())
        .await
        .unwrap_err();
    assert!(
        matches!(error.reason, Reason::Certificate { .. }),
        "{error}"
    );
    assert_eq!(kit.everything().await, [], "something was written");
}

/// A server of its own, with a bucket, and a store on it.
async fn own_server() -> (Server, Settings) {
    let server = Server::start().await.unwrap();
    server.store().make_bucket(PLAIN, false).await.unwrap();
    let settings = Settings {
        place: kit::s3(server.store(), PLAIN),
        prefix: "shop/db".into(),
        authority: Some(kit::authority(server.store())),
        // So that it takes a while.
        limits: Limits {
            bytes_per_second: NonZeroU64::new(12 << 20),
            concurrency: 3,
        },
    };
    (server, settings)
}

/// Kills the server when the first parts have passed, and starts it again a second later.
async fn interrupt(server: &mut Server, passed: impl Fn() -> u64) {
    while passed() < 12 << 20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.kill().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.resume().await.unwrap();
}

/// Bytes that do not compress, so that parts are what they seem.
fn noise(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

pub async fn a_server_that_goes_away_while_it_is_written_to(_: Kit) {
    let (mut server, settings) = own_server().await;
    let store = Store::open(&settings).unwrap();
    let protection = encrypted(Keyring::generate([3; 32]), &[]);
    let putting = Putting::new(&store, &protection);
    let progress = std::sync::Arc::clone(&putting.progress);
    let content = noise(60 << 20);
    let id = backup_id();
    let mut reading = content.as_slice();
    let mut next_key = || layout::data(&id, 1, Coding::ZstdAge);
    let put = putting.put(&mut reading, &mut next_key);
    let broken = interrupt(&mut server, || progress.stored.load(Ordering::Relaxed));
    let (stored, ()) = futures::future::join(put, broken).await;
    let stored = stored.unwrap();
    let file = FileEntry {
        name: "f".into(),
        size: stored.size,
        digest: stored.digest,
        objects: stored.objects,
    };
    let mut back = Vec::new();
    Getting {
        store: &store,
        protection: &protection,
    }
    .file(&file, &mut back)
    .await
    .unwrap();
    assert!(back == content, "it came back otherwise");
}

pub async fn a_server_that_goes_away_while_it_is_read(_: Kit) {
    let (mut server, mut settings) = own_server().await;
    let protection = Protection::Plain;
    let content = noise(60 << 20);
    let id = backup_id();
    settings.limits.bytes_per_second = None;
    let fast = Store::open(&settings).unwrap();
    let mut next_key = || layout::data(&id, 1, Coding::Zstd);
    let stored = Putting::new(&fast, &protection)
        .put(&mut content.as_slice(), &mut next_key)
        .await
        .unwrap();
    let file = FileEntry {
        name: "f".into(),
        size: stored.size,
        digest: stored.digest,
        objects: stored.objects,
    };
    settings.limits.bytes_per_second = NonZeroU64::new(12 << 20);
    let store = Store::open(&settings).unwrap();
    let (mut read, mut write) = tokio::io::duplex(1 << 20);
    let passed = std::sync::atomic::AtomicU64::new(0);
    let reading = async {
        use tokio::io::AsyncReadExt as _;
        let (mut back, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
        loop {
            match read.read(&mut chunk).await.unwrap() {
                0 => return back,
                count => {
                    back.extend_from_slice(&chunk[..count]);
                    passed.fetch_add(count as u64, Ordering::Relaxed);
                }
            }
        }
    };
    let getting = Getting {
        store: &store,
        protection: &protection,
    };
    let get = async {
        let outcome = getting.file(&file, &mut write).await;
        drop(write);
        outcome
    };
    let broken = interrupt(&mut server, || passed.load(Ordering::Relaxed));
    let (outcome, back, ()) = futures::join!(get, reading, broken);
    outcome.unwrap();
    assert!(back == content, "it came back otherwise");
}

pub async fn limits_hold(kit: Kit) {
    let mut settings = kit.settings();
    settings.limits.bytes_per_second = NonZeroU64::new(8 << 20);
    let store = Store::open(&settings).unwrap();
    let protection = Protection::Plain;
    let id = backup_id();
    let mut next_key = || layout::data(&id, 1, Coding::Zstd);
    let begun = Instant::now();
    // Three parts: the third waits for the first two to be paid for.
    let content = [noise(20 << 20), content(1, 1000)].concat();
    Putting::new(&store, &protection)
        .put(&mut content.as_slice(), &mut next_key)
        .await
        .unwrap();
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(2),
        "20 MiB at 8 MiB/s took {took:?}"
    );
}

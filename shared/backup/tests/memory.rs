//! How much memory a stream takes, whatever its size: of this process, on a real S3 server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests say what they expect by unwrapping it"
)]

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use mainstay_backup::crypto::{EncryptionSpec, Keyring, Protection};
use mainstay_backup::manifest::FileEntry;
use mainstay_backup::store::{Limits, Place, S3, Settings, Store};
use mainstay_backup::stream::{Getting, Putting};
use mainstay_e2e::object_store::{REGION, Server};
use tokio::io::{AsyncRead, ReadBuf};

/// What a stream may add to what the process had before.
const LIMIT: u64 = 64 << 20;

/// So many bytes that do not compress, without having them.
struct Noise {
    left: u64,
    state: u64,
}

impl AsyncRead for Noise {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let take = into
            .remaining()
            .min(usize::try_from(self.left).unwrap())
            .min(1 << 16);
        let mut bytes = Vec::with_capacity(take + 8);
        while bytes.len() < take {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            bytes.extend_from_slice(&self.state.to_le_bytes());
        }
        into.put_slice(&bytes[..take]);
        self.left -= take as u64;
        Poll::Ready(Ok(()))
    }
}

/// A line of this process's memory, in bytes.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let value = status
        .lines()
        .find_map(|l| l.strip_prefix(line)?.split_whitespace().nth(1))
        .unwrap();
    value.parse::<u64>().unwrap() << 10
}

/// Forgets the peak, so that the next one is of what comes now.
fn forget_peak() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    memory("VmRSS")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_takes_at_most_64_mib() {
    let server = Server::start().await.unwrap();
    server.store().make_bucket("plain", false).await.unwrap();
    let at = server.store();
    let store = Store::open(&Settings {
        place: Place::S3(S3 {
            endpoint: Some(at.endpoint.clone()),
            region: REGION.into(),
            bucket: "plain".into(),
            virtual_hosted: false,
            access_key_id: at.access_key_id.clone(),
            secret_access_key: at.secret_access_key.clone().into(),
            session_token: None,
        }),
        prefix: "shop/db".into(),
        authority: Some(std::fs::read_to_string(&at.authority).unwrap()),
        limits: Limits::default(),
    })
    .unwrap();
    let spec = EncryptionSpec {
        recipients: Vec::new(),
        i_accept_key_loss: true,
    };
    let protection = Protection::encrypted(Keyring::generate([1; 32]), &spec).unwrap();
    for mib in [64_u64, 256] {
        let before = forget_peak();
        let mut content = Noise {
            left: mib << 20,
            state: mib,
        };
        let mut object = 0;
        let mut next_key = || {
            object += 1;
            format!("backups/of-{mib}/data/{object:06}.zst.age")
        };
        let begun = Instant::now();
        let stored = Putting::new(&store, &protection)
            .put(&mut content, &mut next_key)
            .await
            .unwrap();
        let (took, written) = (begun.elapsed(), memory("VmHWM").saturating_sub(before));
        let file = FileEntry {
            name: "noise".into(),
            size: stored.size,
            digest: stored.digest,
            objects: stored.objects,
        };
        let before = forget_peak();
        let begun = Instant::now();
        Getting {
            store: &store,
            protection: &protection,
        }
        .file(&file, &mut tokio::io::sink())
        .await
        .unwrap();
        let read = memory("VmHWM").saturating_sub(before);
        println!(
            "{mib} MiB: {:.1} MiB of memory and {:.1} s to write, {:.1} MiB and {:.1} s to read",
            to_mib(written),
            took.as_secs_f64(),
            to_mib(read),
            begun.elapsed().as_secs_f64()
        );
        assert!(
            written < LIMIT,
            "writing {mib} MiB took {written} bytes of memory"
        );
        assert!(
            read < LIMIT,
            "reading {mib} MiB took {read} bytes of memory"
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn to_mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

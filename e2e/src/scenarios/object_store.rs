//! The local cluster's object store: reached by pods over verified TLS, it keeps what is locked.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::cluster::{gone, run_pod};
use crate::cluster::{Cluster as _, Faults as _, LocalCluster, Steps};
use crate::object_store::{Answer, ObjectStore};
use crate::process;

/// Written once, refused a second time, and not removed while it is locked.
pub(super) async fn cluster_object_store() -> Result<()> {
    let cluster = LocalCluster::new("try-store", 1)?;
    let outcome = async {
        cluster.up(&Steps::quiet()).await?;
        let unasked = cluster.layout().record("object-store");
        ensure!(
            !unasked.exists(),
            "an object store runs that nobody asked for"
        );
        use_it(&cluster).await
    }
    .await;
    cluster.down(&Steps::quiet()).await?;
    gone(&cluster)?;
    outcome
}

async fn use_it(cluster: &LocalCluster) -> Result<()> {
    let begun = Instant::now();
    let store = cluster.object_store().await?;
    println!(
        "   the object store answers after {:.1} s",
        begun.elapsed().as_secs_f32()
    );
    let again = Instant::now();
    cluster.object_store().await?;
    ensure!(
        again.elapsed() < Duration::from_secs(2),
        "asking again must start nothing"
    );
    run_pod(cluster).await?;
    let pod = Pod {
        cluster,
        store: &store,
        process: pod_process(cluster).await?,
        folder: tempfile::tempdir()?,
    };
    std::fs::write(pod.file(), CONTENT)?;
    let locks = "x-amz-bucket-object-lock-enabled: true";
    let made = pod.ask("PUT", "/bucket", &[locks], false).await?;
    expect(&made, 200, "making a bucket with locks")?;
    refuses_strangers(&pod).await?;
    keeps_what_is_locked(&pod).await
}

const CONTENT: &str = "what is kept\n";

/// A pod that asks the store.
struct Pod<'a> {
    cluster: &'a LocalCluster,
    store: &'a ObjectStore,
    process: i32,
    folder: tempfile::TempDir,
}

impl Pod<'_> {
    /// What it writes.
    fn file(&self) -> PathBuf {
        self.folder.path().join("content")
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        with_body: bool,
    ) -> Result<Answer> {
        let file = self.file();
        let body = with_body.then_some(file.as_path());
        self.curl(&self.store.request(method, path, headers, body))
            .await
    }

    /// Runs curl where the pod's processes run, as far as the network goes.
    async fn curl(&self, args: &[String]) -> Result<Answer> {
        let net = format!("--net=/proc/{}/ns/net", self.process);
        let mut all = vec![net.as_str(), "curl"];
        all.extend(args.iter().map(String::as_str));
        let mut command = self.cluster.command(Some("node1"), "nsenter", &all)?;
        Ok(ObjectStore::answer(&process::run(&mut command).await?))
    }
}

async fn refuses_strangers(pod: &Pod<'_>) -> Result<()> {
    let kept = format!("{}/bucket/kept", pod.store.endpoint);
    let untrusted = pod.curl(&["--silent".to_owned(), kept.clone()]).await;
    ensure!(
        untrusted.is_err(),
        "a client that does not know the authority must not trust the store"
    );
    let mut args = ["--silent", "--include", "--cacert"]
        .map(str::to_owned)
        .to_vec();
    args.extend([pod.store.authority.display().to_string(), kept]);
    let answer = pod.curl(&args).await?;
    expect(&answer, 403, "a stranger without credentials")
}

async fn keeps_what_is_locked(pod: &Pod<'_>) -> Result<()> {
    let once = "If-None-Match: *";
    let until = time_of_s3(Duration::from_hours(24));
    let until = format!("x-amz-object-lock-retain-until-date: {until}");
    // Without a checksum no locked object is taken.
    let checksum = checksum(&pod.file()).await?;
    let locked = [
        once,
        "x-amz-object-lock-mode: COMPLIANCE",
        &until,
        &checksum,
    ];
    let written = pod.ask("PUT", "/bucket/kept", &locked, true).await?;
    expect(&written, 200, "writing a locked object")?;
    let version = written.header("x-amz-version-id");
    let version = version.context("no version is told")?.to_owned();
    let read = pod.ask("GET", "/bucket/kept", &[], false).await?;
    expect(&read, 200, "reading it")?;
    ensure!(read.body == CONTENT, "what was read is {:?}", read.body);
    let again = pod.ask("PUT", "/bucket/kept", &[once], true).await?;
    expect(&again, 412, "writing it a second time")?;

    let path = format!("/bucket/kept?versionId={version}");
    let removed = pod.ask("DELETE", &path, &[], false).await?;
    expect(&removed, 403, "removing a locked version")?;
    // Without a version a mark is put over it: the object is not seen, and not gone.
    let marked = pod.ask("DELETE", "/bucket/kept", &[], false).await?;
    expect(&marked, 204, "marking it as deleted")?;
    let unseen = pod.ask("GET", "/bucket/kept", &[], false).await?;
    expect(&unseen, 404, "reading what is marked")?;
    let still = pod.ask("GET", &path, &[], false).await?;
    ensure!(still.body == CONTENT, "what is locked is {:?}", still.body);
    Ok(())
}

fn expect(answer: &Answer, status: u16, what: &str) -> Result<()> {
    ensure!(
        answer.status == status,
        "{what}: {} and not {status}: {}",
        answer.status,
        answer.body
    );
    Ok(())
}

/// The header with a file's checksum.
async fn checksum(file: &Path) -> Result<String> {
    let script = "openssl dgst -sha256 -binary \"$0\" | base64";
    let text = process::run(process::command("sh").arg("-c").arg(script).arg(file)).await?;
    Ok(format!("x-amz-checksum-sha256: {}", text.trim()))
}

/// So long from now, as S3 takes times.
fn time_of_s3(from_now: Duration) -> String {
    let now = k8s_openapi::jiff::Timestamp::now();
    now.checked_add(from_now)
        .unwrap_or(now)
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// A process of the only pod.
async fn pod_process(cluster: &LocalCluster) -> Result<i32> {
    let mut list = process::command("ctr");
    list.arg("--address")
        .arg(cluster.layout().containerd("node1"))
        .args(["--namespace", "k8s.io", "tasks", "ls"]);
    let tasks = process::run(&mut list).await?;
    let running = tasks.lines().find(|line| line.contains("RUNNING"));
    let pid = running.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    pid.with_context(|| format!("no pod runs:\n{tasks}"))
}

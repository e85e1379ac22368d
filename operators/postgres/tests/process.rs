//! The operator as a process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests say what they expect by unwrapping it"
)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use mainstay_testkit::api::FakeApi;
use serde_json::json;
use tokio::net::TcpListener;

const NAMESPACE: &str = "mainstay-system";
const LEASE: &str = "mainstay-postgres";
/// Less than the Lease lasts, so that one which runs out is not taken for one let go.
const PATIENCE: Duration = Duration::from_secs(10);

struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Operator {
    fn start(folder: &std::path::Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay-postgres"));
        command
            .arg("operator")
            .arg("--catalogue")
            .arg(folder.join("catalogue.json"))
            .args(["--health", "127.0.0.1:0"])
            .env("KUBECONFIG", folder.join("kubeconfig"))
            .env("POD_NAMESPACE", NAMESPACE)
            .env("POD_NAME", "operator-0")
            .env("MAINSTAY_IMAGE", "mainstay/postgres-operator:0.1.0")
            .stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn ask_to_stop(&self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
}

fn holder(api: &FakeApi) -> Option<String> {
    let lease: Lease = api.get(Some(NAMESPACE), LEASE)?;
    lease.spec?.holder_identity.filter(|h| !h.is_empty())
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "waiting for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_operator_that_is_asked_to_stop_lets_its_lease_go() {
    let api = FakeApi::new();
    let lease = json!({"metadata": {"name": LEASE, "namespace": NAMESPACE}});
    api.put::<Lease>(&serde_json::from_value(lease).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(api.clone().serve(listener));
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
    let catalogue = json!({"postgres": {"17": "postgres:17.12"}});
    std::fs::write(folder.path().join("catalogue.json"), catalogue.to_string()).unwrap();

    let mut first = Operator::start(folder.path());
    until("the empty Lease to be taken", || holder(&api).is_some()).await;
    let before = holder(&api);
    // Before the answer reaches it, it does not know that it holds the Lease, which then runs out by itself.
    until("the operator to work", || {
        let seen = api.requests();
        seen.iter().any(|r| r.resource.contains("postgreses"))
    })
    .await;
    first.ask_to_stop();
    until("the process to end", || {
        first.0.try_wait().unwrap().is_some()
    })
    .await;
    assert!(first.0.wait().unwrap().success());
    assert_eq!(holder(&api), None, "the Lease was not let go");

    let _second = Operator::start(folder.path());
    until("a new process to lead", || {
        let now = holder(&api);
        now.is_some() && now != before
    })
    .await;
}

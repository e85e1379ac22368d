//! The fake API server with a fake cluster behind it, as a program: what the figures with many sets
//! are measured against. It writes its address as a line, and ends when its standard input does.

#![allow(clippy::expect_used)] // for tests only, as the library is

use std::io::Write as _;
use std::time::{Duration, Instant};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use mainstay_testkit::api::FakeApi;
use mainstay_testkit::cluster::FakeCluster;
use serde_json::json;
use tokio::net::TcpListener;

/// Shortest pause between two turns of the cluster.
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let api = FakeApi::new();
    let servers: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"]}],
        "ports": [{"port": 6443}],
    }))
    .expect("an EndpointSlice");
    api.put(&servers);
    let cluster = api.clone();
    // Apart, so that the API server answers during a long turn.
    std::thread::spawn(move || turns(&cluster));
    std::thread::spawn(|| {
        // Whoever started this is gone, or wants it gone.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port on loopback");
    let address = listener.local_addr().expect("the port's number");
    writeln!(std::io::stdout(), "http://{address}").expect("somebody who reads the address");
    api.serve(listener).await;
}

/// The cluster and its agents. Built as for an image, a panic here ends the program.
fn turns(api: &FakeApi) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut cluster = FakeCluster::new(api, &["a", "b", "c"]);
        cluster.serve_sql();
        loop {
            let begin = Instant::now();
            cluster.turn().await;
            api.forget_requests();
            // At least half of the time is the agents' and engines'.
            tokio::time::sleep(begin.elapsed().max(PAUSE)).await;
        }
    });
}

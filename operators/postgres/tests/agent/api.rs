//! A real API server, in a network namespace of the test's own. Of any engine; used by the tests of each.

use std::fs;
use std::process::Command;

use mainstay_e2e::apiserver::ApiServer;
use mainstay_e2e::tools;
use nix::sched::{CloneFlags, unshare};

/// The API server. What else has to be fetched is there by now: from here on this thread, and what it starts, has a network of its own: tests
/// need pods' addresses, since the API server takes no loopback ones in an `EndpointSlice`.
pub async fn start() -> ApiServer {
    // What has to be fetched is fetched while there is a network.
    tools::kube().await.unwrap();
    unshare(CloneFlags::CLONE_NEWNET).expect("root, to make a network namespace");
    for arguments in ["link set lo up", "addr add 10.99.0.0/16 dev lo"] {
        let ip = Command::new("ip")
            .args(arguments.split(' '))
            .status()
            .unwrap();
        assert!(ip.success(), "ip {arguments}");
    }
    ApiServer::start().await.unwrap()
}

/// An administrator's kubeconfig that names no file, since agents run as another user.
pub fn kubeconfig(server: &ApiServer) -> serde_json::Value {
    let text = fs::read_to_string(server.kubeconfig()).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut embed = |object: &str, key: &str| {
        let object = config.pointer_mut(object).unwrap().as_object_mut().unwrap();
        let file = object.remove(key).unwrap();
        let content = fs::read(file.as_str().unwrap()).unwrap();
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, content);
        object.insert(format!("{key}-data"), encoded.into());
    };
    embed("/clusters/0/cluster", "certificate-authority");
    embed("/users/0/user", "client-certificate");
    embed("/users/0/user", "client-key");
    config
}

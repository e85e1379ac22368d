//! A real API server, in a network namespace of the tests' own. Of any engine; used by the tests of each.

use std::fs;
use std::fs::File;
use std::future::pending;
use std::process::Command;
use std::sync::{Arc, OnceLock, mpsc};

use mainstay_e2e::apiserver::ApiServer;
use mainstay_e2e::tools;
use nix::sched::{CloneFlags, setns, unshare};

/// An API server, and the network that it is in.
struct Place {
    api: Arc<ApiServer>,
    network: File,
}

/// The API server that tests share: starting one takes as much of a processor as many a test. From here on this thread, and
/// what it starts, is in the network of that one, so what else has to be fetched is there by now: tests need pods' addresses, since the API server takes no loopback ones
/// in an `EndpointSlice`.
pub fn shared() -> Arc<ApiServer> {
    static PLACE: OnceLock<Place> = OnceLock::new();
    let place = PLACE.get_or_init(|| {
        let (tell, told) = mpsc::channel();
        // It belongs to no test's runtime. Its processes end with this one.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let api = Arc::new(alone().await);
                let network = File::open("/proc/thread-self/ns/net").unwrap();
                tell.send(Place { api, network }).unwrap();
                pending::<()>().await;
            });
        });
        told.recv().expect("an API server")
    });
    setns(&place.network, CloneFlags::CLONE_NEWNET).unwrap();
    Arc::clone(&place.api)
}

/// An API server that no other test has, with a network of its own.
pub async fn alone() -> ApiServer {
    // What has to be fetched is fetched while there is a network.
    tools::kube().await.unwrap();
    tools::versitygw().await.unwrap();
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

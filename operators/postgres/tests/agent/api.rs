//! A real API server with its etcd, in a network namespace of the test's own.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The all-in-one program with `etcd` and `kube-apiserver`, which `cargo xtask test` builds.
pub const PROGRAM: &str = "MAINSTAY_TEST_KUBE";

/// It ends with this value.
pub struct ApiServer {
    folder: tempfile::TempDir,
    processes: Vec<Child>,
}

/// From here on this thread, and what it starts, has a network of its own: a test needs pods'
/// addresses, and the API server takes no loopback ones in an EndpointSlice.
pub fn own_network() {
    unshare(CloneFlags::CLONE_NEWNET).expect("root, to make a network namespace");
    for arguments in ["link set lo up", "addr add 10.99.0.0/16 dev lo"] {
        let ip = Command::new("ip")
            .args(arguments.split(' '))
            .status()
            .unwrap();
        assert!(ip.success(), "ip {arguments}");
    }
}

impl ApiServer {
    pub async fn start() -> Self {
        let program = std::env::var(PROGRAM).unwrap_or_else(|_| panic!("{PROGRAM} is not set"));
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let key = Command::new("openssl")
            .args(["genrsa", "-out", &path("sa.key"), "2048"])
            .stderr(Stdio::null())
            .status();
        assert!(key.unwrap().success());
        fs::write(path("tokens"), "token,admin,u1,\"system:masters\"\n").unwrap();
        let etcd = format!(
            "etcd --data-dir {} --unsafe-no-fsync --listen-client-urls http://127.0.0.1:2379 \
             --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 \
             --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster default=http://127.0.0.1:2380",
            path("etcd")
        );
        let server = format!(
            "kube-apiserver --etcd-servers http://127.0.0.1:2379 --secure-port 6443 --bind-address 127.0.0.1 --advertise-address 10.99.255.1 --advertise-address 10.99.255.1 \
             --cert-dir {} --service-account-key-file {key} --service-account-signing-key-file {key} \
             --service-account-issuer https://kubernetes.default.svc --token-auth-file {} \
             --authorization-mode RBAC --service-cluster-ip-range 10.96.0.0/16 \
             --disable-admission-plugins ServiceAccount",
            path("certs"),
            path("tokens"),
            key = path("sa.key"),
        );
        let processes = [etcd, server].map(|line| {
            let log = fs::File::create(path(line.split(' ').next().unwrap()) + ".log").unwrap();
            Command::new(&program)
                .args(line.split_whitespace())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .process_group(0)
                .spawn()
                .unwrap()
        });
        let this = Self {
            folder,
            processes: processes.into(),
        };
        this.ready().await;
        this
    }

    /// Folder of logs.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    async fn ready(&self) {
        let begun = Instant::now();
        loop {
            if let Ok(certificate) = fs::read(self.folder.path().join("certs/apiserver.crt")) {
                let data = base64::engine::general_purpose::STANDARD.encode(certificate);
                let text = format!(
                    "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
                     clusters: [{{name: c, cluster: {{server: \"https://127.0.0.1:6443\", certificate-authority-data: {data}}}}}]\n\
                     users: [{{name: u, user: {{token: token}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
                );
                fs::write(self.kubeconfig(), text).unwrap();
                let ready = http::Request::get("/readyz").body(Vec::new()).unwrap();
                if self
                    .client()
                    .await
                    .request_text(ready)
                    .await
                    .is_ok_and(|t| t == "ok")
                {
                    return;
                }
            }
            assert!(
                begun.elapsed() < Duration::from_mins(1),
                "{}",
                fs::read_to_string(self.folder.path().join("kube-apiserver.log")).unwrap()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn client(&self) -> kube::Client {
        let text = fs::read_to_string(self.kubeconfig()).unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let read = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        let config = kube::Config::from_custom_kubeconfig(read, &options)
            .await
            .unwrap();
        kube::Client::try_from(config).unwrap()
    }

    /// It answers nobody until it is continued.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        };
        for process in &self.processes {
            kill(Pid::from_raw(process.id().cast_signed()), signal).unwrap();
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

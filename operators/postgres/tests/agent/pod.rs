//! Data pods without a container: `init` and its children as processes in a folder, against a real
//! API server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use mainstay_crds::common::{Durability, Enforcement};
use mainstay_e2e::apiserver::ApiServer;
use mainstay_e2e::tools;
use mainstay_postgres::settings::{PostgresConfig, PostgresSettings};
use mainstay_shared::agent::api::Status;
use mainstay_shared::agent::client::AgentClient;
use mainstay_shared::agent::config::Role;
use mainstay_shared::agent::election::record::Record;
use mainstay_shared::agent::paths;
use mainstay_shared::names;
use mainstay_shared::pki::{LeafSpec, Pair, Usage, client_config, issue_authority, issue_leaf};
use nix::unistd::{Gid, Uid, User};

use crate::api;
pub use crate::processes::{LONG, Pod, anonymous_kib};
use crate::processes::{identifier, replace};

/// What runs in the pods.
pub static PROGRAM: LazyLock<String> = LazyLock::new(|| {
    let built = Path::new(env!("CARGO_BIN_EXE_mainstay-postgres"));
    let open = tools::for_all(built).unwrap();
    open.to_str().unwrap().to_owned()
});

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A set: its authority, its objects in the API server, its configuration.
pub struct Set {
    pub client: Client,
    pub api: Arc<ApiServer>,
    pub namespace: String,
    /// Of all sets of this process.
    number: u32,
    pub config: PostgresConfig,
    /// Zones of the nodes, which are called after the pods; none: no zones are told.
    pub zones: mainstay_shared::agent::config::Zones,
    authority: Pair,
    operator: Pair,
    probe: Pair,
    password: String,
    folder: tempfile::TempDir,
}

/// The newest PostgreSQL that this machine has.
fn major() -> u32 {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL as Debian packages it");
    let numbers = versions.filter_map(|v| v.unwrap().file_name().to_str()?.parse().ok());
    numbers.max().expect("a version of PostgreSQL")
}

/// User and group that PostgreSQL runs as: it refuses root.
fn owner() -> Option<(Uid, Gid)> {
    let user = User::from_name("postgres")
        .unwrap()
        .expect("a user called postgres");
    Uid::current().is_root().then_some((user.uid, user.gid))
}

impl Set {
    /// A new set, on the API server that all share.
    pub async fn new(instances: u32, durability: Durability) -> Self {
        tools::postgres().await.unwrap();
        Self::on(api::shared(), instances, durability).await
    }

    /// A new set that has its API server for itself, to do with it what it likes.
    pub async fn with_own_server(instances: u32, durability: Durability) -> Self {
        tools::postgres().await.unwrap();
        Self::on(Arc::new(api::alone().await), instances, durability).await
    }

    async fn on(api: Arc<ApiServer>, instances: u32, durability: Durability) -> Self {
        let client = api.client().await.unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("shop-{number}");
        let meta = |name: &str| ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        };
        let post = PostParams::default();
        let space = Namespace {
            metadata: meta(&namespace),
            ..Namespace::default()
        };
        Api::all(client.clone())
            .create(&post, &space)
            .await
            .unwrap();

        let record = Record {
            seat: "db-1".into(),
            ..Record::default()
        };
        let mut lease = Lease {
            metadata: meta("db"),
            spec: None,
        };
        lease.metadata.annotations = Some(record.to_annotations());
        Api::namespaced(client.clone(), &namespace)
            .create(&post, &lease)
            .await
            .unwrap();
        let slice = EndpointSlice {
            metadata: meta("db-rw"),
            address_type: "IPv4".into(),
            ..EndpointSlice::default()
        };
        Api::namespaced(client.clone(), &namespace)
            .create(&post, &slice)
            .await
            .unwrap();

        let now = Timestamp::now();
        let authority = issue_authority(&namespace, "db", now).unwrap();
        let leaf = |name: &str| {
            let spec = LeafSpec {
                common_name: name.into(),
                dns_names: vec![],
                addresses: vec![],
                usage: Usage::Client,
                hours: 1,
            };
            issue_leaf(&authority, &spec, now).unwrap()
        };
        let (operator, probe) = (
            leaf(names::OPERATOR_COMMON_NAME),
            leaf(names::PROBE_COMMON_NAME),
        );
        // In memory, as the run folder of a pod is.
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            client,
            api,
            config: PostgresConfig {
                set: "db".into(),
                namespace: namespace.clone(),
                members: (1..=instances).map(|n| names::instance("db", n)).collect(),
                durability,
                enforcement: Enforcement::Required,
                across_zones: true,
                max_lag: None,
                rejoin: mainstay_crds::common::Rejoin::Rewind,
                engine: PostgresSettings {
                    major: major(),
                    parameters: [("shared_buffers", "32MB"), ("max_connections", "40")]
                        .map(|(k, v)| (k.to_owned(), v.to_owned()))
                        .into(),
                    database: "app".into(),
                    owner: "app".into(),
                    max_slot_wal_keep_mib: 256,
                    host_rules: vec![],
                    pooler: None,
                    archive: None,
                },
            },
            namespace,
            number,
            authority,
            operator,
            probe,
            zones: mainstay_shared::agent::config::Zones::new(),
            password: "first-password".into(),
            folder,
        }
    }

    pub fn set_password(&mut self, password: &str) {
        self.password = password.into();
    }

    fn role(&self) -> Role {
        Role {
            name: "app".into(),
            verifier: postgres_protocol::password::scram_sha_256(self.password.as_bytes()),
            attributes: [("database".to_owned(), "app".to_owned())].into(),
        }
    }

    pub async fn lease(&self) -> Lease {
        Api::namespaced(self.client.clone(), &self.namespace)
            .get("db")
            .await
            .unwrap()
    }

    pub async fn record(&self) -> Record {
        Record::from_annotations(&self.lease().await.metadata.annotations.unwrap()).unwrap()
    }

    /// Which data is the set's, once that is recorded.
    pub async fn identifier(&self) -> String {
        identifier(async || self.record().await).await
    }

    pub async fn slice(&self) -> EndpointSlice {
        Api::namespaced(self.client.clone(), &self.namespace)
            .get("db-rw")
            .await
            .unwrap()
    }

    /// An address for an instance, or for one that comes after it.
    pub fn address(&self, ordinal: u32) -> String {
        format!("10.99.{}.{ordinal}", self.number)
    }

    /// Make the folders of an instance, and mount what the operator would.
    pub fn pod(&self, ordinal: u32) -> Pod {
        let name = names::instance("db", ordinal);
        let root = self.folder.path().join(&name);
        let pod = Pod {
            name: name.clone(),
            address: self.address(ordinal),
            root,
            init: None,
            owner: owner(),
            engine: "config_file=",
        };
        for folder in [
            "/var/lib/postgresql/data",
            "/var/run/postgresql",
            paths::BIN,
            paths::RUN,
            paths::CONFIG,
            paths::TLS,
            paths::ACCESS,
        ] {
            fs::create_dir_all(pod.path(folder)).unwrap();
        }
        self.mount(&pod);
        let spec = LeafSpec {
            common_name: name.clone(),
            dns_names: vec![
                names::instance_host(&name, "db", &self.namespace),
                "localhost".into(),
            ],
            addresses: vec![],
            usage: Usage::ServerAndClient,
            hours: 24,
        };
        self.mount_certificate(&pod, &spec);
        pod
    }

    pub fn renew(&self, pod: &Pod) {
        let spec = LeafSpec {
            common_name: pod.name.clone(),
            dns_names: vec![
                names::instance_host(&pod.name, "db", &self.namespace),
                "localhost".into(),
            ],
            addresses: vec![],
            usage: Usage::ServerAndClient,
            hours: 24,
        };
        self.mount_certificate(pod, &spec);
    }

    fn mount_certificate(&self, pod: &Pod, spec: &LeafSpec) {
        let pair = issue_leaf(&self.authority, spec, Timestamp::now()).unwrap();
        let tls = pod.path(paths::TLS);
        replace(&tls.join("tls.crt"), &pair.certificate);
        replace(&tls.join("tls.key"), pair.key.expose());
        replace(&tls.join("ca.crt"), &pair.ca);
        pod.give();
    }

    /// Mount configuration and roles as they are now; returns the configuration's hash.
    pub fn mount(&self, pod: &Pod) -> String {
        let (text, hash) = self.config.render().unwrap();
        replace(&pod.path(paths::CONFIG).join(paths::CONFIG_FILE), &text);
        if !self.zones.is_empty() {
            let zones = serde_json::to_string(&self.zones).unwrap();
            replace(&pod.path(paths::CONFIG).join(paths::ZONES_FILE), &zones);
        }
        let role = serde_json::to_string(&self.role()).unwrap();
        replace(&pod.path(paths::ACCESS).join("app"), &role);
        pod.give();
        hash
    }

    /// Start the pod's processes. Without the API server its address leads nowhere.
    pub fn start(&self, pod: &mut Pod, uid: &str, with_api: bool) {
        let mut config = api::kubeconfig(&self.api);
        if !with_api {
            *config.pointer_mut("/clusters/0/cluster/server").unwrap() =
                "https://127.0.0.1:1".into();
        }
        pod.spawn(&PROGRAM, "/usr/bin:/bin", &config, uid);
    }

    /// Three pods, started.
    pub fn three(&self) -> (Pod, Pod, Pod) {
        let start = |ordinal| {
            let mut pod = self.pod(ordinal);
            self.start(&mut pod, &format!("uid-{ordinal}"), true);
            pod
        };
        (start(1), start(2), start(3))
    }

    /// The operator's client of a pod's agent.
    pub fn agent(&self, pod: &Pod) -> AgentClient {
        let tls = client_config(&self.authority.ca, Some(&self.operator)).unwrap();
        self.agent_with(pod, tls)
    }

    /// A client without any certificate.
    pub fn stranger(&self, pod: &Pod) -> AgentClient {
        self.agent_with(pod, client_config(&self.authority.ca, None).unwrap())
    }

    fn agent_with(&self, pod: &Pod, tls: rustls::ClientConfig) -> AgentClient {
        let host = names::instance_host(&pod.name, "db", &self.namespace);
        let address = format!("{}:{}", pod.address, names::AGENT_PORT)
            .parse()
            .unwrap();
        AgentClient::new(address, &host, Arc::new(tls)).unwrap()
    }

    /// At the end of a test: an orderly stop, and nothing in the log that must not be there.
    pub fn finish(self, mut pod: Pod) {
        assert!(pod.terminate(), "{}", pod.log());
        let log = pod.log();
        assert!(!log.contains("SCRAM-SHA-256$"), "a verifier is in the log");
        assert!(!log.contains(&self.password), "a password is in the log");
    }

    /// Poll the agent's status until it is as wanted.
    pub async fn until(&self, pod: &Pod, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        pod.until(self.agent(pod), what, wanted).await
    }

    /// A client's connection as the application, over verified TLS.
    pub async fn connect(
        &self,
        pod: &Pod,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let tls = client_config(&self.authority.ca, None).unwrap();
        self.connect_as(pod, "app", Some(&self.password), tls).await
    }

    /// The operator's probe.
    pub async fn probe(&self, pod: &Pod) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let tls = client_config(&self.authority.ca, Some(&self.probe)).unwrap();
        self.connect_as(pod, "mainstay_probe", None, tls).await
    }

    /// Somebody else's certificate, asking for a role of ours.
    pub async fn impostor(
        &self,
        pod: &Pod,
        role: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let tls = client_config(&self.authority.ca, Some(&self.operator)).unwrap();
        self.connect_as(pod, role, Some("guess"), tls).await
    }

    async fn connect_as(
        &self,
        pod: &Pod,
        user: &str,
        password: Option<&str>,
        tls: rustls::ClientConfig,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config
            .host(names::instance_host(&pod.name, "db", &self.namespace))
            .hostaddr(pod.address.parse().unwrap())
            .user(user)
            .dbname("app")
            .ssl_mode(tokio_postgres::config::SslMode::Require)
            .connect_timeout(Duration::from_secs(5));
        if let Some(password) = password {
            config.password(password);
        }
        let tls = tokio_postgres_rustls::MakeRustlsConnect::new(tls);
        let (client, connection) = config.connect(tls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

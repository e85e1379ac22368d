//! A set of Redis outside a cluster: its authority, its objects in a real API server, its pods.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use mainstay_crds::common::{Durability, Enforcement, InstanceRole, Rejoin};
use mainstay_e2e::apiserver::ApiServer;
use mainstay_e2e::tools::{self, Server};
use mainstay_redis::agent::render::check;
use mainstay_redis::desired::credentials::{
    APPLICATION_RULES, REPLICATION_RULES, REPLICATION_RULES_OF_CLUSTERS,
};
use mainstay_redis::desired::sentinel;
use mainstay_redis::resp::{Connection, RespError, Value, Words, words};
use mainstay_redis::settings::{
    BACKUP_PASSWORD, BACKUP_ROLE, BACKUP_RULES, BACKUP_RULES_OF_CLUSTERS, CLUSTER_ROLE,
    CLUSTER_RULES, DATA, Flavour, INTERNAL, PORT, PROBE_ROLE, REPLICATION_PASSWORD,
    REPLICATION_ROLE, RULES, RedisConfig, RedisSettings,
};
use mainstay_shared::agent::api::Status;
use mainstay_shared::agent::client::AgentClient;
use mainstay_shared::agent::config::Role;
use mainstay_shared::agent::election::lease::CHARTER;
use mainstay_shared::agent::election::record::Record;
use mainstay_shared::agent::paths;
use mainstay_shared::election::charter::Charter;
use mainstay_shared::names;
use mainstay_shared::pki::{LeafSpec, Pair, Usage, client_config, issue_authority, issue_leaf};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid};
use rustls::pki_types::ServerName;
use tokio::sync::oneshot;
use tokio::time::timeout;

pub use crate::processes::{LONG, Pod};
use crate::processes::{identifier, replace};
use crate::{api, wait_for};

/// What runs in the pods, unless the environment names another build of it.
pub static PROGRAM: LazyLock<String> = LazyLock::new(|| {
    let named = std::env::var("MAINSTAY_TEST_PROGRAM");
    let named = named.unwrap_or_else(|_| env!("CARGO_BIN_EXE_mainstay-redis").to_owned());
    let open = tools::for_all(Path::new(&named)).unwrap();
    open.to_str().unwrap().to_owned()
});
/// Longest wait for one answer of Redis.
const ANSWER: Duration = Duration::from_secs(5);

/// The next set's number.
static NEXT: AtomicU8 = AtomicU8::new(1);

/// The network in which a test begins. With its first set it is in one that leads nowhere.
static OUTSIDE: LazyLock<File> = LazyLock::new(|| File::open("/proc/thread-self/ns/net").unwrap());

/// Where programs are that pods may run, as any user. They are fetched from outside where the machine has them not.
pub async fn programs(server: Server) -> tempfile::TempDir {
    let outside = LazyLock::force(&OUTSIDE);
    let (tell, done) = oneshot::channel();
    std::thread::spawn(move || {
        setns(outside, CloneFlags::CLONE_NEWNET).unwrap();
        let programs = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::set_permissions(programs.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let fetched = tools::server(programs.path(), server);
        runtime.block_on(fetched).unwrap();
        let _ = tell.send(programs);
    });
    done.await.expect("the thread has said why")
}

/// A set: its authority, its objects in the API server, its configuration.
pub struct Set {
    pub client: Client,
    pub api: Arc<ApiServer>,
    pub name: String,
    pub namespace: String,
    /// Its part of the network.
    number: u8,
    server: Server,
    pub config: RedisConfig,
    pub password: String,
    /// Users of applications besides.
    pub logins: Vec<Role>,
    /// Passwords that are valid besides.
    pub old_password: Option<String>,
    /// What the application may do.
    pub rules: &'static str,
    authority: Pair,
    operator: Pair,
    replication: String,
    backup: String,
    folder: tempfile::TempDir,
    programs: Arc<tempfile::TempDir>,
}

impl Set {
    /// A new set, on the API server that all share.
    pub async fn new(instances: u32) -> Self {
        Self::of(Server::Redis7, instances).await
    }

    /// The same, of another server.
    pub async fn of(server: Server, instances: u32) -> Self {
        let programs = programs(server).await;
        Self::on(api::shared(), (server, programs), instances).await
    }

    /// A new set with an API server and a network for itself, to do with them what it likes.
    pub async fn with_own_server(instances: u32) -> Self {
        let programs = programs(Server::Redis7).await;
        let api = Arc::new(api::alone().await);
        Self::on(api, (Server::Redis7, programs), instances).await
    }

    async fn on(
        api: Arc<ApiServer>,
        (server, programs): (Server, tempfile::TempDir),
        instances: u32,
    ) -> Self {
        let programs = Arc::new(programs);
        let client = api.client().await.unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let space = Namespace {
            metadata: ObjectMeta {
                name: Some(format!("shop-{number}")),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let spaces: Api<Namespace> = Api::all(client.clone());
        spaces.create(&PostParams::default(), &space).await.unwrap();
        Self::made(client, api, (server, programs), number, "db", instances).await
    }

    /// Another set beside this one, in its namespace and with addresses in its part of the network.
    pub async fn beside(&self, name: &str, instances: u32) -> Self {
        let (api, programs) = (Arc::clone(&self.api), Arc::clone(&self.programs));
        let (client, server) = (self.client.clone(), (self.server, programs));
        Self::made(client, api, server, self.number, name, instances).await
    }

    async fn made(
        client: Client,
        api: Arc<ApiServer>,
        (server, programs): (Server, Arc<tempfile::TempDir>),
        number: u8,
        name: &str,
        instances: u32,
    ) -> Self {
        let namespace = format!("shop-{number}");
        let meta = |name: &str| ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        };
        let post = PostParams::default();
        let record = Record {
            seat: names::instance(name, 1),
            ..Record::default()
        };
        let mut lease = Lease {
            metadata: meta(name),
            spec: None,
        };
        lease.metadata.annotations = Some(record.to_annotations());
        let leases: Api<Lease> = Api::namespaced(client.clone(), &namespace);
        leases.create(&post, &lease).await.unwrap();
        let slice = EndpointSlice {
            metadata: meta(&format!("{name}-rw")),
            address_type: "IPv4".into(),
            ..EndpointSlice::default()
        };
        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), &namespace);
        slices.create(&post, &slice).await.unwrap();

        let now = Timestamp::now();
        let authority = issue_authority(&namespace, name, now).unwrap();
        let spec = LeafSpec {
            common_name: names::OPERATOR_COMMON_NAME.into(),
            dns_names: vec![],
            addresses: vec![],
            usage: Usage::Client,
            hours: 1,
        };
        let operator = issue_leaf(&authority, &spec, now).unwrap();
        // In memory, as the run folder of a pod is.
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            client,
            api,
            name: name.to_owned(),
            server,
            config: RedisConfig {
                set: name.into(),
                namespace: namespace.clone(),
                members: (1..=instances).map(|n| names::instance(name, n)).collect(),
                durability: Durability::Async,
                enforcement: Enforcement::default(),
                across_zones: false,
                max_lag: None,
                rejoin: Rejoin::default(),
                engine: RedisSettings {
                    flavour: match server {
                        Server::Redis7 | Server::Redis8 => Flavour::Redis,
                        Server::Valkey8 => Flavour::Valkey,
                    },
                    version: server.version().into(),
                    parameters: BTreeMap::from([("maxmemory".into(), "104857600".into())]),
                    ..RedisSettings::default()
                },
            },
            namespace,
            number,
            password: "first-password".into(),
            logins: Vec::new(),
            old_password: None,
            rules: APPLICATION_RULES,
            authority,
            operator,
            replication: format!("replication-of-{name}"),
            backup: format!("backup-of-{name}"),
            folder,
            programs,
        }
    }

    pub fn roles(&self) -> Vec<Role> {
        let role = |name: &str, passwords: &[&str], rules: &str| Role {
            name: name.into(),
            verifier: passwords
                .iter()
                .map(|p| format!("#{}", check(p)))
                .collect::<Vec<_>>()
                .join(" "),
            attributes: [(RULES.to_owned(), rules.to_owned())].into(),
        };
        let mut own = vec![self.password.as_str()];
        own.extend(self.old_password.as_deref());
        let mut roles = vec![
            role("app", &own, self.rules),
            role(
                REPLICATION_ROLE,
                &[&self.replication],
                self.replication_rules(),
            ),
            role(PROBE_ROLE, &["probe"], "~mainstay:probe +ping +set"),
            role(BACKUP_ROLE, &[&self.backup], self.backup_rules()),
        ];
        if self.config.engine.clustered {
            let password = self.cluster_password();
            roles.push(role(CLUSTER_ROLE, &[&password], CLUSTER_RULES));
        }
        roles.extend(self.logins.iter().cloned());
        roles
    }

    fn replication_rules(&self) -> &'static str {
        if self.config.engine.clustered {
            REPLICATION_RULES_OF_CLUSTERS
        } else {
            REPLICATION_RULES
        }
    }

    fn backup_rules(&self) -> &'static str {
        if self.config.engine.clustered {
            BACKUP_RULES_OF_CLUSTERS
        } else {
            BACKUP_RULES
        }
    }

    /// With which members of a cluster are steered.
    pub fn cluster_password(&self) -> String {
        format!("cluster-of-{}", self.name)
    }

    pub async fn lease(&self) -> Lease {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        leases.get(&self.name).await.unwrap()
    }

    pub async fn record(&self) -> Record {
        let annotations = self.lease().await.metadata.annotations;
        Record::from_annotations(&annotations.unwrap()).unwrap()
    }

    /// Which data is the set's, once that is recorded.
    pub async fn identifier(&self) -> String {
        identifier(async || self.record().await).await
    }

    /// What the set has agreed on, once it has.
    pub async fn charter(&self) -> Charter {
        let annotations = self.lease().await.metadata.annotations.unwrap();
        serde_json::from_str(&annotations[CHARTER]).unwrap()
    }

    pub async fn endpoint(&self) -> Option<String> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &self.namespace);
        let slice = slices.get(&format!("{}-rw", self.name)).await.unwrap();
        slice.endpoints.first().map(|e| e.addresses[0].clone())
    }

    /// Make the folders of an instance, and mount what the operator would. It is at the address of that number in the
    /// set's part of the network.
    pub fn pod(&self, ordinal: u32, number: u8) -> Pod {
        let name = names::instance(&self.name, ordinal);
        let user = 2000 + u32::from(number);
        let pod = Pod {
            name: name.clone(),
            address: format!("10.99.{}.{number}", self.number),
            root: self.folder.path().join(&name),
            init: None,
            owner: Some((Uid::from_raw(user), Gid::from_raw(user))),
            engine: self.server.program(),
        };
        for folder in [
            DATA,
            INTERNAL,
            paths::BIN,
            paths::RUN,
            paths::CONFIG,
            paths::TLS,
            paths::ACCESS,
        ] {
            fs::create_dir_all(pod.path(folder)).unwrap();
        }
        self.mount(&pod);
        self.mount_certificate(&pod);
        pod
    }

    pub fn mount_certificate(&self, pod: &Pod) {
        let spec = LeafSpec {
            common_name: pod.name.clone(),
            dns_names: vec![
                names::instance_host(&pod.name, &self.name, &self.namespace),
                self.primary_host(),
                self.sentinel_host(),
            ],
            addresses: vec![],
            usage: Usage::ServerAndClient,
            hours: 24,
        };
        let pair = issue_leaf(&self.authority, &spec, Timestamp::now()).unwrap();
        let tls = pod.path(paths::TLS);
        replace(&tls.join("tls.crt"), &pair.certificate);
        replace(&tls.join("tls.key"), pair.key.expose());
        replace(&tls.join("ca.crt"), &pair.ca);
        pod.give();
    }

    /// The host name of an instance.
    pub fn host(&self, pod: &Pod) -> String {
        names::instance_host(&pod.name, &self.name, &self.namespace)
    }

    /// That of the Service which leads to the primary.
    pub fn primary_host(&self) -> String {
        format!(
            "{}.{}.svc",
            names::primary_service(&self.name),
            self.namespace
        )
    }

    /// That of the Service by which clients of a Sentinel come.
    pub fn sentinel_host(&self) -> String {
        format!("{}.{}.svc", sentinel::name(&self.name), self.namespace)
    }

    /// The certificate of the set's authority.
    pub fn ca(&self) -> &str {
        &self.authority.ca
    }

    /// Mount configuration and users as they are now; returns the configuration's hash.
    pub fn mount(&self, pod: &Pod) -> String {
        let (text, hash) = self.config.render().unwrap();
        replace(&pod.path(paths::CONFIG).join(paths::CONFIG_FILE), &text);
        // Nobody but the operator writes there: what is not wanted goes.
        for file in fs::read_dir(pod.path(paths::ACCESS)).unwrap().flatten() {
            if !self.roles().iter().any(|r| file.file_name() == *r.name) {
                fs::remove_file(file.path()).unwrap();
            }
        }
        for role in self.roles() {
            let text = serde_json::to_string(&role).unwrap();
            replace(&pod.path(paths::ACCESS).join(&role.name), &text);
        }
        replace(
            &pod.path(INTERNAL).join(REPLICATION_PASSWORD),
            &self.replication,
        );
        replace(&pod.path(INTERNAL).join(BACKUP_PASSWORD), &self.backup);
        pod.give();
        hash
    }

    /// A command of this program in a pod, as the kubelet would start it.
    pub fn command(&self, pod: &Pod, subcommand: &str) -> Command {
        self.command_of(&*PROGRAM, pod, subcommand)
    }

    /// The same of another build of it.
    pub fn command_of(&self, program: impl AsRef<OsStr>, pod: &Pod, subcommand: &str) -> Command {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(pod.root.join("log"))
            .unwrap();
        let mut command = Command::new(program);
        command
            .arg(subcommand)
            .env_clear()
            .env("PATH", self.path())
            .env(paths::ROOT, &pod.root)
            .env("MAINSTAY_LISTEN", &pod.address)
            .env("POD_NAME", &pod.name)
            .env("POD_UID", "uid")
            .env("POD_IP", &pod.address)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if let Some((uid, gid)) = pod.owner {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command
    }

    /// One of the engine's programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.path().join(name)
    }

    /// Where pods find programs.
    fn path(&self) -> String {
        path(self.programs.path())
    }

    /// Start the pod's processes.
    pub fn start(&self, pod: &mut Pod, uid: &str) {
        self.start_with(pod, uid, self.programs.path());
    }

    /// The same with the server in that folder.
    pub fn start_with(&self, pod: &mut Pod, uid: &str, programs: &Path) {
        pod.spawn(&PROGRAM, &path(programs), &api::kubeconfig(&self.api), uid);
    }

    /// All instances, started, at the addresses from `first` on; when the first leads and the others follow.
    pub async fn all(&self, first: u8) -> Vec<Pod> {
        let mut pods = Vec::new();
        for ordinal in 1..=u32::try_from(self.config.members.len()).unwrap() {
            let number = first + u8::try_from(ordinal).unwrap() - 1;
            let mut pod = self.pod(ordinal, number);
            let uid = format!("uid-{}", pod.name);
            self.start(&mut pod, &uid);
            pods.push(pod);
        }
        self.until(&pods[0], "leading", |s| s.ready).await;
        self.voted_by(pods.len() - 1).await;
        for pod in &pods[1..] {
            self.until(pod, "following", |s| s.ready).await;
        }
        pods
    }

    /// Until so many replicas vote: from then on what `WAIT` has from them survives an election.
    pub async fn voted_by(&self, replicas: usize) {
        wait_for(&format!("{replicas} replicas to vote"), async || {
            let groups = self.charter().await.groups;
            matches!(&groups[..], [group] if group.voters.len() == replicas)
        })
        .await;
    }

    /// The operator's client of a pod's agent.
    pub fn agent(&self, pod: &Pod) -> AgentClient {
        self.client(pod, names::AGENT_PORT)
    }

    /// The same of another of our servers in it.
    pub fn client(&self, pod: &Pod, port: i32) -> AgentClient {
        let tls = client_config(&self.authority.ca, Some(&self.operator)).unwrap();
        let host = names::instance_host(&pod.name, &self.name, &self.namespace);
        let address = format!("{}:{port}", pod.address);
        AgentClient::new(address.parse().unwrap(), &host, Arc::new(tls)).unwrap()
    }

    /// Poll the agent's status until it is as wanted.
    pub async fn until(&self, pod: &Pod, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        pod.until(self.agent(pod), what, wanted).await
    }

    /// Which of them leads, once one does that is not `but`.
    pub async fn leader(&self, pods: &[Pod], but: Option<usize>) -> usize {
        let begun = Instant::now();
        let leads = |s: &Status| s.ready && s.role == InstanceRole::Primary;
        while begun.elapsed() < LONG {
            for (n, pod) in pods.iter().enumerate().filter(|(n, _)| Some(*n) != but) {
                let status = self.agent(pod).status(None, Duration::ZERO).await;
                if status.is_ok_and(|s| leads(&s)) {
                    return n;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let logs: Vec<_> = pods
            .iter()
            .map(|p| format!("{}:\n{}", p.name, p.log()))
            .collect();
        panic!("nobody leads\n{}", logs.join("\n"));
    }

    /// A connection as somebody, over verified TLS.
    pub async fn connect_as(&self, pod: &Pod, user: &str, password: &str) -> Result<Db, RespError> {
        let mut db = self.dial(pod, PORT).await?;
        db.call(words(["AUTH", user, password])).await?;
        Ok(db)
    }

    /// A connection to a port, over verified TLS.
    pub async fn dial(&self, pod: &Pod, port: u16) -> Result<Db, RespError> {
        let tls = Arc::new(client_config(&self.authority.ca, None).unwrap());
        let address = format!("{}:{port}", pod.address).parse().unwrap();
        let host = ServerName::try_from(self.host(pod)).unwrap();
        let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
        let connect = timeout(ANSWER, Connection::tls(address, host, tls));
        Ok(Db(connect.await.map_err(late)??))
    }

    /// As the application.
    pub async fn connect(&self, pod: &Pod) -> Result<Db, RespError> {
        self.connect_as(pod, "app", &self.password).await
    }

    /// As the application from inside the pod, for which no network is needed.
    pub async fn inside(&self, pod: &Pod) -> Result<Db, RespError> {
        let mut connection = Connection::unix(&socket(pod)).await?;
        connection.login("app", &self.password).await?;
        Ok(Db(connection))
    }

    /// At the end of a test: nothing in the log that must not be there.
    pub fn finish(&self, pods: Vec<Pod>) {
        for mut pod in pods {
            assert!(pod.terminate(), "{}", pod.log());
            let log = pod.log();
            assert!(!log.contains(&self.password), "a password is in the log");
            assert!(!log.contains(&self.replication), "a password is in the log");
            assert!(!log.contains(&self.backup), "a password is in the log");
            assert!(
                !log.contains(&check(&self.password)),
                "a check value is in the log"
            );
        }
    }
}

fn path(programs: &Path) -> String {
    format!("{}:/usr/bin:/bin", programs.display())
}

/// The engine's socket in a pod.
pub fn socket(pod: &Pod) -> PathBuf {
    pod.path(paths::RUN).join("redis.sock")
}

/// A client of Redis.
pub struct Db(Connection);

impl Db {
    pub async fn call(&mut self, command: Words) -> Result<Value, RespError> {
        self.call_for(command, ANSWER).await
    }

    pub async fn call_for(&mut self, command: Words, bound: Duration) -> Result<Value, RespError> {
        let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
        timeout(bound, self.0.call(command)).await.map_err(late)?
    }

    pub async fn set(&mut self, key: &str, value: &str) -> Result<(), RespError> {
        self.call(words(["SET", key, value])).await.map(drop)
    }

    pub async fn info(&mut self, section: &str) -> String {
        let info = self.call(words(["INFO", section])).await;
        info.unwrap().text().unwrap()
    }

    pub async fn get(&mut self, key: &str) -> Option<String> {
        self.call(words(["GET", key])).await.unwrap().text()
    }

    /// How many replicas have what was written here, after a wait.
    pub async fn wait(&mut self, replicas: u32) -> i64 {
        let replicas = replicas.to_string();
        let waited = self.call(words(["WAIT", &replicas, "3000"])).await;
        waited.unwrap().integer().unwrap()
    }

    /// Whether a replica has what was written here, within a moment.
    pub async fn confirmed(&mut self) -> bool {
        let waited = self.call(words(["WAIT", "1", "200"])).await;
        waited.is_ok_and(|v| v.integer().is_some_and(|replicas| replicas > 0))
    }

    pub async fn size(&mut self) -> i64 {
        let size = self.call(words(["DBSIZE"])).await;
        size.unwrap().integer().unwrap()
    }
}

//! Engines in cluster mode, and the loop that an operator would run over them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mainstay_e2e::tools;
use mainstay_redis::agent::render::check;
use mainstay_redis::desired::credentials::APPLICATION_RULES;
use mainstay_redis::settings::{CLUSTER_ROLE, CLUSTER_RULES, PORT, REPLICATION_ROLE};
use mainstay_redis::shards::directives::directives;
use mainstay_redis::shards::link::{Access, Links, Place};
use mainstay_redis::shards::picture::{Member, Presence};
use mainstay_redis::shards::plan::{Act, Plan, Spec, plan};
use mainstay_redis::shards::topology::{Address, View};
use mainstay_shared::access::Password;
use mainstay_shared::names;
use mainstay_shared::pki::{LeafSpec, Pair, Usage, client_config, issue_authority, issue_leaf};
use rustls::pki_types::ServerName;

use crate::client::{Client, PASSWORD as APP_PASSWORD, Writer};

/// Longest wait for anything.
pub const LONG: Duration = Duration::from_secs(120);
/// What each user's password is.
const PASSWORD: &str = "of-the-set";

struct Engine {
    name: String,
    zone: &'static str,
    host: String,
    folder: PathBuf,
    child: Option<Child>,
    ended: Instant,
    leaving: bool,
    outdated: bool,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
    }
}

impl Engine {
    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.ended = Instant::now();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

pub struct Cluster {
    number: u8,
    spec: Spec,
    authority: Pair,
    links: Links,
    engines: Vec<Engine>,
    next: u32,
    views: BTreeMap<String, View>,
    folder: tempfile::TempDir,
}

/// Connections of an executor.
fn links(authority: &Pair) -> Links {
    Links::new(Access {
        tls: Arc::new(client_config(&authority.ca, None).unwrap()),
        password: Password::from_bytes(PASSWORD.as_bytes()).unwrap(),
    })
}

impl Cluster {
    /// With so many shards, of so many replicas each.
    pub async fn new(number: u8, shards: usize, replicas: usize) -> Self {
        // In memory, unless a measurement says otherwise.
        let within = std::env::var("MAINSTAY_TEST_FOLDER");
        let folder = tempfile::tempdir_in(within.as_deref().unwrap_or("/dev/shm")).unwrap();
        tools::redis(folder.path()).await.unwrap();
        let authority = issue_authority("shop", "db", Timestamp::now()).unwrap();
        let links = links(&authority);
        let mut it = Self {
            number,
            spec: Spec {
                shards,
                replicas,
                persistent: true,
                formed: false,
                restores: false,
            },
            links,
            authority,
            engines: Vec::new(),
            next: 1,
            views: BTreeMap::new(),
            folder,
        };
        it.grow();
        it
    }

    /// An address of its own: other tests may run beside.
    fn host(&self, n: u32) -> String {
        format!("127.{}.{}.{n}", 1 + std::process::id() % 250, self.number)
    }

    fn grow(&mut self) {
        let members = self.spec.shards * (1 + self.spec.replicas);
        while self.engines.iter().filter(|e| !e.leaving).count() < members {
            let n = self.next;
            self.next += 1;
            let name = names::instance("db", n);
            let folder = self.folder.path().join(&name);
            fs::create_dir(&folder).unwrap();
            self.engines.push(Engine {
                zone: ["a", "b", "c"][n as usize % 3],
                host: self.host(n),
                folder,
                child: None,
                ended: Instant::now(),
                leaving: false,
                outdated: false,
                name: name.clone(),
            });
            self.start(&name);
        }
    }

    pub fn scale(&mut self, shards: usize) {
        self.spec.shards = shards;
        let members = shards * (1 + self.spec.replicas);
        let staying = self.engines.iter_mut().filter(|e| !e.leaving);
        staying.skip(members).for_each(|e| e.leaving = true);
        self.grow();
    }

    fn engine(&mut self, name: &str) -> &mut Engine {
        self.engines.iter_mut().find(|e| e.name == name).unwrap()
    }

    pub fn start(&mut self, name: &str) {
        let program = self.folder.path().join("redis-server");
        let text = self.configuration(name);
        let engine = self.engine(name);
        fs::write(engine.folder.join("redis.conf"), text).unwrap();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(engine.folder.join("log"))
            .unwrap();
        let child = Command::new(program)
            .arg("redis.conf")
            .current_dir(&engine.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        engine.child = Some(child.unwrap());
    }

    fn configuration(&mut self, name: &str) -> String {
        let authority = self.authority.clone();
        let engine = self.engine(name);
        let spec = LeafSpec {
            common_name: name.into(),
            dns_names: vec![names::instance_host(name, "db", "shop")],
            addresses: vec![engine.host.parse().unwrap()],
            usage: Usage::ServerAndClient,
            hours: 24,
        };
        let pair = issue_leaf(&authority, &spec, Timestamp::now()).unwrap();
        for (file, text) in [
            ("tls.crt", pair.certificate.as_str()),
            ("tls.key", pair.key.expose()),
            ("ca.crt", pair.ca.as_str()),
        ] {
            fs::write(engine.folder.join(file), text).unwrap();
        }
        let hash = check(PASSWORD);
        let users = format!(
            "user default off ~* &* +@all\nuser app on #{} {APPLICATION_RULES}\n\
             user {REPLICATION_ROLE} on #{hash} +psync +replconf +ping\nuser {CLUSTER_ROLE} on #{hash} {CLUSTER_RULES}\n",
            check(APP_PASSWORD)
        );
        fs::write(engine.folder.join("users.acl"), users).unwrap();
        let mut text = String::new();
        for (directive, value) in directives(name, &engine.host) {
            let value = match directive {
                // The tests' patience.
                "cluster-node-timeout" => "2500",
                _ => &value,
            };
            writeln!(text, "{directive} {value}").unwrap();
        }
        let host = &engine.host;
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "bind {host}\nport 0\ntls-port {PORT}\ntls-replication yes\ntls-auth-clients optional\ntls-cert-file tls.crt\n\
             tls-key-file tls.key\ntls-ca-cert-file ca.crt\naclfile users.acl\nmasteruser {REPLICATION_ROLE}\n\
             masterauth {PASSWORD}\nprotected-mode no\nappendonly yes\nsave \"\"\nrepl-diskless-sync yes\n\
             repl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n"
        );
        text
    }

    pub fn kill(&mut self, name: &str) {
        self.engine(name).end();
    }

    /// The volume is lost.
    pub fn wipe(&mut self, name: &str) {
        let folder = self.engine(name).folder.clone();
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
    }

    /// All end at once, and begin with other addresses.
    pub fn move_all(&mut self) {
        for engine in &mut self.engines {
            engine.end();
        }
        for n in 0..self.engines.len() {
            let host = self.host(100 + u32::try_from(n).unwrap());
            self.engines[n].host = host;
            let name = self.engines[n].name.clone();
            self.start(&name);
        }
    }

    pub fn outdate_all(&mut self) {
        self.engines.iter_mut().for_each(|e| e.outdated = true);
    }

    fn address(engine: &Engine) -> Address {
        Address {
            host: engine.host.clone(),
            port: PORT,
            bus: PORT + 10_000,
        }
    }

    async fn members(&mut self) -> Vec<Member> {
        let place = |engine: &Engine| Place {
            name: engine.name.clone(),
            address: Self::address(engine),
            host: ServerName::try_from(names::instance_host(&engine.name, "db", "shop")).unwrap(),
        };
        let running = self.engines.iter().filter(|e| e.child.is_some());
        let places: Vec<Place> = running.map(place).collect();
        let mut seen = self.links.observe(&places).await;
        self.views = seen
            .iter()
            .filter_map(|(name, view)| Some((name.clone(), view.as_ref().ok()?.clone())))
            .collect();
        let member = |engine: &Engine| Member {
            name: engine.name.clone(),
            zone: Some(engine.zone.into()),
            address: Self::address(engine),
            moved: false,
            leaving: engine.leaving,
            going: false,
            outdated: engine.outdated,
            version: None,
            presence: match seen.remove(&engine.name) {
                Some(Ok(view)) => Presence::Seen(Box::new(view)),
                Some(Err(error)) => Presence::Unreachable(error.to_string()),
                None => Presence::Gone {
                    seconds: engine.ended.elapsed().as_secs(),
                    data: true,
                },
            },
        };
        self.engines.iter().map(member).collect()
    }

    pub async fn plan(&mut self) -> Plan {
        let members = self.members().await;
        plan(self.spec, &members)
    }

    /// How many slots were half moved when they were looked at.
    pub fn half_way(&self) -> usize {
        let open: BTreeSet<u16> = self.views.values().flat_map(View::open).collect();
        open.len()
    }

    /// As an executor that begins anew.
    pub fn forget_connections(&mut self) {
        self.links = links(&self.authority);
    }

    pub async fn execute(&mut self, plan: Plan) {
        for act in plan.harmless.into_iter().chain(plan.disruptive) {
            match self.links.carry_out(&act).await {
                Ok(true) => {}
                Ok(false) => match &act {
                    Act::Restart { member } => {
                        let owns = &self.views[member].myself().unwrap().slots;
                        assert!(owns.is_empty(), "{member} owns slots");
                        self.kill(member);
                        self.engine(member).outdated = false;
                        self.start(member);
                    }
                    Act::Remove { member } => {
                        assert!(self.views[member].myself().unwrap().slots.is_empty());
                        self.engines.retain(|e| e.name != *member);
                    }
                    other => panic!("{other:?} is not for pods"),
                },
                Err(error) => println!("{error}"),
            }
        }
    }

    /// Passes until slots have moved: from when they began to until the last of them had.
    pub async fn move_slots(&mut self) -> Duration {
        let begun = Instant::now();
        let (mut since, mut until) = (None, begun);
        loop {
            let plan = self.plan().await;
            let moves = matches!(plan.disruptive, Some(Act::Moves(_)));
            let agree = plan.waits.iter().all(|w| w.predicate != "agree_first");
            if moves {
                since.get_or_insert_with(Instant::now);
            }
            if let Some(since) = since.filter(|_| !moves && agree) {
                return until - since;
            }
            assert!(begun.elapsed() < 10 * LONG, "slots do not move: {plan:?}");
            self.execute(plan).await;
            if moves {
                until = Instant::now();
            } else {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// Passes until nothing is left to do.
    pub async fn converge(&mut self) {
        let begun = Instant::now();
        let (mut told, mut changed) = (String::new(), begun);
        loop {
            let plan = self.plan().await;
            if plan.is_settled() {
                self.spec.formed = true;
                return;
            }
            let waits: Vec<_> = plan
                .waits
                .iter()
                .map(|w| format!("{}: {}", w.step, w.reason))
                .collect();
            let moves = matches!(plan.disruptive, Some(Act::Moves(_)));
            let disturbs = match &plan.disruptive {
                Some(Act::Moves(moves)) => {
                    let first = moves.first().map(|m| m.slot);
                    format!("{} slots move, first {first:?}", moves.len())
                }
                other => format!("{other:?}"),
            };
            let harmless = plan.harmless.len();
            let now = format!("{harmless} harmless, {disturbs}, {waits:?}");
            if now != told {
                println!("{:?} {now}", begun.elapsed());
                (told, changed) = (now, Instant::now());
            }
            // A busy machine takes its time for some thousand slots; that nothing changes is what must not be.
            if changed.elapsed() > LONG {
                let logs: Vec<_> = self
                    .engines
                    .iter()
                    .map(|e| format!("{}:\n{}", e.name, e.log()))
                    .collect();
                panic!(
                    "it does not settle: {told}\n{:#?}\n{}",
                    self.views,
                    logs.join("\n")
                );
            }
            self.execute(plan).await;
            if !moves {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// The certificate of its authority.
    pub fn ca(&self) -> &str {
        &self.authority.ca
    }

    pub fn client(&self) -> Client {
        Client {
            tls: Arc::new(client_config(&self.authority.ca, None).unwrap()),
            seeds: self
                .engines
                .iter()
                .map(|e| format!("{}:{PORT}", e.host))
                .collect(),
            open: BTreeMap::new(),
            last: None,
        }
    }

    pub fn writer(&self) -> Writer {
        Writer::start(self.client())
    }

    /// Primaries that own slots, and how many.
    pub async fn primaries(&mut self) -> BTreeMap<String, usize> {
        self.members().await;
        let slots = |view: &View| view.myself().map_or(0, |me| me.slots.len());
        let all = self
            .views
            .iter()
            .map(|(name, view)| (name.clone(), slots(view)));
        all.filter(|(_, slots)| *slots > 0).collect()
    }

    pub async fn replicas(&mut self) -> BTreeSet<String> {
        let primaries = self.primaries().await;
        let all = self
            .views
            .keys()
            .filter(|name| !primaries.contains_key(*name));
        all.cloned().collect()
    }

    pub async fn assert_as_asked(&mut self) {
        let primaries = self.primaries().await;
        assert_eq!(primaries.len(), self.spec.shards, "{primaries:?}");
        assert_eq!(primaries.values().sum::<usize>(), 16_384);
        let share = 16_384 / self.spec.shards;
        assert!(
            primaries.values().all(|n| (share..=share + 1).contains(n)),
            "{primaries:?}"
        );
        let zone = |name: &str| self.engines.iter().find(|e| e.name == name).unwrap().zone;
        let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
        for name in primaries.keys() {
            *zones.entry(zone(name)).or_default() += 1;
            let me = &self.views[name].me;
            let followers = self
                .views
                .iter()
                .filter(|(_, view)| view.follows() == Some(me));
            let theirs: Vec<&str> = followers.map(|(name, _)| zone(name)).collect();
            assert_eq!(theirs.len(), self.spec.replicas, "replicas of {name}");
            assert!(
                !theirs.contains(&zone(name)),
                "{name} and its replica are in one zone"
            );
        }
        let uneven = zones.values().max().unwrap() - zones.values().min().unwrap();
        assert!(
            uneven <= 1 && zones.len() == 3,
            "primaries are in {zones:?}"
        );
        assert_eq!(
            self.views.len(),
            self.spec.shards * (1 + self.spec.replicas)
        );
        for (name, view) in &self.views {
            assert_eq!(view.nodes.len(), self.views.len(), "{name} knows others");
        }
    }
}

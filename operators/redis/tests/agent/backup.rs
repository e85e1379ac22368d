//! Backups of a real set into a real object store, and sets that are made from them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant, SystemTime};

use mainstay_backup::api::{ORDERS, Order, Outcome, OwnerState, REPORT, Report};
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::crypto::{EncryptionSpec, Keyring};
use mainstay_backup::ids::OwnerId;
use mainstay_backup::manifest::Manifest;
use mainstay_backup::repository::Repository;
use mainstay_backup::store::Store;
use mainstay_e2e::object_store::{ObjectStore, REGION, Server};
use mainstay_e2e::tools::Server as Program;
use mainstay_redis::backup::restore::RestoreReport;
use mainstay_redis::backup::settings::{
    ACCESS_KEY_ID, BACKUP_FILE, INSTANCE_KEYS, PlaceSpec, RESTORE_FILE, RESTORE_SECRETS,
    RESTORE_STATUS, RUN, RepositorySpec, RestoreSettings, SECRET_ACCESS_KEY, SECRETS, Settings,
};
use mainstay_redis::backup::shards::{Dataset, Slots};
use mainstay_redis::resp::{Value, words};
use mainstay_redis::settings::{BACKUP_ROLE, DATA, Persistence};
use mainstay_shared::agent::api::Status;
use mainstay_shared::agent::paths;
use mainstay_shared::backups::container::restoring::RestoreStep;
use mainstay_shared::names::BACKUP_PORT;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::pod::{Db, LONG, PROGRAM, Pod, Set};
use crate::processes::replace;

pub const BUCKET: &str = "backups";
/// Longest wait for an answer of the container.
const ANSWER: Duration = Duration::from_millis(500);

/// An object store with keys.
pub struct Vault {
    server: Server,
    keyring: Keyring,
    /// What settings say of the network.
    pub bytes_per_second: Option<u64>,
    /// What makes backups and restores.
    pub program: PathBuf,
}

impl Vault {
    /// After the first set: it is in the network of that.
    pub async fn new() -> Self {
        let server = Server::start().await.expect("an S3 server");
        server.store().make_bucket(BUCKET, false).await.unwrap();
        Self {
            server,
            keyring: Keyring::generate([7; 32]),
            bytes_per_second: None,
            program: PathBuf::from(&*PROGRAM),
        }
    }

    /// The store.
    pub fn store(&self) -> &ObjectStore {
        self.server.store()
    }

    fn spec(&self) -> RepositorySpec {
        let store = self.server.store();
        RepositorySpec {
            place: PlaceSpec::S3 {
                endpoint: Some(store.endpoint.clone()),
                region: REGION.into(),
                bucket: BUCKET.into(),
                virtual_hosted: false,
            },
            prefix: "shop/db".into(),
            authority: Some(fs::read_to_string(&store.authority).unwrap()),
            bytes_per_second: self.bytes_per_second,
            concurrency: None,
            encryption: Some(EncryptionSpec {
                recipients: vec![],
                i_accept_key_loss: true,
            }),
        }
    }

    fn secrets(&self, pod: &Pod, folder: &str) {
        use age::secrecy::ExposeSecret as _;
        let folder = pod.path(folder);
        fs::create_dir_all(&folder).unwrap();
        let store = self.server.store();
        replace(&folder.join(ACCESS_KEY_ID), &store.access_key_id);
        replace(&folder.join(SECRET_ACCESS_KEY), &store.secret_access_key);
        let keys = self.keyring.to_text();
        replace(&folder.join(INSTANCE_KEYS), keys.expose_secret());
    }

    /// Settings and secrets of a pod that makes backups.
    fn mount(&self, pod: &Pod) {
        let settings = Settings {
            resource: "shop/db".into(),
            repository: self.spec(),
            immutable: true,
            adopt: None,
            break_archive: false,
        };
        let text = serde_json::to_string(&settings).unwrap();
        replace(&pod.path(paths::CONFIG).join(BACKUP_FILE), &text);
        self.secrets(pod, SECRETS);
        fs::create_dir_all(pod.path(RUN)).unwrap();
        pod.give();
    }

    /// What is told of its settings to one that runs beside a pod, until it works by that.
    pub async fn mount_again(&self, set: &Set, pod: &Pod) {
        let any = |_: &Report| true;
        let before = until(set, pod, "heard of", any).await.settings_hash;
        self.mount(pod);
        until(set, pod, "of its new settings", |r| {
            r.settings_hash != before && r.ownership.state == OwnerState::Ours
        })
        .await;
    }

    /// Starts the container that makes backups, beside what runs in a pod.
    pub fn beside(&self, set: &Set, pod: &Pod) -> Beside {
        self.mount(pod);
        let mut command = set.command_of(&self.program, pod, "backup");
        Beside(command.spawn().unwrap())
    }

    /// Backups, as whoever has the keys reads them.
    pub async fn backups(&self, pod: &Pod) -> Vec<Manifest> {
        let (spec, secrets) = (self.spec(), pod.path(SECRETS));
        let settings = spec.settings(&secrets, &pod.root).unwrap();
        let protection = spec.protection(&secrets).unwrap();
        let repository = Repository::new(Store::open(&settings).unwrap(), protection);
        Catalogue::read(&repository, None).await.unwrap().backups
    }

    /// Changes a bit of the dataset in the store; the name of the object.
    pub fn spoil(&self, manifest: &Manifest) -> String {
        self.spoil_file(manifest, 0)
    }

    /// The same of one of its files.
    pub fn spoil_file(&self, manifest: &Manifest, file: usize) -> String {
        let key = manifest.files[file].objects[0].key.clone();
        let bucket = self.server.store().data.join(BUCKET);
        let object = bucket.join("shop/db").join(&key);
        let mut bytes = fs::read(&object).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&object, bytes).unwrap();
        key
    }

    /// Makes data for a new set in a pod of it, as the kubelet does before everything else; what was told.
    pub fn restore(&self, set: &Set, pod: &Pod) -> RestoreReport {
        self.restore_as(set, pod, |_| {})
    }

    /// The same with other settings.
    pub fn restore_as(
        &self,
        set: &Set,
        pod: &Pod,
        change: impl FnOnce(&mut RestoreSettings),
    ) -> RestoreReport {
        let mut settings = RestoreSettings {
            resource: format!("shop/{}", set.name),
            repository: self.spec(),
            flavour: set.config.engine.flavour,
            version: set.config.engine.version.clone(),
            persistence: set.config.engine.persistence,
            databases: None,
            backup: None,
            moment: None,
            owner: None,
            epoch: 0,
            cluster: None,
            every_shard: false,
        };
        change(&mut settings);
        let text = serde_json::to_string(&settings).unwrap();
        replace(&pod.path(paths::CONFIG).join(RESTORE_FILE), &text);
        self.secrets(pod, RESTORE_SECRETS);
        fs::create_dir_all(pod.path(RUN)).unwrap();
        fs::create_dir_all(pod.path("/dev")).unwrap();
        pod.give();
        let mut command = set.command_of(&self.program, pod, "restore");
        let status = command.status().unwrap();
        let text = fs::read_to_string(pod.path(RESTORE_STATUS));
        let text = text.unwrap_or_else(|_| panic!("{}", pod.log()));
        let report: RestoreReport = serde_json::from_str(&text).unwrap();
        let there = pod.path(DATA).join("redis").exists();
        assert_eq!(status.success(), there, "{report:?}\n{}", pod.log());
        let left = pod.path(DATA).join("redis.restore");
        assert!(!left.exists(), "what is left of a restore");
        report
    }
}

/// The process that makes backups.
pub struct Beside(Child);

impl Beside {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// As the kubelet ends it.
    pub fn end(mut self) {
        let pid = Pid::from_raw(self.0.id().cast_signed());
        kill(pid, Signal::SIGTERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until the container's report is as wanted.
pub async fn until(set: &Set, pod: &Pod, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
    let begun = Instant::now();
    let mut client = set.client(pod, BACKUP_PORT);
    let mut last: Option<Report> = None;
    while begun.elapsed() < LONG {
        let path = match &last {
            Some(last) => format!("{REPORT}?after={}&wait=200", last.sequence),
            None => REPORT.to_owned(),
        };
        match client.get::<Report>(&path, ANSWER).await {
            Ok(report) if wanted(&report) => return report,
            Ok(report) => last = Some(report),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("{}: not {what}: {last:#?}\n{}", pod.name, pod.log());
}

/// Gives an order, and waits for what comes of it.
pub async fn back_up(set: &Set, pod: &Pod, order: &str) -> Outcome {
    until(set, pod, "ours", |r| r.ownership.state == OwnerState::Ours).await;
    take(set, pod, order).await;
    ended(set, pod, order).await
}

pub async fn take(set: &Set, pod: &Pod, order: &str) {
    let order = Order::Take {
        order: order.into(),
        incremental: false,
        chain: None,
    };
    let taken = set.client(pod, BACKUP_PORT).send(ORDERS, &order).await;
    taken.unwrap();
}

pub async fn ended(set: &Set, pod: &Pod, order: &str) -> Outcome {
    let report = until(set, pod, "at the order's end", |r| {
        r.results.iter().any(|r| r.order == order)
    })
    .await;
    let mut results = report.results.into_iter();
    results.find(|r| r.order == order).unwrap().outcome
}

/// Memory of its own that a process has, in bytes.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let kib: Option<u64> = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0) << 10
}

/// When the snapshot on a pod's volume was written, if there is one.
fn snapshot(pod: &Pod) -> Option<SystemTime> {
    let file = fs::metadata(pod.path(DATA).join("redis/dump.rdb"));
    file.ok().map(|file| file.modified().unwrap())
}

/// Bytes that nothing makes smaller.
pub fn noise(seed: u64, length: usize) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b' ' + u8::try_from(state % 95).unwrap())
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A bit of everything: what [`is_all_there`] looks for.
pub async fn fill(db: &mut Db) {
    for n in 0..300 {
        db.set(&format!("key:{n}"), &n.to_string()).await.unwrap();
    }
    let commands = [
        words(["HSET", "hash", "a", "1", "b", "2"]),
        words(["RPUSH", "list", "x", "y", "z"]),
        words(["SADD", "members", "m", "n"]),
        words(["ZADD", "ranks", "1.5", "one"]),
        words(["XADD", "stream", "7-1", "field", "value"]),
        words(["PFADD", "about", "a", "b", "c"]),
        words(["SET", "passing", "soon", "EX", "5000"]),
        words([
            "FUNCTION",
            "LOAD",
            "#!lua name=mine\nredis.register_function('double', function(keys, args) return 2 * args[1] end)",
        ]),
        words(["SELECT", "3"]),
        words(["SET", "elsewhere", "3"]),
        words(["SELECT", "0"]),
    ];
    for command in commands {
        db.call(command).await.unwrap();
    }
}

/// Keys that [`fill`] makes, by database.
fn filled() -> BTreeMap<u32, u64> {
    BTreeMap::from([(0, 307), (3, 1)])
}

pub async fn is_all_there(db: &mut Db) {
    let mut ask = async |command: &[&str]| {
        let command = command.iter().map(|w| (*w).to_owned()).collect();
        db.call(command).await.unwrap()
    };
    assert_eq!(ask(&["GET", "key:299"]).await.text().unwrap(), "299");
    assert_eq!(ask(&["HGET", "hash", "b"]).await.text().unwrap(), "2");
    assert_eq!(ask(&["LLEN", "list"]).await, Value::Integer(3));
    assert_eq!(ask(&["SISMEMBER", "members", "n"]).await, Value::Integer(1));
    assert_eq!(
        ask(&["ZSCORE", "ranks", "one"]).await.text().unwrap(),
        "1.5"
    );
    assert_eq!(ask(&["XLEN", "stream"]).await, Value::Integer(1));
    assert_eq!(ask(&["PFCOUNT", "about"]).await, Value::Integer(3));
    let left = ask(&["TTL", "passing"]).await.integer().unwrap();
    assert!((1..=5000).contains(&left), "{left}");
    let doubled = ask(&["FCALL", "double", "0", "21"]).await;
    assert_eq!(doubled, Value::Integer(42));
    assert_eq!(ask(&["DBSIZE"]).await, Value::Integer(307));
    ask(&["SELECT", "3"]).await;
    assert_eq!(ask(&["GET", "elsewhere"]).await.text().unwrap(), "3");
    assert_eq!(ask(&["DBSIZE"]).await, Value::Integer(1));
    ask(&["SELECT", "0"]).await;
}

/// A new set, made from what is in the store. It serves, and goes on after a restart.
async fn made_from(
    vault: &Vault,
    first: &Set,
    name: &str,
    number: u8,
    kept: Persistence,
) -> Status {
    let mut set = first.beside(name, 1).await;
    set.config.engine.persistence = kept;
    let mut pod = set.pod(1, number);
    let report = vault.restore(&set, &pod);
    assert_eq!(report.step, RestoreStep::Done, "{report:?}\n{}", pod.log());
    assert_eq!(report.reached.as_ref().unwrap().keys, 308);
    // Another one finds data, and touches nothing.
    let data = pod.path(DATA).join("redis");
    let before = fs::metadata(&data).unwrap().modified().unwrap();
    assert!(set.command(&pod, "restore").status().unwrap().success());
    assert_eq!(fs::metadata(&data).unwrap().modified().unwrap(), before);
    set.start(&mut pod, "uid-1");
    let status = set.until(&pod, "ready", |s| s.ready).await;
    let reached = report.reached.unwrap();
    assert_eq!(status.system_identifier.as_ref(), Some(&reached.set));
    assert_eq!(report.owner, Some(OwnerId::of(&reached.set)));
    is_all_there(&mut set.connect(&pod).await.unwrap()).await;
    let mut db = set.connect(&pod).await.unwrap();
    db.set("after", "1").await.unwrap();
    assert!(pod.terminate(), "{}", pod.log());
    set.start(&mut pod, "uid-2");
    set.until(&pod, "ready again", |s| s.ready).await;
    let mut db = set.connect(&pod).await.unwrap();
    assert_eq!(db.get("after").await.as_deref(), Some("1"));
    db.call(words(["DEL", "after"])).await.unwrap();
    is_all_there(&mut db).await;
    set.finish(vec![pod]);
    status
}

#[tokio::test]
async fn what_a_replica_gave_is_another_set_elsewhere() {
    what_a_replica_gave_is_another_set(Program::Redis7).await;
}

pub async fn what_a_replica_gave_is_another_set(server: Program) {
    let set = Set::of(server, 2).await;
    let vault = Vault::new().await;
    let pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    fill(&mut db).await;
    assert_eq!(db.wait(1).await, 1);
    let identifier = set.identifier().await;

    let received = snapshot(&pods[1]);
    let beside = vault.beside(&set, &pods[1]);
    let made = back_up(&set, &pods[1], "first").await;
    let Outcome::Done { id } = made else {
        panic!("{made:?}\n{}", pods[1].log());
    };
    let report = until(&set, &pods[1], "told", |r| !r.catalogue.is_empty()).await;
    assert_eq!(report.ownership.owner, Some(OwnerId::of(&identifier)));
    let [entry] = &report.catalogue[..] else {
        panic!("{report:?}");
    };
    assert_eq!((&entry.id, entry.order.as_deref()), (&id, Some("first")));
    assert_eq!(entry.broken, None);
    assert_eq!(report.earliest, Some(entry.consistent_at));
    assert_eq!(report.latest, Some(entry.consistent_at));
    // The same order once more makes nothing.
    take(&set, &pods[1], "first").await;

    // What it says of itself.
    let [manifest] = &vault.backups(&pods[1]).await[..] else {
        panic!("one backup");
    };
    let dataset = Dataset::of(manifest).unwrap();
    assert_eq!(dataset.set, identifier);
    assert_eq!(dataset.epoch, set.record().await.epoch);
    let version = format!("{}.", server.version());
    assert!(dataset.version.starts_with(&version), "{}", dataset.version);
    assert_eq!(dataset.flavour, set.config.engine.flavour);
    let [shard] = &dataset.shards[..] else {
        panic!("one shard");
    };
    assert_eq!(
        (shard.from.as_str(), &shard.slots[..]),
        ("db-2", &[Slots::ALL][..])
    );
    assert_eq!(shard.keys, filled());
    let info = db.call(words(["INFO", "replication"])).await.unwrap();
    let info = info.text().unwrap();
    assert!(
        info.contains(&format!("master_replid:{}", shard.replid)),
        "{info}"
    );
    assert!(shard.offset > 0);
    // Nothing was written to the volume for it: what is there is from when the replica received all.
    assert_eq!(snapshot(&pods[1]), received);
    // Nothing of the dataset can be read by a command with the password that the container has.
    let mut other = set
        .connect_as(&pods[0], BACKUP_ROLE, "backup-of-db")
        .await
        .unwrap();
    for command in [
        words(["GET", "key:1"]),
        words(["SET", "key:1", "x"]),
        words(["CONFIG", "GET", "masterauth"]),
        words(["FUNCTION", "DELETE", "mine"]),
        words(["ACL", "LIST"]),
    ] {
        let refused = other.call(command).await.unwrap_err();
        assert_eq!(refused.code(), Some("NOPERM"), "{refused}");
    }
    beside.end();
    set.finish(pods);

    // The set is gone; the repository is all there is.
    let one = made_from(&vault, &set, "copy", 11, Persistence::Aof).await;
    let two = made_from(&vault, &set, "other", 12, Persistence::Rdb).await;
    assert_ne!(one.system_identifier, two.system_identifier);
    assert_ne!(one.system_identifier.as_ref(), Some(&identifier));
}

#[tokio::test]
async fn a_dataset_passes_through_little_memory() {
    let mut set = Set::new(1).await;
    set.config
        .engine
        .parameters
        .insert("maxmemory".into(), (400 << 20).to_string());
    let vault = Vault::new().await;
    let pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    for n in 0..100 {
        db.set(&format!("large:{n}"), &noise(n, 1 << 20))
            .await
            .unwrap();
    }
    let beside = vault.beside(&set, &pods[0]);
    until(&set, &pods[0], "ours", |r| {
        r.ownership.state == OwnerState::Ours
    })
    .await;
    take(&set, &pods[0], "large").await;
    let (mut most, mut client) = (0, set.client(&pods[0], BACKUP_PORT));
    let begun = Instant::now();
    let outcome = loop {
        assert!(begun.elapsed() < LONG, "{}", pods[0].log());
        most = most.max(memory(beside.pid()));
        let report: Report = client.get(REPORT, ANSWER).await.unwrap();
        if let Some(result) = report.results.into_iter().next() {
            break result.outcome;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    let [manifest] = &vault.backups(&pods[0]).await[..] else {
        panic!("one backup");
    };
    assert!(manifest.plain() > 100 << 20, "{}", manifest.plain());
    println!("the backup container had {} MiB at most", most >> 20);
    assert!(most < 64 << 20, "{} MiB", most >> 20);
    beside.end();
    set.finish(pods);
}

#[tokio::test]
async fn who_becomes_primary_gives_its_backup_up_and_makes_the_next() {
    let set = Set::new(3).await;
    let mut vault = Vault::new().await;
    let mut pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    for n in 0..16 {
        db.set(&format!("large:{n}"), &noise(n, 1 << 20))
            .await
            .unwrap();
    }
    assert_eq!(db.wait(2).await, 2);
    // So slow that it is in the middle of it for long.
    vault.bytes_per_second = Some(256 << 10);
    let all: Vec<Beside> = pods[1..]
        .iter()
        .map(|pod| vault.beside(&set, pod))
        .collect();
    for pod in &pods[1..] {
        until(&set, pod, "ours", |r| r.ownership.state == OwnerState::Ours).await;
        take(&set, pod, "slow").await;
        until(&set, pod, "receiving", |r| {
            r.running
                .as_ref()
                .is_some_and(|r| r.step == "receiving the dataset")
        })
        .await;
    }
    pods[0].cut();
    let leader = set.leader(&pods, Some(0)).await;
    match ended(&set, &pods[leader], "slow").await {
        Outcome::Failed {
            why,
            retryable: true,
        } => assert!(why.contains("primary change"), "{why}"),
        other => panic!("{other:?}\n{}", pods[leader].log()),
    }
    // Nothing is sealed of it, and the next one is made of the primary that it is now.
    assert_eq!(vault.backups(&pods[leader]).await, []);
    vault.bytes_per_second = None;
    vault.mount_again(&set, &pods[leader]).await;
    let begun = Instant::now();
    let made = loop {
        assert!(begun.elapsed() < LONG, "{}", pods[leader].log());
        match back_up(&set, &pods[leader], "next").await {
            made @ Outcome::Done { .. } => break made,
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    };
    assert!(matches!(made, Outcome::Done { .. }));
    let [manifest] = &vault.backups(&pods[leader]).await[..] else {
        panic!("one backup");
    };
    let dataset = Dataset::of(manifest).unwrap();
    assert_eq!(dataset.shards[0].from, pods[leader].name);
    assert_eq!(dataset.epoch, set.record().await.epoch);
    drop(all);
    set.finish(pods);
}

#[tokio::test]
async fn what_cannot_be_restored_leaves_no_data() {
    let set = Set::new(1).await;
    let vault = Vault::new().await;
    let pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    fill(&mut db).await;
    let refused = async |name: &str, number, change: &dyn Fn(&mut Set)| {
        let mut copy = set.beside(name, 1).await;
        change(&mut copy);
        let pod = copy.pod(1, number);
        let report = vault.restore(&copy, &pod);
        assert_eq!(report.step, RestoreStep::Failed, "{report:?}");
        report.message
    };
    let why = refused("early", 21, &|_| {}).await;
    assert!(why.contains("no backup"), "{why}");

    let beside = vault.beside(&set, &pods[0]);
    let made = back_up(&set, &pods[0], "only").await;
    assert!(
        matches!(made, Outcome::Done { .. }),
        "{made:?}\n{}",
        pods[0].log()
    );
    let older = |set: &mut Set| set.config.engine.version = "6.2".into();
    let why = refused("older", 22, &older).await;
    assert!(why.contains("no older"), "{why}");

    // An object that was changed.
    let [manifest] = &vault.backups(&pods[0]).await[..] else {
        panic!("one backup");
    };
    let key = vault.spoil(manifest);
    let why = refused("damaged", 23, &|_| {}).await;
    assert!(why.contains(&key), "{why}");
    beside.end();
    set.finish(pods);
}

//! A real PostgreSQL with the real backup container's process beside it, in a folder.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use mainstay_backup::api::{ArchiveState, BackupEntry, Order, Outcome, OwnerState, Report};
use mainstay_backup::crypto::{EncryptionSpec, Keyring};
use mainstay_backup::drill::DrillReport;
use mainstay_backup::shred::{ShredReport, ShredSettings};
use mainstay_e2e::object_store::{ObjectStore, REGION, Server};
use mainstay_postgres::backup::api::RestoreReport;
use mainstay_postgres::backup::settings::{
    BACKUP_FILE, DRILL_FILE, DrillCheck, DrillSettings, INSTANCE_KEYS, PlaceSpec, REPOSITORY,
    RESTORE_FILE, RESTORE_REPOSITORY, RESTORE_SECRETS, RESTORE_STATUS, RUN, RepositorySpec,
    RestoreSettings, SECRETS, SHRED, SOCKET, Settings, TERMINATION_MESSAGE, Target,
};
use mainstay_shared::agent::paths;
use mainstay_shared::names;
use mainstay_shared::pki::{LeafSpec, Pair, Usage, issue_authority, issue_leaf};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User};
use sha2::{Digest as _, Sha256};

/// Environment variable: the program to try, instead of the one that was built with the tests.
const PROGRAM: &str = "MAINSTAY_TEST_PROGRAM";
/// Longest wait for anything.
pub const LONG: Duration = Duration::from_secs(90);
/// Environment variable: folder of PostgreSQL's programs, instead of the newest that Debian's packages left.
const PROGRAMS: &str = "MAINSTAY_TEST_POSTGRES";
/// Environment variable: what the random moments of a run come from.
const SEED: &str = "MAINSTAY_TEST_SEED";
/// The bucket.
pub const BUCKET: &str = "backups";

static NEXT: AtomicU32 = AtomicU32::new(1);

/// Where repositories are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    Folder,
    S3,
    /// A bucket that keeps versions, and locks each for a day.
    Locked,
}

/// A store, and folders for nodes.
pub struct World {
    pub server: Option<Server>,
    pub folder: tempfile::TempDir,
    pub prefix: String,
    /// What the settings say of log that fills a volume.
    pub break_archive: bool,
    /// What the settings say of the network, so that something takes a while.
    pub bytes_per_second: Option<u64>,
    keyring: Option<Keyring>,
    authority: Pair,
    operator: Pair,
}

/// What runs.
pub fn program() -> PathBuf {
    let built = || env!("CARGO_BIN_EXE_mainstay-postgres").into();
    std::env::var_os(PROGRAM).map_or_else(built, PathBuf::from)
}

pub fn programs() -> PathBuf {
    if let Some(folder) = std::env::var_os(PROGRAMS) {
        return folder.into();
    }
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL as Debian packages it");
    let newest = versions
        .filter_map(|v| v.unwrap().file_name().to_str()?.parse::<u32>().ok())
        .max();
    PathBuf::from(format!(
        "/usr/lib/postgresql/{}/bin",
        newest.expect("a version")
    ))
}

/// Major version of the programs.
pub fn major() -> u32 {
    let output = Command::new(programs().join("postgres"))
        .arg("--version")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let version = text.split_whitespace().nth(2).unwrap();
    version.split('.').next().unwrap().parse().unwrap()
}

/// User and group that PostgreSQL runs as: it refuses root.
fn owner() -> Option<(Uid, Gid)> {
    let user = User::from_name("postgres")
        .unwrap()
        .expect("a user called postgres");
    Uid::current().is_root().then_some((user.uid, user.gid))
}

fn give(path: &Path) {
    let Some((uid, gid)) = owner() else { return };
    let mut all = vec![path.to_owned()];
    while let Some(path) = all.pop() {
        // What a running server has removed meanwhile is nobody's.
        let kept = match chown(&path, Some(uid.as_raw()), Some(gid.as_raw())) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            outcome => {
                outcome.unwrap();
                true
            }
        };
        if kept && path.is_dir() && !path.is_symlink() {
            let entries = fs::read_dir(&path).into_iter().flatten();
            all.extend(entries.map(|e| e.unwrap().path()));
        }
    }
}

pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", programs().display()))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .current_dir("/");
    if let Some((uid, gid)) = owner() {
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    command
}

/// Every version of the bucket is locked for a day from now on.
async fn lock(store: &ObjectStore, folder: &Path) {
    let body = folder.join("locks.xml");
    let text = "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                <ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode>\
                <Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
    fs::write(&body, text).unwrap();
    let sum = BASE64_STANDARD.encode(Sha256::digest(text));
    let sum = format!("x-amz-checksum-sha256: {sum}");
    let path = format!("/{BUCKET}?object-lock=");
    let answer = store.ask("PUT", &path, &[&sum], Some(&body)).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Numbers that look random, the same ones for a seed (`SplitMix64`).
pub struct Random(u64);

impl Random {
    /// From the seed that `MAINSTAY_TEST_SEED` gives, else always the same; it is printed.
    pub fn new() -> Self {
        let seed = std::env::var(SEED).map_or(20_260_102, |seed| seed.parse().unwrap());
        println!("random moments: {SEED}={seed}");
        Self(seed)
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Moments of a ledger from one to another, in microseconds of the epoch. Of three, one is anywhere between them, where
    /// mostly nobody writes; the others are when a row was committed, and just before.
    pub fn moments(&mut self, ledger: &[(u32, i64)], from: i64, to: i64, count: usize) -> Vec<i64> {
        let rows: Vec<i64> = ledger.iter().map(|(_, at)| *at).collect();
        let rows: Vec<i64> = rows
            .into_iter()
            .filter(|at| *at > from && *at <= to)
            .collect();
        let span = u64::try_from(to - from).unwrap();
        let one = |round: usize| {
            let row = rows[usize::try_from(self.below(rows.len() as u64)).unwrap()];
            match round % 3 {
                0 => from + i64::try_from(self.below(span)).unwrap(),
                1 => row,
                _ => row - 1,
            }
        };
        (0..count).map(one).collect()
    }
}

impl World {
    pub async fn new(place: Where, encrypted: bool) -> Self {
        // In memory: what is written is not what is tested.
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let server = if place == Where::Folder {
            None
        } else {
            let server = Server::start().await.expect("an S3 server");
            let locked = place == Where::Locked;
            server.store().make_bucket(BUCKET, locked).await.unwrap();
            if locked {
                lock(server.store(), folder.path()).await;
            }
            Some(server)
        };
        fs::create_dir(folder.path().join("repository")).unwrap();
        give(folder.path());
        let now = Timestamp::now();
        let authority = issue_authority("shop", "db", now).unwrap();
        let spec = LeafSpec {
            common_name: names::OPERATOR_COMMON_NAME.into(),
            dns_names: vec![],
            addresses: vec![],
            usage: Usage::Client,
            hours: 1,
        };
        let operator = issue_leaf(&authority, &spec, now).unwrap();
        Self {
            server,
            folder,
            prefix: "shop/db".into(),
            break_archive: false,
            bytes_per_second: None,
            keyring: encrypted.then(|| Keyring::generate([7; 32])),
            authority,
            operator,
        }
    }

    pub fn repository(&self) -> RepositorySpec {
        let place = match &self.server {
            Some(server) => PlaceSpec::S3 {
                endpoint: Some(server.store().endpoint.clone()),
                region: REGION.into(),
                bucket: BUCKET.into(),
                virtual_hosted: false,
            },
            None => PlaceSpec::Volume {
                claim: "backups".into(),
                path: "postgres".into(),
            },
        };
        let authority = |server: &Server| fs::read_to_string(&server.store().authority).unwrap();
        RepositorySpec {
            place,
            prefix: self.prefix.clone(),
            authority: self.server.as_ref().map(authority),
            bytes_per_second: self.bytes_per_second,
            concurrency: None,
            encryption: self.keyring.as_ref().map(|_| EncryptionSpec {
                recipients: vec![],
                i_accept_key_loss: true,
            }),
        }
    }

    /// From now on as somebody who has other keys.
    pub fn other_keys(&mut self) {
        self.keyring = Some(Keyring::generate([8; 32]));
    }

    /// The objects, as files.
    pub fn files(&self) -> PathBuf {
        let base = match &self.server {
            Some(server) => server.store().data.join(BUCKET),
            None => self.folder.path().join("repository/postgres"),
        };
        base.join(&self.prefix)
    }

    /// Keys of all objects of a folder, sorted.
    pub fn keys(&self, below: &str) -> Vec<String> {
        let (mut keys, mut folders) = (Vec::new(), vec![self.files().join(below)]);
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for path in entries.map(|e| e.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let key = path.strip_prefix(self.files()).unwrap();
                    keys.push(key.to_str().unwrap().to_owned());
                }
            }
        }
        keys.retain(|key| !key.contains("/.sgwtmp") && !key.starts_with("probe/"));
        keys.sort();
        keys
    }

    /// Folders of an instance, with what the operator would mount.
    pub fn node(&self, name: &str) -> Node {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let node = Node {
            name: name.into(),
            root: self.folder.path().join(name),
            address: format!(
                "127.{}.{}.{}",
                20 + pid % 200,
                number / 250,
                1 + number % 250
            ),
            postgres: None,
            sidecar: None,
            resource: format!("shop/{name}"),
        };
        for folder in [
            "/var/lib/postgresql/data",
            "/var/run/postgresql",
            paths::CONFIG,
            paths::TLS,
            SECRETS,
            RESTORE_SECRETS,
            RUN,
            "/dev",
        ] {
            fs::create_dir_all(node.path(folder)).unwrap();
        }
        for link in [REPOSITORY, RESTORE_REPOSITORY] {
            let to = self.folder.path().join("repository");
            fs::create_dir_all(node.path(link)).unwrap();
            std::os::unix::fs::symlink(to, node.path(link).join("backups")).unwrap();
        }
        self.mount(&node);
        let spec = LeafSpec {
            common_name: name.into(),
            dns_names: vec!["localhost".into()],
            addresses: vec![],
            usage: Usage::ServerAndClient,
            hours: 24,
        };
        let pair = issue_leaf(&self.authority, &spec, Timestamp::now()).unwrap();
        let tls = node.path(paths::TLS);
        fs::write(tls.join("tls.crt"), &pair.certificate).unwrap();
        fs::write(tls.join("tls.key"), pair.key.expose()).unwrap();
        fs::write(tls.join("ca.crt"), &pair.ca).unwrap();
        let client = self.folder.path().join("operator");
        fs::create_dir_all(&client).unwrap();
        fs::write(client.join("tls.crt"), &self.operator.certificate).unwrap();
        fs::write(client.join("tls.key"), self.operator.key.expose()).unwrap();
        fs::write(client.join("ca.crt"), &self.authority.ca).unwrap();
        give(&client);
        node.give();
        node
    }

    /// Settings and secrets.
    pub fn mount(&self, node: &Node) {
        let settings = Settings {
            resource: node.resource.clone(),
            repository: self.repository(),
            immutable: true,
            adopt: None,
            break_archive: self.break_archive,
        };
        let file = node.path(paths::CONFIG).join(BACKUP_FILE);
        fs::write(file, serde_json::to_string(&settings).unwrap()).unwrap();
        self.secrets(&node.path(SECRETS));
    }

    fn secrets(&self, folder: &Path) {
        use mainstay_postgres::backup::settings::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};
        if let Some(server) = &self.server {
            let store = server.store();
            fs::write(folder.join(ACCESS_KEY_ID), &store.access_key_id).unwrap();
            fs::write(folder.join(SECRET_ACCESS_KEY), &store.secret_access_key).unwrap();
        }
        if let Some(text) = self.identity() {
            fs::write(folder.join(INSTANCE_KEYS), text).unwrap();
        }
    }

    /// Runs a restore into a new node; what it told, and whether there is data.
    pub fn restore(&self, node: &Node, target: Target) -> RestoreReport {
        self.restore_from(node, target, None)
    }

    pub fn restore_from(
        &self,
        node: &Node,
        target: Target,
        backup: Option<mainstay_backup::ids::BackupId>,
    ) -> RestoreReport {
        let restore = self.begin_restore(node, target, backup);
        Self::end_restore(node, restore)
    }

    /// The process of a restore that goes on.
    pub fn begin_restore(
        &self,
        node: &Node,
        target: Target,
        backup: Option<mainstay_backup::ids::BackupId>,
    ) -> Child {
        let settings = RestoreSettings {
            resource: node.resource.clone(),
            repository: self.repository(),
            major: major(),
            backup,
            target,
            owner: None,
        };
        let file = node.path(paths::CONFIG).join(RESTORE_FILE);
        fs::write(file, serde_json::to_string(&settings).unwrap()).unwrap();
        self.secrets(&node.path(RESTORE_SECRETS));
        give(&node.root);
        node.run("restore").spawn().unwrap()
    }

    /// Waits until a restore has ended; as [`Self::restore`].
    pub fn end_restore(node: &Node, mut restore: Child) -> RestoreReport {
        let status = restore.wait().unwrap();
        let text = fs::read_to_string(node.path(RESTORE_STATUS))
            .unwrap_or_else(|_| panic!("{}", node.log()));
        let report: RestoreReport = serde_json::from_str(&text).unwrap();
        assert_eq!(
            status.success(),
            node.data().exists(),
            "{report:?}\n{}",
            node.log()
        );
        let leftover = node.path("/var/lib/postgresql/data/pgdata.restore");
        assert!(!leftover.exists(), "what is left of a restore");
        report
    }

    /// Removes the copies of the keys, as the pod of an operation does; its last words.
    pub fn destroy_keys(&self, node: &Node, recipients: Vec<String>) -> ShredReport {
        let settings = ShredSettings {
            repository: self.repository(),
            recipients,
            others_stay: false,
        };
        // No key is where it runs.
        let secrets = node.path(SECRETS);
        self.secrets(&secrets);
        fs::remove_file(secrets.join(INSTANCE_KEYS)).unwrap();
        give(&node.root);
        let mut run = node.run("destroy-keys");
        run.env(SHRED, serde_json::to_string(&settings).unwrap());
        let status = run.status().unwrap();
        let text = fs::read_to_string(node.path(TERMINATION_MESSAGE)).unwrap();
        let report: ShredReport = serde_json::from_str(&text).unwrap();
        assert_eq!(status.success(), report.done, "{report:?}");
        report
    }

    /// The public part of the keys.
    pub fn recipient(&self) -> String {
        let recipient = self.keyring.as_ref().and_then(Keyring::recipient);
        recipient.unwrap().to_string()
    }

    /// The keys as `age` reads them.
    pub fn identity(&self) -> Option<String> {
        use age::secrecy::ExposeSecret as _;
        let keyring = self.keyring.as_ref()?;
        Some(keyring.to_text().expose_secret().to_owned())
    }

    /// Brings data for a replica back from the set's own repository, as an instance's pod does before everything else.
    pub fn seed(&self, node: &Node, identifier: &str, major: u32) -> RestoreReport {
        self.secrets(&node.path(RESTORE_SECRETS));
        give(&node.root);
        let mut run = node.run("seed");
        let major = major.to_string();
        run.args(["--identifier", identifier, "--major", &major]);
        assert!(run.status().unwrap().success(), "{}", node.log());
        let text = fs::read_to_string(node.path(RESTORE_STATUS)).unwrap_or_else(|_| "{}".into());
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Asks a node's backup container.
    pub fn ask(&self, node: &Node, path: &str, order: Option<&Order>) -> Result<String, String> {
        let client = self.folder.path().join("operator");
        let at = |name: &str| client.join(name).display().to_string();
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--fail-with-body",
        ])
        .args([
            "--cacert",
            &at("ca.crt"),
            "--cert",
            &at("tls.crt"),
            "--key",
            &at("tls.key"),
        ])
        .args([
            "--connect-to",
            &format!(
                "localhost:{}:{}:{}",
                names::BACKUP_PORT,
                node.address,
                names::BACKUP_PORT
            ),
        ])
        .arg(format!("https://localhost:{}{path}", names::BACKUP_PORT));
        if let Some(order) = order {
            curl.args(["--data", &serde_json::to_string(order).unwrap()]);
        }
        let output = curl.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            Ok(text)
        } else {
            Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
        }
    }

    pub fn report(&self, node: &Node) -> Option<Report> {
        let text = self.ask(node, "/v1/backup", None).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    /// Waits until a node's report is as wanted.
    pub fn until(&self, node: &Node, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < LONG {
            last = self.report(node);
            if let Some(report) = last.as_ref().filter(|r| wanted(r)) {
                return report.clone();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{}: not {what}: {last:#?}\n{}", node.name, node.log());
    }

    /// Waits until nothing waits for the store.
    pub fn archived(&self, node: &Node) -> Report {
        let name = node.switch();
        self.until(node, "archived", |r| {
            r.archive.state == ArchiveState::Ok && r.archive.last_piece.as_ref() >= Some(&name)
        })
    }

    /// Makes a backup.
    pub fn back_up(&self, node: &Node, order: &str, incremental: bool) -> BackupEntry {
        match self.try_back_up(node, order, incremental) {
            Outcome::Done { id } => {
                let report = self.until(node, "in the catalogue", |r| {
                    r.catalogue.iter().any(|b| b.id == id)
                });
                report.catalogue.into_iter().find(|b| b.id == id).unwrap()
            }
            other => panic!("{other:?}\n{}", node.log()),
        }
    }

    pub fn try_back_up(&self, node: &Node, order: &str, incremental: bool) -> Outcome {
        let take = Order::Take {
            order: order.into(),
            incremental,
            chain: None,
        };
        self.until(node, "ours", |r| r.ownership.state == OwnerState::Ours);
        self.ask(node, "/v1/backup/orders", Some(&take)).unwrap();
        let report = self.until(node, "at the end of the order", |r| {
            r.results.iter().any(|r| r.order == order)
        });
        report
            .results
            .into_iter()
            .find(|r| r.order == order)
            .unwrap()
            .outcome
    }
}

/// An instance.
pub struct Node {
    pub name: String,
    pub resource: String,
    pub root: PathBuf,
    pub address: String,
    postgres: Option<Child>,
    sidecar: Option<Child>,
}

impl Node {
    pub fn path(&self, absolute: &str) -> PathBuf {
        paths::under(&self.root, absolute)
    }

    pub fn data(&self) -> PathBuf {
        self.path("/var/lib/postgresql/data/pgdata")
    }

    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.root.join(name)).unwrap_or_default();
        format!(
            "--- postgres\n{}\n--- backup\n{}",
            read("postgres.log"),
            read("backup.log")
        )
    }

    /// Waits until its processes have said something.
    pub fn until_said(&self, words: &str) {
        let begun = Instant::now();
        while !self.log().contains(words) {
            assert!(begun.elapsed() < LONG, "not said: {words}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it has received all that its primary has written.
    pub fn has_all_of(&self, primary: &Node) {
        let lsn = primary.sql("select pg_current_wal_flush_lsn()");
        let sql = format!("select pg_last_wal_receive_lsn() >= '{lsn}'");
        let begun = Instant::now();
        while self.sql(&sql) != "t" {
            assert!(begun.elapsed() < LONG, "{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn postgres_log(&self) -> String {
        fs::read_to_string(self.root.join("postgres.log")).unwrap_or_default()
    }

    pub fn sockets(&self) -> String {
        self.path("/var/run/postgresql").display().to_string()
    }

    /// Everything of it is PostgreSQL's.
    pub fn give(&self) {
        give(&self.root);
    }

    fn log_file(&self, name: &str) -> fs::File {
        fs::File::options()
            .create(true)
            .append(true)
            .open(self.root.join(name))
            .unwrap()
    }

    fn run(&self, subcommand: &str) -> Command {
        let log = self.log_file("backup.log");
        let mut run = command(program());
        run.arg(subcommand)
            .env(paths::ROOT, &self.root)
            .env("MAINSTAY_LISTEN", &self.address)
            .env("MAINSTAY_LOG", "info,mainstay_postgres=debug")
            .env("POD_NAME", &self.name)
            .env("POD_UID", "uid")
            .env("POD_IP", &self.address)
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        run
    }

    /// Makes new data, with small segments: the log is what is tested, not how much it is.
    pub fn initialise(&self) {
        self.initialise_with(1);
    }

    /// Makes new data with segments of so many MiB.
    pub fn initialise_with(&self, segment: u32) {
        let mut initdb = command(programs().join("initdb"));
        initdb
            .arg("--pgdata")
            .arg(self.data())
            .args([
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
                "--auth=trust",
                "--data-checksums",
                "--no-sync",
            ])
            .arg(format!("--wal-segsize={segment}"))
            .stdout(Stdio::null());
        assert!(initdb.status().unwrap().success());
    }

    /// Copies another node's data, to be its replica.
    pub fn clone_of(&self, primary: &Node) {
        let mut copy = command(programs().join("pg_basebackup"));
        copy.args([
            "-h",
            &primary.sockets(),
            "-U",
            "postgres",
            "--checkpoint=fast",
            "--no-sync",
            "-D",
        ])
        .arg(self.data());
        assert!(copy.status().unwrap().success());
        fs::write(self.data().join("standby.signal"), "").unwrap();
        give(&self.data());
    }

    /// Starts PostgreSQL, as the agent would; `primary`: whom to follow.
    pub fn start(&mut self, primary: Option<&Node>) {
        let mut settings = vec![
            ("archive_mode", "always".to_owned()),
            (
                "archive_command",
                format!(
                    "\"{}\" push --socket \"{}\" %p",
                    program().display(),
                    self.path(SOCKET).display()
                ),
            ),
            ("archive_timeout", "60s".to_owned()),
            ("listen_addresses", String::new()),
            ("unix_socket_directories", self.sockets()),
            ("hot_standby", "on".to_owned()),
            ("fsync", "off".to_owned()),
            ("shared_buffers", "32MB".to_owned()),
            ("max_wal_size", "64MB".to_owned()),
            ("wal_log_hints", "on".to_owned()),
            ("track_commit_timestamp", "on".to_owned()),
            ("log_timezone", "UTC".to_owned()),
            ("timezone", "UTC".to_owned()),
            ("wal_retrieve_retry_interval", "200ms".to_owned()),
        ];
        if major() >= 17 {
            settings.push(("summarize_wal", "on".to_owned()));
        }
        if let Some(primary) = primary {
            settings.push((
                "primary_conninfo",
                format!("host={} user=postgres", primary.sockets()),
            ));
        }
        let line =
            |(name, value): &(&str, String)| format!("{name} = '{}'", value.replace('\'', "''"));
        let lines: Vec<String> = settings.iter().map(line).collect();
        let text = lines.join("\n");
        fs::write(self.root.join("postgresql.conf"), text).unwrap();
        fs::write(
            self.root.join("pg_hba.conf"),
            "local all all trust\nlocal replication all trust\n",
        )
        .unwrap();
        let log = self.log_file("postgres.log");
        let mut postgres = command(programs().join("postgres"));
        postgres
            .arg("-D")
            .arg(self.data())
            .arg("-c")
            .arg(format!(
                "config_file={}",
                self.root.join("postgresql.conf").display()
            ))
            .arg("-c")
            .arg(format!(
                "hba_file={}",
                self.root.join("pg_hba.conf").display()
            ))
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.postgres = Some(postgres.spawn().unwrap());
        let begun = Instant::now();
        while self.try_sql("select 1").is_err() {
            assert!(begun.elapsed() < LONG, "{}", self.log());
            let ended = self.postgres.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn start_sidecar(&mut self) {
        self.sidecar = Some(self.run("backup").spawn().unwrap());
    }

    /// The process that makes backups.
    pub fn sidecar_pid(&self) -> u32 {
        self.sidecar.as_ref().unwrap().id()
    }

    pub fn stop_sidecar(&mut self) {
        if let Some(mut sidecar) = self.sidecar.take() {
            sidecar.kill().unwrap();
            sidecar.wait().unwrap();
        }
    }

    /// Stops PostgreSQL: in order, or as a crash does. How long it took.
    pub fn stop(&mut self, orderly: bool) -> Duration {
        let begun = Instant::now();
        if let Some(mut postgres) = self.postgres.take() {
            let signal = if orderly {
                Signal::SIGINT
            } else {
                Signal::SIGQUIT
            };
            kill(Pid::from_raw(postgres.id().cast_signed()), signal).unwrap();
            postgres.wait().unwrap();
        }
        begun.elapsed()
    }

    pub fn promote(&self) {
        self.sql("select pg_promote(true, 60)");
    }

    /// Looks at what was restored, as a drill does; its last words.
    pub fn drill(&self, checks: &[(&str, Option<&str>)]) -> DrillReport {
        let check = |(sql, expect): &(&str, Option<&str>)| DrillCheck {
            sql: (*sql).to_owned(),
            expect: expect.map(str::to_owned),
        };
        let settings = DrillSettings {
            resource: self.resource.clone(),
            database: "postgres".into(),
            role: "app".into(),
            statement_seconds: 2,
            checks: checks.iter().map(check).collect(),
        };
        let file = self.path(paths::CONFIG).join(DRILL_FILE);
        fs::write(file, serde_json::to_string(&settings).unwrap()).unwrap();
        give(&self.root);
        let status = self.run("drill").status().unwrap();
        let text = fs::read_to_string(self.path(TERMINATION_MESSAGE)).unwrap();
        let report: DrillReport = serde_json::from_str(&text).unwrap();
        assert_eq!(status.success(), report.passed, "{report:?}");
        report
    }

    /// Ends the segment that is being written; its name.
    pub fn switch(&self) -> String {
        self.sql("select pg_logical_emit_message(true, 'test', 'x')");
        self.sql("select pg_walfile_name(pg_switch_wal() - 1)")
    }

    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        let mut psql = command("/usr/bin/psql");
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            &self.sockets(),
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-c",
            sql,
        ]);
        let output = psql.output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}\n{}", self.log()))
    }

    /// Writes rows into the ledger, each in a transaction of its own.
    pub fn write(&self, rows: u32) {
        self.sql("create table if not exists ledger (n serial primary key, filling text)");
        self.sql(&format!(
            "do $$ begin for i in 1..{rows} loop insert into ledger (filling) values (repeat(md5(random()::text), 100)); commit; end loop; end $$"
        ));
    }

    /// Numbers and moments of the ledger's rows.
    pub fn ledger(&self) -> Vec<(u32, i64)> {
        let text = self.sql(
            "select n || ' ' || (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::int8 from ledger order by n",
        );
        text.lines()
            .map(|line| {
                let (n, at) = line.split_once(' ').unwrap();
                (n.parse().unwrap(), at.parse().unwrap())
            })
            .collect()
    }

    pub fn rows(&self) -> Vec<u32> {
        let text = self.sql("select n from ledger order by n");
        text.lines().map(|n| n.parse().unwrap()).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(20_000);
            eprintln!("log of {}:\n{}", self.name, log.get(from..).unwrap_or(&log));
        }
        self.stop_sidecar();
        self.stop(false);
    }
}

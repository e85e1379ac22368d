//! A real PostgreSQL with the real backup container's process beside it, in a folder.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use mainstay_backup::api::{
    ArchiveState, BackupEntry, ORDERS, Order, Outcome, OwnerState, REPORT, Report,
};
use mainstay_backup::crypto::{EncryptionSpec, Keyring};
use mainstay_backup::drill::DrillReport;
use mainstay_backup::shred::{ShredReport, ShredSettings};
use mainstay_e2e::object_store::{ObjectStore, REGION, Server};
use mainstay_e2e::tools;
use mainstay_postgres::backup::api::{RestoreReport, RestoreStep};
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
/// Environment variable: seconds, in place of 90, that anything may take. Large databases take longer.
const PATIENCE: &str = "MAINSTAY_TEST_PATIENCE";
/// Environment variable: the folder, in place of the one in memory, where everything is that tests make.
const FOLDER: &str = "MAINSTAY_TEST_FOLDER";
/// Environment variable: folder of PostgreSQL's programs, instead of the newest that Debian's packages left.
const PROGRAMS: &str = "MAINSTAY_TEST_POSTGRES";
/// The bucket.
pub const BUCKET: &str = "backups";

mod node;
mod orders;
mod random;
mod restores;

pub use node::Node;
pub use orders::{keep, take};
pub use random::Random;
pub use restores::upto;

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

/// Longest wait for anything.
pub fn long() -> Duration {
    let seconds = std::env::var(PATIENCE).map_or(90, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

/// What runs.
pub fn program() -> PathBuf {
    static OPEN: OnceLock<PathBuf> = OnceLock::new();
    let open = OPEN.get_or_init(|| {
        let built = || env!("CARGO_BIN_EXE_mainstay-postgres").into();
        let program = std::env::var_os(PROGRAM).map_or_else(built, PathBuf::from);
        tools::for_all(&program).unwrap()
    });
    open.clone()
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

/// Bytes of all files below a folder; none where there is none.
pub fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |path: PathBuf| {
        // What a link leads to is counted where it is.
        if path.is_dir() && !path.is_symlink() {
            return bytes(&path);
        }
        fs::symlink_metadata(path).map_or(0, |file| file.len())
    };
    entries.map(|entry| size(entry.path())).sum()
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

impl World {
    pub async fn new(place: Where, encrypted: bool) -> Self {
        // In memory: what is written is not what is tested.
        let folder = std::env::var_os(FOLDER).map_or("/dev/shm".into(), PathBuf::from);
        let folder = tempfile::tempdir_in(folder).unwrap();
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
            archive_timeout: 60,
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
}

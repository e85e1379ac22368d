//! The data directory: looked at, made, copied. I/O.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

pub use mainstay_shared::agent::state::absent;
use mainstay_shared::agent::state::sync_folder;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::watch;

use super::decide::{Data, Role};
use super::history;
use super::place::Place;
use super::recovery;
use crate::backup::api::{RestoreReport, RestoreStep};
use crate::backup::local;
use crate::backup::settings::RESTORE_STATUS;

/// The data directory could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Files.
    #[error("on the data volume: {0}")]
    Io(#[from] io::Error),
    /// A program of PostgreSQL failed; what it said last.
    #[error("{0} failed: {1}")]
    Program(&'static str, String),
    /// The copy is not of this set.
    #[error(
        "the primary's data is {found}, not {wanted}: the address in the Lease leads to another set"
    )]
    Foreign {
        /// What the copy holds.
        found: String,
        /// What the record says.
        wanted: String,
    },
}

/// Look at the volume: what is there, and the least values of settings with
/// which it can be opened as a replica (see [`super::render::Facts::floors`]). `rewound`: it was
/// rewound to the end, and is whole as soon as it has received what it lacks.
///
/// None when the program that looks was killed, as a hard stop does: that tells nothing of the data.
pub async fn inspect(place: &Place, rewound: bool) -> Option<(Data, BTreeMap<String, u64>)> {
    let folder = place.data();
    if !folder.exists() {
        return Some((Data::None, BTreeMap::new()));
    }
    let unusable = |why: &str| {
        Data::Unusable(format!(
            "the data directory of {} cannot be used ({why}). If it is a replica's, delete its volume claim to have it copied anew",
            place.me.instance
        ))
    };
    if place.rewinding().exists() && !rewound {
        let why = "rewinding it was interrupted".to_owned();
        return Some((Data::Broken(why), BTreeMap::new()));
    }
    let control = match control(place, &folder).await {
        Ok(control) => control,
        Err(Looked::Killed) => return None,
        Err(Looked::Refused(why)) => return Some((unusable(&why), BTreeMap::new())),
    };
    let Some(identifier) = control.get(IDENTIFIER).cloned() else {
        return Some((unusable("it has no identifier"), BTreeMap::new()));
    };
    let timeline = match last_timeline(&folder) {
        Ok(timeline) => timeline,
        Err(error) => return Some((unusable(&format!("its log: {error}")), BTreeMap::new())),
    };
    let orderly = control
        .get("Database cluster state")
        .is_some_and(|s| s == "shut down");
    let checkpoint = control.get("Latest checkpoint location");
    let end = checkpoint
        .filter(|_| orderly)
        .and_then(|lsn| history::position(lsn));
    let role = if folder.join(SIGNAL).exists() {
        Role::Replica
    } else {
        Role::Primary
    };
    let data = Data::Present {
        identifier,
        role,
        timeline,
        end: end.filter(|_| role == Role::Primary),
    };
    Some((data, least(&control)))
}

/// The timeline that the data began with: the first, or that which a restore ended with. None while nobody knows.
pub fn began(place: &Place) -> Option<u64> {
    if !place.data().exists() {
        return None;
    }
    match local::provenance(place) {
        Ok(restored) => Some(restored.map_or(1, |restored| u64::from(restored.timeline))),
        Err(error) => {
            tracing::warn!(error, "it is not known with which timeline the data began");
            None
        }
    }
}

/// The least values of settings with which the data of the running engine can be opened as a replica.
pub async fn floors(place: &Place) -> Option<BTreeMap<String, u64>> {
    let control = control(place, &place.data()).await.ok()?;
    Some(least(&control))
}

fn least(control: &BTreeMap<String, String>) -> BTreeMap<String, u64> {
    let floors = FLOORS.iter().filter_map(|(key, name)| {
        let value = control.get(*key)?.parse().ok()?;
        Some(((*name).to_owned(), value))
    });
    floors.collect()
}

/// Latest timeline of which there is log.
fn last_timeline(folder: &Path) -> io::Result<u64> {
    let mut last = 0;
    for entry in fs::read_dir(folder.join("pg_wal"))? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if recovery::is_file(&name)
            && let Ok(timeline) = u64::from_str_radix(&name[..8], 16)
        {
            last = last.max(timeline);
        }
    }
    Ok(last)
}

/// From which timelines a timeline descends, as far as its history file is there.
pub fn ancestors(place: &Place, timeline: u64) -> Vec<(u64, u64)> {
    let file = place.data().join(format!("pg_wal/{timeline:08X}.history"));
    let text = fs::read_to_string(file);
    text.map_or_else(|_| Vec::new(), |text| history::ancestors(&text))
}

/// The file by which PostgreSQL starts as a replica.
const SIGNAL: &str = "standby.signal";

/// Have the next start be that of a replica, or of a primary. Durable when it returns.
pub fn set_role(place: &Place, role: Role) -> io::Result<()> {
    let file = place.data().join(SIGNAL);
    match role {
        Role::Replica => fs::File::create(&file)?.sync_all()?,
        Role::Primary => absent(fs::remove_file(&file))?,
    }
    sync_folder(&place.data())
}

/// Take back what the history of the primary at `conninfo` does not hold. The engine is stopped;
/// when it was not in order, `pg_rewind` recovers it first.
///
/// Caveat: until it has received from that very primary what it lacks, the data cannot be used; a mark
/// beside it says so until [`settle`], and without that it is copied anew.
pub async fn rewind(
    place: &Place,
    conninfo: &str,
    settings: &Path,
    progress: &watch::Sender<String>,
) -> Result<(), DataError> {
    let rewind = |dry: bool| {
        let mut rewind = Command::new(place.program("pg_rewind"));
        rewind
            .arg("--target-pgdata")
            .arg(place.data())
            .arg(format!("--config-file={}", settings.display()))
            .arg(format!("--source-server={conninfo} dbname='postgres'"))
            .args(["--progress"]);
        if dry {
            rewind.arg("--dry-run");
        }
        rewind
    };
    // Nothing is touched for a source that does not answer. What else is wrong the real run says.
    if let Err(DataError::Program(name, why)) = run("pg_rewind", rewind(true), progress).await
        && (why.contains("connection to server") || why.contains("could not connect"))
    {
        return Err(DataError::Program(name, why));
    }
    // It would be kept out of the single-user recovery, and is none of the source's.
    set_role(place, Role::Primary)?;
    let mark = place.rewinding();
    fs::File::create(&mark)?.sync_all()?;
    sync_folder(&place.volume())?;
    run("pg_rewind", rewind(false), progress).await?;
    Ok(set_role(place, Role::Replica)?)
}

/// Rewound data has become whole: the mark goes.
pub fn settle(place: &Place) -> io::Result<()> {
    absent(fs::remove_file(place.rewinding()))?;
    sync_folder(&place.volume())
}

/// Throw the data away.
pub fn remove(place: &Place) -> io::Result<()> {
    absent(fs::remove_dir_all(place.data()))?;
    settle(place)
}

/// Before a promotion: have PostgreSQL choose that timeline. It takes the first number after its
/// own without a history file; those below that others have claimed get one. They never served
/// anybody, so where they forked matters to nobody: at the beginning, so that a replica that looks
/// for the latest timeline finds them to be no children of its own. Those before the own get one too:
/// who is further behind asks for the files of all timelines between.
pub fn reserve_timelines(place: &Place, claimed: u64) -> io::Result<()> {
    let folder = place.data().join("pg_wal");
    for timeline in 2..claimed {
        let file = folder.join(format!("{timeline:08X}.history"));
        if !file.exists() {
            fs::write(&file, "1\t0/0\tclaimed by another instance\n")?;
            fs::File::open(&file)?.sync_all()?;
        }
    }
    sync_folder(&folder)
}

/// How `pg_controldata` calls the system identifier.
pub const IDENTIFIER: &str = "Database system identifier";

/// Settings of which a replica needs at least the primary's value, as `pg_controldata` names them.
pub const FLOORS: [(&str, &str); 5] = [
    ("max_connections setting", "max_connections"),
    ("max_worker_processes setting", "max_worker_processes"),
    ("max_wal_senders setting", "max_wal_senders"),
    ("max_prepared_xacts setting", "max_prepared_transactions"),
    ("max_locks_per_xact setting", "max_locks_per_transaction"),
];

async fn identifier(place: &Place, folder: &Path) -> Result<String, String> {
    let looked = control(place, folder).await;
    let mut control = looked.map_err(|e| e.to_string())?;
    control
        .remove(IDENTIFIER)
        .ok_or_else(|| "it has no identifier".to_owned())
}

/// Why `pg_controldata` said nothing.
#[derive(Debug, thiserror::Error)]
pub enum Looked {
    /// By a hard stop.
    #[error("pg_controldata was killed")]
    Killed,
    /// It cannot read the data, or cannot be run.
    #[error("{0}")]
    Refused(String),
}

/// What `pg_controldata` says, by its words.
///
/// # Errors
/// It was killed, or does not read the data.
pub async fn control(place: &Place, folder: &Path) -> Result<BTreeMap<String, String>, Looked> {
    let output = Command::new(place.program("pg_controldata"))
        .arg("-D")
        .arg(folder)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|e| Looked::Refused(format!("pg_controldata cannot be run: {e}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.code().is_none() {
        return Err(Looked::Killed);
    }
    if !output.status.success() {
        return Err(Looked::Refused(last_line(&output.stderr)));
    }
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    Ok(pairs
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect())
}

/// Have PostgreSQL read a configuration file without starting: none when it takes it, else why not.
///
/// # Errors
/// When that cannot be told now.
pub async fn check(place: &Place, file: &Path) -> Result<Option<String>, String> {
    let output = Command::new(place.program("postgres"))
        .arg("-D")
        .arg(place.data())
        .arg("-c")
        .arg(format!("config_file={}", file.display()))
        .args(["-C", "port"])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|e| format!("postgres cannot be run: {e}"))?;
    if output.status.success() {
        return Ok(None);
    }
    if output.status.code().is_none() {
        return Err("postgres was killed while it checked the configuration".to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // The cause comes first; the last line only says that there was one.
    let line = said.lines().find(|l| !l.trim().is_empty());
    let line = line.unwrap_or("it said nothing");
    let cause = line.split_once("LOG:").map_or(line, |(_, cause)| cause);
    Ok(Some(format!(
        "PostgreSQL refuses its configuration: {}",
        cause.trim()
    )))
}

/// Make the set's first data directory; returns its identifier.
///
/// `parameters` are those of the set: what a replica must not have lower than its primary is noted
/// in the data by a first start without clients, or the data's first start as a replica would need
/// the values that `initdb` happens to use.
pub async fn initialise(
    place: &Place,
    major: u32,
    parameters: &BTreeMap<String, String>,
) -> Result<String, DataError> {
    let unfinished = fresh(place)?;
    let mut initdb = Command::new(place.program("initdb"));
    initdb
        .arg("--pgdata")
        .arg(&unfinished)
        .args(["--username=postgres", "--data-checksums", "--encoding=UTF8"])
        // Our own pg_hba.conf is used; this one shall let nobody in.
        .args([
            "--auth-local=peer",
            "--auth-host=reject",
            "--no-instructions",
        ])
        .arg("--locale=C.UTF-8");
    if major >= 17 {
        // Sorting that no update of the C library changes under the indexes.
        initdb.args(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
    }
    let quiet = watch::channel(String::new()).0;
    run("initdb", initdb, &quiet).await?;
    let mut first = Command::new(place.program("postgres"));
    first.arg("--single").arg("-D").arg(&unfinished);
    for (_, name) in FLOORS {
        if let Some(value) = parameters.get(name) {
            first.arg("-c").arg(format!("{name}={value}"));
        }
    }
    first.arg("postgres");
    run("postgres --single", first, &quiet).await?;
    finish(place, &unfinished)?;
    identifier(place, &place.data())
        .await
        .map_err(|why| DataError::Program("pg_controldata", why))
}

/// Take data that was brought back from the repository in place of a copy of the primary's; false when there is none of
/// this set.
///
/// # Errors
/// The volume.
pub async fn adopt(place: &Place, wanted: &str) -> Result<bool, DataError> {
    let seeded = place.seeded();
    if !seeded.exists() {
        return Ok(false);
    }
    match identifier(place, &seeded).await {
        Ok(found) if found == wanted => {}
        found => {
            tracing::warn!(?found, "what was brought back is not of this set");
            fs::remove_dir_all(&seeded)?;
            return Ok(false);
        }
    }
    fs::File::create(seeded.join(SIGNAL))?.sync_all()?;
    finish(place, &seeded)?;
    Ok(true)
}

/// Why nothing was brought back from the repository in this pod, if it was tried.
pub fn not_seeded(place: &Place) -> Option<String> {
    let text = fs::read_to_string(place.mount(RESTORE_STATUS)).ok()?;
    let report: RestoreReport = serde_json::from_str(&text).ok()?;
    let failed = report.step == RestoreStep::Failed;
    failed.then(|| format!("the repository gave no data: {}", report.message))
}

/// Copy the primary's data from `conninfo`, using the slot `slot`; `progress` is told.
pub async fn copy(
    place: &Place,
    conninfo: &str,
    slot: &str,
    wanted: &str,
    progress: &watch::Sender<String>,
) -> Result<(), DataError> {
    let unfinished = fresh(place)?;
    let mut backup = Command::new(place.program("pg_basebackup"));
    backup
        .arg("--pgdata")
        .arg(&unfinished)
        .args([
            "--wal-method=stream",
            "--checkpoint=fast",
            "--no-password",
            "--progress",
        ])
        .args(["--slot", slot, "--dbname", conninfo]);
    run("pg_basebackup", backup, progress).await?;
    let found = identifier(place, &unfinished)
        .await
        .map_err(|why| DataError::Program("pg_controldata", why))?;
    if found != wanted {
        fs::remove_dir_all(&unfinished)?;
        return Err(DataError::Foreign {
            found,
            wanted: wanted.to_owned(),
        });
    }
    fs::File::create(unfinished.join(SIGNAL))?.sync_all()?;
    finish(place, &unfinished)
}

/// An empty folder for a directory that is not finished; what an interrupted try left is removed.
fn fresh(place: &Place) -> io::Result<std::path::PathBuf> {
    let unfinished = place.unfinished();
    absent(fs::remove_dir_all(&unfinished))?;
    fs::DirBuilder::new().mode(0o700).create(&unfinished)?;
    // Whatever the umask or a default access list of the volume made of it.
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o700))?;
    Ok(unfinished)
}

/// From here on the directory counts as data.
fn finish(place: &Place, unfinished: &Path) -> Result<(), DataError> {
    sync_folder(unfinished)?;
    fs::rename(unfinished, place.data())?;
    sync_folder(&place.volume())?;
    Ok(())
}

/// Remove the lock file of an engine of which no process is left.
pub fn unlock(place: &Place) -> io::Result<()> {
    let stale = [
        place.data().join("postmaster.pid"),
        place
            .sockets()
            .join(format!(".s.PGSQL.{}.lock", crate::settings::PORT)),
        place
            .sockets()
            .join(format!(".s.PGSQL.{}", crate::settings::PORT)),
    ];
    for file in stale {
        absent(fs::remove_file(file))?;
    }
    Ok(())
}

/// Run a program to its end. It is killed when the caller gives up.
async fn run(
    name: &'static str,
    mut command: Command,
    progress: &watch::Sender<String>,
) -> Result<(), DataError> {
    let mut child = command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut said = Vec::new();
    let stdout = child.stdout.take();
    let drain = async move {
        let mut ignored = Vec::new();
        if let Some(mut stdout) = stdout {
            // Only so that the program never waits for a reader.
            let _ = stdout.read_to_end(&mut ignored).await;
        }
    };
    let stderr = child.stderr.take();
    let listen = async {
        let Some(stderr) = stderr else { return };
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            progress.send_replace(line.trim().to_owned());
            said = line.into_bytes();
        }
    };
    tokio::join!(drain, listen);
    let status = child.wait().await?;
    if status.success() {
        Ok(())
    } else {
        Err(DataError::Program(name, last_line(&said)))
    }
}

fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().rfind(|l| !l.trim().is_empty());
    line.unwrap_or("it said nothing").trim().to_owned()
}

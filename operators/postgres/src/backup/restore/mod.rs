//! A new data directory from a repository. I/O; what leads to a point is chosen by [`choose`].
//!
//! It runs before the agent of a new set's founder, and only where there is no data. The backups of a chain are
//! brought back and checked by PostgreSQL's own tools, combined by `pg_combinebackup`, and recovered by a
//! PostgreSQL that nobody else reaches, to the target and nowhere else. What was reached is checked, and the
//! data gets an id of its own. Only then the folder gets the name by which it counts as data: whatever breaks
//! before that leaves nothing that could be taken for some, and the next try begins anew.

pub mod choose;
pub mod log;
pub mod seed;
pub mod server;
pub mod untar;
pub mod words;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::ids::OwnerId;
use mainstay_backup::manifest::Manifest;
use mainstay_backup::repository::Repository;
use mainstay_backup::stream::GetError;
use mainstay_shared::agent::paths;
use mainstay_shared::backups::container::keeper::random;
use mainstay_shared::backups::container::restoring::{
    self, RestoreError, make, open, refused, settings,
};
use tokio::process::Command;
use tokio::runtime::Handle;

use super::api::{Reached, RestoreStep};
use super::local;
use super::owner::Provenance;
use super::settings::{OWNER_FILE, RESTORE_FILE, RUN, RestoreSettings, Target};
use super::snapshot::ARCHIVE;
use super::split::MANIFEST;
use super::state::lock;
use super::wal::{Lsn, Segment};
use crate::agent::data::{IDENTIFIER, Looked, absent, control};
use crate::agent::place::Place;
use choose::{Choice, choose};
use log::Log;
use server::{Private, Purpose, Recovery, Server};

/// Room beyond the backup's own: log that is replayed, and what PostgreSQL writes.
const ROOM: u64 = 512 << 20;

/// What it does is told while it does it.
type Teller = restoring::Teller<Reached>;

/// Makes the data directory, unless there is one.
///
/// # Errors
/// There is none afterwards, and nothing that could be taken for one.
pub async fn run() -> Result<(), RestoreError> {
    let place = Place::from_environment().map_err(refused)?;
    if place.data().exists() {
        tracing::info!("there is data: nothing is restored");
        return Ok(());
    }
    let teller = Teller::begin(&place.root);
    let work = place.volume().join("pgdata.restore");
    restoring::told(&teller, &work, restore(&place, &work, &teller)).await
}

async fn restore(place: &Place, work: &Path, teller: &Teller) -> Result<(), RestoreError> {
    teller.step(RestoreStep::Choosing, "reading the repository");
    let settings: RestoreSettings = settings(&place.mount(paths::CONFIG), RESTORE_FILE)?;
    let repository = Arc::new(open(&place.root, &settings.repository).await?);
    let catalogue = Catalogue::read(&repository, None).await?;
    let choice = choose(
        &catalogue,
        settings.major,
        settings.backup.as_ref(),
        &settings.target,
        Timestamp::now(),
    )
    .map_err(refused)?;
    drop(catalogue);
    absent(fs::remove_dir_all(work))?;
    let total = room(place, &choice)?;
    let newest = choice.chain.last();
    let newest = newest.ok_or_else(|| refused("there is no backup"))?;
    teller.chosen(&newest.id, &repository, total);
    make(work)?;
    let data = fetch(place, work, &repository, &choice, teller).await?;
    let (reached, provenance) =
        replay(place, work, &data, &repository, &choice, &settings, teller).await?;
    teller.step(RestoreStep::Finishing, "writing everything to the disk");
    let folder = fs::File::open(place.volume())?;
    rustix::fs::syncfs(&folder).map_err(io::Error::from)?;
    fs::rename(&data, place.data())?;
    folder.sync_all()?;
    absent(fs::remove_dir_all(work))?;
    teller.change(|report| {
        report.step = RestoreStep::Done;
        report.message = format!("restored to {}: {}", reached.lsn, reached.because);
        report.reached = Some(reached);
        report.owner = Some(provenance.owner);
        report.ended = Some(Timestamp::now());
    });
    Ok(())
}

fn plain(manifest: &Manifest) -> u64 {
    manifest.files.iter().map(|file| file.size).sum()
}

/// Whether there is room; returns the plain bytes that are brought back.
fn room(place: &Place, choice: &Choice) -> Result<u64, RestoreError> {
    let total: u64 = choice.chain.iter().map(plain).sum();
    // While a chain is combined, what it is combined from is there too.
    let combined = if choice.chain.len() > 1 { total } else { 0 };
    let needed = total + combined + ROOM;
    restoring::room(&place.volume(), needed)?;
    Ok(total)
}

/// Brings the chain back, and makes one data directory of it.
async fn fetch(
    place: &Place,
    work: &Path,
    repository: &Arc<Repository>,
    choice: &Choice,
    teller: &Teller,
) -> Result<PathBuf, RestoreError> {
    let mut folders = Vec::new();
    for (number, manifest) in choice.chain.iter().enumerate() {
        let what = format!(
            "backup {} ({} of {})",
            manifest.id,
            number + 1,
            choice.chain.len()
        );
        teller.step(RestoreStep::Fetching, &what);
        let folder = work.join(number.to_string());
        make(&folder)?;
        one(repository, manifest, &folder, teller).await?;
        teller.step(RestoreStep::Checking, &what);
        verify(place, &folder, &manifest.id.to_string()).await?;
        folders.push(folder);
    }
    if let [only] = &folders[..] {
        return Ok(only.clone());
    }
    teller.step(RestoreStep::Checking, "combining the chain");
    let out = work.join("combined");
    let mut combine = Command::new(place.program("pg_combinebackup"));
    combine
        .args(["--no-sync", "--output"])
        .arg(&out)
        .args(&folders);
    tool("pg_combinebackup", combine).await?;
    for folder in &folders {
        absent(fs::remove_dir_all(folder))?;
    }
    verify(place, &out, "what pg_combinebackup made").await?;
    Ok(out)
}

/// Brings a backup's files back into a folder.
async fn one(
    repository: &Arc<Repository>,
    manifest: &Manifest,
    folder: &Path,
    teller: &Teller,
) -> Result<(), RestoreError> {
    let failed = |error: GetError| RestoreError::of_get(&manifest.id, error);
    for entry in &manifest.files {
        match entry.name.as_str() {
            ARCHIVE => {
                let (mut reader, mut writer) = tokio::io::duplex(1 << 20);
                let (handle, to) = (Handle::current(), folder.to_owned());
                let writing =
                    tokio::task::spawn_blocking(move || untar::untar(&mut reader, &to, &handle));
                let got = repository.getting().file(entry, &mut writer).await;
                drop(writer);
                let wrote = writing
                    .await
                    .map_err(|_| RestoreError::Failed("writing was broken off".to_owned()))?;
                // Who hung up says why.
                match (got, wrote) {
                    (Err(GetError::Output(_)) | Ok(()), Err(error)) => {
                        return Err(match error.raw_os_error() {
                            Some(_) => RestoreError::Volume(error),
                            None => {
                                RestoreError::Failed(format!("backup {}: {error}", manifest.id))
                            }
                        });
                    }
                    (Err(error), _) => return Err(failed(error)),
                    (Ok(()), Ok(())) => {}
                }
            }
            MANIFEST => {
                let file = tokio::fs::File::create(folder.join(MANIFEST)).await?;
                let mut file = file;
                repository
                    .getting()
                    .file(entry, &mut file)
                    .await
                    .map_err(failed)?;
            }
            other => {
                return Err(RestoreError::Failed(format!(
                    "backup {} has a file `{other}`, which this release does not know",
                    manifest.id
                )));
            }
        }
        teller.change(|report| report.bytes += entry.size);
    }
    Ok(())
}

async fn verify(place: &Place, folder: &Path, what: &str) -> Result<(), RestoreError> {
    let mut verify = Command::new(place.program("pg_verifybackup"));
    verify.args(["--no-parse-wal", "--quiet"]).arg(folder);
    tool("pg_verifybackup", verify)
        .await
        .map_err(|error| match error {
            RestoreError::Failed(why) => RestoreError::Failed(format!("{what}: {why}")),
            other => other,
        })
}

/// Runs one of PostgreSQL's tools that judge data.
///
/// # Errors
/// It refuses the data: the first line that says why.
pub(super) async fn tool(name: &str, mut command: Command) -> Result<(), RestoreError> {
    let output = command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| RestoreError::Failed(format!("{name} cannot be run: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    // Some tell what they found as their result.
    let found = String::from_utf8_lossy(&output.stdout);
    let said = match errors.lines().find(|line| line.contains("error")) {
        Some(line) => line.trim().to_owned(),
        // What it is about, and what is wrong with it.
        None if !found.trim().is_empty() => {
            let lines: Vec<&str> = found.lines().take(2).map(str::trim).collect();
            lines.join(" ")
        }
        None => errors
            .lines()
            .next()
            .unwrap_or("it said nothing")
            .trim()
            .to_owned(),
    };
    Err(RestoreError::Failed(format!("{name} refuses it: {said}")))
}

/// Recovers to the target, and makes the data one of its own.
async fn replay(
    place: &Place,
    work: &Path,
    data: &Path,
    repository: &Arc<Repository>,
    choice: &Choice,
    settings: &RestoreSettings,
    teller: &Teller,
) -> Result<(Reached, Provenance), RestoreError> {
    let target = &settings.target;
    teller.step(RestoreStep::Replaying, "replaying the log");
    let (scratch, server_folder) = (work.join("log"), work.join("server"));
    make(&scratch)?;
    make(&server_folder)?;
    let socket = place.mount(RUN).join("log.sock");
    let log = Arc::new(Log::new(
        Arc::clone(repository),
        choice.segments.clone(),
        choice.histories.clone(),
        scratch,
        data.to_owned(),
    ));
    let serving = {
        let (log, socket) = (Arc::clone(&log), socket.clone());
        tokio::spawn(async move { log.serve(&socket).await })
    };
    let recovery = Private {
        place,
        data,
        scratch: &server_folder,
        purpose: Purpose::Recovery(Recovery {
            log_socket: &socket,
            timeline: choice.timeline,
            target,
        }),
    };
    let recovered = recover(&recovery, target, choice, &log, teller).await;
    serving.abort();
    let fatal = lock(&log.fatal).clone();
    // What broke off the log is why PostgreSQL ended.
    let (reached, timeline) = recovered.map_err(|why| {
        let why = fatal.unwrap_or(why);
        let hole = choice.hole.as_ref().map(|hole| format!("; {hole}"));
        RestoreError::Failed(why + &hole.unwrap_or_default())
    })?;
    let newest = choice
        .chain
        .last()
        .ok_or_else(|| refused("there is no backup"))?;
    let failed = |e: Looked| RestoreError::Failed(e.to_string());
    let state = control(place, data).await.map_err(failed)?;
    let provenance = provenance(data, &state, timeline, newest, settings)?;
    let text = serde_json::to_vec(&provenance).map_err(io::Error::other)?;
    fs::write(data.join(OWNER_FILE), text)?;
    match state.get("Database cluster state").map(String::as_str) {
        Some("shut down") => Ok((reached, provenance)),
        other => Err(RestoreError::Failed(format!(
            "the data was not shut down in order: {other:?}"
        ))),
    }
}

/// Whose the data is from now on: a new owner's, or still that of a set which goes back in place.
fn provenance(
    data: &Path,
    control: &BTreeMap<String, String>,
    timeline: u32,
    newest: &Manifest,
    settings: &RestoreSettings,
) -> Result<Provenance, RestoreError> {
    let (from, backup) = (newest.owner.clone(), newest.id.clone());
    let Some(owner) = settings.owner.clone() else {
        let random = random().map_err(|e| RestoreError::Failed(e.to_string()))?;
        return Ok(Provenance {
            owner: OwnerId::new(random),
            timeline,
            first: None,
            from,
            backup,
        });
    };
    let was = local::provenance_in(data).map_err(RestoreError::Failed)?;
    let identifier = control.get(IDENTIFIER).map_or("", String::as_str);
    Ok(Provenance::in_place(
        owner,
        was.as_ref(),
        identifier,
        timeline,
        from,
        backup,
    ))
}

async fn recover(
    recovery: &Private<'_>,
    target: &Target,
    choice: &Choice,
    log: &Log,
    teller: &Teller,
) -> Result<(Reached, u32), String> {
    let mut server = Server::start(recovery).await?;
    let told = Mutex::new(String::new());
    let mut progress = |lsn: &str| {
        let mut told = lock(&told);
        if *told != lsn {
            lsn.clone_into(&mut told);
            let last = lock(&log.last).clone();
            teller.change(|report| {
                report.message = format!("replayed up to {lsn}");
                report.last_piece = last;
            });
        }
    };
    let at = server.reached(&mut progress).await?;
    let because = judge(
        target,
        choice,
        &at,
        &lock(&server.words).clone(),
        lock(&log.last).as_deref(),
    )?;
    if !at.promoted {
        server.promote().await?;
    }
    teller.step(RestoreStep::Finishing, "stopping in order");
    let timeline = server.timeline().await?;
    server.stop().await?;
    let reached = Reached {
        lsn: at.lsn,
        along: choice.timeline,
        timeline,
        last_commit: at
            .last_commit
            .and_then(|micros| Timestamp::from_microsecond(micros).ok()),
        because,
    };
    Ok((reached, timeline))
}

/// Whether what was reached is what was asked for: in words why it ended there.
fn judge(
    target: &Target,
    choice: &Choice,
    at: &server::Reached,
    words: &words::Words,
    last: Option<&str>,
) -> Result<String, String> {
    let stopped = words.stopping.clone();
    if *target == Target::Latest {
        // All of the log, and not only up to where it happened to be unreadable.
        let size = choice.span.size;
        let end = choice.segments.last().map(|(name, _)| name.clone());
        let done: Option<Lsn> = words.done.as_ref().and_then(|lsn| lsn.parse().ok());
        let begin = end
            .as_ref()
            .and_then(|name| Segment::parse(name, size))
            // The last record may only end in the last segment.
            .map(|segment| Lsn(segment.begin(size).0.saturating_sub(size.bytes())));
        return if last == end.as_deref() && done >= begin {
            Ok(format!(
                "this is the end of the log, in {}",
                end.unwrap_or_default()
            ))
        } else {
            Err(format!(
                "the log that is stored goes to {}, and was replayed only up to {}, in {}: the rest cannot be read",
                end.unwrap_or_default(),
                words.done.clone().unwrap_or_default(),
                last.unwrap_or_default()
            ))
        };
    }
    if at.promoted {
        return Err(format!("the target was not reached: {}", words.failure()));
    }
    if let (Target::Time(time), Some(commit)) = (target, at.last_commit)
        && commit > time.as_microsecond()
    {
        return Err(format!("the last commit that was replayed is after {time}"));
    }
    let at = format!("recovery stopped at {}", at.lsn);
    Ok(stopped.unwrap_or(at))
}

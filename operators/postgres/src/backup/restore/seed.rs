//! A replica's data from the set's own repository, so that a new one need not be copied from the primary. I/O.
//!
//! It runs before the agent of an instance whose volume has no data. What it makes is no data yet: it gets the name
//! [`Place::seeded`], and the agent takes it in place of a copy, at the very moment at which it would begin one (so what
//! holds for a copy in the election holds for it). From there on it is a replica that was away for a while. Whatever
//! hinders it is told, and the agent copies from the primary then: it never fails.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::repository::Repository;
use mainstay_shared::agent::paths;
use mainstay_shared::backups::container::restoring::{RestoreError, make, open, refused, settings};
use mainstay_shared::backups::container::{lock, told_to_stop};
use tokio::time::timeout;

use super::super::api::RestoreStep;
use super::super::coverage::SYSTEM_IDENTIFIER;
use super::super::settings::{BACKUP_FILE, RUN, Settings, Target};
use super::choose::{Choice, choose};
use super::log::Log;
use super::server::{Private, Purpose, Server};
use super::{Teller, fetch, room};
use crate::agent::data::{absent, control};
use crate::agent::place::Place;

/// How long a server whose log has ended may take until it takes connections: then its data is whole.
const WHOLE: Duration = Duration::from_mins(2);

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Identifier of the set's data.
    pub identifier: String,
    /// Major version of the image.
    pub major: u32,
}

/// Makes data for a replica, or tells why there is none.
///
/// # Errors
/// The environment is not that of an instance's pod.
pub async fn run(wanted: &Wanted) -> Result<(), RestoreError> {
    let place = Place::from_environment().map_err(refused)?;
    // Of a try before; or the data was copied meanwhile.
    absent(fs::remove_dir_all(place.seeded()))?;
    if place.data().exists() {
        tracing::info!("there is data: nothing is brought back");
        return Ok(());
    }
    let teller = Teller::begin(&place.root);
    let work = place.volume().join("pgdata.restore");
    let told = told_to_stop()?;
    let outcome = tokio::select! {
        outcome = seed(&place, &work, wanted, &teller) => outcome,
        () = told => Err(RestoreError::Later("it was told to stop".to_owned())),
    };
    absent(fs::remove_dir_all(&work))?;
    if let Err(error) = outcome {
        tracing::warn!(%error, "nothing is brought back: the data will be copied from the primary");
        teller.failed(error.to_string(), true);
    }
    Ok(())
}

async fn seed(
    place: &Place,
    work: &Path,
    wanted: &Wanted,
    teller: &Teller,
) -> Result<(), RestoreError> {
    teller.step(RestoreStep::Choosing, "reading the repository");
    let own: Settings = settings(&place.mount(paths::CONFIG), BACKUP_FILE)?;
    let repository = Arc::new(open(&place.root, &own.repository).await?);
    let catalogue = Catalogue::read(&repository, None).await?;
    let now = Timestamp::now();
    let choice = choose(&catalogue, wanted.major, None, &Target::Latest, now).map_err(refused)?;
    drop(catalogue);
    is_of(&choice, wanted)?;
    if let Some(hole) = &choice.hole {
        // The primary has no log any more from there on.
        return Err(refused(hole));
    }
    absent(fs::remove_dir_all(work))?;
    let total = room(place, &choice)?;
    let newest = choice.chain.last().map(|manifest| manifest.id.clone());
    teller.change(|report| {
        report.backup = newest;
        report.total_bytes = Some(total);
    });
    make(work)?;
    let data = fetch(place, work, &repository, &choice, teller).await?;
    let reached = replay(place, work, &data, &repository, &choice, teller).await?;
    teller.step(RestoreStep::Finishing, "writing everything to the disk");
    let folder = fs::File::open(place.volume())?;
    rustix::fs::syncfs(&folder).map_err(io::Error::from)?;
    fs::rename(&data, place.seeded())?;
    folder.sync_all()?;
    teller.change(|report| {
        report.step = RestoreStep::Done;
        report.message =
            format!("brought back up to {reached}: what follows comes from the primary");
        report.ended = Some(Timestamp::now());
    });
    tracing::info!(reached, "brought back");
    Ok(())
}

/// A repository may hold backups of a set before, of the same name.
fn is_of(choice: &Choice, wanted: &Wanted) -> Result<(), RestoreError> {
    let Wanted { identifier, .. } = wanted;
    for manifest in &choice.chain {
        let of = manifest.details.get(SYSTEM_IDENTIFIER);
        if of != Some(identifier) {
            let of = of.map_or("none that is told", String::as_str);
            return Err(refused(format!(
                "backup {} is of other data ({of}) than this set's ({identifier})",
                manifest.id
            )));
        }
    }
    Ok(())
}

/// Replays all of the log that is stored, as a replica does, and stops where it ends. Returns the place.
async fn replay(
    place: &Place,
    work: &Path,
    data: &Path,
    repository: &Arc<Repository>,
    choice: &Choice,
    teller: &Teller,
) -> Result<String, RestoreError> {
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
    // The server that runs here must not be hindered by it, and the data keeps it.
    let settings = data.join("postgresql.auto.conf");
    let kept = match fs::read(&settings) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let private = Private {
        place,
        data,
        scratch: &server_folder,
        purpose: Purpose::Standby {
            log_socket: &socket,
            timeline: choice.timeline,
        },
    };
    let replayed = to_the_end(&private, &log).await;
    serving.abort();
    let fatal = lock(&log.fatal).clone();
    let reached = replayed.map_err(|why| RestoreError::Failed(fatal.unwrap_or(why)))?;
    fs::write(&settings, kept)?;
    let state = control(place, data).await;
    let state = state.map_err(|e| RestoreError::Failed(e.to_string()))?;
    match state.get("Database cluster state").map(String::as_str) {
        Some("shut down in recovery") => Ok(reached),
        other => Err(RestoreError::Failed(format!(
            "the data was not shut down in order: {other:?}"
        ))),
    }
}

async fn to_the_end(private: &Private<'_>, log: &Log) -> Result<String, String> {
    let mut server = Server::start(private).await?;
    // It asks for one after the other: whoever asks for what is after the end has replayed the rest.
    tokio::select! {
        () = log.exhausted.notified() => {}
        why = server.failed() => return Err(why),
    }
    let whole = timeout(WHOLE, server.answers()).await;
    whole.map_err(|_| "the log that is stored does not make the data whole".to_owned())??;
    let reached = server.replayed().await?;
    server.stop().await?;
    Ok(reached)
}

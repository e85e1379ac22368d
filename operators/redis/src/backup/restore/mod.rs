//! The data of a new set from a repository. I/O; which backup is taken is chosen by [`super::choose`].
//!
//! It runs before the agent of a new set's founder, and only where there is no data. The snapshot is brought back and
//! read by a Redis that nobody else reaches; it has to be the dataset that the manifest speaks of. That Redis gives it a
//! mark of its own, as the first dataset of a set has one (no promotion yet, another set's name; or the name that it has,
//! where its set goes back in place), and leaves what the set's engine starts from. Only then the folder gets the name by
//! which it counts as data.
//!
//! Of a cluster's backup each of its first instances gets a shard, and begins as a primary with the slots of that: [`founder`].
//! A drill gets all of them, beside each other: [`shares`].
//!
//! What an engine with an append-only file starts from is the snapshot itself, with that one write after it: nothing is
//! written anew.

pub mod founder;
pub mod server;
pub mod shares;

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::ids::OwnerId;
use mainstay_backup::manifest::Manifest;
use mainstay_backup::repository::Repository;
use mainstay_shared::agent::past;
use mainstay_shared::agent::paths;
use mainstay_shared::agent::place::long_nonce;
use mainstay_shared::agent::state::absent;
use mainstay_shared::backups::container::restoring::{
    self, RestoreError, RestoreStep, make, open, refused, settings,
};
use mainstay_shared::election::member::{Epoch, Position};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;

use super::choose::{Image, choose};
use super::settings::{RESTORE_FILE, RestoreSettings};
use super::shards::Dataset;
use crate::agent::mark::Mark;
use crate::agent::past::Orderly;
use crate::agent::place::{self, Place};
use crate::settings::Persistence;
use server::{Reads, SNAPSHOT, Server, begin_log};
use shares::Share;

/// What was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reached {
    /// The moment whose state it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Timestamp>,
    /// Keys of all databases.
    pub keys: u64,
    /// Where it ends: the offset in the history of the set that was backed up. Of several shards 0, since each has its own.
    #[serde(default)]
    pub offset: u64,
    /// Its last promotion's timeline there.
    #[serde(default)]
    pub timeline: u64,
    /// Identifier that the data bears from now on.
    pub set: String,
}

/// What a restore tells.
pub type RestoreReport = restoring::RestoreReport<Reached>;
/// What it does is told while it does it.
type Teller = restoring::Teller<Reached>;

/// Makes the data, unless there is some.
///
/// # Errors
/// There is none afterwards, and nothing that could be taken for some.
pub async fn run() -> Result<(), RestoreError> {
    let place = Place::from_environment().map_err(refused)?;
    if place.data().exists() {
        tracing::info!("there is data: nothing is restored");
        return Ok(());
    }
    let teller = Teller::begin(&place.root);
    let work = place.volume().join("redis.restore");
    restoring::told(&teller, &work, restore(&place, &work, &teller)).await
}

async fn restore(place: &Place, work: &Path, teller: &Teller) -> Result<(), RestoreError> {
    teller.step(RestoreStep::Choosing, "reading the repository");
    let wanted: RestoreSettings = settings(&place.mount(paths::CONFIG), RESTORE_FILE)?;
    let repository = open(&place.root, &wanted.repository).await?;
    let mut catalogue = Catalogue::read(&repository, None).await?;
    let all = catalogue.backups.len();
    let made = wanted.cluster.as_ref().and_then(|cluster| cluster.made);
    if let Some(made) = made.filter(|_| wanted.backup.is_none()) {
        founder::as_of(&mut catalogue, made);
    }
    let later = all - catalogue.backups.len();
    let image = Image {
        flavour: wanted.flavour,
        version: &wanted.version,
    };
    let chosen = choose(&catalogue, wanted.backup.as_ref(), wanted.moment, image);
    let chosen = chosen.map_err(|why| match later {
        0 => why,
        n => format!("{why}; {n} came after this resource was made: to take one of them name it (bootstrap.recovery.backup)"),
    });
    let (manifest, dataset) = chosen.map_err(refused)?;
    let all = shares::of(&wanted, &place.me.instance, &manifest.id, &dataset);
    let all = all.map_err(refused)?;
    let set = identifier(&wanted, &dataset, manifest)?;
    absent(fs::remove_dir_all(work))?;
    let sizes: Vec<u64> = all.iter().map(|share| share.size(manifest)).collect();
    restoring::room(&place.volume(), shares::room(&sizes, wanted.persistence))?;
    teller.chosen(&manifest.id, &repository, sizes.iter().sum());
    let data = work.join("redis");
    for share in &all {
        let folder = share.folder(&data);
        make(&folder)?;
        let got = fetch(&repository, manifest, share, &folder, teller).await;
        got.map_err(|error| share.failed(error))?;
    }
    let mut keys = 0;
    let mut marks = Vec::new();
    for share in &all {
        let found = Found {
            manifest,
            dataset: &dataset,
            share,
            set: &set,
        };
        let made = convert(&wanted, found, work, &share.folder(&data), teller).await;
        let (held, mark) = made.map_err(|error| share.failed(error))?;
        keys += held;
        marks.push(mark);
    }
    teller.step(RestoreStep::Finishing, "writing everything to the disk");
    let mut offset = 0;
    if let ([share], [mark], false) = (&all[..], &marks[..], wanted.every_shard) {
        offset = share.shard.offset;
        if wanted.cluster.is_some() {
            let nodes = founder::nodes(&set, share.number, share.of, share.shard);
            fs::write(data.join(founder::NODES), nodes)?;
        }
        note(place, mark)?;
    } else {
        shares::write(&data, &all)?;
    }
    settle(place, &data)?;
    absent(fs::remove_dir_all(work))?;
    teller.change(|report| {
        report.step = RestoreStep::Done;
        report.message = format!("restored {keys} keys as of {}", manifest.consistent_at);
        report.owner = Some(OwnerId::of(&set));
        report.reached = Some(Reached {
            taken: Some(manifest.consistent_at),
            keys,
            offset,
            timeline: dataset.timeline,
            set,
        });
        report.ended = Some(Timestamp::now());
    });
    Ok(())
}

/// Brings the snapshot back into its folder.
async fn fetch(
    repository: &Repository,
    manifest: &Manifest,
    share: &Share<'_>,
    data: &Path,
    teller: &Teller,
) -> Result<(), RestoreError> {
    let what = share.named(&format!("backup {}", manifest.id));
    teller.step(RestoreStep::Fetching, &what);
    let name = &share.shard.file;
    let entry = manifest.files.iter().find(|entry| entry.name == *name);
    let entry = entry.ok_or_else(|| refused(format!("there is no file {name}")))?;
    let mut file = tokio::fs::File::create(data.join(SNAPSHOT)).await?;
    let got = repository.getting().file(entry, &mut file).await;
    got.map_err(|e| RestoreError::of_get(&manifest.id, e))?;
    file.flush().await?;
    teller.change(|report| report.bytes += entry.size);
    Ok(())
}

/// The identifier that the dataset bears from now on: one of its own, or where its set goes back in place the set's.
fn identifier(
    wanted: &RestoreSettings,
    dataset: &Dataset,
    manifest: &Manifest,
) -> Result<String, RestoreError> {
    if let Some(cluster) = &wanted.cluster {
        return Ok(founder::identifier(cluster, &manifest.id));
    }
    match &wanted.owner {
        None => long_nonce().map_err(|e| RestoreError::Failed(e.to_string())),
        Some(owner) if OwnerId::of(&dataset.set) == *owner => Ok(dataset.set.clone()),
        Some(_) => Err(refused(format!(
            "backup {} is from before this set had the repository, and in place a set goes back to its own data only: make a new one from it (bootstrap.recovery)",
            manifest.id
        ))),
    }
}

/// What is restored.
struct Found<'a> {
    manifest: &'a Manifest,
    dataset: &'a Dataset,
    share: &'a Share<'a>,
    /// Identifier that it gets.
    set: &'a str,
}

/// Has a Redis read the snapshot and leave what the set's engine starts from, under a mark of its own: how many keys there are, and
/// the mark.
async fn convert(
    wanted: &RestoreSettings,
    found: Found<'_>,
    work: &Path,
    data: &Path,
    teller: &Teller,
) -> Result<(u64, Mark), RestoreError> {
    let Found {
        manifest,
        dataset,
        share,
        set,
    } = found;
    let failed = |why: String| RestoreError::Failed(format!("backup {}: {why}", manifest.id));
    teller.step(RestoreStep::Replaying, &share.named("Redis reads it"));
    let program = place::server(wanted.flavour).map_err(refused)?;
    let reads = match wanted.persistence {
        Persistence::Aof => {
            begin_log(data)?;
            Reads::Beginning
        }
        Persistence::Rdb | Persistence::None => Reads::Snapshot,
    };
    let mut server =
        Server::start(&program, data, work, wanted.databases, reads).map_err(failed)?;
    let progress = |bytes: u64| {
        let read = share.named(&format!("Redis has read {} MiB", bytes >> 20));
        teller.change(|report| report.message = read);
    };
    server.read(progress).await.map_err(failed)?;
    let checking = share.named("whether it is that dataset");
    teller.step(RestoreStep::Checking, &checking);
    let held = server.held().await.map_err(failed)?;
    let found = held.mark.as_ref().map(|m| (m.set.as_str(), m.epoch));
    if found != Some((dataset.set.as_str(), dataset.epoch)) {
        return Err(failed(format!(
            "its mark says {found:?}, and its manifest {} of epoch {}",
            dataset.set, dataset.epoch
        )));
    }
    // A file of writes keeps no offset.
    let offset = held.vitals.offset.max(share.shard.offset);
    let mark = Mark {
        set: set.to_owned(),
        replid: held.vitals.replid.clone(),
        base: offset,
        offset,
        // It was promoted for nobody yet; who is elected with it takes an epoch above.
        epoch: wanted.epoch,
        ..Mark::default()
    };
    server.mark(&mark).await.map_err(failed)?;
    teller.step(
        RestoreStep::Finishing,
        &share.named("Redis writes what the set starts from"),
    );
    server.leave(reads).await.map_err(failed)?;
    Ok((held.keys.values().sum(), mark))
}

/// Notes for the agent that Redis was stopped in order, and has written it all: nobody can have more.
fn note(place: &Place, mark: &Mark) -> Result<(), RestoreError> {
    make(&place.state())?;
    let position = Position {
        epoch: Epoch(mark.epoch),
        lsn: mark.offset,
    };
    past::keep(&place.orderly(), &Orderly { position })?;
    Ok(())
}

/// Makes it the data, durably.
fn settle(place: &Place, data: &Path) -> Result<(), RestoreError> {
    let folder = fs::File::open(place.volume())?;
    rustix::fs::syncfs(&folder).map_err(io::Error::from)?;
    fs::rename(data, place.data())?;
    folder.sync_all()?;
    Ok(())
}

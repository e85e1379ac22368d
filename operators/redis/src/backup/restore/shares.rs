//! Which shards of a backup are brought back, and where to.
//!
//! An instance gets one, which becomes its engine's folder. A drill of a cluster gets all that the backup has, however many its set has
//! by now: each has a folder of its own in the engine's, with a list of them beside, so that all of it becomes data at once or none.
//! Values, but for that list.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mainstay_backup::ids::BackupId;
use mainstay_backup::manifest::Manifest;
use mainstay_shared::backups::container::restoring::RestoreError;
use serde::{Deserialize, Serialize};

use super::super::settings::RestoreSettings;
use super::super::shards::{Dataset, Shard, Slots};
use super::founder;
use crate::settings::Persistence;

/// Room beyond the snapshots, and what is written of them.
const ROOM: u64 = 64 << 20;
/// The list of what was brought back, beside it.
const LIST: &str = "shards.json";

/// A shard that is brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share<'a> {
    /// Which it is of the backup's, from 0.
    pub number: usize,
    /// How many those are.
    pub of: usize,
    /// What the manifest says of it.
    pub shard: &'a Shard,
    /// Its folder in the engine's; none: it becomes the engine's.
    folder: Option<String>,
}

impl Share<'_> {
    /// Where it is brought to, where `data` becomes the engine's folder.
    pub fn folder(&self, data: &Path) -> PathBuf {
        match &self.folder {
            Some(folder) => data.join(folder),
            None => data.to_owned(),
        }
    }

    /// Bytes that are brought back of it.
    pub fn size(&self, manifest: &Manifest) -> u64 {
        let files = manifest.files.iter();
        let own = files.filter(|file| file.name == self.shard.file);
        own.map(|file| file.size).sum()
    }

    /// What is said of it, with which it is.
    pub fn named(&self, what: &str) -> String {
        named(what, self.number, self.of)
    }

    /// The failure, with which it is.
    pub fn failed(&self, error: RestoreError) -> RestoreError {
        match error {
            RestoreError::Refused(why) => RestoreError::Refused(self.named(&why)),
            RestoreError::Later(why) => RestoreError::Later(self.named(&why)),
            RestoreError::Failed(why) => RestoreError::Failed(self.named(&why)),
            RestoreError::Volume(error) => RestoreError::Volume(error),
        }
    }
}

/// What is said of a shard, with which it is; of the only one as it is.
pub fn named(what: &str, number: usize, of: usize) -> String {
    match of {
        1 => what.to_owned(),
        of => format!("{what} (shard {} of {of})", number + 1),
    }
}

/// Those that this instance gets, never none.
///
/// # Errors
/// It gets none of this backup: a sentence.
pub fn of<'a>(
    wanted: &RestoreSettings,
    instance: &str,
    backup: &BackupId,
    dataset: &'a Dataset,
) -> Result<Vec<Share<'a>>, String> {
    let of = dataset.shards.len();
    let part = |(number, shard), folder| Share {
        number,
        of,
        shard,
        folder,
    };
    if wanted.every_shard {
        let all = dataset.shards.iter().enumerate();
        let all = all.map(|(n, shard)| part((n, shard), Some(format!("shard-{n}"))));
        return Ok(all.collect());
    }
    if let Some(cluster) = &wanted.cluster {
        let own = founder::share(cluster, instance, backup, dataset)?;
        return Ok(vec![part(own, None)]);
    }
    match &dataset.shards[..] {
        [shard] => Ok(vec![part((0, shard), None)]),
        shards => Err(format!(
            "backup {backup} is of a cluster of {n} shards, and this set is none: write mode: Cluster and shards: {n}",
            n = shards.len()
        )),
    }
}

/// Room for shards of these sizes. They are fetched together, and read one after the other: where what is read is written anew, that is
/// one of them at a time, and what it was read from goes.
pub fn room(sizes: &[u64], persistence: Persistence) -> u64 {
    let largest = sizes.iter().copied().max().unwrap_or(0);
    let again = match persistence {
        Persistence::Aof => 0,
        Persistence::Rdb | Persistence::None => largest,
    };
    let more = [again, ROOM];
    let all = sizes.iter().chain(&more).copied();
    all.fold(0, u64::saturating_add)
}

/// A shard that was brought back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// Its folder in the engine's; none: that itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    /// Slots of its keys.
    pub slots: Vec<Slots>,
}

impl Restored {
    /// The only one, with all there is.
    pub fn whole() -> Self {
        Self {
            folder: None,
            slots: vec![Slots::ALL],
        }
    }

    /// Where it is, in the engine's folder.
    pub fn folder(&self, data: &Path) -> PathBuf {
        match &self.folder {
            Some(folder) => data.join(folder),
            None => data.to_owned(),
        }
    }
}

/// Notes in the folder that becomes the engine's what is in it.
///
/// # Errors
/// The volume.
pub fn write(data: &Path, shares: &[Share<'_>]) -> io::Result<()> {
    let restored = |share: &Share<'_>| Restored {
        folder: share.folder.clone(),
        slots: share.shard.slots.clone(),
    };
    let all: Vec<Restored> = shares.iter().map(restored).collect();
    fs::write(data.join(LIST), serde_json::to_string(&all)?)
}

/// What is in the engine's folder, in the order of the backup.
///
/// # Errors
/// Nobody has noted it, or it is not understood: a sentence.
pub fn read(data: &Path) -> Result<Vec<Restored>, String> {
    let failed = |e: String| format!("{LIST}: {e}");
    let text = fs::read_to_string(data.join(LIST)).map_err(|e| failed(e.to_string()))?;
    let all: Vec<Restored> = serde_json::from_str(&text).map_err(|e| failed(e.to_string()))?;
    if all.is_empty() {
        return Err(failed("there is nothing in it".to_owned()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use mainstay_backup::spec::{PlaceSpec, RepositorySpec};
    use proptest::prelude::*;

    use super::super::founder::tests::{backup, cluster, dataset};
    use super::*;
    use crate::settings::Flavour;

    fn wanted(shards: Option<usize>, every_shard: bool) -> RestoreSettings {
        RestoreSettings {
            resource: "shop/db".into(),
            repository: RepositorySpec {
                place: PlaceSpec::Volume {
                    claim: "backups".into(),
                    path: String::new(),
                },
                prefix: "shop/db".into(),
                authority: None,
                bytes_per_second: None,
                concurrency: None,
                encryption: None,
            },
            flavour: Flavour::Redis,
            version: "8.0".into(),
            persistence: Persistence::Aof,
            databases: None,
            backup: None,
            moment: None,
            owner: None,
            epoch: 0,
            cluster: shards.map(cluster),
            every_shard,
        }
    }

    fn got(wanted: &RestoreSettings, has: usize) -> Result<Vec<(usize, PathBuf)>, String> {
        let dataset = dataset(has);
        let all = of(wanted, "db-2", &backup(), &dataset)?;
        let folder = |share: &Share<'_>| share.folder(Path::new("/data/redis"));
        Ok(all.iter().map(|s| (s.number, folder(s))).collect())
    }

    #[test]
    fn an_instance_gets_one_shard_and_a_drill_of_a_cluster_all_there_are() {
        let own = PathBuf::from("/data/redis");
        assert_eq!(got(&wanted(None, false), 1), Ok(vec![(0, own.clone())]));
        assert_eq!(got(&wanted(Some(3), false), 3), Ok(vec![(1, own.clone())]));
        let why = got(&wanted(None, false), 3).unwrap_err();
        assert!(why.contains("mode: Cluster and shards: 3"), "{why}");
        for has in [1, 3, 16] {
            let all = got(&wanted(None, true), has).unwrap();
            let each = (0..has).map(|n| (n, own.join(format!("shard-{n}"))));
            assert_eq!(all, each.collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_said_names_the_shard_where_there_are_several() {
        assert_eq!(named("Redis reads it", 0, 1), "Redis reads it");
        assert_eq!(
            named("Redis reads it", 1, 3),
            "Redis reads it (shard 2 of 3)"
        );
    }

    #[test]
    fn what_was_brought_back_is_found_by_its_list() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap_err().starts_with(LIST));
        write(folder.path(), &[]).unwrap();
        assert!(read(folder.path()).is_err(), "nothing proves nothing");
        let dataset = dataset(2);
        let all = of(&wanted(None, true), "db-2", &backup(), &dataset).unwrap();
        write(folder.path(), &all).unwrap();
        let found = read(folder.path()).unwrap();
        for (share, restored) in all.iter().zip(&found) {
            assert_eq!(share.folder(folder.path()), restored.folder(folder.path()));
            assert_eq!(share.shard.slots, restored.slots);
        }
        assert_eq!(found.len(), 2);
    }

    proptest! {
        /// What is on the volume at most, while one after the other is read, is never more than the room that was looked for.
        #[test]
        fn there_is_room_at_every_step(sizes in prop::collection::vec(0..1_000_u64, 1..17)) {
            let fetched: u64 = sizes.iter().sum();
            prop_assert_eq!(room(&sizes, Persistence::Aof), fetched + ROOM);
            for size in &sizes {
                prop_assert!(fetched + size + ROOM <= room(&sizes, Persistence::Rdb));
            }
        }
    }
}

//! Which backup a restore takes. Pure.

use jiff::Timestamp;
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::ids::BackupId;
use mainstay_backup::manifest::Manifest;

use super::shards::Dataset;
use crate::settings::Flavour;
use crate::version::{name, number};

/// What the image can read.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// Whose program it holds.
    pub flavour: Flavour,
    /// Its version, for example `8.0`.
    pub version: &'a str,
}

/// The backup with this id, or the newest that can be restored; of those from no later than `moment`, where one is said.
///
/// # Errors
/// There is none, or it is not for this image: a sentence.
pub fn choose<'a>(
    catalogue: &'a Catalogue,
    wanted: Option<&BackupId>,
    moment: Option<Timestamp>,
    image: Image<'_>,
) -> Result<(&'a Manifest, Dataset), String> {
    if let Some(id) = wanted {
        let found = catalogue.backups.iter().find(|m| m.id == *id);
        let Some(manifest) = found else {
            let unread = catalogue.unread.iter().find(|u| u.id == *id);
            return Err(match unread {
                Some(unread) => format!("backup {id} cannot be read: {}", unread.why),
                None => format!("there is no backup {id} in the repository"),
            });
        };
        let dataset = Dataset::of(manifest).map_err(|why| format!("backup {id}: {why}"))?;
        readable(&dataset, image).map_err(|why| format!("backup {id} {why}"))?;
        return Ok((manifest, dataset));
    }
    let before = |m: &&Manifest| moment.is_none_or(|moment| m.consistent_at <= moment);
    let mut newest: Vec<&Manifest> = catalogue.backups.iter().filter(before).collect();
    newest.sort_by_key(|m| std::cmp::Reverse((m.consistent_at, &m.id)));
    let mut wrong = None;
    for manifest in newest {
        match Dataset::of(manifest) {
            Ok(dataset) => {
                // An older one than the newest whole one is never taken silently.
                readable(&dataset, image).map_err(|why| format!("backup {} {why}", manifest.id))?;
                return Ok((manifest, dataset));
            }
            Err(why) => {
                wrong.get_or_insert_with(|| format!("; {}: {why}", manifest.id));
            }
        }
    }
    let unread = catalogue.unread.first();
    let unread = unread.map(|u| format!("; {} cannot be read: {}", u.id, u.why));
    let why = wrong.or(unread).unwrap_or_default();
    let before = moment.map_or_else(String::new, |moment| format!(" from {moment} or before"));
    Err(format!(
        "there is no backup{before} in the repository that could be restored{why}"
    ))
}

/// Whether the image reads such a snapshot.
fn readable(dataset: &Dataset, image: Image<'_>) -> Result<(), String> {
    let (was, is) = (name(dataset.flavour), name(image.flavour));
    let version = &dataset.version;
    if dataset.flavour != image.flavour {
        return Err(format!(
            "is of {was} {version}, and {is} does not read it: write engine: {was}"
        ));
    }
    if number(version) > number(image.version) {
        return Err(format!(
            "is of {was} {version}, which {is} {} does not read: write a version that is no older",
            image.version
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mainstay_backup::catalogue::Unread;
    use mainstay_backup::crypto::Digest;
    use mainstay_backup::ids::OwnerId;
    use mainstay_backup::manifest::{FORMAT, FileEntry};

    use super::super::shards::{Shard, Slots};
    use super::*;

    const IMAGE: Image<'static> = Image {
        flavour: Flavour::Redis,
        version: "8.0",
    };

    fn id(day: u8) -> BackupId {
        format!("202601{day:02}t030405z-0011223344556677")
            .parse()
            .unwrap()
    }

    fn manifest(day: u8, flavour: Flavour, version: &str) -> Manifest {
        let dataset = Dataset {
            set: "s".into(),
            epoch: 1,
            timeline: 1,
            flavour,
            version: version.into(),
            shards: vec![Shard {
                file: "shard-0.rdb".into(),
                slots: vec![Slots::ALL],
                from: "db-1".into(),
                replid: "a".into(),
                offset: 1,
                keys: BTreeMap::new(),
                moment: None,
            }],
        };
        let at: Timestamp = format!("2026-01-{day:02}T03:04:05Z").parse().unwrap();
        Manifest {
            format: FORMAT,
            id: id(day),
            owner: OwnerId::of("s"),
            parent: None,
            source: "Redis".into(),
            begun: at,
            ended: at,
            consistent_at: at,
            log: None,
            recipients: vec![],
            files: vec![FileEntry {
                name: "shard-0.rdb".into(),
                size: 1,
                digest: Digest {
                    bytes: [0; 32],
                    keyed: false,
                },
                objects: vec![],
            }],
            native: None,
            details: dataset.details().unwrap(),
        }
    }

    fn catalogue(backups: Vec<Manifest>) -> Catalogue {
        Catalogue {
            backups,
            ..Catalogue::default()
        }
    }

    #[test]
    fn the_newest_that_is_whole_or_the_one_that_is_named() {
        let mut half = manifest(9, Flavour::Redis, "8.0.2");
        half.details.remove("shards");
        let all = catalogue(vec![
            manifest(3, Flavour::Redis, "7.0.15"),
            manifest(5, Flavour::Redis, "8.0.2"),
            half,
        ]);
        let chosen =
            |wanted: Option<&BackupId>| choose(&all, wanted, None, IMAGE).map(|(m, _)| &m.id);
        assert_eq!(chosen(None), Ok(&id(5)));
        assert_eq!(chosen(Some(&id(3))), Ok(&id(3)));
        assert!(chosen(Some(&id(4))).unwrap_err().contains("no backup"));
        assert!(chosen(Some(&id(9))).unwrap_err().contains("shards"));
        let at = |moment: &str| choose(&all, None, Some(moment.parse().unwrap()), IMAGE);
        let chosen = |moment: &str| at(moment).map(|(m, _)| &m.id);
        assert_eq!(chosen("2026-01-05T03:04:05Z"), Ok(&id(5)), "its own moment");
        assert_eq!(chosen("2026-01-05T03:04:04Z"), Ok(&id(3)));
        assert!(
            chosen("2026-01-01T00:00:00Z")
                .unwrap_err()
                .contains("2026-01-01T00:00:00Z or before")
        );
    }

    #[test]
    fn what_the_image_does_not_read_is_refused_and_never_passed_over() {
        let all = |flavour, version| {
            let old = manifest(3, Flavour::Redis, "7.0.15");
            catalogue(vec![old, manifest(5, flavour, version)])
        };
        let newer = all(Flavour::Redis, "8.2.0");
        let why = choose(&newer, None, None, IMAGE).unwrap_err();
        assert!(why.contains("8.2.0") && why.contains("no older"), "{why}");
        let other = all(Flavour::Valkey, "8.0.1");
        let why = choose(&other, None, None, IMAGE).unwrap_err();
        assert!(why.contains("engine: Valkey"), "{why}");
        let patch = all(Flavour::Redis, "8.0.99");
        assert!(choose(&patch, None, None, IMAGE).is_ok());
    }

    #[test]
    fn nothing_says_why_it_is_nothing() {
        let empty = catalogue(vec![]);
        assert!(choose(&empty, None, None, IMAGE).is_err());
        let unread = Catalogue {
            unread: vec![Unread {
                id: id(1),
                why: "damaged".into(),
            }],
            ..Catalogue::default()
        };
        assert!(
            choose(&unread, None, None, IMAGE)
                .unwrap_err()
                .contains("damaged")
        );
        assert!(
            choose(&unread, Some(&id(1)), None, IMAGE)
                .unwrap_err()
                .contains("damaged")
        );
    }
}

//! What a backup's manifest says of the dataset: its shards, and which slots each covers. Pure.
//!
//! A set in replication is one shard with all slots. A shard is a file of the backup; a backup whose shards do not cover
//! every slot exactly once is none.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use mainstay_backup::manifest::Manifest;
use serde::{Deserialize, Serialize};

use crate::settings::Flavour;

/// Slots that keys are spread over.
pub const SLOTS: u16 = 16_384;
/// Key in a backup's details: the shards, as JSON.
const SHARDS: &str = "shards";
/// Key in a backup's details: identifier of the set's data.
const SET: &str = "set";
/// Key in a backup's details: epoch of the last promotion that the data has seen.
const EPOCH: &str = "epoch";
/// Key in a backup's details: the timeline that it claimed.
const TIMELINE: &str = "timeline";
/// Key in a backup's details: full version of the engine.
const VERSION: &str = "version";
/// Key in a backup's details: whose program it is.
const FLAVOUR: &str = "flavour";

/// Slots that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slots {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Slots {
    /// All there are.
    pub const ALL: Self = Self {
        first: 0,
        last: SLOTS - 1,
    };

    /// Whether this one is among them.
    pub fn contains(self, slot: u16) -> bool {
        (self.first..=self.last).contains(&slot)
    }
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for Slots {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let slot = |n: &str| n.parse::<u16>().ok().filter(|n| *n < SLOTS);
        match slot(first).zip(slot(last)) {
            Some((first, last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!("`{text}` are no slots: 0-16383 would be all")),
        }
    }
}

impl TryFrom<String> for Slots {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Slots> for String {
    fn from(slots: Slots) -> Self {
        slots.to_string()
    }
}

/// A part of the dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shard {
    /// The file with it.
    pub file: String,
    /// Slots of its keys.
    pub slots: Vec<Slots>,
    /// The instance that gave it.
    pub from: String,
    /// Replication id under which `offset` counts.
    pub replid: String,
    /// Its end in the history.
    pub offset: u64,
    /// Keys by database, just before it was taken.
    pub keys: BTreeMap<u32, u64>,
    /// What was written before is in it. None in backups of former releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moment: Option<Timestamp>,
}

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Identifier of the set's data.
    pub set: String,
    /// Epoch of the last promotion that it has seen.
    pub epoch: u64,
    /// The timeline that it claimed.
    pub timeline: u64,
    /// Whose program it was.
    pub flavour: Flavour,
    /// Full version of it, for example `8.0.2`.
    pub version: String,
    /// Its parts.
    pub shards: Vec<Shard>,
}

impl Dataset {
    /// Details of a backup, without its order.
    ///
    /// # Errors
    /// Not every slot is covered once: a sentence.
    pub fn details(&self) -> Result<BTreeMap<String, String>, String> {
        covered(&self.shards)?;
        let shards = serde_json::to_string(&self.shards).map_err(|e| e.to_string())?;
        let flavour = name(self.flavour);
        Ok(BTreeMap::from(
            [
                (SHARDS, shards),
                (SET, self.set.clone()),
                (EPOCH, self.epoch.to_string()),
                (TIMELINE, self.timeline.to_string()),
                (FLAVOUR, flavour.to_owned()),
                (VERSION, self.version.clone()),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        ))
    }

    /// What a manifest says.
    ///
    /// # Errors
    /// It is none of a dataset, or a part is missing: a sentence.
    pub fn of(manifest: &Manifest) -> Result<Self, String> {
        let text = |key: &str| {
            let found = manifest.details.get(key);
            found.ok_or_else(|| format!("its manifest does not say its {key}"))
        };
        let number = |key: &str| {
            let number = text(key)?.parse();
            number.map_err(|_| format!("the {key} in its manifest is no number"))
        };
        let shards: Vec<Shard> = serde_json::from_str(text(SHARDS)?)
            .map_err(|e| format!("the shards in its manifest are not understood: {e}"))?;
        covered(&shards)?;
        let there = |file: &String| manifest.files.iter().any(|entry| entry.name == *file);
        if let Some(shard) = shards.iter().find(|shard| !there(&shard.file)) {
            return Err(format!("it has no file {}", shard.file));
        }
        Ok(Self {
            set: text(SET)?.clone(),
            epoch: number(EPOCH)?,
            timeline: number(TIMELINE)?,
            flavour: match text(FLAVOUR)?.as_str() {
                "redis" => Flavour::Redis,
                "valkey" => Flavour::Valkey,
                other => return Err(format!("it is of {other}, which is not known")),
            },
            version: text(VERSION)?.clone(),
            shards,
        })
    }

    /// Keys of all databases, about.
    pub fn keys(&self) -> u64 {
        self.shards.iter().flat_map(|s| s.keys.values()).sum()
    }
}

/// A flavour's name in details.
fn name(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Redis => "redis",
        Flavour::Valkey => "valkey",
    }
}

/// Whether these shards are the whole dataset: every slot is of one and of no other.
///
/// # Errors
/// Which slots are missing, or are of two.
pub fn covered(shards: &[Shard]) -> Result<(), String> {
    let mut all: Vec<Slots> = shards
        .iter()
        .flat_map(|s| s.slots.iter().copied())
        .collect();
    all.sort_unstable();
    let mut next = 0;
    for slots in all {
        if slots.first > next {
            return Err(format!(
                "it is incomplete: nobody gave slots {next}-{}",
                slots.first - 1
            ));
        }
        if slots.first < next {
            return Err(format!("two of its shards have slot {}", slots.first));
        }
        next = slots.last + 1;
    }
    if next < SLOTS {
        return Err(format!(
            "it is incomplete: nobody gave slots {next}-{}",
            SLOTS - 1
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shard(slots: &[&str]) -> Shard {
        Shard {
            file: "shard-0.rdb".into(),
            slots: slots.iter().map(|s| s.parse().unwrap()).collect(),
            from: "db-2".into(),
            replid: "aa".into(),
            offset: 7,
            keys: BTreeMap::from([(0, 3), (4, 1)]),
            moment: None,
        }
    }

    #[test]
    fn only_all_slots_are_a_dataset() {
        assert_eq!(covered(&[shard(&["0-16383"])]), Ok(()));
        assert_eq!(
            covered(&[shard(&["8000-16383"]), shard(&["0-7998", "7999"])]),
            Ok(())
        );
        let told = |shards: &[Shard]| covered(shards).unwrap_err();
        assert!(told(&[]).contains("0-16383"));
        assert!(told(&[shard(&["1-16383"])]).contains("0-0"));
        assert!(told(&[shard(&["0-7", "9-16383"])]).contains("8-8"));
        assert!(told(&[shard(&["0-16382"])]).contains("16383-16383"));
        assert!(told(&[shard(&["0-16383"]), shard(&["5"])]).contains("slot 5"));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "x", "16384", "5-4", "0-16384", "-1"] {
            assert!(text.parse::<Slots>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn however_slots_are_dealt_out_they_are_all_there(mut cuts in prop::collection::vec(1..SLOTS, 0..9)) {
            cuts.sort_unstable();
            cuts.dedup();
            let begins = [0].into_iter().chain(cuts.clone());
            let ends = cuts.iter().map(|c| c - 1).chain([SLOTS - 1]);
            let ranges: Vec<_> = begins.zip(ends).map(|(first, last)| Slots { first, last }).collect();
            let shards = |ranges: &[Slots]| -> Vec<Shard> {
                ranges.iter().map(|r| Shard { slots: vec![*r], ..shard(&[]) }).collect()
            };
            prop_assert_eq!(covered(&shards(&ranges)), Ok(()));
            for missing in 0..ranges.len() {
                let mut some = ranges.clone();
                some.remove(missing);
                prop_assert!(covered(&shards(&some)).is_err());
            }
        }
    }
}

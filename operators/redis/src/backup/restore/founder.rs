//! A cluster's first instances, each made from a shard of one backup: which, and as whom. Pure.
//!
//! They do not know of each other. What they have to agree on follows from the resource and the backup: the identifier in the mark, and
//! each one's identity as a node, so that who is restored once more before the cluster is formed is no other. Each begins with the slots of
//! its shard under an epoch of its own; the operator lets them in when together they are the backup (`shards::founders`).

use jiff::{SignedDuration, Timestamp};
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::ids::BackupId;
use mainstay_shared::hex::hex;
use mainstay_shared::names;
use sha2::{Digest, Sha256};

use super::super::settings::FoundedCluster;
use super::super::shards::{Dataset, Shard};
use crate::settings::{BUS_PORT, PORT};

/// Digits of an identifier in a mark, and of a node's identity.
const SET: usize = 32;
const NODE: usize = 40;
/// When a resource was made is told in whole seconds.
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// The file in which an engine keeps what it knows of its cluster.
pub const NODES: &str = "nodes.conf";

/// Which shard an instance gets.
///
/// # Errors
/// It gets none, or the backup has another number of them: a sentence.
pub fn share<'a>(
    cluster: &FoundedCluster,
    instance: &str,
    backup: &BackupId,
    dataset: &'a Dataset,
) -> Result<(usize, &'a Shard), String> {
    let has = dataset.shards.len();
    if has != cluster.shards {
        let of = match has {
            1 => "of a set that is no cluster".to_owned(),
            n => format!("of {n} shards"),
        };
        let instead = match has {
            1 => "make one of mode Replication from it".to_owned(),
            n => format!("make it with shards: {n}, and change that afterwards"),
        };
        return Err(format!(
            "backup {backup} is {of}, and this cluster shall have {}: {instead}",
            cluster.shards
        ));
    }
    let number = names::ordinal(&cluster.set, instance);
    let place = number.and_then(|n| usize::try_from(n).ok()?.checked_sub(1));
    let found = place.and_then(|n| Some((n, dataset.shards.get(n)?)));
    found.ok_or_else(|| format!("there is no shard for {instance} in backup {backup}"))
}

/// The identifier that all of them bear.
pub fn identifier(cluster: &FoundedCluster, backup: &BackupId) -> String {
    digits(&format!("cluster {} {backup}", cluster.uid), SET)
}

/// Leaves what was not whole when the resource was made: what comes later, one may see and another not.
pub fn as_of(catalogue: &mut Catalogue, made: Timestamp) {
    let made = made.checked_add(SECOND).unwrap_or(made);
    catalogue.backups.retain(|manifest| manifest.ended <= made);
}

/// `nodes.conf` of an engine that owns the slots of its shard, and knows nobody. `set` is the identifier, `place` which shard it is
/// of how many.
pub fn nodes(set: &str, place: usize, count: usize, shard: &Shard) -> String {
    let node = digits(&format!("node {set} {place}"), NODE);
    let slots: Vec<String> = shard.slots.iter().map(ToString::to_string).collect();
    // Its address and name are those that it announces from its start on.
    format!(
        "{node} :{PORT}@{BUS_PORT} myself,master - 0 0 {} connected {}\nvars currentEpoch {count} lastVoteEpoch 0\n",
        place + 1,
        slots.join(" ")
    )
}

fn digits(of: &str, count: usize) -> String {
    let mut digits = hex(&Sha256::digest(of.as_bytes()));
    digits.truncate(count);
    digits
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::backup::parts::myself;
    use crate::settings::Flavour;
    use crate::shards::topology::Role;

    fn shard(n: usize, slots: &[&str]) -> Shard {
        Shard {
            file: format!("shard-{n}.rdb"),
            slots: slots.iter().map(|s| s.parse().unwrap()).collect(),
            from: format!("db-{n}"),
            replid: "aa".into(),
            offset: 7,
            keys: BTreeMap::new(),
            moment: None,
        }
    }

    pub fn dataset(shards: usize) -> Dataset {
        Dataset {
            set: "s".into(),
            epoch: 0,
            timeline: 0,
            flavour: Flavour::Redis,
            version: "8.0.2".into(),
            shards: (0..shards).map(|n| shard(n, &["0-1"])).collect(),
        }
    }

    pub fn cluster(shards: usize) -> FoundedCluster {
        FoundedCluster {
            set: "db".into(),
            uid: "u".into(),
            shards,
            made: None,
        }
    }

    pub fn backup() -> BackupId {
        "20260102t030405z-0011223344556677".parse().unwrap()
    }

    #[test]
    fn each_of_the_first_gets_a_shard_and_others_get_none() {
        let (dataset, backup) = (dataset(3), backup());
        let share = |name: &str| share(&cluster(3), name, &backup, &dataset).map(|(n, _)| n);
        assert_eq!(
            [share("db-1"), share("db-2"), share("db-3")],
            [Ok(0), Ok(1), Ok(2)]
        );
        assert!(share("db-4").is_err() && share("db-0").is_err() && share("other-1").is_err());
    }

    #[test]
    fn another_number_of_shards_is_refused_with_what_to_write() {
        let why =
            |asked, has| share(&cluster(asked), "db-1", &backup(), &dataset(has)).unwrap_err();
        assert!(why(4, 3).contains("shards: 3"), "{}", why(4, 3));
        assert!(why(3, 1).contains("Replication"), "{}", why(3, 1));
    }

    #[test]
    fn who_they_are_follows_from_resource_and_backup() {
        let other: BackupId = "20260103t030405z-0011223344556677".parse().unwrap();
        let set = identifier(&cluster(3), &backup());
        assert_eq!(set, identifier(&cluster(3), &backup()));
        assert_ne!(set, identifier(&cluster(3), &other));
        let of_another = FoundedCluster {
            uid: "v".into(),
            ..cluster(3)
        };
        assert_ne!(set, identifier(&of_another, &backup()));

        let text = nodes(&set, 1, 3, &shard(1, &["5461-10922", "7"]));
        let me = myself(text.lines().next().unwrap()).unwrap();
        assert_eq!(
            (me.role, me.epoch, me.slots.len()),
            (Role::Primary, 2, 5463)
        );
        let again = nodes(&set, 1, 3, &shard(1, &["5461-10922", "7"]));
        assert_eq!(text, again);
        let next = nodes(&set, 2, 3, &shard(2, &["0"]));
        let next = myself(next.lines().next().unwrap()).unwrap();
        assert_ne!(me.id, next.id);
    }
}

//! What of a cluster's change is worth an event. Pure.

use mainstay_crds::redis::{ClusterStatus, RedisStatus, ShardStatus};
use mainstay_shared::events::Happening;

/// What happened between one status and the next.
pub fn happenings(before: &RedisStatus, now: &RedisStatus) -> Vec<Happening> {
    let (Some(before), Some(now)) = (&before.cluster, &now.cluster) else {
        return Vec::new();
    };
    let mut all: Vec<Happening> = promoted(before, now).collect();
    if now.formed && !before.formed {
        let note = format!("The cluster is formed, of {} shards.", now.shards.len());
        all.push(observed("ClusterFormed", note));
    }
    // What a cluster is formed with moves nowhere.
    if before.formed {
        match (before.slots_to_move, now.slots_to_move) {
            (0, n) if n > 0 => {
                all.push(observed(
                    "SlotsMove",
                    format!("{n} slots move to another shard."),
                ));
            }
            (n, 0) if n > 0 => {
                let note = "All slots are where they shall be.".to_owned();
                all.push(observed("SlotsMoved", note));
            }
            _ => {}
        }
    }
    all
}

/// Shards whose primary was a replica of another one.
fn promoted<'a>(
    before: &'a ClusterStatus,
    now: &'a ClusterStatus,
) -> impl Iterator<Item = Happening> + 'a {
    now.shards.iter().filter_map(|shard| {
        let new = &shard.primary;
        let follows = |s: &&ShardStatus| s.replicas.contains(new);
        let old = &before.shards.iter().find(follows)?.primary;
        let note = format!("The primary of a shard is {new}, it was {old}.");
        Some(observed("PrimaryChanged", note))
    })
}

fn observed(reason: &'static str, note: String) -> Happening {
    Happening {
        warning: false,
        reason,
        action: "Observe",
        note,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(formed: bool, to_move: i32, shards: &[(&str, &[&str])]) -> RedisStatus {
        let shards = shards.iter().map(|(primary, replicas)| ShardStatus {
            primary: (*primary).to_owned(),
            replicas: replicas.iter().map(|r| (*r).to_owned()).collect(),
            slots: 1,
        });
        RedisStatus {
            cluster: Some(ClusterStatus {
                formed,
                slots: 16_384,
                slots_to_move: to_move,
                shards: shards.collect(),
            }),
            ..RedisStatus::default()
        }
    }

    fn told(before: &RedisStatus, now: &RedisStatus) -> Vec<(&'static str, String)> {
        let all = happenings(before, now);
        all.into_iter().map(|h| (h.reason, h.note)).collect()
    }

    #[test]
    fn a_replica_that_takes_over_is_told_of_once_with_whom_it_followed() {
        let before = status(true, 0, &[("a", &["b", "c"]), ("d", &["e"])]);
        let now = status(true, 0, &[("b", &["c"]), ("d", &["e"])]);
        assert_eq!(
            told(&before, &now),
            [(
                "PrimaryChanged",
                "The primary of a shard is b, it was a.".to_owned()
            )]
        );
        let whole = status(true, 0, &[("b", &["a", "c"]), ("d", &["e"])]);
        assert_eq!(told(&now, &whole), []);
    }

    #[test]
    fn a_member_that_gets_its_first_slots_took_over_from_nobody() {
        let before = status(true, 0, &[("a", &["b"])]);
        let now = status(true, 8192, &[("a", &["b"]), ("c", &[])]);
        let told = told(&before, &now);
        assert_eq!(
            told,
            [("SlotsMove", "8192 slots move to another shard.".to_owned())]
        );
    }

    #[test]
    fn slots_are_told_of_when_they_begin_to_move_and_when_all_are_there() {
        let all = [("a", &["b"][..])];
        let status = |to_move| status(true, to_move, &all);
        let reasons = |before: i32, now: i32| -> Vec<&str> {
            let told = told(&status(before), &status(now));
            told.into_iter().map(|(reason, _)| reason).collect()
        };
        assert_eq!(reasons(0, 9), ["SlotsMove"]);
        assert_eq!(reasons(9, 5), [""; 0]);
        assert_eq!(reasons(5, 0), ["SlotsMoved"]);
    }

    #[test]
    fn what_a_cluster_is_formed_with_is_one_event() {
        let before = status(false, 16_384, &[]);
        let now = status(true, 0, &[("a", &["b"])]);
        let note = "The cluster is formed, of 1 shards.".to_owned();
        assert_eq!(told(&before, &now), [("ClusterFormed", note)]);
        assert_eq!(told(&RedisStatus::default(), &now), []);
    }
}

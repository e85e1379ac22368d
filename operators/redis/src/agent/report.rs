//! The status that the agent gives of itself; values only.

use std::time::Duration;

use mainstay_crds::common::InstanceRole;
use mainstay_shared::agent::api::{Acknowledging, GivenUp, Phase, Program, Status, Volume};
use mainstay_shared::agent::gauges::Gauges;
use mainstay_shared::agent::init::protocol::Engine;

use super::decide::Next;
use super::monitor::Sight;
use super::render::SHUT;
use super::session::SessionError;
use super::vitals::{Vitals, member};
use crate::settings::ReplicasToWrite;

/// A look older than this tells nothing of now.
const FRESH: Duration = Duration::from_secs(10);

/// What a status is made of.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Time since boot.
    pub now: Duration,
    /// Name of the instance.
    pub instance: &'a str,
    /// Uid of the pod.
    pub pod_uid: &'a str,
    /// The agent's program.
    pub program: Option<&'a Program>,
    /// A program that was tried out and given up.
    pub given_up: Option<GivenUp>,
    /// Nonce of agent and engine start.
    pub nonce: String,
    /// The engine's process.
    pub engine: &'a Engine,
    /// What was decided.
    pub next: &'a Next,
    /// Phase of something long.
    pub task: Option<Phase>,
    /// The engine has ended and is not started for some seconds yet, so that another one can take over.
    pub yields: bool,
    /// What was seen of the engine.
    pub sight: &'a Sight,
    /// A primary lets clients in.
    pub open: bool,
    /// The epoch of the term for which it was promoted, while it is to stay so.
    pub term: Option<u64>,
    /// Replicas without which it takes no write.
    pub replicas: Option<ReplicasToWrite>,
    /// What the election waits for, in words; none for a replica that has a primary.
    pub waits: Option<String>,
    /// Zone of the node.
    pub zone: Option<&'a String>,
    /// Instances of the set.
    pub members: &'a [String],
    /// Configuration in force.
    pub config_hash: Option<String>,
    /// Hash of the users in force.
    pub users_hash: Option<String>,
    /// Directives that wait for a restart.
    pub pending_restart: Vec<String>,
    /// Certificate that the engine serves.
    pub certificate_serial: Option<String>,
    /// The data volume.
    pub volume: Option<Volume>,
    /// The last error.
    pub last_error: Option<String>,
}

/// The status, with sequence 0.
pub fn status(f: &Facts<'_>) -> Status {
    let mut s = Status {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        program: f.program.cloned(),
        given_up: f.given_up.clone(),
        nonce: f.nonce.clone(),
        pod_uid: f.pod_uid.to_owned(),
        instance: f.instance.to_owned(),
        yields: f.yields,
        volume: f.volume,
        zone: f.zone.cloned(),
        certificate_serial: f.certificate_serial.clone(),
        last_error: f.last_error.clone(),
        ..Status::default()
    };
    let running = matches!(f.engine, Engine::Running { .. });
    match f.sight {
        Sight::Up { at, vitals, .. } if running && f.now.saturating_sub(*at) <= FRESH => {
            s.phase = Phase::Running;
            s.engine_version = Some(vitals.version.clone());
            s.position = Some(vitals.offset);
            if let Some(mark) = &vitals.mark {
                s.system_identifier = Some(mark.set.clone());
                s.timeline = i64::try_from(mark.timeline).ok();
            }
            s.config_hash.clone_from(&f.config_hash);
            s.users_hash.clone_from(&f.users_hash);
            s.pending_restart.clone_from(&f.pending_restart);
            if let Some(cluster) = vitals.cluster {
                tell_of_member(&mut s, vitals, cluster.ok);
            } else if vitals.is_primary {
                tell_of_primary(&mut s, f, vitals);
            } else {
                s.role = InstanceRole::Replica;
                s.ready = vitals.link_up && !vitals.is_detached();
            }
            if s.role == InstanceRole::Replica {
                s.lag_bytes = vitals.lag.filter(|_| vitals.link_up && !vitals.syncing);
            }
            if !vitals.snapshot_ok || !vitals.log_ok {
                let what = if vitals.log_ok {
                    "a snapshot"
                } else {
                    "its append-only file"
                };
                let why = format!(
                    "Redis could not write {what}; see its log, and the room on the volume"
                );
                s.last_error.get_or_insert(why);
            }
            if !s.ready && s.message.is_none() {
                s.message = Some(match (&s.refuses_writes, &f.waits) {
                    (Some(why), _) => why.clone(),
                    (None, Some(waits)) => format!("waiting for {waits}"),
                    (None, None) if vitals.syncing => {
                        "it receives the primary's dataset".to_owned()
                    }
                    (None, None) => "it does not receive from the primary".to_owned(),
                });
            }
        }
        sight if running => {
            s.phase = Phase::Recovering;
            s.message = Some(match sight {
                Sight::Dark(why) => why.clone(),
                Sight::Loading => "Redis reads its dataset".to_owned(),
                Sight::Up { busy: Some(_), .. } => SessionError::Busy.to_string(),
                Sight::Up { .. } => "Redis does not answer any more".to_owned(),
            });
        }
        _ => (s.phase, s.message) = idle(f.next),
    }
    if let Some(phase) = f.task {
        s.phase = phase;
        s.ready = false;
        s.open_epoch = None;
    }
    if let Next::Fail(why) = f.next {
        s.phase = Phase::Failed;
        s.last_error = Some(why.clone());
    }
    s
}

/// What a member of a cluster is.
fn tell_of_member(s: &mut Status, vitals: &Vitals, cluster_ok: bool) {
    let receives = vitals.link_up && !vitals.syncing;
    s.role = if vitals.is_primary {
        InstanceRole::Primary
    } else {
        InstanceRole::Replica
    };
    s.refuses_writes = (vitals.is_primary && !vitals.log_ok)
        .then(|| "Redis takes no writes since its append-only file cannot be written".to_owned());
    s.ready = cluster_ok && (vitals.is_primary || receives) && s.refuses_writes.is_none();
    if !cluster_ok {
        let why =
            "the cluster is not formed yet, or this member does not reach most of its primaries";
        s.message = Some(why.to_owned());
    }
}

/// What a primary knows of its replicas, and of what it refuses.
fn tell_of_primary(s: &mut Status, f: &Facts<'_>, vitals: &Vitals) {
    s.role = InstanceRole::Primary;
    let online = |name: &&String| {
        let named = |a: &str| member(a).is_some_and(|m| m.name.as_str() == **name);
        vitals
            .replicas
            .iter()
            .any(|r| r.online && named(&r.announced))
    };
    s.streaming = f.members.iter().filter(online).cloned().collect();
    s.synchronous = Some(false);
    s.refuses_writes = refuses(f, vitals);
    s.acknowledging = Some(Acknowledging {
        needed: f.replicas.map_or(0, |r| r.count),
        of: if f.replicas.is_some() {
            s.streaming.clone()
        } else {
            vec![]
        },
    });
    s.open_epoch = f.term.filter(|_| vitals.min_replicas != SHUT);
    // The election opens the door, and the engine does.
    s.ready = f.open && vitals.min_replicas != SHUT && s.refuses_writes.is_none();
}

/// Why writes are refused, if they are.
fn refuses(f: &Facts<'_>, vitals: &Vitals) -> Option<String> {
    if !vitals.log_ok {
        let why = "Redis takes no writes since its append-only file cannot be written";
        return Some(why.to_owned());
    }
    let bound = f.replicas?;
    let near = |r: &&super::vitals::Replica| {
        r.online && r.lag.is_some_and(|l| l <= u64::from(bound.max_lag_seconds))
    };
    let there = vitals.replicas.iter().filter(near).count();
    (there < usize::try_from(bound.count).unwrap_or(usize::MAX)).then(|| {
        format!(
            "Redis takes no writes: {} replicas must have been heard of within {} s, and {there} were",
            bound.count, bound.max_lag_seconds
        )
    })
}

fn idle(next: &Next) -> (Phase, Option<String>) {
    match next {
        Next::Wait(what) => (Phase::Waiting, Some(format!("waiting for {what}"))),
        Next::Fail(why) => (Phase::Failed, Some(why.clone())),
        Next::Found => (Phase::Initialising, None),
        Next::Follow => (Phase::Cloning, None),
        Next::Start | Next::Tend(_) | Next::Clean | Next::Promote | Next::Detach => {
            (Phase::Recovering, None)
        }
        Next::Stop | Next::HandOver | Next::Halt | Next::Revive | Next::End => {
            (Phase::Stopping, None)
        }
    }
}

/// Metrics of a status and of what was seen last, in the text format of Prometheus.
pub fn metrics(s: &Status, sight: &Sight) -> String {
    let primary = s.role == InstanceRole::Primary;
    let mut gauges = Gauges::new("mainstay_redis", &s.instance);
    gauges.flag("ready", "Whether it serves.", s.ready);
    gauges.flag("primary", "Whether it is the primary.", primary);
    gauges.number("position_bytes", "Replication offset.", s.position);
    let (size, free) = (s.volume.map(|v| v.size), s.volume.map(|v| v.free));
    gauges.number("volume_size_bytes", "Size of the data volume.", size);
    gauges.number("volume_free_bytes", "Free space of the data volume.", free);
    if let Sight::Up { vitals, .. } = sight {
        seen(&mut gauges, primary, vitals);
    }
    gauges.finish()
}

/// Metrics of what was seen last.
fn seen(gauges: &mut Gauges<'_>, primary: bool, v: &Vitals) {
    let online = v.replicas.iter().filter(|r| r.online);
    gauges.number(
        "streaming_replicas",
        "Replicas that receive all writes.",
        primary.then_some(online.clone().count() as u64),
    );
    let lag = online.map(|r| v.offset.saturating_sub(r.offset)).max();
    gauges.number(
        "replica_lag_bytes",
        "What the replica that lacks most has not acknowledged.",
        lag.filter(|_| primary),
    );
    gauges.flag(
        "link_up",
        "Whether a replica's link to its primary stands.",
        (!primary).then_some(v.link_up),
    );
    gauges.number(
        "primary_heard_seconds",
        "Time since a replica heard of its primary.",
        v.heard.filter(|_| !primary),
    );
    if let Some(cluster) = v.cluster {
        gauges.flag(
            "cluster_ok",
            "Whether the cluster answers for keys, as this member sees it.",
            cluster.ok,
        );
        gauges.number(
            "cluster_slots_served",
            "Slots, of 16384, whose owner answers, as this member sees it.",
            cluster.slots,
        );
    }
    gauges.number("memory_bytes", "Memory used.", v.memory);
    let limit = (v.memory_limit > 0).then_some(v.memory_limit);
    gauges.number("memory_limit_bytes", "Limit of memory.", limit);
    gauges.number("keys", "Keys in all databases.", v.keys);
    gauges.number("evicted_keys", "Keys evicted since it started.", v.evicted);
    gauges.number("clients", "Clients connected.", v.clients);
    gauges.flag(
        "snapshot_ok",
        "Whether the last snapshot was written.",
        v.snapshot_ok,
    );
    gauges.flag(
        "append_only_file_ok",
        "Whether the append-only file is written.",
        v.log_ok,
    );
}

#[cfg(test)]
mod tests {
    use super::super::vitals::{Clustered, Replica};
    use super::*;

    fn primary(lag: u64, log_ok: bool) -> Sight {
        Sight::Up {
            at: Duration::from_secs(99),
            busy: None,
            vitals: Box::new(Vitals {
                is_primary: true,
                log_ok,
                snapshot_ok: true,
                offset: 100,
                replicas: vec![Replica {
                    announced: "db-2.aa".into(),
                    online: true,
                    offset: 40,
                    lag: Some(lag),
                }],
                ..Vitals::default()
            }),
        }
    }

    fn told(sight: &Sight, now: u64) -> Status {
        told_by(sight, now, None)
    }

    fn told_by(sight: &Sight, now: u64, task: Option<Phase>) -> Status {
        let members = ["db-1".to_owned(), "db-2".to_owned()];
        status(&Facts {
            now: Duration::from_secs(now),
            instance: "db-1",
            pod_uid: "u",
            program: None,
            given_up: None,
            nonce: "n".into(),
            engine: &Engine::Running { pid: 7 },
            next: &Next::Wait(String::new()),
            task,
            yields: false,
            sight,
            open: true,
            term: Some(4),
            replicas: Some(ReplicasToWrite {
                count: 1,
                max_lag_seconds: 5,
            }),
            waits: None,
            zone: None,
            members: &members,
            config_hash: None,
            users_hash: None,
            pending_restart: vec![],
            certificate_serial: None,
            volume: None,
            last_error: None,
        })
    }

    #[test]
    fn a_primary_without_the_replicas_that_it_needs_is_not_ready_and_says_why() {
        let s = told(&primary(1, true), 100);
        assert!(s.ready && s.streaming == ["db-2"], "{s:?}");
        let s = told(&primary(6, true), 100);
        assert!(!s.ready && s.message.unwrap().contains("1 replicas"));
        let s = told(&primary(1, false), 100);
        assert!(!s.ready && s.last_error.unwrap().contains("append-only"));
        let s = told(&primary(1, true), 120);
        assert_eq!(
            (s.ready, s.role),
            (false, InstanceRole::Unknown),
            "an old look"
        );
    }

    #[test]
    fn an_open_door_is_told_whether_or_not_there_are_replicas_to_write() {
        let with = |min_replicas| match primary(60, true) {
            Sight::Up { at, vitals, busy } => Sight::Up {
                at,
                busy,
                vitals: Box::new(Vitals {
                    min_replicas,
                    ..*vitals
                }),
            },
            sight => sight,
        };
        let s = told(&with(1), 100);
        assert_eq!((s.open_epoch, s.ready), (Some(4), false));
        assert_eq!(told(&with(SHUT), 100).open_epoch, None);
        assert_eq!(told(&with(1), 120).open_epoch, None, "an old look");
        let stopping = told_by(&with(1), 100, Some(Phase::Stopping));
        assert_eq!(stopping.open_epoch, None);
    }

    #[test]
    fn a_member_of_a_cluster_serves_while_the_cluster_does_and_it_receives() {
        let member = |is_primary, link_up, ok| {
            let sight = Sight::Up {
                at: Duration::from_secs(99),
                busy: None,
                vitals: Box::new(Vitals {
                    is_primary,
                    link_up,
                    log_ok: true,
                    snapshot_ok: true,
                    cluster: Some(Clustered { ok, slots: 16_384 }),
                    ..Vitals::default()
                }),
            };
            let s = told(&sight, 100);
            (s.ready, s.role)
        };
        assert_eq!(member(true, false, true), (true, InstanceRole::Primary));
        assert_eq!(member(true, false, false), (false, InstanceRole::Primary));
        assert_eq!(member(false, true, true), (true, InstanceRole::Replica));
        assert_eq!(member(false, false, true), (false, InstanceRole::Replica));
    }

    #[test]
    fn metrics_of_a_member_tell_how_much_of_the_cluster_it_sees() {
        let said =
            "cluster_state:fail\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:10923\r\n";
        let mut sight = primary(1, true);
        if let Sight::Up { vitals, .. } = &mut sight {
            vitals.cluster = Some(Clustered::read(said));
        }
        let text = metrics(&told(&sight, 100), &sight);
        for line in [
            "cluster_ok{instance=\"db-1\"} 0\n",
            "cluster_slots_served{instance=\"db-1\"} 10923\n",
        ] {
            assert!(text.contains(&format!("mainstay_redis_{line}")), "{text}");
        }
    }

    #[test]
    fn metrics_tell_what_was_seen() {
        let sight = primary(1, true);
        let text = metrics(&told(&sight, 100), &sight);
        assert!(
            text.contains("mainstay_redis_replica_lag_bytes{instance=\"db-1\"} 60\n"),
            "{text}"
        );
        assert!(!text.contains("cluster"), "{text}");
        let dark = metrics(&told(&sight, 100), &Sight::Loading);
        assert!(!dark.contains("memory_bytes") && dark.contains("mainstay_redis_ready"));
    }
}

//! The status that the agent gives of itself; values only.

use std::time::Duration;

use mainstay_crds::common::InstanceRole;
use mainstay_shared::agent::api::{
    Acknowledging, GivenUp, Phase, Program, Status, Volume, Weakened,
};
use mainstay_shared::agent::gauges::Gauges;
use mainstay_shared::agent::init::protocol::Engine;

use super::decide::{Data, Next};
use super::monitor::Sight;
use super::render::member;
use super::sql::Vitals;

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
    /// What is on the volume.
    pub data: &'a Data,
    /// The engine's process.
    pub engine: &'a Engine,
    /// What was decided.
    pub next: &'a Next,
    /// A long task: its phase and how far it is.
    pub task: Option<(Phase, String)>,
    /// What was seen of the engine.
    pub sight: &'a Sight,
    /// A primary lets clients in.
    pub open: bool,
    /// Settings that are asked lower than the data allows: only a start as primary brings them into
    /// force, on a replica once the primary has them.
    pub held_back: Vec<String>,
    /// What the election waits for, in words; none for a replica that has a primary.
    pub waits: Option<String>,
    /// Who acknowledges, as every session waits for it.
    pub acknowledging: Option<Acknowledging>,
    /// Whether commits wait since replicas lack too much; none where they never would.
    pub throttling: Option<bool>,
    /// Why a primary refuses writes, where it does.
    pub refuses_writes: Option<String>,
    /// Settings by which acknowledgements are worth less.
    pub weakened: &'a [Weakened],
    /// Zone of the node.
    pub zone: Option<&'a String>,
    /// Instances of the set.
    pub members: &'a [String],
    /// Configuration in force.
    pub config_hash: Option<String>,
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
        volume: f.volume,
        zone: f.zone.cloned(),
        certificate_serial: f.certificate_serial.clone(),
        last_error: f.last_error.clone(),
        ..Status::default()
    };
    if let Data::Present { identifier, .. } = f.data {
        s.system_identifier = Some(identifier.clone());
    }
    let running = matches!(f.engine, Engine::Running { .. });
    match f.sight {
        Sight::Up {
            at,
            vitals,
            pending_restart,
            configuration_error,
            ..
        } if running && f.now.saturating_sub(*at) <= FRESH => {
            s.phase = Phase::Running;
            s.role = if vitals.in_recovery {
                InstanceRole::Replica
            } else {
                InstanceRole::Primary
            };
            s.engine_version = Some(vitals.version.clone());
            s.system_identifier = Some(vitals.system_identifier.clone());
            s.timeline = i64::try_from(vitals.timeline).ok();
            s.position = Some(vitals.position);
            s.lag_bytes = vitals.lag;
            s.config_hash.clone_from(&f.config_hash);
            s.pending_restart.clone_from(pending_restart);
            if vitals.in_recovery {
                s.held_back.clone_from(&f.held_back);
            } else {
                s.pending_restart.extend(f.held_back.iter().cloned());
                s.pending_restart.sort();
                s.pending_restart.dedup();
                s.restart_primary_first = !f.held_back.is_empty();
            }
            if !vitals.in_recovery {
                tell_of_primary(&mut s, f, vitals);
            }
            s.ready = if vitals.in_recovery {
                vitals.receiving
            } else {
                f.open
            };
            if !s.ready {
                let waits = match (&s.refuses_writes, &f.waits) {
                    (Some(why), _) => why.clone(),
                    (None, None) => "it does not stream from the primary".to_owned(),
                    (None, Some(waits)) => format!("waiting for {waits}"),
                };
                s.message = Some(waits);
            }
            if let Some(error) = configuration_error {
                s.last_error = Some(error.clone());
            }
        }
        sight if running => {
            s.phase = Phase::Recovering;
            s.message = Some(match sight {
                Sight::Dark(why) => why.clone(),
                Sight::NotYet => "PostgreSQL is starting or recovering".to_owned(),
                Sight::Up { .. } => "PostgreSQL does not answer any more".to_owned(),
            });
        }
        _ => {
            (s.phase, s.message) = idle(f.next);
        }
    }
    if let Some((phase, message)) = &f.task {
        s.phase = *phase;
        s.message = Some(message.clone()).filter(|m| !m.is_empty());
        s.ready = s.ready && *phase != Phase::Stopping;
    }
    if let Next::Fail(why) = f.next {
        s.phase = Phase::Failed;
        s.last_error = Some(why.clone());
    }
    s
}

/// What a primary knows of its replicas, and of what acknowledgements are worth.
fn tell_of_primary(s: &mut Status, f: &Facts<'_>, vitals: &Vitals) {
    let streams = |name: &&String| {
        let is = |a: &String| member(a).is_some_and(|a| a.name.as_str() == **name);
        vitals.flushed.iter().any(|(a, _)| is(a))
    };
    s.streaming = f.members.iter().filter(streams).cloned().collect();
    // Whoever is waited for since replicas lack much makes no quorum.
    let throttling = f.throttling == Some(true);
    s.synchronous = Some(!vitals.standby_names.is_empty() && !throttling);
    s.throttling = f.throttling;
    s.refuses_writes.clone_from(&f.refuses_writes);
    s.weakened = f.weakened.to_vec();
    s.acknowledging.clone_from(&f.acknowledging);
}

fn idle(next: &Next) -> (Phase, Option<String>) {
    match next {
        Next::Wait(what) => (Phase::Waiting, Some(format!("waiting for {what}"))),
        Next::Fail(why) => (Phase::Failed, Some(why.clone())),
        Next::Initialise => (Phase::Initialising, None),
        Next::Clone | Next::Replace | Next::Rewind => (Phase::Cloning, None),
        Next::Start(_) | Next::Tend(_) | Next::Clean | Next::Promote => (Phase::Recovering, None),
        Next::Stop | Next::Halt | Next::Revive | Next::End => (Phase::Stopping, None),
    }
}

/// Metrics of a status, in the text format of Prometheus.
pub fn metrics(s: &Status) -> String {
    let primary = s.role == InstanceRole::Primary;
    let mut gauges = Gauges::new("mainstay_postgres", &s.instance);
    gauges.flag("ready", "Whether it serves.", s.ready);
    gauges.flag("primary", "Whether it is the primary.", primary);
    gauges.number(
        "position_bytes",
        "Position in the write-ahead log.",
        s.position,
    );
    gauges.number("lag_bytes", "Log that is not replayed yet.", s.lag_bytes);
    let streaming = primary.then_some(s.streaming.len() as u64);
    gauges.number(
        "streaming_replicas",
        "Replicas that stream from it.",
        streaming,
    );
    let (size, free) = (s.volume.map(|v| v.size), s.volume.map(|v| v.free));
    gauges.number("volume_size_bytes", "Size of the data volume.", size);
    gauges.number("volume_free_bytes", "Free space of the data volume.", free);
    gauges.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(sight: &'a Sight, data: &'a Data, next: &'a Next) -> Facts<'a> {
        Facts {
            now: Duration::from_secs(100),
            instance: "db-1",
            pod_uid: "u",
            program: None,
            given_up: None,
            nonce: "n".into(),
            data,
            engine: &Engine::Running { pid: 7 },
            next,
            task: None,
            sight,
            open: true,
            waits: None,
            held_back: vec![],
            acknowledging: None,
            throttling: None,
            refuses_writes: None,
            weakened: &[],
            zone: None,
            members: &[],
            config_hash: Some("h".into()),
            certificate_serial: None,
            volume: None,
            last_error: None,
        }
    }

    fn up(at: u64, vitals: Vitals) -> Sight {
        Sight::Up {
            at: Duration::from_secs(at),
            vitals: Box::new(vitals),
            pending_restart: vec![],
            configuration_error: None,
            settings_of: 0.0,
        }
    }

    #[test]
    fn a_replica_is_ready_only_while_it_streams() {
        let wait = Next::Wait(String::new());
        let vitals = |receiving| Vitals {
            in_recovery: true,
            receiving,
            ..Vitals::default()
        };
        for receiving in [false, true] {
            let sight = up(99, vitals(receiving));
            assert_eq!(status(&facts(&sight, &Data::None, &wait)).ready, receiving);
        }
    }

    #[test]
    fn what_was_seen_long_ago_is_not_told_as_now() {
        let wait = Next::Wait(String::new());
        let sight = up(80, Vitals::default());
        let s = status(&facts(&sight, &Data::None, &wait));
        assert!(!s.ready);
        assert_eq!(
            (s.phase, s.role),
            (Phase::Recovering, InstanceRole::Unknown)
        );
    }
}

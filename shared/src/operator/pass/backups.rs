//! Backups of a set: its keys, who is asked for what, what is said of each, and what the status says (I/O at
//! the end). Decisions are in [`crate::backups`].

use std::collections::BTreeMap;

use kube::Resource;
use mainstay_backup::api::Report as BackupReport;
use mainstay_crds::backup::Backup;
use mainstay_crds::common::InstanceRole;
use mainstay_crds::common::backup::RecoveryStatus;

use super::Pass;
use super::report::{PassError, Report};
use crate::apply::Object;
use crate::apply::inventory::Seen;
use crate::apply::io::{self, Created};
use crate::backups::plan::Step;
use crate::backups::{Ask, Member, Setting, drill, health, keep, plan, schedule};
use crate::conditions::State;
use crate::instances::{Instance, Known};
use crate::names;
use crate::operator::desired::backup_keys;
use crate::operator::engine::Engine;
use crate::operator::material;
use crate::operator::observe::Observed;
use crate::operator::validated::{Common, Validated};
use crate::telemetry::backups::ArchiveFigures;

/// A replica that lacks more of the log than this makes no backup: it would be old, and be late for more.
const MOST_LAG: u64 = 64 << 20;

/// What the status says of backups.
pub(super) struct Told {
    pub(super) recovery: RecoveryStatus,
    pub(super) condition: (State, &'static str, String),
    /// The condition `RecoveryProven`; none where no drills are asked for.
    pub(super) proven: Option<(State, &'static str, String)>,
}

/// What is asked, said, made and deleted.
#[derive(Default)]
struct Work {
    steps: Vec<Step>,
    asks: Vec<Ask>,
    create: Option<Backup>,
    delete: Vec<Backup>,
}

impl<E: Engine> Pass<'_, E> {
    /// Make sure that there are keys before anything is encrypted to them. Keys that somebody has put there
    /// are used as they are.
    pub(super) async fn backup_keys(
        &self,
        report: &Report<E>,
        validated: &Validated<E>,
    ) -> Result<(), PassError> {
        let name = names::backup_keys(&self.set.name);
        let there = report.observed.secrets.contains_key(&name)
            || self.context.with_keys(|keys| keys.contains(&self.set));
        if validated.common.backup.is_none() || there {
            return Ok(());
        }
        let secret = Object::of(&backup_keys::secret(&self.id, &material::backup_keys()?))?;
        match io::create(&self.context.client, &secret).await? {
            Created::Made => tracing::info!(set = %self.set, "made the keys of its backups"),
            Created::Exists => {
                self.context.with_keys(|keys| keys.insert(self.set.clone()));
            }
        }
        Ok(())
    }

    /// Look after backups. Whatever comes of it, it holds nothing else up.
    pub(super) async fn look_after_backups(
        &self,
        report: &mut Report<E>,
        validated: &Validated<E>,
        seat: &str,
        paused: bool,
    ) {
        let backups = report.observed.backups.clone();
        let containers = self.containers(report, validated);
        let members = members(&containers);
        let refusals = self.refusals(backups.as_deref().unwrap_or_default());
        let candidates = if validated.common.self_led {
            any_member(&report.observed, &members)
        } else {
            candidates(&report.observed, &members, seat)
        };
        // Where nobody is the primary, what one container knows all do: the first that answers is asked.
        let first = report.observed.instances.iter();
        let first = first
            .map(|i| i.name.as_str())
            .find(|name| answers(&members, name));
        let seat = first.filter(|_| validated.common.self_led).unwrap_or(seat);
        let wanted = validated.common.backup.as_ref();
        let setting = Setting {
            now: self.now,
            set: (E::KIND, &self.set.name),
            repository: wanted.map(|b| b.place.as_str()),
            members: &members,
            seat,
            candidates: &candidates,
            unsuitable: "no instance can be backed up now: it waits for one that serves and whose backup container answers",
            chain: wanted.map_or(0, |b| b.chain),
            refusals: &refusals,
        };
        let known = backups.as_deref().unwrap_or_default();
        if let Some(backup) = wanted {
            let known_before = self.before.recovery.as_ref();
            let told = Told {
                recovery: RecoveryStatus {
                    on_full: backup.on_full,
                    ..health::recovery(&backup.place, &backup.cron, known_before, &setting)
                },
                condition: health::condition(&backup.cron, known, &setting),
                proven: None,
            };
            self.measure_backups(&told, setting.primary_report());
            report.backups = Some(told);
            report.primary_backup = setting.primary_report().cloned();
            report.ground = Some(drill::ground(setting.primary_report()));
        } else {
            let metrics = &self.context.metrics.backups;
            metrics.forget(&self.set.namespace, &self.set.name);
        }
        // What is not known to be absent is not made.
        let Some(known) = backups.as_deref().filter(|_| !paused) else {
            return;
        };
        let work = self.work(known, validated, &setting);
        for due in dues(known, &validated.common, &setting) {
            report.look_at(due, self.now);
        }
        let asks = self.carry_out(report, work).await;
        let Some(identity) = report.identity.clone() else {
            return;
        };
        let find = |ask: &Ask| {
            let instance = report.observed.instance(&ask.instance)?;
            let same = instance.pod.as_ref().is_some_and(|p| p.uid == ask.pod_uid);
            same.then_some(instance)
        };
        let asks: Vec<(&Instance, &Ask)> = asks
            .iter()
            .filter_map(|ask| Some((find(ask)?, ask)))
            .collect();
        self.context.talk.ask_backups(&self.set, &identity, &asks);
    }

    /// What the containers say, by instance and pod.
    fn containers(
        &self,
        report: &Report<E>,
        validated: &Validated<E>,
    ) -> Vec<(String, String, Known<BackupReport>)> {
        let Some(identity) = &report.identity else {
            return Vec::new();
        };
        let instances = report.observed.instances.iter();
        let followed: Vec<&Instance> = instances
            .filter(|i| {
                validated.common.backup.is_some() && i.pod.as_ref().is_some_and(|p| !p.deleting)
            })
            .collect();
        let talk = &self.context.talk;
        talk.follow_backups(&self.set, identity, &followed)
    }

    /// Why orders that stand in a status were not taken.
    fn refusals(&self, backups: &[Backup]) -> BTreeMap<String, String> {
        let attempts = backups.iter().filter(|b| !plan::is_over(b));
        let attempts = attempts.filter_map(|b| b.status.as_ref()?.attempt.as_ref());
        let refusal = |attempt: &mainstay_crds::backup::Attempt| {
            let what = format!("take {}", attempt.order);
            let talk = &self.context.talk;
            let why = talk.backup_refusal(&self.set, &attempt.pod_uid, &what)?;
            Some((attempt.order.clone(), why))
        };
        attempts.filter_map(refusal).collect()
    }

    fn work(&self, known: &[Backup], validated: &Validated<E>, setting: &Setting<'_>) -> Work {
        let mut work = Work {
            steps: plan::steps(known, setting),
            asks: plan::strays(known, setting),
            ..Work::default()
        };
        if let Some(backup) = &validated.common.backup {
            work.asks.extend(keep::asks(&backup.policy, known, setting));
            work.create = schedule::due(&self.id, &backup.cron, known, setting);
            let records = keep::records(known, setting);
            work.steps.extend(records.expired);
            work.delete = records.delete;
        }
        work
    }

    /// Say, make and delete. Returns what may be asked now: what stands in no status is not asked.
    async fn carry_out(&self, report: &mut Report<E>, work: Work) -> Vec<Ask> {
        let client = &self.context.client;
        let mut asks = work.asks;
        for step in work.steps {
            let said = match &step.status {
                None => true,
                Some(status) => {
                    let said = io::write_status_as_seen(client, &step.backup, status).await;
                    match said {
                        Ok(()) => {
                            if let Some(happening) = plan::happening(&step) {
                                let object = step.backup.object_ref(&());
                                self.context.events.report(&object, happening);
                            }
                            true
                        }
                        // It has changed since it was seen, or is gone: it is looked at anew.
                        Err(error) if error.cause.is_overtaken() => false,
                        Err(error) => {
                            report.failed(error);
                            false
                        }
                    }
                }
            };
            if said {
                asks.extend(step.asks);
            }
        }
        if let Some(backup) = &work.create {
            match Object::of(backup) {
                Ok(object) => {
                    let made = io::create(client, &object).await;
                    report.outcomes.request(made.map_err(PassError::from));
                }
                Err(error) => report.failed(error),
            }
        }
        for backup in &work.delete {
            let seen = Object::of(backup).ok().as_ref().and_then(Seen::of);
            if let Some(seen) = seen {
                let deleted = io::delete(client, &seen).await;
                report.outcomes.request(deleted.map_err(PassError::from));
            }
        }
        asks
    }

    fn measure_backups(&self, told: &Told, report: Option<&BackupReport>) {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let archive = report.map(|r| ArchiveFigures {
            stored_at: r.archive.last_at.map(jiff::Timestamp::as_second),
            waiting: i64::from(r.archive.waiting_pieces),
            waiting_bytes: number(r.archive.waiting_bytes),
        });
        let healthy = told.condition.0 == State::True;
        self.context.metrics.backups.set(
            &self.set.namespace,
            &self.set.name,
            healthy,
            &told.recovery,
            archive,
        );
    }
}

fn members(containers: &[(String, String, Known<BackupReport>)]) -> Vec<Member<'_>> {
    containers
        .iter()
        .map(|(name, pod_uid, report)| Member {
            name,
            pod_uid,
            report: match report {
                Known::Known(report) => Ok(report),
                Known::Unreachable(why) => Err(why.as_str()),
            },
        })
        .collect()
}

/// Instances that a backup may be made from, the best first: replicas that stream and lack little of the log,
/// then the primary.
fn candidates<'a>(observed: &'a Observed, members: &[Member<'_>], seat: &str) -> Vec<&'a str> {
    let able = |i: &&Instance| i.serves() && answers(members, &i.name);
    let primary = observed.instance(seat);
    let streaming = primary.and_then(Instance::agent).map(|s| &s.streaming);
    let lag = |i: &Instance| i.agent().and_then(|s| s.lag_bytes).unwrap_or(u64::MAX);
    let mut replicas: Vec<&Instance> = observed
        .instances
        .iter()
        .filter(able)
        .filter(|i| i.agent().is_some_and(|s| s.role == InstanceRole::Replica))
        .filter(|i| streaming.is_some_and(|all| all.contains(&i.name)) && lag(i) <= MOST_LAG)
        .collect();
    // In whole steps, so that the choice does not follow every byte.
    replicas.sort_by_key(|i| (lag(i) >> 24, i.ordinal));
    let primary = primary.filter(able);
    let all = replicas.into_iter().chain(primary);
    all.map(|i| i.name.as_str()).collect()
}

/// The same of a set that leads itself: each container finds out by itself who gives what, and replicas have less to do.
fn any_member<'a>(observed: &'a Observed, members: &[Member<'_>]) -> Vec<&'a str> {
    let able = |i: &&Instance| i.serves() && answers(members, &i.name);
    let mut all: Vec<&Instance> = observed.instances.iter().filter(able).collect();
    let leads = |i: &Instance| i.agent().is_some_and(|s| s.role == InstanceRole::Primary);
    all.sort_by_key(|i| (leads(i), i.ordinal));
    all.into_iter().map(|i| i.name.as_str()).collect()
}

/// Whether the container beside an instance answers.
fn answers(members: &[Member<'_>], name: &str) -> bool {
    members.iter().any(|m| m.name == name && m.report.is_ok())
}

/// When to look again although nothing happens.
fn dues(known: &[Backup], common: &Common, setting: &Setting<'_>) -> Vec<jiff::Timestamp> {
    let mut dues: Vec<_> = plan::due(known, setting).into_iter().collect();
    if let Some(backup) = &common.backup {
        dues.extend(backup.cron.next(setting.now));
        dues.extend(setting.primary_report().and_then(keep::due));
    }
    dues.retain(|due| *due > setting.now);
    dues
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instances::fixture::{set, status};

    /// Four, of which two replicas lack so much of the log. The fourth serves, and the primary does not know it.
    fn all(second: u64, third: u64) -> Vec<Instance> {
        let mut all = set(4, "db-1");
        for (name, lag) in [("db-2", second), ("db-3", third), ("db-4", 0)] {
            status(&mut all, name).lag_bytes = Some(lag);
        }
        status(&mut all, "db-1")
            .streaming
            .retain(|name| name != "db-4");
        all
    }

    fn chosen(instances: Vec<Instance>, silent: &[&str]) -> Vec<String> {
        let observed = Observed {
            instances,
            ..Observed::default()
        };
        let report = BackupReport::default();
        let names = ["db-1", "db-2", "db-3", "db-4"];
        let members: Vec<Member<'_>> = names
            .iter()
            .map(|name| Member {
                name,
                pod_uid: name,
                report: if silent.contains(name) {
                    Err("silent")
                } else {
                    Ok(&report)
                },
            })
            .collect();
        let chosen = candidates(&observed, &members, "db-1");
        chosen.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_replica_that_streams_and_lacks_least_then_the_primary() {
        assert_eq!(chosen(all(0, 0), &[]), ["db-2", "db-3", "db-1"]);
        assert_eq!(chosen(all(32 << 20, 0), &[]), ["db-3", "db-2", "db-1"]);
        assert_eq!(chosen(all(65 << 20, 0), &[]), ["db-3", "db-1"]);
        assert_eq!(chosen(all(0, 0), &["db-2"]), ["db-3", "db-1"]);
        assert_eq!(
            chosen(all(0, 0), &["db-1", "db-2", "db-3"]),
            [] as [&str; 0]
        );
    }

    #[test]
    fn of_a_set_that_leads_itself_any_replica_then_any_primary() {
        let observed = Observed {
            instances: all(65 << 20, 65 << 20),
            ..Observed::default()
        };
        let report = BackupReport::default();
        let of = |name: &'static str| Member {
            name,
            pod_uid: name,
            report: Ok(&report),
        };
        let chosen = any_member(&observed, &["db-1", "db-2", "db-3"].map(of));
        assert_eq!(
            chosen,
            ["db-2", "db-3", "db-1"],
            "the fourth has no container"
        );
        assert_eq!(any_member(&observed, &[of("db-1")]), ["db-1"]);
    }
}

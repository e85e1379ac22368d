//! The probe through the Service, and the view that the status is made of.

use kube::Resource;
use mainstay_crds::common::{Acknowledged, Durability};

use super::Pass;
use super::report::Report;
use crate::agent::api::Acknowledging;
use crate::instances::{Instance, Known};
use crate::names;
use crate::operator::engine::{Answer, Engine};
use crate::operator::observe::Observed;
use crate::operator::plan::Plan;
use crate::operator::status::{self, Backups, SetStatus, View};
use crate::operator::validated::Common;
use crate::outcome::{Outcome, Wait};
use crate::placement::{self, Promise, Running};

impl<E: Engine> Pass<'_, E> {
    /// Try the Service and look at certificates, then put everything in words.
    pub(super) fn say(&self, report: &mut Report<E>) -> SetStatus {
        let members = report.plan.as_ref().map_or_else(
            || {
                let instances = report.observed.instances.iter();
                instances.map(|i| i.name.clone()).collect()
            },
            |plan| plan.members.clone(),
        );
        self.record_waits(report, &members);
        let waits: Vec<&Wait> = report.outcomes.waits().collect();
        let obstacles = report.obstacles();
        let observed = &report.observed;
        let seat_name = report
            .seat
            .as_ref()
            .map(|seat| names::instance(&self.set.name, seat.ordinal))
            .or_else(|| self.before.primary.clone())
            .unwrap_or_else(|| names::instance(&self.set.name, 1));
        // Who leads itself is as well off as a client finds it, whoever is asked.
        let self_led = report.common().is_some_and(|c| c.self_led);
        let any = observed.instances.iter().find(|i| i.serves());
        let seat = match any.filter(|_| self_led) {
            None => observed.instance(&seat_name),
            any => any,
        };
        let seat_name = seat.map_or(seat_name, |s| s.name.clone());
        let probe = self.probe(report, seat);
        let certificates = self.certificates(report);
        let plan = report.plan.as_ref();
        let running = running(observed, &members);
        let durability = report.common().map(|c| c.durability);
        let enforcement = report.common().map(|c| c.enforcement);
        let now = seat.and_then(Instance::agent);
        let now = now.and_then(|s| s.acknowledging.as_ref());
        let promise = promise(report.common(), now);
        let identifier = observed
            .record()
            .and_then(|r| r.system_identifier.as_deref())
            .or_else(|| {
                report
                    .seat
                    .as_ref()
                    .and_then(|s| s.system_identifier.as_deref())
            });
        let view = View {
            set: &self.set.name,
            namespace: &self.set.namespace,
            generation: self.root.meta().generation.unwrap_or_default(),
            port: E::PORT,
            strengthen: E::STRENGTHEN,
            before: &self.before,
            now: self.now,
            deleting: self.is_deleting(),
            paused: self.is_paused(),
            members: &members,
            instances: &observed.instances,
            seat: &seat_name,
            self_led,
            system_identifier: identifier,
            image: report
                .common()
                .map(|c| c.image.as_str())
                .or(self.before.image.as_deref()),
            probe: probe.as_ref(),
            enforcement: enforcement.filter(|_| durability == Some(Durability::Quorum)),
            certificates,
            certificate_hours: report.common().map_or(1, |c| c.certificate_hours),
            survives: placement::survives(&running, promise),
            acknowledged: now.map(|now| Acknowledged {
                outlives: placement::outlives(&running, promise),
                replicas: i32::try_from(now.needed).unwrap_or(i32::MAX),
                of: now.of.clone(),
                max_lag_bytes: report.common().and_then(|c| i64::try_from(c.max_lag?).ok()),
            }),
            chosen: plan.and_then(|p| p.choice.step.as_ref()),
            waits: &waits,
            pending: pending(report),
            backups: backups(report),
            working: report.working,
            troubles: plan.map_or(&[][..], |p| &p.instances.troubles),
            obstacles: &obstacles,
        };
        status::status(&view)
    }

    /// Instances that do not serve yet, and when their troubles become a person's matter.
    fn record_waits(&self, report: &mut Report<E>, members: &[String]) {
        let stays = !self.is_deleting();
        if let Some(validated) = report.validated.as_ref().filter(|_| stays) {
            for wait in E::waits(&validated.own, &report.observed.live) {
                report.progress(Outcome::Progressing(wait));
            }
        }
        if stays {
            for wait in status::starting(members, &report.observed.instances) {
                report.progress(Outcome::Progressing(wait));
            }
        }
        let quorum = report.common().map(|c| c.durability) == Some(Durability::Quorum);
        let seat = report.seat.as_ref().filter(|_| stays);
        let seat = seat.and_then(|s| {
            let name = names::instance(&self.set.name, s.ordinal);
            report.observed.instance(&name)
        });
        let running = running(&report.observed, members);
        let waits: Vec<Wait> = match seat {
            Some(seat) => {
                let now = seat.agent().and_then(|s| s.acknowledging.as_ref());
                let promise = promise(report.common(), now);
                let near = status::near(seat, &running, promise);
                let alone = status::alone(seat).filter(|_| quorum);
                let waits = [
                    alone,
                    status::unacknowledged(seat),
                    near,
                    status::throttled(seat),
                    status::refusing(seat),
                ];
                waits.into_iter().flatten().collect()
            }
            None => Vec::new(),
        };
        for wait in waits {
            report.progress(Outcome::Progressing(wait));
        }
        let troubles = report.plan.iter().flat_map(|p| &p.instances.troubles);
        let wake: Vec<_> = troubles.filter_map(status::stuck_at).collect();
        for at in wake.into_iter().filter(|at| *at > self.now) {
            report.look_at(at, self.now);
        }
    }

    /// What the last try through the Service came to. It is tried while the primary serves, at
    /// once when something on the way changed.
    fn probe(&self, report: &Report<E>, seat: Option<&Instance>) -> Option<Known<Answer>> {
        let talk = &self.context.talk;
        let serving = seat.filter(|i| i.serves());
        let (Some(identity), Some(address), Some(status)) = (
            report.identity.as_ref(),
            report.observed.service_address,
            serving.and_then(Instance::agent),
        ) else {
            talk.forget_probe(&self.set);
            return None;
        };
        let record = report.observed.record();
        let others = if report.common().is_some_and(|c| c.self_led) {
            let roles = report.observed.instances.iter();
            let role = |i: &Instance| (i.name.clone(), i.agent().map(|s| (s.role, s.ready)));
            Some(roles.map(role).collect::<Vec<_>>())
        } else {
            None
        };
        let occasion = format!(
            "{} {} {:?} {:?} {:?} {others:?}",
            status.pod_uid,
            record.map_or(0, |r| r.epoch),
            record.and_then(|r| r.address.as_ref()),
            status.config_hash,
            status.certificate_serial,
        );
        let secrets = &report.observed.secrets;
        let internal = secrets.get(&names::internal_secret(&self.set.name));
        let password = internal.and_then(E::probe_password);
        talk.probe::<E>(&self.set, identity, address, password, &occasion)
    }
}

/// Changes that are asked for and not made yet, in words.
fn pending<E: Engine>(report: &Report<E>) -> Vec<String> {
    let own = report.steered.iter().flat_map(|s| s.pending.clone());
    let plan = report.plan.as_ref().map(Plan::pending);
    own.chain(plan.unwrap_or_default()).collect()
}

/// Backups as they were found.
fn backups<E: Engine>(report: &Report<E>) -> Backups<'_> {
    let asked = report.common().map(|c| c.backup.is_some());
    match (&report.backups, asked) {
        (Some(told), _) => {
            let (state, reason, message) = &told.condition;
            let proven = told.proven.as_ref();
            Backups::Seen {
                recovery: &told.recovery,
                healthy: (*state, *reason, message.as_str()),
                proven: proven.map(|(state, reason, message)| (*state, *reason, message.as_str())),
            }
        }
        (None, Some(false)) => Backups::NotAsked,
        (None, _) => Backups::NotSeen,
    }
}

/// The members as they run.
fn running(observed: &Observed, members: &[String]) -> Vec<Running> {
    let found = members.iter().filter_map(|m| observed.instance(m));
    let running = found.map(|instance| Running {
        name: instance.name.clone(),
        node: instance.pod.as_ref().and_then(|p| p.node.clone()),
        zone: instance.pod.as_ref().and_then(|p| p.zone.clone()),
        role: instance.agent().map(|s| s.role).unwrap_or_default(),
        ready: instance.serves(),
    });
    running.collect()
}

/// What is promised; of a resource that is wrong, nothing.
fn promise<'a>(common: Option<&Common>, now: Option<&'a Acknowledging>) -> Promise<'a> {
    Promise {
        durability: common.map_or(Durability::Async, |c| c.durability),
        enforcement: common.map(|c| c.enforcement).unwrap_or_default(),
        across_zones: common.is_some_and(|c| c.across_zones),
        now,
    }
}

//! What a pass has to know of instances before it plans.

use std::collections::{BTreeMap, BTreeSet};

use kube::Resource;

use super::objects::Wishes;
use super::report::Report;
use super::restores::taken;
use super::{LOOK, Pass};
use crate::access::existing_roles;
use crate::agent::config::{Role, users_hash};
use crate::conditions::reasons;
use crate::instances::{Instance, Wanted};
use crate::names;
use crate::operations;
use crate::operator::engine::{Engine, Ran};
use crate::operator::observe::{Observed, classes};
use crate::operator::plan::{Plan, Seat};
use crate::operator::status::SetStatus;
use crate::operator::validated::Validated;
use crate::outcome::Wait;
use crate::rollout::Expectations;
use crate::watch::SetKey;

/// What instances were told to do.
pub(super) struct Orders {
    /// Why the primary refused, if it did, and how often in a row.
    pub(super) refusal: Option<(String, u32)>,
    /// Which of them is not finished with it, in a sentence.
    pub(super) going: Option<String>,
}

/// Instances whose data cannot be used; none where the resource is wrong beside what has run already, which is reported.
pub(super) fn unusable<E: Engine>(
    report: &mut Report<E>,
    validated: &Validated<E>,
    seat: &Seat,
) -> Option<BTreeMap<u32, String>> {
    let revision = Some(E::revision(&validated.own).hash);
    let leads = |i: &Instance| {
        if validated.common.self_led {
            i.leads()
        } else {
            i.ordinal == seat.ordinal
        }
    };
    let found = report.observed.instances.iter().map(|i| Ran {
        name: &i.name,
        ordinal: i.ordinal,
        is_seat: leads(i),
        is_current: i.pod.as_ref().is_some_and(|p| p.revision == revision),
        runs: i.agent().and_then(|s| s.engine_version.as_deref()),
        noted: i.claim.as_ref().and_then(|c| c.ran.as_deref()),
    });
    let found: Vec<Ran<'_>> = found.collect();
    match E::unusable(&validated.own, &found) {
        Ok(unusable) => Some(unusable),
        Err(problems) => {
            report.invalid(&problems);
            None
        }
    }
}

impl<E: Engine> Pass<'_, E> {
    /// What the instances should be.
    pub(super) fn wanted(
        &self,
        validated: &Validated<E>,
        seat: &Seat,
        wishes: &Wishes,
        unusable: BTreeMap<u32, String>,
        observed: &Observed,
    ) -> Wanted {
        Wanted {
            taken: taken(observed),
            set: self.set.name.clone(),
            count: validated.common.count(),
            seat: seat.ordinal,
            unusable,
            initialised: seat.system_identifier.is_some(),
            revision: wishes.revision.hash.clone(),
            template: wishes.revision.inputs.clone(),
            config_hash: wishes.config_hash.clone(),
            users_hash: Self::told_users(&self.set, observed),
            storage: validated.common.storage,
            agent: self.context.settings.program.program.clone(),
            self_led: validated.common.self_led,
            released: BTreeSet::new(),
            spared: BTreeSet::new(),
        }
    }

    /// Hash of the logins in the agents' Secret as it stands.
    fn told_users(set: &SetKey, observed: &Observed) -> Option<String> {
        let stored = observed.secrets.get(&names::access_secret(&set.name))?;
        let roles: Vec<Role> = existing_roles(stored).into_values().collect();
        users_hash(&roles)
    }

    /// Own writes that the caches do not show yet.
    pub(super) fn unseen(
        &self,
        observed: &Observed,
        orders: &Orders,
        expectations: &mut Expectations,
    ) -> Option<String> {
        let pods: Vec<(&str, &str, bool)> = observed
            .instances
            .iter()
            .filter_map(|i| {
                i.pod
                    .as_ref()
                    .map(|p| (i.name.as_str(), p.uid.as_str(), p.deleting))
            })
            .collect();
        expectations.settle(&pods, self.now);
        expectations.unmet().or_else(|| orders.going.clone())
    }

    /// What instances were told to do.
    pub(super) fn orders(&self, observed: &Observed, seat: &str) -> Orders {
        let refusal = |i| self.context.talk.refusal(&self.set, i);
        let ordered = |i: &&Instance| self.context.talk.is_under_order(&self.set, i);
        let going = observed.instances.iter().find(ordered).map(|instance| {
            let name = &instance.name;
            match refusal(instance) {
                Some((why, _)) => format!("{name} did not do what it was asked: {why}"),
                None => format!("what {name} was asked to do is not finished"),
            }
        });
        Orders {
            refusal: observed.instance(seat).and_then(refusal),
            going,
        }
    }

    /// Events about operations that begin or end.
    pub(super) fn tell_of_operations(&self, plan: &Plan) {
        for told in &plan.operations {
            if let Some(happening) = operations::happening(told) {
                let object = told.operation.object_ref(&());
                self.context.events.report(&object, happening);
            }
        }
    }

    /// While a volume is not there, find out whether its class is.
    pub(super) async fn check_class(
        &self,
        report: &mut Report<E>,
        validated: &Validated<E>,
        members: &[String],
    ) {
        let provided = |name: &String| {
            let instance = report.observed.instance(name);
            instance
                .and_then(|i| i.claim.as_ref())
                .is_some_and(|c| c.bound)
        };
        if members.iter().all(provided) {
            return;
        }
        let class = validated.common.storage_class.as_deref();
        if let Some(missing) = classes::missing(&self.context.client, class).await {
            let wait = Wait {
                step: "provide the volumes".to_owned(),
                predicate: "wait_for_the_storage_class",
                reason: missing,
                after: Some(LOOK),
            };
            report.stall(reasons::NO_VOLUME, wait);
        }
    }
}

/// An image from the catalogue is pinned by the pods that run it: a change of the catalogue rolls
/// nothing. Without any pod, what the status shows of the same revision counts.
pub(super) fn pinned<E: Engine>(
    validated: &Validated<E>,
    observed: &Observed,
    before: &SetStatus,
) -> Option<String> {
    if validated.common.image_is_named {
        return None;
    }
    let hash = E::revision(&validated.own).hash;
    let of_pods = observed
        .instances
        .iter()
        .filter_map(|i| i.pod.as_ref())
        .filter(|p| p.revision.as_ref() == Some(&hash))
        .find_map(|p| p.image.clone());
    let of_status = || {
        let same = before
            .instances
            .iter()
            .any(|i| i.revision.as_ref() == Some(&hash));
        before.image.clone().filter(|_| same)
    };
    of_pods.or_else(of_status)
}

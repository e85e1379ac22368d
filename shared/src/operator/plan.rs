//! What a pass does: values in, a plan out. No client, no clock, no random source.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use mainstay_crds::common::{InstanceRole, KeptVolumes};

use crate::agent::election::record::Record;
use crate::apply::inventory::{self, Seen};
use crate::apply::{Object, Why, needs_apply};
use crate::instances::{self, Instance, Wanted};
use crate::metadata::SetId;
use crate::names;
use crate::operations::{self, Told};
use crate::operator::observe::Observed;
use crate::operator::observe::kinds::{CLAIM, LEASE, POD, SECRET};
use crate::operator::steer::{self, Steered};
use crate::rollout::{Choice, Door, Setting, choose};

/// Who may be primary, and whether the set has data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Ordinal of the instance that may be primary.
    pub ordinal: u32,
    /// Identifier of the set's data, if it has any.
    pub system_identifier: Option<String>,
    /// Epoch to go on from when the Lease is made anew.
    pub epoch: u64,
}

/// How a set begins that has no Lease and no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning<'a> {
    /// Ordinal of its first instance.
    pub first: u32,
    /// Epoch that it had already.
    pub epoch: u64,
    /// Identifier that the status already shows: a set that once had data is never initialised again, even when
    /// Lease and claims are gone. None where it is to begin anew from its repository.
    pub known: Option<&'a str>,
}

impl Beginning<'_> {
    /// Of a set that is new.
    pub const NEW: Self = Self {
        first: 1,
        epoch: 0,
        known: None,
    };
}

/// Who may be primary: the Lease says so; without one, the notes on the claims; in a new set the
/// first instance.
pub fn seat(
    set: &str,
    record: Option<&Record>,
    found: &[Instance],
    begins: &Beginning<'_>,
) -> Seat {
    let noted = found
        .iter()
        .filter_map(|i| i.claim.as_ref().map(|c| (i, c)));
    let identifier = noted.clone().find_map(|(_, c)| c.system_identifier.clone());
    let epoch = noted
        .clone()
        .filter_map(|(_, c)| c.epoch)
        .max()
        .unwrap_or(0);
    let primary = noted
        .clone()
        .find(|(_, c)| c.last_role.as_deref() == Some("primary"));
    let with_data = || {
        noted
            .clone()
            .filter(|(_, c)| c.system_identifier.is_some())
            .min_by_key(|(i, _)| i.ordinal)
    };
    let by_claims = primary.or_else(with_data).map(|(i, _)| i.ordinal);
    let by_lease = record.and_then(|r| names::ordinal(set, &r.seat));
    Seat {
        ordinal: by_lease.or(by_claims).unwrap_or(begins.first),
        system_identifier: record
            .and_then(|r| r.system_identifier.clone())
            .or(identifier)
            .or_else(|| begins.known.map(str::to_owned)),
        epoch: record.map_or(epoch.max(begins.epoch), |r| r.epoch),
    }
}

/// A note to leave on a claim, so that it can be adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Name of the claim.
    pub claim: String,
    /// Its uid, a precondition.
    pub uid: String,
    /// Labels to set.
    pub labels: BTreeMap<String, String>,
    /// Annotations to set.
    pub annotations: BTreeMap<String, String>,
}

/// Notes that are missing or outdated on claims. Only what an agent says of itself is noted.
pub fn notes(set: &SetId, record: Option<&Record>, found: &[Instance]) -> Vec<Note> {
    let mut notes = Vec::new();
    for instance in found {
        let Some(claim) = instance.claim.as_ref().filter(|c| !c.deleting) else {
            continue;
        };
        let mut note = Note {
            claim: names::data_claim(&instance.name),
            uid: claim.uid.clone(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        };
        if claim.set_uid.as_ref() != Some(&set.uid) {
            note.labels
                .insert(names::SET_UID.to_owned(), set.uid.clone());
        }
        if let Some(status) = instance.agent() {
            if status.system_identifier.is_some()
                && claim.system_identifier != status.system_identifier
            {
                let id = status.system_identifier.clone().unwrap_or_default();
                note.annotations
                    .insert(names::SYSTEM_IDENTIFIER.to_owned(), id);
            }
            if let Some(version) = &status.engine_version
                && claim.ran.as_ref() != Some(version)
            {
                note.annotations
                    .insert(names::RAN.to_owned(), version.clone());
            }
            let role = match status.role {
                InstanceRole::Primary => Some("primary"),
                InstanceRole::Replica => Some("replica"),
                InstanceRole::Unknown => None,
            };
            if let Some(role) = role.filter(|r| claim.last_role.as_deref() != Some(r)) {
                note.annotations
                    .insert(names::LAST_ROLE.to_owned(), role.to_owned());
            }
            // On the primary's claim alone: one write per acquisition, not one per member.
            let epoch = record
                .map(|r| r.epoch)
                .filter(|e| *e > 0 && role == Some("primary"));
            if let Some(epoch) = epoch.filter(|e| claim.epoch != Some(*e)) {
                note.annotations
                    .insert(names::NOTED_EPOCH.to_owned(), epoch.to_string());
            }
        }
        if !note.labels.is_empty() || !note.annotations.is_empty() {
            notes.push(note);
        }
    }
    notes
}

/// The Lease as it is made: with the seat, held by nobody.
///
/// # Errors
/// When it cannot be written as JSON, which it always can.
pub fn new_lease(set: &SetId, holder: &Seat) -> Result<Object, serde_json::Error> {
    let record = Record {
        seat: names::instance(&set.name, holder.ordinal),
        epoch: holder.epoch,
        system_identifier: holder.system_identifier.clone(),
        address: None,
    };
    let mut metadata = set.kept(&set.name, "lease");
    metadata.annotations = Some(record.to_annotations());
    Object::of(&Lease {
        metadata,
        spec: None,
    })
}

/// What is wanted, for [`plan`].
#[derive(Debug)]
pub struct Target<'a> {
    /// The set.
    pub set: &'a SetId,
    /// Objects to apply.
    pub objects: &'a [Object],
    /// Objects to create if they are absent, and to leave alone from then on.
    pub once: &'a [Object],
    /// What instances should be.
    pub wanted: &'a Wanted,
    /// Replicas that must confirm a commit.
    pub confirmations: usize,
    /// Own writes that the caches do not show yet.
    pub unseen: Option<&'a str>,
    /// An instance was told to do something and is not finished with it.
    pub under_order: bool,
    /// Why the primary refused the last hand-over, if it did.
    pub refusal: Option<&'a str>,
    /// How often in a row it did.
    pub refusals: u32,
    /// Whether the set may be disturbed now.
    pub door: Door,
    /// What the engine grants, of a set that leads itself.
    pub steered: Option<&'a Steered>,
    /// Now.
    pub now: Timestamp,
}

/// What a pass does.
#[derive(Debug)]
pub struct Plan {
    /// Objects to create if they are absent.
    pub create: Vec<Object>,
    /// Objects to apply, and why.
    pub apply: Vec<(Object, Why)>,
    /// Objects to delete that nobody wants any more.
    pub prune: Vec<Seen>,
    /// Notes to leave on claims.
    pub notes: Vec<Note>,
    /// What to do for instances.
    pub instances: instances::Plan,
    /// The one disruptive step, and what waits.
    pub choice: Choice,
    /// Names of the members.
    pub members: Vec<String>,
    /// What is to be said of operations, before anything is disturbed.
    pub operations: Vec<Told>,
    /// When the operation that goes on is to be looked at again.
    pub operation_due: Option<Timestamp>,
}

impl Plan {
    /// Whether it changes anything.
    pub fn works(&self) -> bool {
        !(self.create.is_empty()
            && self.apply.is_empty()
            && self.prune.is_empty()
            && self.operations.is_empty()
            && self.instances.steps.is_empty()
            && self.choice.step.is_none())
    }

    /// Changes that are asked for and not made yet, in words.
    pub fn pending(&self) -> Vec<String> {
        let candidates = self.instances.candidates.iter();
        let mut words: Vec<String> = candidates
            .map(|c| format!("{}: {}", c.step(), c.why))
            .collect();
        words.extend(self.instances.steps.iter().map(describe));
        words.extend(self.instances.unfinished.iter().cloned());
        words
    }
}

fn describe(step: &instances::Step) -> String {
    use instances::Step;
    match step {
        Step::CreateClaim { instance } => format!("make the volume claim of {instance}"),
        Step::CreatePod { instance } => format!("make the pod of {instance}"),
        Step::GrowClaim { instance, .. } => format!("enlarge the volume of {instance}"),
        Step::DeleteClaim { instance, .. } => format!("delete the volume claim of {instance}"),
        Step::ClearPod { instance, .. } => format!("clear the ended pod of {instance}"),
        Step::SetRole { instance, role, .. } => format!("label {instance} as {role}"),
        Step::RefreshMounts { instance, .. } => {
            format!("pass configuration and logins to {instance}")
        }
        Step::Reload { instance, .. } => format!("reload {instance}"),
    }
}

/// Plan a pass over a set that is not being deleted.
///
/// Guarantee: for a settled set it does nothing: [`Plan::works`] is false and there are no notes.
pub fn plan(observed: &Observed, target: &Target<'_>) -> Plan {
    let mut steps = instances::plan(target.wanted, &observed.instances);
    let members = member_names(&target.set.name, &steps.membership.members);
    let live: BTreeMap<_, &Object> = observed.live.iter().map(|o| (o.key(), o)).collect();
    let absent = |object: &&Object| !live.contains_key(&object.key());
    let apply = target.objects.iter().filter_map(|object| {
        let why = needs_apply(object, live.get(&object.key()).copied())?;
        Some((object.sealed(), why))
    });
    let all: Vec<Object> = target.objects.iter().chain(target.once).cloned().collect();
    let mut prune = inventory::prune(&target.set.uid, &observed.live, &all);
    prune.extend(certificates_of_nobody(observed, &members, target.objects));
    let seat = names::instance(&target.set.name, target.wanted.seat);
    let setting = operations::Setting {
        now: target.now,
        set: &target.set.name,
        seat: &seat,
        epoch: observed.record().map_or(0, |r| r.epoch),
        members: &members,
        instances: &observed.instances,
        under_order: target.under_order,
        refusal: target.refusal,
    };
    if target.steered.is_none()
        && let Some(step) = operations::proposed(&observed.operations, &setting)
    {
        steps.candidates.insert(0, step);
    }
    let rules = Setting {
        instances: &observed.instances,
        members: &members,
        candidates: &steps.candidates,
        seat: &seat,
        confirmations: target.confirmations,
        config_hash: &target.wanted.config_hash,
        unseen: target.unseen,
        refusals: target.refusals,
        door: target.door,
    };
    let choice = match target.steered {
        Some(steered) => steer::choose(&rules, steered),
        None => choose(&rules),
    };
    Plan {
        create: target.once.iter().filter(absent).cloned().collect(),
        apply: apply.collect(),
        prune,
        operations: match target.steered {
            Some(_) => operations::refused(&observed.operations, target.now),
            None => operations::told(&observed.operations, &setting, &choice),
        },
        operation_due: operations::due(&observed.operations, &setting),
        notes: notes(target.set, observed.record(), &observed.instances),
        instances: steps,
        choice,
        members,
    }
}

/// Names of members by their ordinals.
pub fn member_names(set: &str, ordinals: &[u32]) -> Vec<String> {
    ordinals.iter().map(|o| names::instance(set, *o)).collect()
}

/// Certificates that nobody wants, of instances that have left for good: neither members nor in a pod.
fn certificates_of_nobody(observed: &Observed, members: &[String], wanted: &[Object]) -> Vec<Seen> {
    let is_wanted =
        |o: &Object, name: &str| o.resource.kind == SECRET && o.meta("name") == Some(name);
    let stays = |name: &str| {
        wanted.iter().any(|o| is_wanted(o, name))
            || members.iter().any(|m| names::certificate(m) == name)
            || observed
                .instances
                .iter()
                .any(|i| i.pod.is_some() && names::certificate(&i.name) == name)
    };
    observed
        .live
        .iter()
        .filter(|o| o.resource.kind == SECRET && o.label(names::PART) == Some("certificate"))
        .filter(|o| !o.is_terminating() && !o.meta("name").is_some_and(stays))
        .filter_map(Seen::of)
        .collect()
}

/// The next steps to the end of a set.
#[derive(Debug, Default)]
pub struct Ending {
    /// What to delete now.
    pub delete: Vec<Seen>,
    /// What is still there, in words; empty when the finalizer may go.
    pub left: Vec<String>,
}

/// Plan the end: first the pods, then what nobody owns and nobody keeps.
///
/// Guarantee: the keys of backups are never touched; with `Retain` neither claims nor the application's Secret nor the authority are
/// touched, and with either nothing but this set's own is.
pub fn ending(observed: &Observed, kept: KeptVolumes) -> Ending {
    let mut ending = Ending::default();
    let mut go = |object: &Object| {
        ending.left.push(object.key().to_string());
        if !object.is_terminating() {
            ending.delete.extend(Seen::of(object));
        }
    };
    let pods = observed
        .volumes_and_pods
        .iter()
        .filter(|o| o.resource.kind == POD);
    let mut any_pod = false;
    for pod in pods {
        any_pod = true;
        go(pod);
    }
    if any_pod {
        return ending;
    }
    for object in observed.volumes_and_pods.iter().chain(&observed.live) {
        let part = object.label(names::PART);
        let goes = match (object.resource.kind.as_str(), part) {
            // The repository stays, and so does what opens it.
            (SECRET, Some("keys")) => false,
            (LEASE, _) | (SECRET, Some("certificate")) => true,
            (CLAIM, _) => kept == KeptVolumes::Delete,
            (SECRET, _) => {
                kept == KeptVolumes::Delete
                    || object.meta("name").is_some_and(|n| n.ends_with("-access"))
            }
            _ => false,
        };
        if goes {
            go(object);
        }
    }
    ending
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::api::Status;
    use crate::instances::{ClaimSeen, Known, PodSeen};

    fn instance(ordinal: u32, claim: ClaimSeen) -> Instance {
        Instance {
            name: names::instance("db", ordinal),
            ordinal,
            pod: None,
            claim: Some(claim),
            agent: Known::Unreachable("no pod".into()),
        }
    }

    fn noted(role: &str) -> ClaimSeen {
        ClaimSeen {
            system_identifier: Some("7".into()),
            last_role: Some(role.into()),
            epoch: (role == "primary").then_some(4),
            set_uid: Some("old".into()),
            ..ClaimSeen::default()
        }
    }

    #[test]
    fn a_new_set_begins_with_the_first_instance() {
        let seat = seat("db", None, &[], &Beginning::NEW);
        assert_eq!((seat.ordinal, seat.system_identifier), (1, None));
    }

    #[test]
    fn kept_claims_say_who_was_primary() {
        let found = [instance(1, noted("replica")), instance(2, noted("primary"))];
        let seat = seat("db", None, &found, &Beginning::NEW);
        assert_eq!(
            (seat.ordinal, seat.system_identifier.as_deref(), seat.epoch),
            (2, Some("7"), 4)
        );
    }

    #[test]
    fn the_lease_decides_when_there_is_one() {
        let record = Record {
            seat: "db-3".into(),
            epoch: 9,
            ..Record::default()
        };
        let seat = seat(
            "db",
            Some(&record),
            &[instance(1, noted("primary"))],
            &Beginning::NEW,
        );
        assert_eq!((seat.ordinal, seat.epoch), (3, 9));
    }

    #[test]
    fn a_set_that_once_had_data_is_never_new_again() {
        assert_eq!(
            seat(
                "db",
                None,
                &[],
                &Beginning {
                    known: Some("7"),
                    ..Beginning::NEW
                }
            )
            .system_identifier
            .as_deref(),
            Some("7")
        );
    }

    #[test]
    fn a_set_that_goes_back_begins_with_another_instance_and_no_lower_epoch() {
        let back = Beginning {
            first: 4,
            epoch: 9,
            known: None,
        };
        let new = seat("db", None, &[], &back);
        assert_eq!(
            (new.ordinal, new.system_identifier, new.epoch),
            (4, None, 9)
        );
        // Back to what was before: the claims say who it was.
        let found = [instance(1, noted("replica")), instance(2, noted("primary"))];
        let old = seat("db", None, &found, &Beginning { first: 1, ..back });
        assert_eq!((old.ordinal, old.epoch), (2, 9));
    }

    #[test]
    fn an_adopted_claim_is_noted_once() {
        let set = SetId {
            uid: "new".into(),
            name: "db".into(),
            ..SetId::default()
        };
        let mut primary = instance(1, noted("primary"));
        primary.pod = Some(PodSeen {
            uid: "p".into(),
            ..PodSeen::default()
        });
        primary.agent = Known::Known(Status {
            pod_uid: "p".into(),
            system_identifier: Some("7".into()),
            role: InstanceRole::Primary,
            ..Status::default()
        });
        let record = Record {
            seat: "db-1".into(),
            epoch: 5,
            ..Record::default()
        };
        let found = notes(&set, Some(&record), std::slice::from_ref(&primary));
        assert_eq!(found[0].labels[names::SET_UID], "new");
        assert_eq!(
            found[0].annotations,
            BTreeMap::from([(names::NOTED_EPOCH.to_owned(), "5".to_owned())])
        );
        let claim = primary.claim.as_mut().unwrap();
        claim.set_uid = Some("new".into());
        claim.epoch = Some(5);
        assert_eq!(notes(&set, Some(&record), &[primary]), []);
    }
}

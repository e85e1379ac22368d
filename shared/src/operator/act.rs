//! Carries out a plan (I/O). Nothing is decided here.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::desired::credentials::{gone_logins, stale_keys};
use super::engine::Engine;
use super::observe::Observed;
use super::observe::identity::Identity;
use super::observe::kinds::{CLAIM, POD, SECRET};
use super::plan::{Note, Plan};
use super::talk::Talk;
use crate::agent::program::Own;
use crate::apply::inventory::Seen;
use crate::apply::io::{self, Deleted};
use crate::apply::{ApplyError, Cause, Key, Object, Why};
use crate::instances::Step;
use crate::names;
use crate::operations::Told;
use crate::outcome::Outcomes;
use crate::rollout::{Candidate, Change, Expectations};
use crate::watch::SetKey;

/// With what a plan is carried out.
pub struct Hands<'a> {
    /// Client of the API server.
    pub client: &'a Client,
    /// The set.
    pub set: &'a SetKey,
    /// Conversations with agents.
    pub talk: &'a Talk,
    /// How the operator shows itself to agents; none before there is an authority.
    pub identity: Option<&'a Identity>,
    /// Makes an instance's pod.
    pub pod: &'a (dyn Fn(&str) -> Pod + Sync),
    /// Makes an instance's claim.
    pub claim: &'a (dyn Fn(&str) -> PersistentVolumeClaim + Sync),
    /// The operator's own program, for agents.
    pub program: &'a Own,
    /// Now.
    pub now: Timestamp,
}

/// Carry out a plan. What comes after a failure is tried all the same, but no pod is made when an
/// object that it needs could not be.
pub async fn act<E: Engine>(
    hands: &Hands<'_>,
    plan: &Plan,
    observed: &Observed,
    expectations: &mut Expectations,
) -> Outcomes<ApplyError> {
    let mut steps = Outcomes::default();
    for object in &plan.create {
        steps.request(io::create(hands.client, object).await);
    }
    for (object, why) in &plan.apply {
        if *why == Why::Absent && object.resource.kind == SECRET {
            // Its content is random: one that the cache does not show yet must not be replaced.
            steps.request(io::create(hands.client, object).await);
            continue;
        }
        if !steps.request(hands.take_keys_back(object, observed, E::PASSING).await) {
            // Both are tried again.
            continue;
        }
        let applied = io::apply(hands.client, object).await;
        if applied.is_ok() {
            tracing::info!(object = %object.key(), %why, "applied");
        }
        steps.request(applied);
    }
    if steps
        .errors()
        .iter()
        .any(|e| matches!(e.cause, Cause::NamespaceGoing))
    {
        // Nothing can be made any more, and what is there goes by itself.
        return steps;
    }
    // Instances and their primary do without these, and without drills.
    let set = &hands.set.name;
    let of_drills = names::drill_policy(set);
    let is_needed = |e: &&ApplyError| !E::is_optional(set, &e.key.name) && e.key.name != of_drills;
    let complete = !steps.errors().iter().any(|e| is_needed(&e));
    let mut said = true;
    for told in &plan.operations {
        let outcome = hands.say(told).await;
        said &= matches!(outcome, Ok(true));
        steps.request(outcome);
    }
    for note in &plan.notes {
        steps.request(hands.note(note).await);
    }
    let mut without_claim: Vec<&str> = Vec::new();
    for step in &plan.instances.steps {
        if let Step::CreatePod { instance } = step
            && (!complete || without_claim.contains(&instance.as_str()))
        {
            continue;
        }
        let done = steps.request(hands.step(step, observed, expectations).await);
        if let Step::CreateClaim { instance } = step
            && !done
        {
            without_claim.push(instance);
        }
    }
    if let Some(candidate) = plan.choice.step.as_ref().filter(|_| complete && said) {
        steps.request(hands.disturb(candidate, observed, expectations).await);
    }
    // What nobody wants goes last: by then what takes its place is there.
    for seen in &plan.prune {
        steps.request(io::delete(hands.client, seen).await);
    }
    steps
}

impl Hands<'_> {
    /// Take keys out of the application's Secret, of those of logins, and of the agents', that are not wanted any more.
    async fn take_keys_back(
        &self,
        object: &Object,
        observed: &Observed,
        passing: &[&'static str],
    ) -> Result<(), ApplyError> {
        let set = &self.set.name;
        let (own, agents) = (names::application_secret(set), names::access_secret(set));
        let name = object.meta("name").unwrap_or_default().to_owned();
        let labels = &object.value["metadata"]["labels"];
        let connects = name == own || labels.get(names::ACCESS_UID).is_some();
        if object.resource.kind != SECRET || (!connects && name != agents) {
            return Ok(());
        }
        let live = observed.live.iter().find(|o| o.key() == object.key());
        let (Some(live), Some(data)) = (live, observed.secrets.get(&name)) else {
            return Ok(());
        };
        let stale: Vec<String> = if connects {
            let stale = stale_keys(object, data, passing).into_iter();
            stale.map(str::to_owned).collect()
        } else {
            gone_logins(object, data)
        };
        if stale.is_empty() {
            return Ok(());
        }
        let nothing: BTreeMap<&String, Option<()>> = stale.iter().map(|key| (key, None)).collect();
        let body = json!({"metadata": {"uid": live.meta("uid")}, "data": nothing});
        self.patch::<Secret>(&name, &body).await
    }

    async fn step(
        &self,
        step: &Step,
        observed: &Observed,
        expectations: &mut Expectations,
    ) -> Result<(), ApplyError> {
        match step {
            Step::CreateClaim { instance } => self.create(&(self.claim)(instance)).await.map(drop),
            Step::CreatePod { instance } => {
                let pod = (self.pod)(instance);
                if let Some(made) = self.create(&pod).await? {
                    let uid = made.uid().unwrap_or_default();
                    tracing::info!(set = %self.set, instance, uid, "made the pod");
                    expectations.created(instance, &uid, self.now);
                }
                Ok(())
            }
            Step::GrowClaim {
                instance,
                uid,
                resource_version,
                to,
            } => {
                let body = json!({
                    "metadata": {"uid": uid, "resourceVersion": resource_version},
                    "spec": {"resources": {"requests": {"storage": to.to_string()}}},
                });
                tracing::info!(set = %self.set, instance, bytes = to, "enlarging the volume");
                self.patch::<PersistentVolumeClaim>(&names::data_claim(instance), &body)
                    .await
            }
            Step::DeleteClaim {
                instance, uid, why, ..
            } => {
                tracing::info!(set = %self.set, instance, why, "deleting the volume claim");
                self.delete(observed, CLAIM, &names::data_claim(instance), uid)
                    .await
                    .map(drop)
            }
            Step::ClearPod {
                instance, uid, why, ..
            } => {
                tracing::info!(set = %self.set, instance, why, "deleting the pod");
                self.delete(observed, POD, instance, uid).await.map(drop)
            }
            Step::SetRole {
                instance,
                uid,
                role,
            } => {
                let body = json!({"metadata": {"uid": uid, "labels": {names::ROLE: role}}});
                tracing::info!(set = %self.set, instance, role, "labelling the pod");
                self.patch::<Pod>(instance, &body).await
            }
            Step::RefreshMounts {
                instance,
                uid,
                config_hash,
                users_hash,
            } => {
                let mut hashes = BTreeMap::from([(names::CONFIG_HASH, config_hash)]);
                hashes.extend(users_hash.iter().map(|hash| (names::USERS_HASH, hash)));
                let body = json!({"metadata": {"uid": uid, "annotations": hashes}});
                self.patch::<Pod>(instance, &body).await
            }
            Step::Reload {
                instance,
                config_hash,
            } => {
                if let (Some(identity), Some(instance)) =
                    (self.identity, observed.instance(instance))
                {
                    self.talk.reload(self.set, identity, instance, config_hash);
                }
                Ok(())
            }
        }
    }

    async fn disturb(
        &self,
        candidate: &Candidate,
        observed: &Observed,
        expectations: &mut Expectations,
    ) -> Result<(), ApplyError> {
        let (name, why) = (&candidate.instance, &candidate.why);
        tracing::info!(set = %self.set, step = candidate.step(), why, "disturbing one instance");
        match &candidate.change {
            Change::Restart { .. } => {
                let Some((identity, instance)) = self.identity.zip(observed.instance(name)) else {
                    return Ok(());
                };
                self.talk.restart(self.set, identity, instance, why);
            }
            Change::Upgrade { .. } => {
                let Some((identity, instance)) = self.identity.zip(observed.instance(name)) else {
                    return Ok(());
                };
                self.talk
                    .upgrade(self.set, identity, instance, self.program, why);
            }
            Change::HandOver { to } => {
                let who = self.identity.zip(observed.instance(name)).zip(to.as_ref());
                let Some(((identity, instance), to)) = who else {
                    return Ok(());
                };
                self.talk.hand_over(self.set, identity, instance, to, why);
            }
            Change::Replace { uid, .. } | Change::Remove { uid, .. } => {
                if self.delete(observed, POD, name, uid).await? == Deleted::Going {
                    expectations.deleted(name, uid, self.now);
                }
            }
        }
        Ok(())
    }

    /// Delete what was seen, and only that.
    async fn delete(
        &self,
        observed: &Observed,
        kind: &str,
        name: &str,
        uid: &str,
    ) -> Result<Deleted, ApplyError> {
        let object = observed.volumes_and_pods.iter().find(|o| {
            o.resource.kind == kind && o.meta("name") == Some(name) && o.meta("uid") == Some(uid)
        });
        match object.and_then(Seen::of) {
            Some(seen) => io::delete(self.client, &seen).await,
            None => Ok(Deleted::Gone),
        }
    }

    /// What is said of an operation. Says whether it was: one that has changed since it was seen, or is
    /// gone, is looked at anew before anything is done for it.
    async fn say(&self, told: &Told) -> Result<bool, ApplyError> {
        let said = io::write_status_as_seen(self.client, &told.operation, &told.status).await;
        match said {
            Ok(()) => Ok(true),
            Err(error) if error.cause.is_overtaken() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn note(&self, note: &Note) -> Result<(), ApplyError> {
        let body = json!({"metadata": {
            "uid": note.uid,
            "labels": note.labels,
            "annotations": note.annotations,
        }});
        self.patch::<PersistentVolumeClaim>(&note.claim, &body)
            .await
    }

    /// Create an object; none when one of that name is there already.
    async fn create<K>(&self, object: &K) -> Result<Option<K>, ApplyError>
    where
        K: Namespaced,
    {
        let parameters = PostParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PostParams::default()
        };
        match self.api::<K>().create(&parameters, object).await {
            Ok(made) => Ok(Some(made)),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(error) => Err(failed::<K>("create", self.set, &object.name_any(), error)),
        }
    }

    /// Merge a few fields into an object. The uid in `body` keeps the patch off another object of
    /// the same name. One that is gone meanwhile, or changed, is looked at anew in the next pass.
    async fn patch<K: Namespaced>(
        &self,
        name: &str,
        body: &serde_json::Value,
    ) -> Result<(), ApplyError> {
        let parameters = PatchParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match self
            .api::<K>()
            .patch(name, &parameters, &Patch::Merge(body))
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                Ok(())
            }
            Err(error) => Err(failed::<K>("patch", self.set, name, error)),
        }
    }

    fn api<K: Namespaced>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.set.namespace)
    }
}

/// A request about `name` failed.
pub fn failed<K: kube::Resource<DynamicType = ()>>(
    verb: &'static str,
    set: &SetKey,
    name: &str,
    error: kube::Error,
) -> ApplyError {
    let key = Key {
        group: K::group(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        namespace: Some(set.namespace.clone()),
        name: name.to_owned(),
    };
    let cause = Cause::of(verb, &key, error);
    ApplyError { verb, key, cause }
}

/// A typed object of a namespace that can be written.
trait Namespaced:
    kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + serde::Serialize
    + serde::de::DeserializeOwned
    + Clone
    + std::fmt::Debug
{
}

impl Namespaced for Pod {}
impl Namespaced for PersistentVolumeClaim {}
impl Namespaced for Secret {}

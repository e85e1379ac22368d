//! One pass over one set (I/O at both ends): observe → validate → desired → plan → act → status.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Client, Resource, ResourceExt};
use mainstay_crds::common::{CertificateStatus, Deletion, Durability};
use mainstay_crds::postgres::{Postgres, PostgresStatus};
use mainstay_shared::access::{entropy, existing_roles};
use mainstay_shared::apply::io::{self, Created};
use mainstay_shared::apply::{ApplyError, Cause, Object};
use mainstay_shared::conditions::reasons;
use mainstay_shared::events::Events;
use mainstay_shared::instances::{Instance, Membership, Wanted};
use mainstay_shared::metadata::SetId;
use mainstay_shared::names;
use mainstay_shared::pki::{self, Pair};
use mainstay_shared::placement::{self, Failover, Running};
use mainstay_shared::rollout::Expectations;
use mainstay_shared::watch::{Cache, SetKey};
use serde_json::json;

use crate::act::{self, Hands};
use crate::desired::pod::Template;
use crate::desired::revision::{Revision, revision};
use crate::desired::scram::SALT_BYTES;
use crate::desired::{self, DesiredError, Surroundings};
use crate::material::{self, MaterialError};
use crate::observe::identity::{Identities, Identity};
use crate::observe::kinds::APP;
use crate::observe::servers::Servers;
use crate::observe::talk::Talk;
use crate::observe::zones::Zones;
use crate::observe::{Observed, classes, observe};
use crate::operator::Settings;
use crate::plan::{self, Plan, Seat, Target};
use crate::status::{self, Obstacle, View};
use crate::validate::{Validated, is_paused, validate};

/// First and longest pause after a pass in which something failed.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));
/// When to look again at what no watch tells: a missing class, a write that does not show.
const LOOK: Duration = Duration::from_secs(10);

/// What every pass shares.
pub struct Context {
    /// Client of the API server.
    pub client: Client,
    /// What the operator was told when it started.
    pub settings: Settings,
    /// Children by set.
    pub cache: Arc<Cache>,
    /// Zones of nodes.
    pub zones: Zones,
    /// Addresses of the API servers.
    pub servers: Servers,
    talk: Talk,
    events: Events,
    identities: Identities,
    memory: Mutex<HashMap<SetKey, Memory>>,
}

/// What is remembered of a set between passes. Losing it costs nothing but a few requests.
#[derive(Debug, Default)]
struct Memory {
    expectations: Expectations,
    failures: u32,
    /// The status as written last: the cached resource may be older.
    written: Option<(String, PostgresStatus)>,
}

impl Context {
    /// A context without any set yet.
    pub fn new(
        client: Client,
        settings: Settings,
        cache: Arc<Cache>,
        talk: Talk,
        events: Events,
    ) -> Self {
        Self {
            client,
            settings,
            cache,
            zones: Zones::default(),
            servers: Servers::default(),
            talk,
            events,
            identities: Identities::default(),
            memory: Mutex::default(),
        }
    }

    /// A set is gone: end conversations with it, forget what was remembered.
    pub fn forget(&self, set: &SetKey) {
        self.talk.retain(|other| other != set);
        self.identities.retain(|other| other != set);
        self.with_memory(|memory| memory.remove(set));
    }

    fn with_memory<T>(&self, work: impl FnOnce(&mut HashMap<SetKey, Memory>) -> T) -> T {
        work(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a pass came to.
#[derive(Debug, Default)]
struct Outcome {
    /// Look again after this time, if nothing happens earlier.
    after: Option<Duration>,
    /// Whether something failed: then the pauses grow.
    failed: bool,
}

impl Outcome {
    fn by(&mut self, after: Duration) {
        self.after = Some(self.after.map_or(after, |a| a.min(after)));
    }

    fn at(&mut self, when: Timestamp, now: Timestamp) {
        let left = Duration::try_from(when.duration_since(now)).unwrap_or_default();
        // A little later than due: by then the clock is past it.
        self.by(left + Duration::from_secs(1));
    }
}

/// One pass. It never fails: what fails is said in the status, and tried again later.
pub async fn pass(object: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action, Infallible> {
    let set = SetKey {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    };
    let value = serde_json::to_value(&*object).unwrap_or_default();
    let root: Postgres = match serde_json::from_value(value) {
        Ok(root) => root,
        Err(error) => {
            // The schema keeps such objects out; one that slipped through disturbs no other.
            tracing::error!(%set, %error, "the resource cannot be read");
            return Ok(Action::await_change());
        }
    };
    let mut memory = context
        .with_memory(|all| all.remove(&set))
        .unwrap_or_default();
    let pass = Pass::new(&context, set.clone(), root, memory.written.take());
    let (mut outcome, written) = pass.run(&mut memory.expectations).await;
    memory.written = written;
    if outcome.failed {
        let pause = PAUSE
            .0
            .saturating_mul(1 << memory.failures.min(8))
            .min(PAUSE.1);
        memory.failures = memory.failures.saturating_add(1);
        outcome.by(pause);
    } else {
        memory.failures = 0;
    }
    context.with_memory(|all| all.insert(set, memory));
    Ok(outcome
        .after
        .map_or_else(Action::await_change, Action::requeue))
}

/// What is wanted, and when to look again.
struct Wishes {
    apply: Vec<Object>,
    once: Vec<Object>,
    config_hash: String,
    revision: Revision,
    due: Option<Timestamp>,
}

/// What is wanted cannot be made.
#[derive(Debug, thiserror::Error)]
enum WishError {
    #[error(transparent)]
    Desired(#[from] DesiredError),
    #[error(transparent)]
    Material(#[from] MaterialError),
    #[error("an object cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

struct Pass<'a> {
    context: &'a Context,
    set: SetKey,
    id: SetId,
    root: Postgres,
    before: PostgresStatus,
    now: Timestamp,
}

/// What the pass found and did, for the status.
#[derive(Default)]
struct Report {
    outcome: Outcome,
    observed: Observed,
    seat: Option<Seat>,
    validated: Option<Validated>,
    plan: Option<Plan>,
    identity: Option<Identity>,
    obstacles: Vec<Obstacle>,
    working: bool,
}

impl Report {
    fn obstacle(&mut self, reason: &'static str, message: String, stalled: bool) {
        self.obstacles.push(Obstacle {
            reason,
            message,
            stalled,
        });
    }

    fn failed(&mut self, errors: Vec<ApplyError>) {
        for error in errors {
            self.outcome.failed = true;
            if matches!(error.cause, Cause::NamespaceGoing) {
                tracing::info!(%error, "nothing is made any more");
            } else {
                tracing::warn!(%error, "a step of the pass failed");
            }
            let stalled = error.cause.stalled();
            let reason = stalled.unwrap_or(reasons::FAILED);
            self.obstacle(reason, error.to_string(), stalled.is_some());
        }
        // The one that a person must mend is shown.
        self.obstacles.sort_by_key(|o| !o.stalled);
    }
}

impl<'a> Pass<'a> {
    fn new(
        context: &'a Context,
        set: SetKey,
        root: Postgres,
        written: Option<(String, PostgresStatus)>,
    ) -> Self {
        let uid = root.uid().unwrap_or_default();
        let cached = root.status.clone().unwrap_or_default();
        let before = written
            .filter(|(of, _)| *of == uid)
            .map_or(cached, |(_, status)| status);
        let id = SetId {
            api_version: "mainstay.dev/v1alpha1".to_owned(),
            kind: "Postgres".to_owned(),
            namespace: set.namespace.clone(),
            name: set.name.clone(),
            uid,
        };
        Self {
            context,
            set,
            id,
            root,
            before,
            now: Timestamp::now(),
        }
    }

    async fn run(
        self,
        expectations: &mut Expectations,
    ) -> (Outcome, Option<(String, PostgresStatus)>) {
        let mut report = Report {
            observed: observe(&self.set, &self.context.cache, &self.context.zones),
            ..Report::default()
        };
        if self.root.metadata.deletion_timestamp.is_some() {
            if self.end(&mut report).await {
                return (report.outcome, None);
            }
        } else {
            self.look_after(&mut report, expectations).await;
        }
        let status = self.say(&mut report);
        let mut outcome = report.outcome;
        if status == self.before {
            return (outcome, Some((self.id.uid, status)));
        }
        for happening in status::happenings(&self.before, &status) {
            self.context
                .events
                .report(&self.root.object_ref(&()), happening);
        }
        match io::write_status(&self.context.client, &self.root, &status).await {
            Ok(()) => (outcome, Some((self.id.uid, status))),
            Err(error) => {
                tracing::warn!(%error, "the status was not written");
                outcome.failed = true;
                (outcome, None)
            }
        }
    }

    /// The end of a set. Returns whether the resource is gone by this.
    async fn end(&self, report: &mut Report) -> bool {
        if !self.root.finalizers().iter().any(|f| f == names::FINALIZER) {
            return true;
        }
        let kept = Deletion::volumes(self.root.spec.deletion.as_ref());
        let ending = plan::ending(&report.observed, kept);
        let mut errors = Vec::new();
        for seen in &ending.delete {
            errors.extend(io::delete(&self.context.client, seen).await.err());
        }
        report.working = true;
        if ending.left.is_empty() {
            match self.finalizer(false).await {
                Ok(()) => {
                    tracing::info!(set = %self.set, "the set has ended");
                    return true;
                }
                Err(error) => errors.push(error),
            }
        } else {
            tracing::debug!(set = %self.set, left = ?ending.left, "the set is ending");
        }
        report.failed(errors);
        false
    }

    /// Add or remove our finalizer. The resource version keeps the patch from undoing what someone
    /// else did to the list meanwhile.
    async fn finalizer(&self, wanted: bool) -> Result<(), ApplyError> {
        let mut all: Vec<&str> = self.root.finalizers().iter().map(String::as_str).collect();
        all.retain(|f| *f != names::FINALIZER);
        if wanted {
            all.push(names::FINALIZER);
        }
        let body = json!({"metadata": {
            "resourceVersion": self.root.resource_version(),
            "finalizers": all,
        }});
        let api: Api<Postgres> = Api::namespaced(self.context.client.clone(), &self.set.namespace);
        match api
            .patch(&self.set.name, &PatchParams::default(), &Patch::Merge(body))
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() && !wanted => Ok(()),
            Err(error) => Err(act::failed::<Postgres>(
                "patch",
                &self.set,
                &self.set.name,
                error,
            )),
        }
    }

    fn is_paused(&self) -> bool {
        is_paused(&self.root)
    }

    /// Make sure that the resource ends only in our order.
    async fn hold(&self) -> Result<(), ApplyError> {
        let held = self.root.finalizers().iter().any(|f| f == names::FINALIZER);
        if held {
            Ok(())
        } else {
            self.finalizer(true).await
        }
    }

    async fn look_after(&self, report: &mut Report, expectations: &mut Expectations) {
        let mut validated = match validate(&self.root, &self.context.settings.catalogue) {
            Ok(validated) => validated,
            Err(problems) => {
                let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
                report.obstacle(reasons::INVALID, words.join(" "), true);
                return;
            }
        };
        let paused = self.is_paused();
        if !paused && let Err(error) = self.hold().await {
            report.failed(vec![error]);
            return;
        }
        if !self.lease_is_usable(report).await {
            return;
        }
        let seat = plan::seat(
            &self.set.name,
            report.observed.record(),
            &report.observed.instances,
            self.before.system_identifier.as_deref(),
        );
        report.seat = Some(seat.clone());
        let authority = match self.authority(&report.observed, paused).await {
            Ok(authority) => authority,
            Err(obstacle) => {
                report.outcome.failed = true;
                report.obstacles.extend(obstacle);
                return;
            }
        };
        self.talk_to_members(report, &authority);
        pin_image(&mut validated, &report.observed, &self.before);
        let count = u32::try_from(validated.instances).unwrap_or(1);
        let membership = Membership::of(count, seat.ordinal, &report.observed.instances);
        let members = plan::member_names(&self.set.name, &membership.members);
        let wishes = match self.wishes(&report.observed, &validated, &seat, &authority, &members) {
            Ok(wishes) => wishes,
            Err(error) => {
                report.outcome.failed = true;
                report.obstacle(reasons::FAILED, error.to_string(), false);
                return;
            }
        };
        if let Some(due) = wishes.due {
            report.outcome.at(due, self.now);
        }
        let unseen = self.unseen(&report.observed, expectations);
        if unseen.is_some() {
            report.outcome.by(LOOK);
        }
        let seat_name = names::instance(&self.set.name, seat.ordinal);
        let wanted = Wanted {
            set: self.set.name.clone(),
            count,
            seat: seat.ordinal,
            initialised: seat.system_identifier.is_some(),
            revision: wishes.revision.hash.clone(),
            template: wishes.revision.inputs.clone(),
            config_hash: wishes.config_hash.clone(),
            storage: validated.storage,
        };
        let target = Target {
            set: &self.id,
            objects: &wishes.apply,
            once: &wishes.once,
            wanted: &wanted,
            confirmations: usize::from(validated.durability == Durability::Quorum),
            unseen: unseen.as_deref(),
        };
        let plan = plan::plan(&report.observed, &target);
        self.check_class(report, &validated, &members).await;
        if !paused {
            let hands = Hands {
                client: &self.context.client,
                set: &self.set,
                talk: &self.context.talk,
                identity: report.identity.as_ref(),
                pod: &|instance| {
                    let template = Template {
                        operator_image: &self.context.settings.image,
                        seat: &seat_name,
                        revision: &wishes.revision,
                        config_hash: &wishes.config_hash,
                    };
                    desired::pod::pod(&validated, instance, &template)
                },
                claim: &|instance| desired::claim::claim(&validated, instance),
                now: self.now,
            };
            let errors = act::act(&hands, &plan, &report.observed, expectations).await;
            report.failed(errors);
        }
        report.working = plan.works() || unseen.is_some();
        report.plan = Some(plan);
        report.validated = Some(validated);
    }

    /// Whether the Lease can be decided on. One that an earlier set of this name left behind, with
    /// none of its data left, is deleted; the watch then brings the next pass about.
    async fn lease_is_usable(&self, report: &mut Report) -> bool {
        let Some(lease) = &report.observed.lease else {
            return true;
        };
        let record = match &lease.record {
            Ok(record) => record,
            Err(error) => {
                let message = error.to_string();
                report.obstacle(reasons::FAILED, message, true);
                return false;
            }
        };
        let is_left_behind = record.system_identifier.is_some()
            && self.before.system_identifier.is_none()
            && report.observed.instances.is_empty();
        if !is_left_behind || self.is_paused() {
            return true;
        }
        tracing::info!(set = %self.set, "deleting the Lease of an earlier set without data");
        if let Some(seen) = &lease.seen {
            let deleted = io::delete(&self.context.client, seen).await;
            report.failed(deleted.err().into_iter().collect());
        }
        report.working = true;
        report.outcome.by(LOOK);
        false
    }

    /// Everything that is wanted but pods and claims.
    fn wishes(
        &self,
        observed: &Observed,
        validated: &Validated,
        seat: &Seat,
        authority: &Pair,
        members: &[String],
    ) -> Result<Wishes, WishError> {
        let around = Surroundings {
            operator_namespace: &self.context.settings.namespace,
            api_servers: &self.context.servers.all(),
            members,
        };
        let mut objects = desired::objects(validated, &around)?;
        objects.once.push(plan::new_lease(&self.id, seat)?);
        let specs = members
            .iter()
            .map(|name| {
                (
                    name.clone(),
                    desired::certificate::leaf_spec(validated, name),
                )
            })
            .collect();
        let leaves = material::leaves(&specs, authority, &observed.secrets, self.now)?;
        for (instance, pair) in &leaves.pairs {
            let secret = desired::certificate::leaf_secret(validated, instance, pair);
            objects.apply.push(Object::of(&secret)?);
        }
        let stored = |name: String| observed.secrets.get(&name);
        let application = stored(names::application_secret(&self.set.name));
        let password = material::password(application)?;
        let secret =
            desired::credentials::application_secret(validated, &password, &authority.certificate);
        objects.apply.push(Object::of(&secret)?);
        let roles = stored(names::access_secret(&self.set.name))
            .map(existing_roles)
            .unwrap_or_default();
        let salt = entropy::<SALT_BYTES>().map_err(MaterialError::from)?;
        let secret = desired::credentials::access_secret(validated, &password, &roles, &salt)?;
        objects.apply.push(Object::of(&secret)?);
        let secret = desired::certificate::authority_secret(
            validated,
            &self.context.settings.namespace,
            authority,
        );
        objects.apply.push(Object::of(&secret)?);
        Ok(Wishes {
            apply: objects.apply,
            once: objects.once,
            config_hash: objects.config_hash,
            revision: revision(validated),
            due: leaves.due,
        })
    }

    /// The set's authority, stored before anything is made of it.
    async fn authority(&self, observed: &Observed, paused: bool) -> Result<Pair, Option<Obstacle>> {
        let failed = |message: String, stalled| {
            Some(Obstacle {
                reason: reasons::FAILED,
                message,
                stalled,
            })
        };
        let authority = material::authority(&self.set, &observed.secrets, self.now)
            .map_err(|error| failed(error.to_string(), true))?;
        if !authority.is_new {
            return Ok(authority.pair);
        }
        if paused {
            return Err(None);
        }
        let name = names::authority_secret(APP, &self.set.namespace, &self.set.name);
        let mut metadata = self.id.kept(name, "ca");
        metadata.namespace = Some(self.context.settings.namespace.clone());
        let secret = Object::of(&pki::to_secret(metadata, &authority.pair))
            .map_err(|error| failed(error.to_string(), false))?;
        match io::create(&self.context.client, &secret).await {
            Ok(Created::Made) => Ok(authority.pair),
            // The cache is behind: the stored one is used as soon as it is seen.
            Ok(Created::Exists) => Err(failed(
                "The set's authority is stored and not seen yet.".to_owned(),
                false,
            )),
            Err(error) => Err(failed(error.to_string(), error.cause.stalled().is_some())),
        }
    }

    fn talk_to_members(&self, report: &mut Report, authority: &Pair) {
        match self.context.identities.of(&self.set, authority, self.now) {
            Ok(identity) => {
                self.context
                    .talk
                    .follow(&self.set, &identity, &mut report.observed.instances);
                report.outcome.at(identity.renew, self.now);
                report.identity = Some(identity);
            }
            Err(error) => report.obstacle(reasons::FAILED, error.to_string(), false),
        }
    }

    /// Own writes that the caches do not show yet.
    fn unseen(&self, observed: &Observed, expectations: &mut Expectations) -> Option<String> {
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
        let restarting = |i: &&Instance| self.context.talk.is_restarting(&self.set, i);
        expectations.unmet().or_else(|| {
            let instance = observed.instances.iter().find(restarting)?;
            Some(format!("the restart of {} is not finished", instance.name))
        })
    }

    /// While a volume is not there, find out whether its class is.
    async fn check_class(&self, report: &mut Report, validated: &Validated, members: &[String]) {
        let provided = |name: &String| {
            let instance = report.observed.instance(name);
            instance
                .and_then(|i| i.claim.as_ref())
                .is_some_and(|c| c.bound)
        };
        if members.iter().all(provided) {
            return;
        }
        let class = validated.storage_class.as_deref();
        if let Some(missing) = classes::missing(&self.context.client, class).await {
            report.obstacle(reasons::NO_VOLUME, missing, true);
            report.outcome.by(LOOK);
        }
    }

    /// Try the Service and look at certificates, then put everything in words.
    fn say(&self, report: &mut Report) -> PostgresStatus {
        let observed = &report.observed;
        let seat_name = report
            .seat
            .as_ref()
            .map(|seat| names::instance(&self.set.name, seat.ordinal))
            .or_else(|| self.before.primary.clone())
            .unwrap_or_else(|| names::instance(&self.set.name, 1));
        let seat = observed.instance(&seat_name);
        let probe = self.probe(report, seat);
        let certificates = self.certificates(report);
        let plan = report.plan.as_ref();
        let members = plan.map_or_else(
            || observed.instances.iter().map(|i| i.name.clone()).collect(),
            |plan| plan.members.clone(),
        );
        let troubles = plan.map_or(&[][..], |plan| &plan.instances.troubles);
        let mut wake = Vec::new();
        for trouble in troubles {
            wake.extend(status::stuck_at(trouble).filter(|at| *at > self.now));
        }
        let running: Vec<Running> = members
            .iter()
            .filter_map(|m| observed.instance(m))
            .map(running)
            .collect();
        let durability = report.validated.as_ref().map(|v| v.durability);
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
            generation: self.root.metadata.generation.unwrap_or_default(),
            before: &self.before,
            now: self.now,
            deleting: self.root.metadata.deletion_timestamp.is_some(),
            paused: self.is_paused(),
            members: &members,
            instances: &observed.instances,
            seat: &seat_name,
            system_identifier: identifier,
            image: report
                .validated
                .as_ref()
                .map(|v| v.image.as_str())
                .or(self.before.image.as_deref()),
            probe: probe.as_ref(),
            certificates,
            certificate_hours: report.validated.as_ref().map_or(1, |v| v.certificate_hours),
            survives: placement::survives(
                &running,
                durability.unwrap_or(Durability::Async),
                Failover::InPlace,
            ),
            chosen: plan.and_then(|p| p.choice.step.as_ref()),
            refused: plan.map_or(&[][..], |p| &p.choice.refused),
            pending: plan.map(Plan::pending).unwrap_or_default(),
            working: report.working,
            troubles,
            obstacles: &report.obstacles,
        };
        let status = status::status(&view);
        for at in wake {
            report.outcome.at(at, self.now);
        }
        status
    }

    /// What the last try through the Service came to. It is tried while the primary serves, at
    /// once when something on the way changed.
    fn probe(
        &self,
        report: &Report,
        seat: Option<&Instance>,
    ) -> Option<mainstay_shared::instances::Known<crate::engine::Answer>> {
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
        let occasion = format!(
            "{} {} {:?} {:?} {:?}",
            status.pod_uid,
            record.map_or(0, |r| r.epoch),
            record.and_then(|r| r.address.as_ref()),
            status.config_hash,
            status.certificate_serial,
        );
        talk.probe(&self.set, identity, address, &occasion)
    }

    /// Certificates as served; what cannot be seen now stays as it was seen.
    fn certificates(&self, report: &Report) -> Vec<CertificateStatus> {
        let instances = report.observed.instances.iter().filter(|i| i.pod.is_some());
        let mut all: Vec<CertificateStatus> = instances
            .filter_map(|instance| {
                let seen = report
                    .identity
                    .as_ref()
                    .and_then(|identity| self.context.talk.served(&self.set, identity, instance));
                match seen {
                    Some(seen) => Some(CertificateStatus {
                        name: instance.name.clone(),
                        served_serial: seen.serial,
                        not_after: Time(seen.not_after),
                    }),
                    None => self
                        .before
                        .certificates
                        .iter()
                        .find(|c| c.name == instance.name)
                        .cloned(),
                }
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// An image from the catalogue is pinned by the pods that run it: a change of the catalogue rolls
/// nothing. Without any pod, what the status shows of the same revision counts.
fn pin_image(validated: &mut Validated, observed: &Observed, before: &PostgresStatus) {
    if validated.image_is_named {
        return;
    }
    let hash = revision(validated).hash;
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
    if let Some(image) = of_pods.or_else(of_status) {
        validated.image = image;
    }
}

fn running(instance: &Instance) -> Running {
    Running {
        name: instance.name.clone(),
        node: instance.pod.as_ref().and_then(|p| p.node.clone()),
        zone: instance.pod.as_ref().and_then(|p| p.zone.clone()),
        role: instance.agent().map(|s| s.role).unwrap_or_default(),
        ready: instance.serves(),
    }
}

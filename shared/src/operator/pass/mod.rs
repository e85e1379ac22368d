//! One pass over one set (I/O at both ends): observe → validate → desired → plan → act → status.
//!
//! One room for each family of steps, in their order: `ending` (the finalizer, and the end of a set),
//! `seat` (the Lease), `certificates` (the authority, and who the operator is to agents), `objects`
//! (what is wanted), `instances` (what the caches do not show yet, images, volumes), then
//! [`super::plan`] and [`super::act`], and `say` (the status).

mod backups;
mod certificates;
mod context;
mod drills;
mod ending;
mod instances;
mod logins;
mod objects;
mod report;
pub(crate) mod restores;
mod rotations;
mod say;
mod seat;
mod steer;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::core::object::HasStatus;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

pub use self::context::Context;
use self::context::Written;
use self::ending::Leave;
use self::instances::{pinned, unusable};
use self::report::{PassError, Report};
use super::act::{self, Hands};
use super::desired::{Template, claim};
use super::engine::Engine;
use super::observe::{Observed, observe};
use super::pacing;
use super::plan::{self, Beginning, Plan, Seat, Target};
use super::status::{self, SetStatus};
use super::validated::{Validated, is_paused};
use crate::apply::io;
use crate::backups::restores::{Stance, first, floors, stance};
use crate::conditions::{DEGRADED, READY, STALLED, is_true};
use crate::instances::{Instance, Membership};
use crate::metadata::SetId;
use crate::names;
use crate::outcome::{Outcome, Outcomes};
use crate::rollout::{Door, Expectations};
use crate::telemetry::service::Service;
use crate::watch::SetKey;

/// When to look again at what no watch tells: a missing class, a write that does not show.
const LOOK: Duration = Duration::from_secs(10);
/// A new process gives everybody so long to answer for the first time before it says anything else
/// than the one before.
const EARLY: Duration = Duration::from_secs(3);

/// One pass. It never fails: what fails is said in the status, and tried again later.
pub async fn pass<E: Engine>(
    object: Arc<DynamicObject>,
    context: Arc<Context<E>>,
) -> Result<Action, Infallible> {
    let set = SetKey {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    };
    let value = serde_json::to_value(&*object).unwrap_or_default();
    let root: E::Resource = match serde_json::from_value(value) {
        Ok(root) => root,
        Err(error) => {
            // The schema keeps such objects out; one that slipped through disturbs no other.
            tracing::error!(%set, %error, "the resource cannot be read");
            return Ok(Action::await_change());
        }
    };
    let begun = Instant::now();
    let uid = root.uid().unwrap_or_default();
    let mut memory = context
        .with_memory(|all| all.remove(&set))
        .filter(|memory| memory.uid == uid)
        .unwrap_or_default();
    memory.uid = uid;
    let first = *memory.first.get_or_insert(begun);
    let pass = Pass::<E>::new(&context, set.clone(), root, memory.written.take(), first);
    let (outcomes, written) = Box::pin(pass.run(&mut memory.expectations, &mut memory.helm)).await;
    memory.written = written;
    for error in outcomes.errors() {
        error.log();
    }
    let back_off = if outcomes.errors().is_empty() {
        context.backoffs.succeeded(&set);
        None
    } else {
        Some(context.backoffs.failed(set.clone()))
    };
    context.with_memory(|all| all.insert(set, memory));
    let failing = context.backoffs.len();
    context.metrics.pass(
        E::KIND,
        begun.elapsed(),
        &outcomes,
        PassError::label,
        failing,
    );
    Ok(outcomes
        .requeue(back_off)
        .map_or_else(Action::await_change, Action::requeue))
}

struct Pass<'a, E: Engine> {
    context: &'a Context<E>,
    set: SetKey,
    id: SetId,
    root: E::Resource,
    /// The status as it was.
    last: E::Status,
    /// When it was written, if by this process.
    written_at: Option<Instant>,
    /// What every add-on says, of that.
    before: SetStatus,
    now: Timestamp,
    /// When this process looked at the set first.
    first: Instant,
}

impl<'a, E: Engine> Pass<'a, E> {
    fn new(
        context: &'a Context<E>,
        set: SetKey,
        root: E::Resource,
        written: Option<Written<E>>,
        first: Instant,
    ) -> Self {
        let uid = root.uid().unwrap_or_default();
        let cached = root.status().cloned().unwrap_or_default();
        let (last, written_at) = written
            .filter(|w| w.uid == uid)
            .map_or((cached, None), |w| (w.status, w.at));
        let id = SetId {
            api_version: "mainstay.dev/v1alpha1".to_owned(),
            kind: E::KIND.to_owned(),
            namespace: set.namespace.clone(),
            name: set.name.clone(),
            uid,
        };
        Self {
            context,
            set,
            id,
            root,
            before: E::common_status(&last),
            last,
            written_at,
            now: Timestamp::now(),
            first,
        }
    }

    async fn run(
        self,
        expectations: &mut Expectations,
        helm: &mut E::Helm,
    ) -> (Outcomes<PassError>, Option<Written<E>>) {
        let observed = observe(
            &self.set,
            &self.context.cache,
            &self.context.nodes,
            &E::all_kinds(),
            E::CONTAINER,
        );
        let mut report = Report::of(observed);
        let leave = if self.is_deleting() {
            self.leave(&mut report).await
        } else {
            Leave::Stays
        };
        if let Leave::Ends(volumes) = leave {
            if self.end(&mut report, volumes).await {
                return (report.outcomes, None);
            }
        } else {
            self.look_after(&mut report, expectations, helm).await;
        }
        let mut common = self.say(&mut report);
        if let Some(kept) = report.kept.take() {
            let recovery = common.recovery.get_or_insert_default();
            recovery.kept = Some(kept);
            recovery.final_backup = report.final_backup.take();
        }
        let own = report.validated.as_ref().map(|v| &v.own);
        let mut status = E::status(common.clone(), own, &report.observed.live);
        E::found_out(&mut status, &self.last, helm);
        self.measure_service(&common);
        let mut happenings = status::happenings(&self.before, &common);
        happenings.extend(E::happenings(&self.last, &status));
        let since = self.written_at.map(|at| at.elapsed());
        let rest = since.and_then(|since| pacing::pause(&self.before, &common, &happenings, since));
        let mut outcomes = report.outcomes;
        let same = status == self.last;
        let later = if self.is_too_early(&report.observed.instances) {
            // What has not answered yet is not known to be unwell.
            Some(EARLY)
        } else {
            rest
        };
        let later = later.filter(|_| !same);
        if let Some(later) = later {
            outcomes.look_after(later);
        }
        let written = |status, at| Written {
            uid: self.id.uid.clone(),
            status,
            at,
        };
        if same || later.is_some() {
            return (outcomes, Some(written(self.last, self.written_at)));
        }
        for happening in happenings {
            self.context
                .events
                .report(&self.root.object_ref(&()), happening);
        }
        match io::write_status(&self.context.client, &self.root, &status).await {
            Ok(()) => (outcomes, Some(written(status, Some(Instant::now())))),
            Err(error) => {
                outcomes.record(Err(error.into()));
                (outcomes, None)
            }
        }
    }

    /// What the status says, as metrics.
    fn measure_service(&self, now: &SetStatus) {
        let is = |condition| is_true(&now.conditions, condition);
        let service = Service {
            ready: is(READY),
            degraded: is(DEGRADED),
            stalled: is(STALLED),
            ..Service::default()
        };
        let service = service
            .instances(now.ready.as_deref())
            .certificates(&now.certificates);
        let metrics = &self.context.metrics.service;
        metrics.set(&self.set.namespace, &self.set.name, service);
    }

    fn is_deleting(&self) -> bool {
        self.root.meta().deletion_timestamp.is_some()
    }

    fn is_paused(&self) -> bool {
        is_paused(&self.root)
    }

    /// Whether the status is still that of an operator before, and not everybody has been heard yet.
    fn is_too_early(&self, instances: &[Instance]) -> bool {
        self.before.observed_generation.is_some()
            && self.before.observed_generation == self.root.meta().generation
            && self.root.meta().deletion_timestamp.is_none()
            && self.first.elapsed() < EARLY
            && (self.context.talk.awaits(&self.set, instances)
                || self.context.talk.awaits_backups(&self.set, instances))
    }

    #[allow(
        clippy::too_many_lines,
        reason = "the order of the steps, in one place"
    )]
    async fn look_after(
        &self,
        report: &mut Report<E>,
        expectations: &mut Expectations,
        helm: &mut E::Helm,
    ) {
        let mut validated = match E::validate(&self.root, &self.context.settings.catalogue) {
            Ok(own) => Validated::<E>::of(own),
            Err(problems) => {
                report.invalid(&problems);
                return;
            }
        };
        let paused = self.is_paused();
        if !paused && let Err(error) = self.hold().await {
            report.failed(error);
            return;
        }
        if !self.lease_is_usable(report).await {
            return;
        }
        if restores::is_forsaken(report) {
            return;
        }
        let all = report.observed.restores.clone();
        let stance = stance(&all);
        let seat = self.seat(&report.observed, &stance);
        report.seat = Some(seat.clone());
        let Some(authority) = self.authority(report, paused).await else {
            return;
        };
        self.talk_to_members(report, &authority);
        let seat_name = names::instance(&self.set.name, seat.ordinal);
        match stance {
            Stance::Usual => {}
            Stance::Held(_) => {
                report.working = true;
                self.look_after_restores(report, &validated, &seat_name, None)
                    .await;
                report.validated = Some(validated);
                return;
            }
            Stance::Founding(restore) => {
                if let Err(problems) = E::found(&mut validated.own, restore) {
                    report.invalid(&problems);
                    // It can be turned back all the same.
                    self.look_after_restores(report, &validated, &seat_name, None)
                        .await;
                    return;
                }
            }
        }
        let image = pinned(&validated, &report.observed, &self.before);
        E::settle(&mut validated.own, image, floors(&all).1, &self.last);
        let validated = Validated::<E>::of(validated.own);
        let Some(unusable) = unusable(report, &validated, &seat) else {
            return;
        };
        let membership = Membership::beside(
            validated.common.count(),
            seat.ordinal,
            &report.observed.instances,
            &restores::taken(&report.observed),
        );
        let members = plan::member_names(&self.set.name, &membership.members);
        let wishes = match self.wishes(&report.observed, &validated, &seat, &authority, &members) {
            Ok(wishes) => wishes,
            Err(error) => {
                report.failed(error);
                return;
            }
        };
        if let Some(due) = wishes.due {
            report.look_at(due, self.now);
        }
        let orders = self.orders(&report.observed, &seat_name);
        if !paused && let Err(error) = self.backup_keys(report, &validated).await {
            report.failed(error);
        }
        let unseen = self.unseen(&report.observed, &orders, expectations);
        if unseen.is_some() {
            report.outcomes.look_after(LOOK);
        }
        let mut wanted = self.wanted(&validated, &seat, &wishes, unusable, &report.observed);
        let steered = if validated.common.self_led {
            let quiet = unseen.is_none();
            Some(
                self.steer(report, &validated, &mut wanted, quiet, helm)
                    .await,
            )
        } else {
            None
        };
        let target = Target {
            set: &self.id,
            objects: &wishes.apply,
            once: &wishes.once,
            wanted: &wanted,
            confirmations: validated.common.confirmations(),
            unseen: unseen.as_deref(),
            under_order: orders.going.is_some(),
            refusal: orders.refusal.as_ref().map(|(why, _)| why.as_str()),
            refusals: orders.refusal.as_ref().map_or(0, |(_, count)| *count),
            door: validated.common.windows.door(self.now),
            steered: steered.as_ref(),
            now: self.now,
        };
        let plan = plan::plan(&report.observed, &target);
        self.tell_what_waits(report, &plan, target.door);
        self.check_class(report, &validated, &members).await;
        if !paused {
            if let Some(due) = plan.operation_due.filter(|due| *due > self.now) {
                report.look_at(due, self.now);
            }
            self.tell_of_operations(&plan);
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
                        identifier: seat.system_identifier.as_deref(),
                    };
                    let mut pod = E::pod(&validated.own, instance, &template);
                    let users = wishes.users_hash.clone();
                    let note = users.map(|hash| (names::USERS_HASH.to_owned(), hash));
                    pod.annotations_mut().extend(note);
                    pod
                },
                claim: &|instance| {
                    let common = &validated.common;
                    let class = common.storage_class.as_deref();
                    claim::claim(&self.id, instance, common.storage, class)
                },
                program: &self.context.settings.program,
                now: self.now,
            };
            let steps = act::act::<E>(&hands, &plan, &report.observed, expectations).await;
            report.outcomes.extend(steps);
        }
        report.working =
            plan.works() || unseen.is_some() || steered.as_ref().is_some_and(|s| s.works);
        report.steered = steered;
        if !paused {
            self.tell_of_logins(report, wishes.users_hash.as_deref())
                .await;
            self.tell_of_rotations(report, &wishes).await;
        }
        self.look_after_backups(report, &validated, &seat_name, paused)
            .await;
        let busy = orders.going.as_deref().or(unseen.as_deref());
        self.look_after_restores(report, &validated, &seat_name, busy)
            .await;
        let rests = paused || self.is_deleting();
        self.look_after_drills(report, &validated, rests).await;
        report.plan = Some(plan);
        report.validated = Some(validated);
    }

    /// Who may be primary.
    fn seat(&self, observed: &Observed, stance: &Stance<'_>) -> Seat {
        let begins = Beginning {
            epoch: floors(&observed.restores).0,
            ..match stance {
                Stance::Founding(restore) => Beginning {
                    first: first(restore, &self.set.name).unwrap_or(1),
                    ..Beginning::NEW
                },
                _ => Beginning {
                    known: self.before.system_identifier.as_deref(),
                    ..Beginning::NEW
                },
            }
        };
        let found = &observed.instances;
        plan::seat(&self.set.name, observed.record(), found, &begins)
    }

    fn tell_what_waits(&self, report: &mut Report<E>, plan: &Plan, door: Door) {
        for wait in &plan.choice.refused {
            report.progress(Outcome::Blocked(wait.clone()));
        }
        if let Door::Until(opens) = door {
            report.look_at(opens, self.now);
        }
    }
}

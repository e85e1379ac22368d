//! One pass over one set (I/O at both ends): observe → validate → desired → plan → act → status.
//!
//! One room for each family of steps, in their order: `ending` (the finalizer, and the end of a set),
//! `seat` (the Lease), `certificates` (the authority, and who the operator is to agents), `objects`
//! (what is wanted), `instances` (what the caches do not show yet, images, volumes), then
//! [`crate::plan`] and [`crate::act`], and `say` (the status).

mod backups;
mod certificates;
mod context;
mod drills;
mod ending;
mod instances;
mod objects;
mod pooler;
mod report;
pub(crate) mod restores;
mod say;
mod seat;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use mainstay_crds::postgres::{Postgres, PostgresStatus};
use mainstay_shared::apply::io;
use mainstay_shared::backups::restores::{Stance, first, floors, stance};
use mainstay_shared::instances::{Instance, Membership};
use mainstay_shared::metadata::SetId;
use mainstay_shared::names;
use mainstay_shared::operator::desired::{Template, claim};
use mainstay_shared::outcome::{Outcome, Outcomes};
use mainstay_shared::rollout::{Door, Expectations};
use mainstay_shared::watch::SetKey;

pub use self::context::Context;
use self::ending::Leave;
use self::instances::pin_image;
use self::report::{PassError, Report};
use crate::act::{self, Hands};
use crate::desired;
use crate::engine::{CONTAINER, KIND, Postgresql};
use crate::observe::{Observed, observe};
use crate::plan::{self, Beginning, Plan, Seat, Target};
use crate::status::common;
use crate::validate::{self, is_paused, validate};
use mainstay_shared::operator::engine::Engine;
use mainstay_shared::operator::status;

/// When to look again at what no watch tells: a missing class, a write that does not show.
const LOOK: Duration = Duration::from_secs(10);
/// A new process gives everybody so long to answer for the first time before it says anything else
/// than the one before.
const EARLY: Duration = Duration::from_secs(3);

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
    let begun = Instant::now();
    let mut memory = context
        .with_memory(|all| all.remove(&set))
        .unwrap_or_default();
    let first = *memory.first.get_or_insert(begun);
    let pass = Pass::new(&context, set.clone(), root, memory.written.take(), first);
    let (outcomes, written) = Box::pin(pass.run(&mut memory.expectations)).await;
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
    context
        .metrics
        .pass(KIND, begun.elapsed(), &outcomes, PassError::label, failing);
    Ok(outcomes
        .requeue(back_off)
        .map_or_else(Action::await_change, Action::requeue))
}

struct Pass<'a> {
    context: &'a Context,
    set: SetKey,
    id: SetId,
    root: Postgres,
    before: PostgresStatus,
    now: Timestamp,
    /// When this process looked at the set first.
    first: Instant,
}

impl<'a> Pass<'a> {
    fn new(
        context: &'a Context,
        set: SetKey,
        root: Postgres,
        written: Option<(String, PostgresStatus)>,
        first: Instant,
    ) -> Self {
        let uid = root.uid().unwrap_or_default();
        let cached = root.status.clone().unwrap_or_default();
        let before = written
            .filter(|(of, _)| *of == uid)
            .map_or(cached, |(_, status)| status);
        let id = SetId {
            api_version: "mainstay.dev/v1alpha1".to_owned(),
            kind: KIND.to_owned(),
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
            first,
        }
    }

    async fn run(
        self,
        expectations: &mut Expectations,
    ) -> (Outcomes<PassError>, Option<(String, PostgresStatus)>) {
        let observed = observe(
            &self.set,
            &self.context.cache,
            &self.context.nodes,
            &Postgresql::all_kinds(),
            CONTAINER,
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
            self.look_after(&mut report, expectations).await;
        }
        let mut status = self.say(&mut report);
        if let Some(kept) = report.kept.take() {
            let recovery = status.recovery.get_or_insert_default();
            recovery.kept = Some(kept);
            recovery.final_backup = report.final_backup.take();
        }
        let mut outcomes = report.outcomes;
        if status == self.before {
            return (outcomes, Some((self.id.uid, status)));
        }
        if self.is_too_early(&report.observed.instances) {
            // What has not answered yet is not known to be unwell.
            outcomes.look_after(EARLY);
            return (outcomes, Some((self.id.uid, self.before)));
        }
        for happening in status::happenings(&common(&self.before), &common(&status)) {
            self.context
                .events
                .report(&self.root.object_ref(&()), happening);
        }
        match io::write_status(&self.context.client, &self.root, &status).await {
            Ok(()) => (outcomes, Some((self.id.uid, status))),
            Err(error) => {
                outcomes.record(Err(error.into()));
                (outcomes, None)
            }
        }
    }

    fn is_deleting(&self) -> bool {
        self.root.metadata.deletion_timestamp.is_some()
    }

    fn is_paused(&self) -> bool {
        is_paused(&self.root)
    }

    /// Whether the status is still that of an operator before, and not everybody has been heard yet.
    fn is_too_early(&self, instances: &[Instance]) -> bool {
        self.before.observed_generation.is_some()
            && self.before.observed_generation == self.root.metadata.generation
            && self.root.metadata.deletion_timestamp.is_none()
            && self.first.elapsed() < EARLY
            && (self.context.talk.awaits(&self.set, instances)
                || self.context.talk.awaits_backups(&self.set, instances))
    }

    #[allow(
        clippy::too_many_lines,
        reason = "the order of the steps, in one place"
    )]
    async fn look_after(&self, report: &mut Report, expectations: &mut Expectations) {
        let mut validated = match validate(&self.root, &self.context.settings.catalogue) {
            Ok(validated) => validated,
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
            Stance::Founding(restore) => match validate::backup::in_place(restore, &validated) {
                Ok(recovery) => validated.recovery = recovery,
                Err(problems) => {
                    report.invalid(&problems);
                    return;
                }
            },
        }
        validated.timelines = floors(&all).1;
        pin_image(&mut validated, &report.observed, &self.before);
        let membership = Membership::beside(
            instances::count(&validated),
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
        let wanted = self.wanted(&validated, &seat, &wishes, &report.observed);
        let target = Target {
            set: &self.id,
            objects: &wishes.apply,
            once: &wishes.once,
            wanted: &wanted,
            confirmations: instances::confirmations(&validated),
            unseen: unseen.as_deref(),
            under_order: orders.going.is_some(),
            refusal: orders.refusal.as_ref().map(|(why, _)| why.as_str()),
            refusals: orders.refusal.as_ref().map_or(0, |(_, count)| *count),
            door: validated.windows.door(self.now),
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
                    desired::pod::pod(&validated, instance, &template)
                },
                claim: &|instance| {
                    let class = validated.storage_class.as_deref();
                    claim::claim(&validated.set, instance, validated.storage, class)
                },
                program: &self.context.settings.program,
                now: self.now,
            };
            let steps = act::act::<Postgresql>(&hands, &plan, &report.observed, expectations).await;
            report.outcomes.extend(steps);
        }
        report.working = plan.works() || unseen.is_some();
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

    fn tell_what_waits(&self, report: &mut Report, plan: &Plan, door: Door) {
        for wait in &plan.choice.refused {
            report.progress(Outcome::Blocked(wait.clone()));
        }
        if let Door::Until(opens) = door {
            report.look_at(opens, self.now);
        }
    }
}

//! A set that leads itself: the engine is asked what to do next.

use std::sync::Arc;

use super::Pass;
use super::report::Report;
use crate::instances::Wanted;
use crate::names;
use crate::operator::engine::Engine;
use crate::operator::steer::{Steered, Steering, riders};
use crate::operator::validated::Validated;
use crate::outcome::Outcome;

impl<E: Engine> Pass<'_, E> {
    /// Ask the engine. Instances that have left and that it grants to go are released in `wanted`, and those whose lost volume
    /// nobody needs are spared.
    pub(super) async fn steer(
        &self,
        report: &mut Report<E>,
        validated: &Validated<E>,
        wanted: &mut Wanted,
        may_disturb: bool,
        helm: &mut E::Helm,
    ) -> Steered {
        let Some(identity) = report.identity.as_ref().filter(|_| !self.is_paused()) else {
            return Steered::default();
        };
        let secrets = &report.observed.secrets;
        let door = validated.common.windows.door(self.now);
        let steering = Steering {
            set: &self.id,
            validated: &validated.own,
            before: &self.last,
            riders: riders(wanted, &report.observed.instances, door),
            tls: Arc::clone(&identity.probe),
            internal: secrets.get(&names::internal_secret(&self.set.name)),
            may_disturb,
        };
        let steered = E::steer(helm, steering).await;
        wanted.released.extend(steered.granted.clone());
        wanted.spared.clone_from(&steered.spared);
        let found = report.observed.instances.iter();
        wanted.unusable.extend(found.filter_map(|i| {
            let why = steered.superseded.get(&i.name)?;
            Some((i.ordinal, why.clone()))
        }));
        for wait in &steered.waits {
            report.progress(Outcome::Progressing(wait.clone()));
        }
        if let Some(again) = steered.again {
            report.outcomes.look_after(again);
        }
        steered
    }
}

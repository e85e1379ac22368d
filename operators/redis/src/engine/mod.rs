//! Redis as the operator has to know it: what differs from other engines.

pub mod happenings;
pub mod probe;
mod slots;
pub mod status;
pub mod steer;

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use mainstay_backup::shred::ShredSettings;
use mainstay_crds::access::Access;
use mainstay_crds::operation::Operation;
use mainstay_crds::redis::{Redis, RedisStatus};
use mainstay_crds::restore::Restore;
use mainstay_shared::access::Password;
use mainstay_shared::apply::Object;
use mainstay_shared::backups::drill::{Drill, Start};
use mainstay_shared::events::Happening;
use mainstay_shared::operator::desired::credentials::{Credentials, CredentialsError, Given};
use mainstay_shared::operator::desired::revision::Revision;
use mainstay_shared::operator::desired::shred;
use mainstay_shared::operator::desired::store::Store;
use mainstay_shared::operator::desired::{DesiredError, Objects, Surroundings, Template};
use mainstay_shared::operator::engine::{Answer, Engine, Leaving, Ran, Target};
use mainstay_shared::operator::status::SetStatus;
use mainstay_shared::operator::steer::{Steered, Steering};
use mainstay_shared::operator::validated::Common;
use mainstay_shared::operator::validated::repository::store;

use self::probe::{ProbeError, round_trip};
use self::steer::Helm;
use crate::desired::pod::USER;
use crate::desired::{self, credentials, login};
use crate::settings::PORT;
use crate::validate::backup::{Drill as DrillWish, in_place};
use crate::validate::{Backup, Catalogue, Problem, Validated, change, validate};

/// The add-on's name in labels and derived names.
pub const APP: &str = "redis";
/// Name of the engine's container.
pub const CONTAINER: &str = "redis";

/// The engine of `kind: Redis`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedisEngine;

impl Engine for RedisEngine {
    type Resource = Redis;
    type Status = RedisStatus;
    type Validated = Validated;
    type Problem = Problem;
    type Catalogue = Catalogue;
    type ProbeError = ProbeError;
    type Helm = Helm;

    const KIND: &'static str = "Redis";
    const APP: &'static str = APP;
    const CONTAINER: &'static str = CONTAINER;
    const PORT: u16 = PORT;
    const PASSING: &'static [&'static str] = &credentials::PASSING;
    const LOGINS: bool = true;
    const IN_PLACE: bool = true;
    const LOGGED: bool = false;
    // Nobody acknowledges, so nothing is acknowledged for less.
    const ONE_PASSWORD: Option<&'static str> = None;
    const STRENGTHEN: &'static str = "nothing is to be done";

    fn catalogue(text: &str) -> Result<Catalogue, String> {
        Catalogue::from_json(text).map_err(|e| e.to_string())
    }

    fn validate(resource: &Redis, catalogue: &Catalogue) -> Result<Validated, Vec<Problem>> {
        validate(resource, catalogue)
    }

    fn common(v: &Validated) -> Common {
        v.common.clone()
    }

    fn leaving(resource: &Redis) -> Leaving<'_> {
        Leaving {
            deletion: resource.spec.deletion.as_ref(),
            backups: resource.spec.backup.is_some(),
        }
    }

    fn settle(v: &mut Validated, image: Option<String>, history: u64, before: &RedisStatus) {
        if let Some(image) = image {
            v.common.image = image;
        }
        v.timelines = history;
        v.formed = before.cluster.as_ref().is_some_and(|c| c.formed);
    }

    fn found(v: &mut Validated, restore: &Restore) -> Result<(), Vec<Problem>> {
        v.recovery = Some(in_place(restore, v)?);
        Ok(())
    }

    fn unusable(v: &Validated, ran: &[Ran<'_>]) -> Result<BTreeMap<u32, String>, Vec<Problem>> {
        change::unusable(v, ran)
    }

    fn common_status(status: &RedisStatus) -> SetStatus {
        status::common(status)
    }

    fn status(common: SetStatus, validated: Option<&Validated>, _live: &[Object]) -> RedisStatus {
        status::whole(common, validated.and_then(|v| v.replicas))
    }

    fn objects(v: &Validated, around: &Surroundings<'_>) -> Result<Objects, DesiredError> {
        desired::objects(v, around)
    }

    fn revision(v: &Validated) -> Revision {
        desired::revision::revision(v)
    }

    fn pod(v: &Validated, instance: &str, template: &Template<'_>) -> Pod {
        desired::pod::pod(v, instance, template)
    }

    fn services(v: &Validated) -> Vec<String> {
        let sentinel = v
            .sentinel
            .then(|| desired::sentinel::name(&v.common.set.name));
        sentinel.into_iter().collect()
    }

    fn credentials(v: &Validated, given: &Given<'_>) -> Result<Credentials, CredentialsError> {
        credentials::credentials(v, given)
    }

    fn refuses(access: &Access) -> Vec<String> {
        login::problems(access)
    }

    fn probe_password(internal: &BTreeMap<String, ByteString>) -> Option<Password> {
        Password::from_bytes(&internal.get(credentials::PROBE_PASSWORD)?.0)
    }

    async fn steer(helm: &mut Helm, steering: Steering<'_, Self>) -> Steered {
        steer::steer(helm, steering).await
    }

    fn found_out(status: &mut RedisStatus, before: &RedisStatus, helm: &Helm) {
        steer::found_out(status, before, helm);
    }

    fn happenings(before: &RedisStatus, now: &RedisStatus) -> Vec<Happening> {
        happenings::happenings(before, now)
    }

    fn drill_map(v: &Validated, start: &Start) -> Result<Option<ConfigMap>, serde_json::Error> {
        let map = |(backup, wanted)| desired::drill::config_map(v, backup, wanted, start);
        drilled(v).map(map).transpose()
    }

    fn drill_pod(v: &Validated, drill: &Drill, operator_image: &str) -> Option<Pod> {
        let (backup, wanted) = drilled(v)?;
        let pod = desired::drill::pod(v, backup, wanted, drill, operator_image);
        Some(pod)
    }

    fn store(operation: &Operation) -> Result<Store, String> {
        store(operation)
    }

    fn shred_pod(
        operation: &Operation,
        settings: &ShredSettings,
        store: &Store,
        operator_image: &str,
    ) -> Result<Option<Pod>, serde_json::Error> {
        let of = (APP, USER);
        shred::pod(operation, settings, &store.access, operator_image, of).map(Some)
    }

    async fn probe(target: &Target) -> Result<Answer, ProbeError> {
        round_trip(target).await
    }
}

/// The backups that drills are made of, where any are asked for.
fn drilled(v: &Validated) -> Option<(&Backup, &DrillWish)> {
    let backup = v.backup.as_ref()?;
    Some((backup, backup.drill.as_ref()?))
}

//! PostgreSQL as the operator has to know it: what differs from other engines.

pub mod operator;
mod poolers;
pub mod probe;
pub mod status;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use mainstay_backup::shred::ShredSettings;
use mainstay_crds::common::sentences;
use mainstay_crds::operation::Operation;
use mainstay_crds::postgres::{Postgres, PostgresStatus};
use mainstay_crds::restore::Restore;
use mainstay_shared::access::entropy;
use mainstay_shared::apply::Object;
use mainstay_shared::backups::drill::{Drill, Start};
use mainstay_shared::names;
use mainstay_shared::operator::desired::credentials::{Credentials, CredentialsError, Given};
use mainstay_shared::operator::desired::revision::Revision;
use mainstay_shared::operator::desired::store::Store;
use mainstay_shared::operator::desired::{DesiredError, Objects, Surroundings, Template};
use mainstay_shared::operator::engine::{Answer, Engine, Leaving, Target};
use mainstay_shared::operator::status::SetStatus;
use mainstay_shared::operator::validated::Common;
use mainstay_shared::operator::validated::repository::store;
use mainstay_shared::outcome::Wait;
use mainstay_shared::pki::LeafSpec;
use mainstay_shared::watch::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::probe::{ProbeError, round_trip};
use crate::desired::pooler::certificate::pooler_spec;
use crate::desired::pooler::is_of_pooler;
use crate::desired::scram::SALT_BYTES;
use crate::desired::{self, credentials};
use crate::settings::{PORT, SSL_REQUEST};
use crate::validate::backup::{Drill as DrillWish, in_place};
use crate::validate::{Backup, Catalogue, Problem, Validated, validate};

/// The add-on's name in labels and derived names.
pub const APP: &str = "postgres";
/// Name of the engine's container.
pub const CONTAINER: &str = "postgres";
/// Kind of Deployments, which poolers are.
pub const DEPLOYMENT: &str = "Deployment";

/// The engine of `kind: Postgres`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Postgresql;

impl Engine for Postgresql {
    type Resource = Postgres;
    type Status = PostgresStatus;
    type Validated = Validated;
    type Problem = Problem;
    type Catalogue = Catalogue;
    type Helm = ();
    type ProbeError = ProbeError;

    const KIND: &'static str = "Postgres";
    const APP: &'static str = APP;
    const CONTAINER: &'static str = CONTAINER;
    const PORT: u16 = PORT;
    const PASSING: &'static [&'static str] = &credentials::PASSING;
    const IN_PLACE: bool = true;
    const ONE_PASSWORD: Option<&'static str> = Some(sentences::ONE_PASSWORD);
    const STRENGTHEN: &'static str = "ALTER ROLE or ALTER DATABASE … RESET ends it";

    fn catalogue(text: &str) -> Result<Catalogue, String> {
        Catalogue::from_json(text).map_err(|e| e.to_string())
    }

    fn validate(resource: &Postgres, catalogue: &Catalogue) -> Result<Validated, Vec<Problem>> {
        validate(resource, catalogue)
    }

    fn common(v: &Validated) -> Common {
        v.common.clone()
    }

    fn leaving(resource: &Postgres) -> Leaving<'_> {
        Leaving {
            deletion: resource.spec.deletion.as_ref(),
            backups: resource.spec.backup.is_some(),
        }
    }

    fn settle(v: &mut Validated, image: Option<String>, history: u64, _before: &PostgresStatus) {
        if let Some(image) = image {
            v.common.image = image;
        }
        v.timelines = history;
    }

    fn found(v: &mut Validated, restore: &Restore) -> Result<(), Vec<Problem>> {
        v.recovery = Some(in_place(restore, v)?);
        Ok(())
    }

    fn common_status(status: &PostgresStatus) -> SetStatus {
        status::common(status)
    }

    fn status(common: SetStatus, validated: Option<&Validated>, live: &[Object]) -> PostgresStatus {
        status::whole(common, validated.and_then(|v| poolers::status(v, live)))
    }

    fn waits(v: &Validated, live: &[Object]) -> Vec<Wait> {
        poolers::waits(v, live)
    }

    fn kinds() -> Vec<Kind> {
        vec![Kind::of::<Deployment>(DEPLOYMENT)]
    }

    fn is_optional(set: &str, name: &str) -> bool {
        is_of_pooler(set, name)
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

    fn certificates(v: &Validated) -> BTreeMap<String, LeafSpec> {
        let wanted = v.pooler.iter();
        wanted
            .map(|_| (names::pooler(&v.common.set.name), pooler_spec(v)))
            .collect()
    }

    fn credentials(v: &Validated, given: &Given<'_>) -> Result<Credentials, CredentialsError> {
        let application = credentials::application_secret(v, given.password, given.ca);
        let salt = entropy::<SALT_BYTES>()?;
        let access = credentials::access_secret(v, given.password, given.roles, &salt)?;
        Ok(Credentials {
            secrets: vec![application, access],
            ..Credentials::default()
        })
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
        desired::keys::pod(operation, settings, &store.access, operator_image).map(Some)
    }

    async fn probe(target: &Target) -> Result<Answer, ProbeError> {
        round_trip(target).await
    }

    async fn greet(tcp: &mut TcpStream, host: &str) -> Result<(), String> {
        let sent = tcp.write_all(&SSL_REQUEST).await;
        sent.map_err(|e| e.to_string())?;
        let answer = tcp.read_u8().await.map_err(|e| e.to_string())?;
        if answer == b'S' {
            Ok(())
        } else {
            Err(format!("{host} does not speak TLS"))
        }
    }
}

/// The backups that drills are made of, where any are asked for.
fn drilled(v: &Validated) -> Option<(&Backup, &DrillWish)> {
    let backup = v.backup.as_ref()?;
    Some((backup, backup.drill.as_ref()?))
}

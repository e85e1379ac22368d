//! The objects of a drill: what it is told, and the pod that restores and looks.
//!
//! Nothing of it is the set's own: its pods have labels that no Service, budget, policy or affinity of the set
//! means, and a policy of their own. What opens the repository is mounted where it is read alone, since what users ask
//! runs in the other container.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, EphemeralVolumeSource,
    PersistentVolumeClaimTemplate, Pod, PodSpec, Volume, VolumeMount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::backup::{
    RESTORE_SECRETS_VOLUME, container, own_repository, own_repository_is_read, own_secrets, run,
    run_volume,
};
use super::claim;
use super::parts::{install, pod_security, pull_secrets, resources};
use super::store::Access;
use super::volumes::{bin, mount, named, scratch};
use crate::agent::paths;
use crate::backups::container::settings::{DRILL_FILE, RESTORE_FILE, RESTORE_SECRETS};
use crate::backups::drill::{Drill, Start};
use crate::metadata::SetId;
use crate::operator::validated::{Common, Drills};
use crate::{names, network, placement};

/// Seconds from the wish to stop until it is stopped.
const STOP_SECONDS: i64 = 30;

/// Who a drill may talk to: there before the first pod, and until the last is gone. `store`: the port of the store.
pub fn policy(common: &Common, store: Option<u16>, drilling: bool) -> Option<NetworkPolicy> {
    let asked = common.backup.as_ref().is_some_and(|b| b.drill.is_some());
    (asked || drilling).then(|| network::drill_policy(&common.set, store))
}

/// For people: what a drill makes, for example `shop/db-drill-202603010330`.
pub fn resource(set: &SetId, start: &Start) -> String {
    format!("{}/{}", set.namespace, start.name)
}

/// What a drill is told: how it restores, and what it asks then. It is made first, and what the drill recovers stands on
/// it.
///
/// # Errors
/// When it cannot be written as JSON, which it always can.
pub fn config_map(
    set: &SetId,
    start: &Start,
    restore: &impl Serialize,
    asks: &impl Serialize,
) -> Result<ConfigMap, serde_json::Error> {
    let mut metadata = metadata(set, &start.name, start.due, start.moment);
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(names::PART.to_owned(), names::DRILL.to_owned());
    Ok(ConfigMap {
        metadata,
        data: Some(BTreeMap::from([
            (
                RESTORE_FILE.to_owned(),
                serde_json::to_string_pretty(restore)?,
            ),
            (DRILL_FILE.to_owned(), serde_json::to_string_pretty(asks)?),
        ])),
        immutable: Some(true),
        ..ConfigMap::default()
    })
}

/// What the engine needs in the pod of a drill.
#[derive(Clone, Debug)]
pub struct Shape<'a> {
    /// Whose processes they are.
    pub user: i64,
    /// Where the data volume is mounted.
    pub data: &'a str,
    /// How large that volume is, in bytes: of a set that is divided it holds all parts.
    pub storage: i64,
    /// Volumes besides the data, the program, `/tmp` and what restoring needs.
    pub volumes: Vec<Volume>,
    /// Where these are mounted.
    pub mounts: Vec<VolumeMount>,
}

/// The pod of a drill. `own`: how the set's repository is reached.
pub fn pod(
    common: &Common,
    wanted: &Drills,
    own: &Access,
    drill: &Drill,
    operator_image: &str,
    shape: Shape<'_>,
) -> Pod {
    let set = &common.set;
    let mut metadata = metadata(set, &drill.name, drill.due, drill.moment);
    let labels = metadata.labels.get_or_insert_default();
    labels.extend(set.drill_selector());
    labels.insert(names::COMPONENT.to_owned(), names::DRILL.to_owned());
    let place = placement::aside(set, common.placement.as_ref());
    let mut restore = step(common, wanted, &shape, names::RESTORE);
    let mounts = restore.volume_mounts.get_or_insert_default();
    mounts.push(mount(RESTORE_SECRETS_VOLUME, RESTORE_SECRETS, true));
    mounts.extend(own_repository_is_read(own));
    let looks = step(common, wanted, &shape, names::DRILL);
    let mut volumes = vec![
        data(common, shape.storage),
        config(&drill.name),
        scratch("bin", None, None),
    ];
    volumes.extend(shape.volumes);
    volumes.extend([
        scratch("tmp", None, None),
        run_volume(),
        own_secrets(RESTORE_SECRETS_VOLUME, &set.name, own),
    ]);
    volumes.extend(own_repository(own));
    Pod {
        metadata,
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            restart_policy: Some("Never".into()),
            active_deadline_seconds: Some(wanted.seconds.into()),
            termination_grace_period_seconds: Some(STOP_SECONDS),
            security_context: Some(pod_security(shape.user)),
            image_pull_secrets: pull_secrets(&common.image_pull_secrets),
            affinity: Some(place.affinity),
            tolerations: (!place.tolerations.is_empty()).then_some(place.tolerations),
            init_containers: Some(vec![install(operator_image), restore]),
            containers: vec![looks],
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
        status: None,
    }
}

fn metadata(set: &SetId, name: &str, due: Timestamp, moment: Option<Timestamp>) -> ObjectMeta {
    let mut notes = BTreeMap::from([(names::DRILL_DUE.to_owned(), due.to_string())]);
    notes.extend(moment.map(|m| (names::DRILL_MOMENT.to_owned(), m.to_string())));
    ObjectMeta {
        annotations: Some(notes),
        ..set.owned(name)
    }
}

/// A container with the engine's own programs, for both steps.
fn step(common: &Common, wanted: &Drills, shape: &Shape<'_>, step: &str) -> Container {
    let (cpu, memory) = wanted.size(common);
    let mut mounts = vec![
        mount("data", shape.data, false),
        mount("config", paths::CONFIG, true),
        bin(true),
    ];
    mounts.extend(shape.mounts.iter().cloned());
    mounts.extend([mount("tmp", "/tmp", false), run()]);
    Container {
        name: step.into(),
        args: Some(vec![step.into()]),
        resources: Some(resources(cpu, memory, memory)),
        termination_message_policy: Some("File".into()),
        volume_mounts: Some(mounts),
        ..container(common)
    }
}

/// A volume that goes with the pod.
fn data(common: &Common, storage: i64) -> Volume {
    Volume {
        ephemeral: Some(EphemeralVolumeSource {
            volume_claim_template: Some(PersistentVolumeClaimTemplate {
                metadata: None,
                spec: claim::spec(storage, common.storage_class.as_deref()),
            }),
        }),
        ..named("data")
    }
}

/// What it is told.
fn config(name: &str) -> Volume {
    Volume {
        config_map: Some(ConfigMapVolumeSource {
            name: name.to_owned(),
            default_mode: Some(0o444),
            ..ConfigMapVolumeSource::default()
        }),
        ..named("config")
    }
}

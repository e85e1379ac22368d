//! The objects of a drill: what it is told, and the pod that restores and looks.
//!
//! Nothing of it is the set's own: its pods have labels that no Service, budget, policy or affinity of the set
//! means, and a policy of their own. What opens the repository is mounted where it is read alone, since users'
//! statements run in the other container.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, EphemeralVolumeSource,
    PersistentVolumeClaimTemplate, Pod, PodSpec, Volume,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mainstay_backup::crypto::EncryptionSpec;
use mainstay_shared::agent::paths;
use mainstay_shared::backups::drill::{Drill, Start};
use mainstay_shared::operator::desired::backup::{
    container, own_repository, own_repository_is_read, own_secrets, run, run_volume,
};
use mainstay_shared::operator::desired::claim;
use mainstay_shared::operator::desired::parts::{install, pod_security, pull_secrets, resources};
use mainstay_shared::operator::desired::volumes::{bin, mount, named, scratch};
use mainstay_shared::{names, network, placement};

use super::pod::USER;
use super::pod::volumes::shm;
use crate::agent::place::DATA;
use crate::backup::settings::{
    DRILL_FILE, DrillSettings, RESTORE_FILE, RESTORE_SECRETS, RepositorySpec, RestoreSettings,
    Target,
};
use crate::validate::backup::Drill as Wanted;
use crate::validate::{Backup, Validated};

/// Longest time for one of the user's statements, in seconds, where the whole may take longer.
const STATEMENT_SECONDS: u32 = 1800;
/// Seconds from the wish to stop until it is stopped.
const STOP_SECONDS: i64 = 30;

/// Who a drill may talk to.
pub fn policy(v: &Validated) -> NetworkPolicy {
    let store = v.backup.as_ref().and_then(|b| b.access.port);
    network::drill_policy(&v.common.set, store)
}

/// What a drill is told. It is made first, and what the drill recovers stands on it.
///
/// # Errors
/// When it cannot be written as JSON, which it always can.
pub fn config_map(
    v: &Validated,
    backup: &Backup,
    wanted: &Wanted,
    start: &Start,
) -> Result<ConfigMap, serde_json::Error> {
    let restore = RestoreSettings {
        resource: format!("{}/{}", v.common.set.namespace, start.name),
        repository: RepositorySpec {
            // Which recipients does not matter for reading; that it is encrypted does.
            encryption: Some(EncryptionSpec {
                recipients: Vec::new(),
                i_accept_key_loss: true,
            }),
            ..backup.settings.repository.clone()
        },
        major: v.major,
        backup: None,
        target: start.moment.map_or(Target::Latest, Target::Time),
        owner: None,
    };
    let drill = DrillSettings {
        resource: format!("{}/{}", v.common.set.namespace, v.common.set.name),
        database: v.database.clone(),
        role: v.owner.clone(),
        statement_seconds: STATEMENT_SECONDS.min(wanted.seconds),
        checks: wanted.checks.clone(),
    };
    let mut metadata = metadata(v, &start.name, start.due, start.moment);
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(names::PART.to_owned(), names::DRILL.to_owned());
    Ok(ConfigMap {
        metadata,
        data: Some(BTreeMap::from([
            (
                RESTORE_FILE.to_owned(),
                serde_json::to_string_pretty(&restore)?,
            ),
            (DRILL_FILE.to_owned(), serde_json::to_string_pretty(&drill)?),
        ])),
        immutable: Some(true),
        ..ConfigMap::default()
    })
}

/// The pod of a drill.
pub fn pod(
    v: &Validated,
    backup: &Backup,
    wanted: &Wanted,
    drill: &Drill,
    operator_image: &str,
) -> Pod {
    let mut metadata = metadata(v, &drill.name, drill.due, drill.moment);
    let labels = metadata.labels.get_or_insert_default();
    labels.extend(v.common.set.drill_selector());
    labels.insert(names::COMPONENT.to_owned(), names::DRILL.to_owned());
    let place = placement::aside(&v.common.set, v.common.placement.as_ref());
    let memory = wanted.memory.unwrap_or(v.common.memory);
    let mut volumes = vec![
        data(v),
        Volume {
            config_map: Some(ConfigMapVolumeSource {
                name: drill.name.clone(),
                default_mode: Some(0o444),
                ..ConfigMapVolumeSource::default()
            }),
            ..named("config")
        },
        scratch("bin", None, None),
        shm(memory),
        scratch("tmp", None, None),
        run_volume(),
        own_secrets("restore-secrets", &v.common.set.name, &backup.access),
    ];
    volumes.extend(own_repository(&backup.access));
    let mut restore = engine(v, wanted, names::RESTORE);
    let repository = own_repository_is_read(&backup.access);
    restore
        .volume_mounts
        .get_or_insert_default()
        .extend(repository);
    Pod {
        metadata,
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            restart_policy: Some("Never".into()),
            active_deadline_seconds: Some(wanted.seconds.into()),
            termination_grace_period_seconds: Some(STOP_SECONDS),
            security_context: Some(pod_security(USER)),
            image_pull_secrets: pull_secrets(&v.common.image_pull_secrets),
            affinity: Some(place.affinity),
            tolerations: (!place.tolerations.is_empty()).then_some(place.tolerations),
            init_containers: Some(vec![install(operator_image), restore]),
            containers: vec![engine(v, wanted, names::DRILL)],
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
        status: None,
    }
}

fn metadata(v: &Validated, name: &str, due: Timestamp, moment: Option<Timestamp>) -> ObjectMeta {
    let mut notes = BTreeMap::from([(names::DRILL_DUE.to_owned(), due.to_string())]);
    notes.extend(moment.map(|m| (names::DRILL_MOMENT.to_owned(), m.to_string())));
    ObjectMeta {
        annotations: Some(notes),
        ..v.common.set.owned(name)
    }
}

/// A container with the engine's own programs, for both steps. The repository can be opened in the first alone.
fn engine(v: &Validated, wanted: &Wanted, step: &str) -> Container {
    let cpu = wanted.cpu_milli.unwrap_or(v.common.cpu_milli);
    let memory = wanted.memory.unwrap_or(v.common.memory);
    let mut mounts = vec![
        mount("data", DATA, false),
        mount("config", paths::CONFIG, true),
        bin(true),
        mount("shm", "/dev/shm", false),
        mount("tmp", "/tmp", false),
        run(),
    ];
    if step == names::RESTORE {
        mounts.push(mount("restore-secrets", RESTORE_SECRETS, true));
    }
    Container {
        name: step.into(),
        args: Some(vec![step.into()]),
        resources: Some(resources(cpu, memory, memory)),
        termination_message_policy: Some("File".into()),
        volume_mounts: Some(mounts),
        ..container(&v.common)
    }
}

/// A volume that goes with the pod.
fn data(v: &Validated) -> Volume {
    Volume {
        ephemeral: Some(EphemeralVolumeSource {
            volume_claim_template: Some(PersistentVolumeClaimTemplate {
                metadata: None,
                spec: claim::spec(v.common.storage, v.common.storage_class.as_deref()),
            }),
        }),
        ..named("data")
    }
}

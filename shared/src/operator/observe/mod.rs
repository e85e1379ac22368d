//! What is seen of a set in one pass (I/O only through caches: no request is made here).

pub mod classes;
pub mod identity;
pub mod kinds;
pub mod servers;

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use mainstay_crds::access::Access;
use mainstay_crds::backup::Backup;
use mainstay_crds::operation::{Action, Operation};
use mainstay_crds::restore::Restore;

use self::kinds::{
    ACCESS, BACKUP, CLAIM, CONFIG_MAP, LEASE, OPERATION, POD, RESTORE, SECRET, SERVICE,
};
use crate::agent::election::lease::CHARTER;
use crate::agent::election::record::{Record, RecordError};
use crate::apply::Object;
use crate::apply::inventory::Seen;
use crate::backups::drill::Drill;
use crate::backups::drill::pod::drills;
use crate::backups::plan as backups;
use crate::backups::restores;
use crate::election::charter::Charter;
use crate::instances::{Instance, Known, read};
use crate::names;
use crate::operations::ordered;
use crate::operator::logins;
use crate::operator::rotations;
use crate::watch::{Cache, Kind, Nodes, SetKey};

/// The set's Lease.
#[derive(Debug)]
pub struct LeaseSeen {
    /// What it says, or why it cannot be read.
    pub record: Result<Record, RecordError>,
    /// Who holds it.
    pub holder: Option<String>,
    /// Highest timeline that was claimed, as far as it says; else 0.
    pub timeline: u64,
    /// For a delete.
    pub seen: Option<Seen>,
}

/// A Secret as seen.
pub type Data = BTreeMap<String, ByteString>;

/// Everything that is seen of a set.
#[derive(Debug, Default)]
pub struct Observed {
    /// Every child but pods and claims, to compare with what is wanted.
    pub live: Vec<Object>,
    /// Instances: every one that has a pod or a claim. What agents say is not in here yet.
    pub instances: Vec<Instance>,
    /// Those whose claims were set aside by a restore: nothing is made of them.
    pub aside: Vec<Instance>,
    /// Pods and claims, for deletes.
    pub volumes_and_pods: Vec<Object>,
    /// The Lease.
    pub lease: Option<LeaseSeen>,
    /// Data of Secrets by name.
    pub secrets: BTreeMap<String, Data>,
    /// Address of the Service that leads to the primary.
    pub service_address: Option<IpAddr>,
    /// Operations on its instances, in the order in which they are done.
    pub operations: Vec<Operation>,
    /// Operations that ask for drills, in the order in which they are done.
    pub asked_drills: Vec<Operation>,
    /// Operations that ask for other passwords, in the order in which they are done.
    pub rotations: Vec<Operation>,
    /// Backups of it, in the order in which they are made; none while it is not known which there are.
    pub backups: Option<Vec<Backup>>,
    /// Drills that were begun.
    pub drills: Vec<Drill>,
    /// Logins that are asked for, in the order of their names.
    pub accesses: Vec<Access>,
    /// Restores in place, in the order in which they are done.
    pub restores: Vec<Restore>,
}

impl Observed {
    /// What the Lease says, if there is one and it can be read.
    pub fn record(&self) -> Option<&Record> {
        self.lease.as_ref()?.record.as_ref().ok()
    }

    /// An instance by name.
    pub fn instance(&self, name: &str) -> Option<&Instance> {
        self.instances.iter().find(|i| i.name == name)
    }
}

/// Look at a set whose children are of these kinds. `container`: name of the engine's container in its pods.
pub fn observe(
    set: &SetKey,
    cache: &Cache,
    nodes: &Nodes,
    kinds: &[Kind],
    container: &str,
) -> Observed {
    let asked = ordered(cache.typed::<Operation>(set, OPERATION));
    let of = |action| {
        asked
            .iter()
            .filter(move |o| o.spec.action == action)
            .cloned()
    };
    let is_aside = |i: &Instance| i.claim.as_ref().is_some_and(|c| c.set_aside.is_some());
    let (aside, instances) = instances(set, cache, nodes, container)
        .into_iter()
        .partition(is_aside);
    let mut observed = Observed {
        instances,
        aside,
        lease: cache
            .typed::<Lease>(set, LEASE)
            .into_iter()
            .find_map(|l| lease(set, &l)),
        operations: of(Action::Switchover).collect(),
        asked_drills: of(Action::Drill).collect(),
        rotations: rotations::ordered(of(Action::RotatePassword).collect()),
        backups: cache
            .is_ready(&[BACKUP])
            .then(|| backups::ordered(cache.typed(set, BACKUP))),
        drills: drills(
            &cache.typed::<ConfigMap>(set, CONFIG_MAP),
            &cache.typed::<Pod>(set, POD),
        ),
        accesses: logins::ordered(cache.typed(set, ACCESS)),
        restores: restores::ordered(cache.typed(set, RESTORE)),
        ..Observed::default()
    };
    for kind in kinds {
        let objects = cache
            .children(set, kind.name)
            .into_iter()
            .map(|value| Object {
                resource: kind.resource.clone(),
                value,
            });
        if kind.name == POD || kind.name == CLAIM {
            observed.volumes_and_pods.extend(objects);
        } else {
            observed.live.extend(objects);
        }
    }
    for secret in cache.typed::<Secret>(set, SECRET) {
        if let Some(name) = secret.metadata.name {
            observed
                .secrets
                .insert(name, secret.data.unwrap_or_default());
        }
    }
    let primary = names::primary_service(&set.name);
    observed.service_address = cache
        .typed::<Service>(set, SERVICE)
        .into_iter()
        .find(|s| s.metadata.name.as_ref() == Some(&primary))
        .and_then(|s| s.spec?.cluster_ip?.parse().ok());
    observed
}

fn instances(set: &SetKey, cache: &Cache, nodes: &Nodes, container: &str) -> Vec<Instance> {
    let mut found: BTreeMap<u32, Instance> = BTreeMap::new();
    let mut entry = |name: &str, fill: &mut dyn FnMut(&mut Instance)| {
        if let Some(ordinal) = names::ordinal(&set.name, name) {
            fill(found.entry(ordinal).or_insert_with(|| Instance {
                name: name.to_owned(),
                ordinal,
                pod: None,
                claim: None,
                agent: Known::Unreachable("it has no pod".to_owned()),
            }));
        }
    };
    for pod in cache.typed::<Pod>(set, POD) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        entry(&name, &mut |i| {
            i.pod = Some(read::pod(&pod, container, |node| nodes.get(node)));
        });
    }
    for claim in cache.typed::<PersistentVolumeClaim>(set, CLAIM) {
        let name = claim.metadata.name.clone().unwrap_or_default();
        if let Some(instance) = name.strip_suffix("-data") {
            entry(instance, &mut |i| i.claim = Some(read::claim(&claim)));
        }
    }
    found.into_values().collect()
}

fn lease(set: &SetKey, lease: &Lease) -> Option<LeaseSeen> {
    if lease.metadata.name.as_ref() != Some(&set.name) {
        return None;
    }
    let annotations = lease.metadata.annotations.clone().unwrap_or_default();
    let charter = annotations.get(CHARTER);
    let charter = charter.and_then(|text| serde_json::from_str::<Charter>(text).ok());
    Some(LeaseSeen {
        record: Record::from_annotations(&annotations),
        timeline: charter.map_or(0, |c| c.timeline),
        holder: lease.spec.as_ref().and_then(|s| s.holder_identity.clone()),
        seen: Object::of(lease).ok().as_ref().and_then(Seen::of),
    })
}

//! Reads what every resource says in the same form: defaults applied, quantities read.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{Resource, ResourceExt};
use mainstay_crds::common::rules::{
    MAX_CERTIFICATE_HOURS, MAX_CPU_MILLIS, MAX_MEMORY, MAX_STORAGE, MIN_CPU_MILLIS, MIN_MEMORY,
    MIN_STORAGE,
};
use mainstay_crds::common::{
    AllowedClient, Deletion, Durability, Enforcement, Maintenance, Network, Placement, Resources,
    Storage, Tls, quantity,
};

use super::{Common, PAUSED, Problem, is_paused, syntax};
use crate::metadata::SetId;
use crate::names;
use crate::rollout::Windows;

/// Processor time of an instance that names none, in thousandths of a processor.
const CPU_MILLIS: i64 = 250;
/// Memory of an instance that names none, in bytes.
const MEMORY: i64 = 512 << 20;
/// Hours that a certificate is valid unless said.
const CERTIFICATE_HOURS: i32 = 2160;

/// The blocks of a spec that every engine has in the same form.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Number of instances, with the default applied.
    pub instances: i32,
    /// Names of Secrets with registry credentials.
    pub image_pull_secrets: &'a [String],
    /// Size of each instance.
    pub resources: Option<&'a Resources>,
    /// The volume of each instance.
    pub storage: &'a Storage,
    /// Where instances run.
    pub placement: Option<&'a Placement>,
    /// Certificates.
    pub tls: Option<&'a Tls>,
    /// When instances may be disturbed.
    pub maintenance: Option<&'a Maintenance>,
    /// Who may connect.
    pub network: Option<&'a Network>,
    /// What happens at the end.
    pub deletion: Option<&'a Deletion>,
}

/// What they mean. Where something is wrong, `problems` has it and the value means nothing.
///
/// Left to the engine: the image, durability (here: asynchronous), backups (here: none), and whether the number of
/// instances is one that it takes.
pub fn common<K, P>(resource: &K, asked: &Asked<'_>, problems: &mut Vec<P>) -> Common
where
    K: Resource<DynamicType = ()>,
    P: From<Problem>,
{
    let set = identity(resource, problems).unwrap_or_default();
    let paused = paused(resource, problems);
    pull_secrets(asked.image_pull_secrets, problems);
    let (cpu_milli, memory) = resources(asked.resources, problems);
    let storage = storage(asked.storage, problems);
    placement(asked.placement, problems);
    let certificate_hours = certificate_hours(asked.tls, problems);
    let windows = Windows::read(asked.maintenance).unwrap_or_else(|wrong| {
        problems.extend(wrong.into_iter().map(|w| Problem::Window(w).into()));
        Windows::default()
    });
    let clients = clients(asked.network, problems);
    Common {
        set,
        generation: resource.meta().generation.unwrap_or_default(),
        paused,
        instances: asked.instances,
        image: String::new(),
        image_is_named: false,
        image_pull_secrets: asked.image_pull_secrets.to_vec(),
        memory,
        cpu_milli,
        durability: Durability::Async,
        enforcement: Enforcement::default(),
        across_zones: false,
        max_lag: None,
        storage,
        storage_class: asked.storage.class.clone(),
        certificate_hours: certificate_hours.into(),
        windows,
        placement: asked.placement.cloned(),
        clients,
        protected: Deletion::is_protected(asked.deletion),
        volumes: Deletion::volumes(asked.deletion),
        backup: None,
        self_led: false,
    }
}

/// The image that runs a version.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The user's own.
    pub asked: Option<&'a str>,
    /// The version, if it is one.
    pub version: Option<&'a str>,
    /// The catalogue's for that version.
    pub found: Option<&'a str>,
}

impl Image<'_> {
    /// The user's image or the catalogue's. `available`: the versions that the catalogue has, in words.
    pub fn read<P: From<Problem>>(
        self,
        available: impl FnOnce() -> String,
        problems: &mut Vec<P>,
    ) -> Option<String> {
        if let Some(image) = self.asked {
            if !syntax::is_fixed_image(image) {
                problems.push(Problem::Image.into());
            }
            return Some(image.to_owned());
        }
        let version = self.version?;
        if self.found.is_none() {
            let problem = Problem::NoImage {
                version: version.to_owned(),
                available: available(),
            };
            problems.push(problem.into());
        }
        self.found.map(str::to_owned)
    }
}

fn identity<K, P>(resource: &K, problems: &mut Vec<P>) -> Option<SetId>
where
    K: Resource<DynamicType = ()>,
    P: From<Problem>,
{
    let name = resource.name_any();
    if !syntax::is_set_name(&name) {
        problems.push(Problem::Name.into());
    }
    let stored = (resource.namespace(), resource.uid());
    let (Some(namespace), Some(uid)) = stored else {
        problems.push(Problem::NotStored.into());
        return None;
    };
    Some(SetId {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        namespace,
        name,
        uid,
    })
}

fn paused<K: ResourceExt, P: From<Problem>>(resource: &K, problems: &mut Vec<P>) -> bool {
    if let Some(other) = resource
        .annotations()
        .get(names::RECONCILE)
        .filter(|value| *value != PAUSED)
    {
        problems.push(Problem::Pause(other.clone()).into());
    }
    is_paused(resource)
}

fn pull_secrets<P: From<Problem>>(secrets: &[String], problems: &mut Vec<P>) {
    for (i, name) in secrets.iter().enumerate() {
        if secrets[..i].contains(name) {
            problems.push(Problem::PullSecretTwice(name.clone()).into());
        }
    }
    if !secrets.iter().all(|name| syntax::is_subdomain(name)) {
        problems.push(Problem::PullSecret.into());
    }
}

fn certificate_hours<P: From<Problem>>(tls: Option<&Tls>, problems: &mut Vec<P>) -> i32 {
    let hours = tls.and_then(|tls| tls.certificate_hours);
    let hours = hours.unwrap_or(CERTIFICATE_HOURS);
    if !(1..=MAX_CERTIFICATE_HOURS).contains(&hours) {
        problems.push(Problem::CertificateHours.into());
    }
    hours
}

/// Processor time in thousandths and memory in bytes.
fn resources<P: From<Problem>>(resources: Option<&Resources>, problems: &mut Vec<P>) -> (i64, i64) {
    let cpu = resources.and_then(|r| r.cpu.as_ref());
    let memory = resources.and_then(|r| r.memory.as_ref());
    let cpu = cpu.map_or(Some(CPU_MILLIS), |q| {
        within(quantity::milli(q).ok(), MIN_CPU_MILLIS, MAX_CPU_MILLIS)
    });
    let memory = memory.map_or(Some(MEMORY), |q| bytes(q, MIN_MEMORY, MAX_MEMORY));
    if cpu.is_none() {
        problems.push(Problem::Cpu.into());
    }
    if memory.is_none() {
        problems.push(Problem::Memory.into());
    }
    (cpu.unwrap_or(CPU_MILLIS), memory.unwrap_or(MEMORY))
}

fn storage<P: From<Problem>>(storage: &Storage, problems: &mut Vec<P>) -> i64 {
    if storage
        .class
        .as_ref()
        .is_some_and(|c| !syntax::is_subdomain(c))
    {
        problems.push(Problem::StorageClass.into());
    }
    let size = bytes(&storage.size, MIN_STORAGE, MAX_STORAGE);
    if size.is_none() {
        problems.push(Problem::StorageSize.into());
    }
    size.unwrap_or(MIN_STORAGE)
}

/// Whole bytes within bounds.
pub fn bytes(quantity: &Quantity, least: i64, most: i64) -> Option<i64> {
    within(quantity::whole(quantity).ok(), least, most)
}

/// The amount, if it is within bounds.
pub fn within(amount: Option<i64>, least: i64, most: i64) -> Option<i64> {
    amount.filter(|n| (least..=most).contains(n))
}

fn placement<P: From<Problem>>(placement: Option<&Placement>, problems: &mut Vec<P>) {
    let Some(placement) = placement else {
        return;
    };
    if let Some(nodes) = &placement.dedicated_nodes {
        if !syntax::is_label_key(&nodes.key) {
            problems.push(Problem::DedicatedKey.into());
        }
        if !syntax::is_label_value(&nodes.value) {
            problems.push(Problem::DedicatedValue.into());
        }
    }
    labels(
        placement.node_labels.as_ref(),
        "spec.placement.nodeLabels",
        problems,
    );
    if placement
        .priority_class
        .as_ref()
        .is_some_and(|name| !syntax::is_subdomain(name))
    {
        problems.push(Problem::PriorityClass.into());
    }
}

fn clients<P: From<Problem>>(
    network: Option<&Network>,
    problems: &mut Vec<P>,
) -> Vec<AllowedClient> {
    let clients = network.map(|n| n.clients.clone());
    let clients = clients.unwrap_or_default();
    for (i, client) in clients.iter().enumerate() {
        let (pods, namespaces) = (client.pod_labels.as_ref(), client.namespace_labels.as_ref());
        if pods.is_none_or(BTreeMap::is_empty) && namespaces.is_none_or(BTreeMap::is_empty) {
            problems.push(Problem::ClientSelects(i).into());
        }
        let field = format!("spec.network.clients[{i}]");
        labels(pods, &format!("{field}.podLabels"), problems);
        labels(namespaces, &format!("{field}.namespaceLabels"), problems);
    }
    clients
}

fn labels<P: From<Problem>>(
    labels: Option<&BTreeMap<String, String>>,
    field: &str,
    problems: &mut Vec<P>,
) {
    let good = |(key, value): (&String, &String)| {
        syntax::is_label_key(key) && syntax::is_label_value(value)
    };
    if !labels.into_iter().flatten().all(good) {
        problems.push(Problem::Labels(field.to_owned()).into());
    }
}

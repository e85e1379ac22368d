//! What the certificates of a set say, and the Secrets that hold them.

use k8s_openapi::api::core::v1::Secret;

use crate::metadata::SetId;
use crate::names;
use crate::pki::{LeafSpec, Pair, Usage, to_secret};

/// Domain of Services in almost every cluster; names without it work in all.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// The certificate of `instance`: it serves the engine and the agent, and is the client's with which
/// it streams. Any instance may be the primary, so each bears the names of both Services, and of those
/// that the engine's sets have besides.
pub fn leaf_spec(set: &SetId, instance: &str, services: &[String], hours: i64) -> LeafSpec {
    let (set, namespace) = (&set.name, &set.namespace);
    let service = |name| service_names(name, namespace);
    let host = names::instance_host(instance, set, namespace);
    let mut dns_names = vec![format!("{host}.{CLUSTER_DOMAIN}"), host, "localhost".into()];
    dns_names.extend(service(names::primary_service(set)));
    dns_names.extend(service(names::replica_service(set)));
    dns_names.extend(services.iter().cloned().flat_map(service));
    LeafSpec {
        common_name: instance.to_owned(),
        dns_names,
        addresses: Vec::new(),
        usage: Usage::ServerAndClient,
        hours,
    }
}

/// Names by which a Service is dialled.
pub fn service_names(name: String, namespace: &str) -> Vec<String> {
    let host = format!("{name}.{namespace}.svc");
    vec![
        format!("{host}.{CLUSTER_DOMAIN}"),
        host,
        format!("{name}.{namespace}"),
        name,
    ]
}

/// The Secret with a certificate that is no instance's, called as [`names::certificate`] says.
pub fn secret(set: &SetId, name: &str, leaf: &Pair) -> Secret {
    to_secret(set.kept(names::certificate(name), "certificate"), leaf)
}

/// The Secret with the certificate of `instance`.
pub fn leaf_secret(set: &SetId, instance: &str, leaf: &Pair) -> Secret {
    let mut metadata = set.kept(names::certificate(instance), "certificate");
    metadata
        .labels
        .get_or_insert_default()
        .insert(names::INSTANCE.to_owned(), instance.to_owned());
    to_secret(metadata, leaf)
}

/// The Secret with the set's authority, in the operator's namespace.
pub fn authority_secret(set: &SetId, operator_namespace: &str, authority: &Pair) -> Secret {
    let mut metadata = set.kept(authority_name(set), "ca");
    metadata.namespace = Some(operator_namespace.to_owned());
    to_secret(metadata, authority)
}

/// Name of the Secret with the set's authority.
pub fn authority_name(set: &SetId) -> String {
    names::authority_secret(&set.app(), &set.namespace, &set.name)
}

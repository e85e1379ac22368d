//! What the certificates of a set say, and the Secrets that hold them.

use k8s_openapi::api::core::v1::Secret;
use mainstay_shared::names;
use mainstay_shared::pki::{LeafSpec, Pair, Usage, to_secret};

use crate::validate::Validated;

/// Domain of Services in almost every cluster; names without it work in all.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// The certificate of `instance`: it serves PostgreSQL and the agent, and is the client's with which
/// it streams. Any instance may be the primary, so each bears the names of both Services.
pub fn leaf_spec(v: &Validated, instance: &str) -> LeafSpec {
    let (set, namespace) = (&v.set.name, &v.set.namespace);
    let service = |name| service_names(name, namespace);
    let host = names::instance_host(instance, set, namespace);
    let mut dns_names = vec![format!("{host}.{CLUSTER_DOMAIN}"), host, "localhost".into()];
    dns_names.extend(service(names::primary_service(set)));
    dns_names.extend(service(names::replica_service(set)));
    LeafSpec {
        common_name: instance.to_owned(),
        dns_names,
        addresses: Vec::new(),
        usage: Usage::ServerAndClient,
        hours: v.certificate_hours,
    }
}

/// Names by which a Service is dialled.
fn service_names(name: String, namespace: &str) -> Vec<String> {
    let host = format!("{name}.{namespace}.svc");
    vec![
        format!("{host}.{CLUSTER_DOMAIN}"),
        host,
        format!("{name}.{namespace}"),
        name,
    ]
}

/// The certificate of all poolers: it serves clients and the set's agents, and is the client's with
/// which they look up who may log in.
pub fn pooler_spec(v: &Validated) -> LeafSpec {
    let (set, namespace) = (&v.set.name, &v.set.namespace);
    let mut dns_names = vec![names::pooler_host(set, namespace), "localhost".into()];
    dns_names.extend(service_names(names::primary_pooler(set), namespace));
    dns_names.extend(service_names(names::replica_pooler(set), namespace));
    LeafSpec {
        common_name: names::POOLER_COMMON_NAME.to_owned(),
        dns_names,
        addresses: Vec::new(),
        usage: Usage::ServerAndClient,
        hours: v.certificate_hours,
    }
}

/// The Secret with that certificate.
pub fn pooler_secret(v: &Validated, leaf: &Pair) -> Secret {
    let name = names::certificate(&names::pooler(&v.set.name));
    to_secret(v.set.kept(name, "certificate"), leaf)
}

/// The Secret with the certificate of `instance`.
pub fn leaf_secret(v: &Validated, instance: &str, leaf: &Pair) -> Secret {
    let mut metadata = v.set.kept(names::certificate(instance), "certificate");
    metadata
        .labels
        .get_or_insert_default()
        .insert(names::INSTANCE.to_owned(), instance.to_owned());
    to_secret(metadata, leaf)
}

/// The Secret with the set's authority, in the operator's namespace.
pub fn authority_secret(v: &Validated, operator_namespace: &str, authority: &Pair) -> Secret {
    let mut metadata = v.set.kept(authority_name(v), "ca");
    metadata.namespace = Some(operator_namespace.to_owned());
    to_secret(metadata, authority)
}

/// Name of the Secret with the set's authority.
pub fn authority_name(v: &Validated) -> String {
    names::authority_secret(&v.set.app(), &v.set.namespace, &v.set.name)
}

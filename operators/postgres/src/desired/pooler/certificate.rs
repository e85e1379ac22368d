//! The certificate of all poolers of a set.

use k8s_openapi::api::core::v1::Secret;
use mainstay_shared::names;
use mainstay_shared::operator::desired::certificate::{secret, service_names};
use mainstay_shared::pki::{LeafSpec, Pair, Usage};

use crate::validate::Validated;

/// It serves clients and the set's agents, and is the client's with which they look up who may log in.
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
    secret(&v.set, &names::pooler(&v.set.name), leaf)
}

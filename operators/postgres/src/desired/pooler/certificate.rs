//! The certificate of all poolers of a set.

use mainstay_shared::names;
use mainstay_shared::operator::desired::certificate::service_names;
use mainstay_shared::pki::{LeafSpec, Usage};

use crate::validate::Validated;

/// It serves clients and the set's agents, and is the client's with which they look up who may log in.
pub fn pooler_spec(v: &Validated) -> LeafSpec {
    let (set, namespace) = (&v.common.set.name, &v.common.set.namespace);
    let mut dns_names = vec![names::pooler_host(set, namespace), "localhost".into()];
    dns_names.extend(service_names(names::primary_pooler(set), namespace));
    dns_names.extend(service_names(names::replica_pooler(set), namespace));
    LeafSpec {
        common_name: names::POOLER_COMMON_NAME.to_owned(),
        dns_names,
        addresses: Vec::new(),
        usage: Usage::ServerAndClient,
        hours: v.common.certificate_hours,
    }
}

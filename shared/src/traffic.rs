//! The Services of a set, and the EndpointSlice that leads to its primary.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::metadata::SetId;
use crate::names;

/// Label by which an EndpointSlice belongs to a Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label that says who writes an EndpointSlice; Kubernetes' own controllers leave others alone.
pub const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Who writes the primary's EndpointSlice.
pub const SLICE_MANAGER: &str = "agent.mainstay.dev";

/// The engine's port and its name in Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnginePort {
    /// Name, for example `postgresql`.
    pub name: &'static str,
    /// Number.
    pub number: u16,
}

/// The Service that leads to the primary. It has no selector: its one EndpointSlice is written by
/// the Lease's holder, so that traffic moves without the operator and never goes to two.
pub fn primary_service(set: &SetId, port: EnginePort) -> Service {
    service(
        set,
        names::primary_service(&set.name),
        vec![engine(port)],
        None,
    )
}

/// The primary's EndpointSlice as it is made, without endpoints. It is created once and never
/// applied again: from then on the Lease's holder writes it.
///
/// `address` is any address of the Service, from which the family follows; a slice cannot change it.
pub fn primary_slice(set: &SetId, port: EnginePort, address: IpAddr) -> EndpointSlice {
    let name = names::primary_service(&set.name);
    let mut metadata = set.owned(&name);
    metadata.labels.get_or_insert_default().extend([
        (SERVICE_NAME.to_owned(), name),
        (SLICE_MANAGED_BY.to_owned(), SLICE_MANAGER.to_owned()),
    ]);
    EndpointSlice {
        metadata,
        address_type: if address.is_ipv4() { "IPv4" } else { "IPv6" }.into(),
        endpoints: Vec::new(),
        ports: Some(vec![EndpointPort {
            name: Some(port.name.into()),
            port: Some(port.number.into()),
            protocol: Some("TCP".into()),
            app_protocol: None,
        }]),
    }
}

/// The Service that leads to the replicas which are ready, that is, which stream.
pub fn replica_service(set: &SetId, port: EnginePort) -> Service {
    let mut selector = set.selector();
    selector.insert(names::ROLE.to_owned(), "replica".to_owned());
    let name = names::replica_service(&set.name);
    service(set, name, vec![engine(port)], Some(selector))
}

/// The headless Service that gives each instance its DNS name, also while it is not ready.
pub fn peer_service(set: &SetId, port: EnginePort) -> Service {
    let ports = vec![engine(port), service_port("agent", names::AGENT_PORT)];
    let mut service = service(
        set,
        names::peer_service(&set.name),
        ports,
        Some(set.selector()),
    );
    if let Some(spec) = &mut service.spec {
        spec.cluster_ip = Some("None".into());
        spec.publish_not_ready_addresses = Some(true);
    }
    service
}

/// The Service of a set that leads itself: to any instance that serves, under the name of the one that leads to the primary.
/// Whoever is reached tells a client where else to go.
pub fn members_service(set: &SetId, port: EnginePort) -> Service {
    let name = names::primary_service(&set.name);
    service(set, name, vec![engine(port)], Some(set.selector()))
}

/// A Service that leads to any instance, whatever its engine does, on a port that its agent answers.
pub fn agents_service(set: &SetId, name: String, port: EnginePort) -> Service {
    let mut service = service(set, name, vec![engine(port)], Some(set.selector()));
    if let Some(spec) = &mut service.spec {
        spec.publish_not_ready_addresses = Some(true);
    }
    service
}

fn service(
    set: &SetId,
    name: String,
    ports: Vec<ServicePort>,
    selector: Option<BTreeMap<String, String>>,
) -> Service {
    Service {
        metadata: set.owned(name),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            ports: Some(ports),
            selector,
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn engine(port: EnginePort) -> ServicePort {
    service_port(port.name, port.number.into())
}

fn service_port(name: &str, port: i32) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port,
        target_port: Some(IntOrString::Int(port)),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::db;

    const PORT: EnginePort = EnginePort {
        name: "postgresql",
        number: 5432,
    };

    #[test]
    fn nothing_but_the_holder_chooses_the_primary() {
        assert_eq!(primary_service(&db(), PORT).spec.unwrap().selector, None);
        let slice = primary_slice(&db(), PORT, "fd00::7".parse().unwrap());
        assert_eq!(slice.address_type, "IPv6");
        assert!(slice.endpoints.is_empty());
        assert_eq!(slice.metadata.labels.unwrap()[SERVICE_NAME], "db-rw");
    }

    #[test]
    fn replicas_are_chosen_by_role_and_peers_by_no_role() {
        let replicas = replica_service(&db(), PORT).spec.unwrap().selector.unwrap();
        assert_eq!(replicas[names::ROLE], "replica");
        let peers = peer_service(&db(), PORT).spec.unwrap();
        assert!(!peers.selector.clone().unwrap().contains_key(names::ROLE));
        assert_eq!(peers.publish_not_ready_addresses, Some(true));
        assert_eq!(peers.cluster_ip.as_deref(), Some("None"));
        let agents = agents_service(&db(), "db-x".into(), PORT).spec.unwrap();
        assert_eq!(agents.selector, peers.selector);
        assert_eq!(agents.publish_not_ready_addresses, Some(true));
        assert_eq!(agents.cluster_ip, None);
    }
}

//! The one EndpointSlice of the primary Service; values only.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};

/// Annotation: epoch under which it was written.
pub const EPOCH: &str = "mainstay.dev/epoch";

/// Where the primary is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Address of its pod.
    pub address: IpAddr,
    /// Name of its instance.
    pub instance: String,
    /// Name of the engine's port.
    pub port_name: String,
    /// The engine's port.
    pub port: u16,
    /// Epoch of its holder.
    pub epoch: u64,
}

/// The slice leading to `target`, or nothing when it does already.
///
/// Guarantee: a slice that bears a higher epoch is left alone.
pub fn pointed(slice: &EndpointSlice, target: &Target) -> Option<EndpointSlice> {
    let epoch = |s: &EndpointSlice| -> Option<u64> {
        s.metadata.annotations.as_ref()?.get(EPOCH)?.parse().ok()
    };
    if epoch(slice).is_some_and(|e| e > target.epoch) {
        return None;
    }
    let mut wanted = slice.clone();
    wanted
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(EPOCH.to_owned(), target.epoch.to_string());
    let family = if target.address.is_ipv4() {
        "IPv4"
    } else {
        "IPv6"
    };
    family.clone_into(&mut wanted.address_type);
    wanted.endpoints = vec![Endpoint {
        addresses: vec![target.address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            serving: Some(true),
            terminating: Some(false),
        }),
        hostname: Some(target.instance.clone()),
        ..Endpoint::default()
    }];
    wanted.ports = Some(vec![EndpointPort {
        name: Some(target.port_name.clone()),
        port: Some(i32::from(target.port)),
        protocol: Some("TCP".to_owned()),
        ..EndpointPort::default()
    }]);
    if wanted == *slice {
        return None;
    }
    wanted.metadata.managed_fields = None;
    Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(epoch: u64) -> Target {
        Target {
            address: IpAddr::from([10, 0, 0, 1]),
            instance: "db-1".into(),
            port_name: "postgres".into(),
            port: 5432,
            epoch,
        }
    }

    #[test]
    fn it_is_written_once_and_never_back() {
        let first = pointed(&EndpointSlice::default(), &target(2)).unwrap();
        assert_eq!(first.endpoints[0].addresses, ["10.0.0.1"]);
        assert_eq!(pointed(&first, &target(2)), None, "nothing to do");
        assert!(pointed(&first, &target(3)).is_some());
        assert_eq!(pointed(&first, &target(1)), None, "an outdated holder");
    }
}

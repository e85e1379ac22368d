//! Addresses of the API servers, which network policies must let agents reach (I/O).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures::Stream;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};

use crate::traffic::SERVICE_NAME;
use crate::watch::events;

/// Addresses with their ports.
pub type Addresses = BTreeSet<(IpAddr, u16)>;

/// Addresses of the API servers, as the slices of the Service `kubernetes` have them.
#[derive(Clone, Debug, Default)]
pub struct Servers(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    addresses: Addresses,
    listing: Addresses,
    listed: bool,
}

impl Servers {
    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All that are known.
    pub fn all(&self) -> Addresses {
        self.with(|known| known.addresses.clone())
    }

    /// Whether they were listed once.
    pub fn is_ready(&self) -> bool {
        self.with(|known| known.listed)
    }

    /// There is one slice per address family; a change of either is listed anew, so that an address
    /// which is gone is not kept by mistake.
    fn take(&self, event: Event<EndpointSlice>) -> bool {
        self.with(|known| match event {
            Event::Init => {
                known.listing.clear();
                false
            }
            Event::InitApply(slice) => {
                known.listing.extend(read(&slice));
                false
            }
            Event::InitDone => {
                let first = !std::mem::replace(&mut known.listed, true);
                let changed = known.addresses != known.listing;
                known.addresses.clone_from(&known.listing);
                first || changed
            }
            Event::Apply(slice) => {
                let is_ipv4 = slice.address_type == "IPv4";
                let other_family = known.addresses.iter().filter(|a| a.0.is_ipv4() != is_ipv4);
                let next: Addresses = other_family.copied().chain(read(&slice)).collect();
                let changed = known.addresses != next;
                known.addresses = next;
                changed
            }
            // It is made anew at once; until then the addresses still lead there.
            Event::Delete(_) => false,
        })
    }

    /// Keep them up to date. The stream yields when they changed.
    pub fn feed(&self, client: &Client) -> impl Stream<Item = ()> + Send + use<> + 'static {
        let servers = self.clone();
        let api: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
        let config = Config::default().labels(&format!("{SERVICE_NAME}=kubernetes"));
        events(api, config, "API servers' addresses", move |event| {
            servers.take(event).then_some(())
        })
    }
}

fn read(slice: &EndpointSlice) -> impl Iterator<Item = (IpAddr, u16)> + use<> {
    let ports: Vec<u16> = slice
        .ports
        .iter()
        .flatten()
        .filter_map(|p| u16::try_from(p.port?).ok())
        .collect();
    let addresses: Vec<IpAddr> = slice
        .endpoints
        .iter()
        .flat_map(|e| &e.addresses)
        .filter_map(|a| a.parse().ok())
        .collect();
    addresses
        .into_iter()
        .flat_map(move |a| ports.clone().into_iter().map(move |p| (a, p)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(addresses: &[&str]) -> EndpointSlice {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "kubernetes"},
            "addressType": "IPv4",
            "endpoints": [{"addresses": addresses}],
            "ports": [{"port": 6443}],
        }))
        .unwrap()
    }

    #[test]
    fn addresses_that_change_are_followed() {
        let servers = Servers::default();
        servers.take(Event::Init);
        servers.take(Event::InitApply(slice(&["10.0.0.1"])));
        assert!(servers.take(Event::InitDone));
        assert!(!servers.take(Event::Apply(slice(&["10.0.0.1"]))));
        assert!(servers.take(Event::Apply(slice(&["10.0.0.2"]))));
        assert_eq!(
            servers.all(),
            Addresses::from([("10.0.0.2".parse().unwrap(), 6443)])
        );
    }
}

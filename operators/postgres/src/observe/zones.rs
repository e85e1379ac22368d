//! Zones of nodes: a small map, kept by a metadata watch (I/O).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::Stream;
use k8s_openapi::api::core::v1::Node;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, ResourceExt};
use mainstay_shared::watch::events;

/// Label that tells a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Zone of each node by its name; a node without the label has none.
#[derive(Clone, Debug, Default)]
pub struct Zones(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    zones: HashMap<String, Option<String>>,
    listed: bool,
}

impl Zones {
    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Zone of a node.
    pub fn of(&self, node: &str) -> Option<String> {
        self.with(|known| known.zones.get(node).cloned().flatten())
    }

    /// Whether nodes were listed once.
    pub fn is_ready(&self) -> bool {
        self.with(|known| known.listed)
    }

    fn take(&self, event: Event<PartialObjectMeta<Node>>) -> bool {
        self.with(|known| match event {
            Event::Init => {
                known.zones.clear();
                false
            }
            Event::Apply(node) | Event::InitApply(node) => {
                let zone = node.labels().get(ZONE).cloned();
                known.zones.insert(node.name_any(), zone.clone()) != Some(zone)
            }
            Event::Delete(node) => known.zones.remove(&node.name_any()).is_some(),
            Event::InitDone => {
                known.listed = true;
                true
            }
        })
    }

    /// Keep the map up to date. The stream yields when a node came, went or changed its zone: a
    /// heartbeat of a node is no news.
    pub fn feed(&self, client: &Client) -> impl Stream<Item = ()> + Send + use<> + 'static {
        let zones = self.clone();
        let api: Api<PartialObjectMeta<Node>> = Api::all(client.clone());
        events(api, Config::default(), "nodes", move |event| {
            zones.take(event).then_some(())
        })
    }
}

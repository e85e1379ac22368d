//! What is known of nodes: a small map, kept by a watch (I/O).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::Stream;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, ResourceExt};

use super::events;
use crate::instances::NodeSeen;

/// Label that tells a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Nodes by name.
#[derive(Clone, Debug, Default)]
pub struct Nodes(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    nodes: HashMap<String, NodeSeen>,
    listed: bool,
}

impl Nodes {
    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known of a node; of one that is not there nothing is.
    pub fn get(&self, node: &str) -> NodeSeen {
        self.with(|known| known.nodes.get(node).cloned().unwrap_or_default())
    }

    /// Whether nodes were listed once.
    pub fn is_ready(&self) -> bool {
        self.with(|known| known.listed)
    }

    fn take(&self, event: Event<Node>) -> bool {
        self.with(|known| match event {
            Event::Init => {
                known.nodes.clear();
                false
            }
            Event::Apply(node) | Event::InitApply(node) => {
                let seen = NodeSeen {
                    zone: node.labels().get(ZONE).cloned(),
                    cordoned: node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true),
                };
                known.nodes.insert(node.name_any(), seen.clone()) != Some(seen)
            }
            Event::Delete(node) => known.nodes.remove(&node.name_any()).is_some(),
            Event::InitDone => {
                known.listed = true;
                true
            }
        })
    }

    /// Keep the map up to date. The stream yields when a node came, went or changed in what is
    /// known of it: a heartbeat is no news.
    pub fn feed(&self, client: &Client) -> impl Stream<Item = ()> + Send + use<> + 'static {
        let nodes = self.clone();
        let api: Api<Node> = Api::all(client.clone());
        events(api, Config::default(), "nodes", move |event| {
            nodes.take(event).then_some(())
        })
    }
}

//! Network policies, enforced by nftables in each node's network namespace.
//!
//! A change is in force some tens of milliseconds after the API server tells of it. A new pod is
//! known by its address, which the kubelet reports up to about a second after the containers
//! started: for that long the pod is open. Flows that were allowed when they began go on.

mod compile;
#[cfg(test)]
mod oracle;
mod render;
mod rules;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::cluster::context::{ControllersContext, NodeContext};
use crate::process::{self, ProcessError};

/// Why rules could not be put in force; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// `nft` refused or could not be run.
    #[error(transparent)]
    Program(#[from] ProcessError),
    /// The script could not be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Script {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A watch ended for ever, which must not happen.
    #[error("the watch of {0} ended")]
    WatchEnded(&'static str),
}

/// Changes that come together, as those of one roll-out, are put in force together.
const GATHER: Duration = Duration::from_millis(10);
/// Time until rules that were refused are tried again.
const RETRY: Duration = Duration::from_millis(250);

/// Watches policies, pods and namespaces, and keeps every node's rules up to date until the
/// process ends.
///
/// # Errors
/// A watch ended for ever.
pub async fn run(client: Client, context: ControllersContext) -> Result<(), PolicyError> {
    let changed = Arc::new(Notify::new());
    let (policies, policy_events) = follow::<NetworkPolicy>(&client, &changed);
    let (pods, pod_events) = follow::<Pod>(&client, &changed);
    let (namespaces, namespace_events) = follow::<Namespace>(&client, &changed);
    let enforce = async {
        // With half of the objects unknown, rules would be wrong; the old ones are better.
        let known = futures::future::try_join3(
            policies.wait_until_ready(),
            pods.wait_until_ready(),
            namespaces.wait_until_ready(),
        );
        known
            .await
            .map_err(|_| PolicyError::WatchEnded("objects"))?;
        let mut in_force = BTreeMap::new();
        loop {
            let scripts = scripts(
                &context.nodes,
                &policies.state(),
                &pods.state(),
                &namespaces.state(),
            );
            let wait = if put_in_force(&context, &mut in_force, scripts).await {
                None
            } else {
                Some(RETRY)
            };
            match wait {
                None => changed.notified().await,
                Some(retry) => drop(tokio::time::timeout(retry, changed.notified()).await),
            }
            tokio::time::sleep(GATHER).await;
        }
    };
    tokio::select! {
        ended = enforce => ended,
        () = policy_events.for_each(|()| std::future::ready(())) => Err(PolicyError::WatchEnded("policies")),
        () = pod_events.for_each(|()| std::future::ready(())) => Err(PolicyError::WatchEnded("pods")),
        () = namespace_events.for_each(|()| std::future::ready(())) => Err(PolicyError::WatchEnded("namespaces")),
    }
}

/// A cache of every object of a kind, and the stream that must be polled to fill it.
fn follow<K>(client: &Client, changed: &Arc<Notify>) -> (Store<K>, impl Stream<Item = ()> + use<K>)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Unpin,
{
    let (store, writer) = reflector::store::<K>();
    let api: Api<K> = Api::all_with(client.clone(), &K::DynamicType::default());
    let changed = changed.clone();
    let events = watcher(api, watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .map(move |event| match event {
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
            Ok(_) => changed.notify_one(),
            Err(error) => {
                tracing::warn!(%error, "a watch of the network policies failed and is begun again");
            }
        });
    (store, events)
}

/// Each node's script, in the order of the nodes.
fn scripts(
    nodes: &[NodeContext],
    policies: &[Arc<NetworkPolicy>],
    pods: &[Arc<Pod>],
    namespaces: &[Arc<Namespace>],
) -> Vec<String> {
    let mut world = compile::World {
        policies: policies.iter().map(AsRef::as_ref).collect(),
        pods: pods.iter().map(AsRef::as_ref).collect(),
        namespaces: namespaces.iter().map(AsRef::as_ref).collect(),
    };
    // Caches have no order; the same state must give the same script.
    world
        .policies
        .sort_by_key(|policy| (&policy.metadata.namespace, &policy.metadata.name));
    world.pods.sort_by_key(|pod| {
        (
            &pod.metadata.creation_timestamp,
            &pod.metadata.namespace,
            &pod.metadata.name,
        )
    });
    nodes
        .iter()
        .map(|node| render::script(&compile::node_rules(&world, &node.name)))
        .collect()
}

/// Applies the scripts that differ from those in force, on all nodes at once. Says whether every
/// node has its own now.
async fn put_in_force(
    context: &ControllersContext,
    in_force: &mut BTreeMap<String, String>,
    scripts: Vec<String>,
) -> bool {
    let changed = context
        .nodes
        .iter()
        .zip(scripts)
        .filter(|(node, script)| in_force.get(&node.name) != Some(script));
    let applied = changed.map(|(node, script)| async move {
        let done = apply(context, node, &script).await;
        (node, script, done)
    });
    let mut all = true;
    for (node, script, done) in futures::future::join_all(applied).await {
        match done {
            Ok(()) => drop(in_force.insert(node.name.clone(), script)),
            Err(error) => {
                tracing::warn!(node = node.name, %error, "network policies could not be put in force and are tried again");
                all = false;
            }
        }
    }
    all
}

async fn apply(
    context: &ControllersContext,
    node: &NodeContext,
    script: &str,
) -> Result<(), PolicyError> {
    // Kept, for whoever wants to see what a node enforces.
    let path = context
        .state
        .join("controllers")
        .join(format!("policy-{}.nft", node.name));
    tokio::fs::write(&path, script)
        .await
        .map_err(|source| PolicyError::Script {
            path: path.clone(),
            source,
        })?;
    let mut net = std::ffi::OsString::from("--net=");
    net.push(&node.netns);
    process::run(
        process::command("nsenter")
            .arg(net)
            .args(["nft", "-f"])
            .arg(&path),
    )
    .await?;
    Ok(())
}

//! Nodes that are cut off, and nodes that lose power.

use super::{FaultError, Undo};
use crate::cluster::Faults;

/// Cuts a node off the network, until undone: nothing reaches it, and it reaches nothing.
///
/// # Errors
/// The cluster does not run, or has no such node.
pub async fn cut<'a>(cluster: &'a dyn Faults, node: &'a str) -> Result<Undo<'a>, FaultError> {
    cluster.cut(node).await?;
    Ok(Undo::new(format!("{node} is cut off"), move || {
        Box::pin(async move { Ok(cluster.heal(node).await?) })
    }))
}

/// Takes the power of a node: everything on it ends at once. Undone, it is started again.
///
/// # Errors
/// The cluster does not run, or has no such node.
pub async fn power_off<'a>(cluster: &'a dyn Faults, node: &'a str) -> Result<Undo<'a>, FaultError> {
    let guard = Undo::new(format!("{node} has no power"), move || {
        Box::pin(async move { Ok(cluster.boot(node).await?) })
    });
    cluster.crash(node).await?;
    Ok(guard)
}

/// Takes the power of a node and starts it again at once.
///
/// # Errors
/// The cluster does not run, has no such node, or the node does not start.
pub async fn restart(cluster: &dyn Faults, node: &str) -> Result<(), FaultError> {
    power_off(cluster, node).await?.undo().await
}

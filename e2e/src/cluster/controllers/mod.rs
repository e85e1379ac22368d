//! What a local cluster lacks otherwise: dynamic volumes and enforced network policies.

use super::context::ControllersContext;

/// Why the controllers ended.
#[derive(Debug, thiserror::Error)]
pub enum ControllersError {}

/// Runs every controller of a local cluster until the process is killed.
pub async fn run(ctx: ControllersContext) -> Result<(), ControllersError> {
    tracing::info!(
        cluster = ctx.cluster,
        nodes = ctx.nodes.len(),
        "controllers run"
    );
    std::future::pending().await
}

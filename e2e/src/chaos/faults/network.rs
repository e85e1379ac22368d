//! Links that are cut while nodes and pods go on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;

use super::succeeded;
use crate::chaos::fault::{Fault, Ground, fault};
use crate::scenarios::failures::node_of;

/// This family.
pub const FAULTS: &[Fault] = &[
    fault!(
        peers_cut,
        "the primary reaches the API server and its clients, and no replica, until another one leads"
    )
    .of_any(),
    fault!(
        api_server_cut,
        "for 20 seconds the primary reaches its replicas and its clients, and not the API server"
    )
    .of_any(),
    fault!(
        async_api_server_cut,
        "the same, and commits wait for nobody"
    )
    .without_waiting(),
    fault!(
        async_peers_cut,
        "for 12 seconds the primary reaches the API server and its clients, and no replica, and commits wait for nobody"
    )
    .without_waiting(),
];

async fn replicas_of(g: &Ground<'_>) -> Result<Vec<std::net::IpAddr>> {
    let mut others = Vec::new();
    for replica in &g.replicas {
        others.push(g.address(replica).await?);
    }
    Ok(others)
}

async fn peers_cut(g: &Ground<'_>) -> Result<Instant> {
    let (node, table) = (node_of(g.sandbox, &g.primary).await?, g.unique());
    let links = g.links(&node, &table).await?;
    let parted = links.part(&replicas_of(g).await?, 100).await?;
    succeeded(g, parted).await?;
    Ok(Instant::now())
}

/// Longer than connections are kept without an answer.
const PARTED: Duration = Duration::from_secs(12);

async fn async_peers_cut(g: &Ground<'_>) -> Result<Instant> {
    let (node, table) = (node_of(g.sandbox, &g.primary).await?, g.unique());
    let links = g.links(&node, &table).await?;
    let parted = links.part(&replicas_of(g).await?, 100).await?;
    // The length of the fault: nothing is waited for.
    tokio::time::sleep(PARTED).await;
    parted.undo().await?;
    Ok(Instant::now())
}

/// Much longer than a Lease lasts.
const UNHEARD: Duration = Duration::from_secs(20);

/// Where the API server is, as pods come to it.
async fn api_server(g: &Ground<'_>) -> Result<Vec<SocketAddr>> {
    let slices: Api<EndpointSlice> = Api::namespaced(g.sandbox.ctx.client.clone(), "default");
    let slice = slices.get("kubernetes").await?;
    let port = slice.ports.iter().flatten().find_map(|port| port.port);
    let port = u16::try_from(port.context("the API server has a port")?)?;
    let mut servers = Vec::new();
    for endpoint in &slice.endpoints {
        for address in &endpoint.addresses {
            servers.push(SocketAddr::new(address.parse()?, port));
        }
    }
    ensure!(!servers.is_empty(), "nobody knows where the API server is");
    Ok(servers)
}

async fn api_server_cut(g: &Ground<'_>) -> Result<Instant> {
    let (node, table) = (node_of(g.sandbox, &g.primary).await?, g.unique());
    let links = g.links(&node, &table).await?;
    let silenced = links.silence(&api_server(g).await?).await?;
    // The length of the fault: nothing is waited for.
    tokio::time::sleep(UNHEARD).await;
    g.writer.more(100).await?;
    // Its peers hold still for it.
    let now = g.leads().await?;
    ensure!(now == g.primary, "{now} is primary after {}", g.primary);
    silenced.undo().await?;
    Ok(Instant::now())
}

async fn async_api_server_cut(g: &Ground<'_>) -> Result<Instant> {
    api_server_cut(g).await
}

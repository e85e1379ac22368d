//! The test kit's fake API server against the real one: the same requests, the same answers. And
//! apply on the real one: what was applied is left alone.

use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use mainstay_e2e::apiserver::ApiServer;
use mainstay_testkit::api::FakeApi;
use mainstay_testkit::conformity;

use super::{Server, objects, trial};

pub fn trials(api: Option<&Arc<ApiServer>>) -> Vec<Trial> {
    vec![
        trial("fake::answers as the real API server does", api, same),
        trial(
            "fake::a second pass over a set writes nothing to the real API server",
            api,
            settled,
        ),
    ]
}

async fn same(server: Server) -> Result<()> {
    server
        .api
        .kubectl(&["create", "namespace", "conformity"])
        .await?;
    let real = conformity::script(&server.client, "conformity").await;
    let fake = conformity::script(&FakeApi::new().client(), "conformity").await;
    let differences: Vec<String> = real
        .iter()
        .zip(&fake)
        .filter(|(real, fake)| real != fake)
        .map(|(real, fake)| format!("real {real}\nfake {fake}"))
        .collect();
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    ensure!(
        real.len() == fake.len(),
        "{} and {} lines",
        real.len(),
        fake.len()
    );
    Ok(())
}

async fn settled(server: Server) -> Result<()> {
    server
        .api
        .kubectl(&["create", "namespace", "settled"])
        .await?;
    // Claims and pods are made once and never applied.
    let made_once = ["PersistentVolumeClaim", "Pod"];
    let mut objects = objects::snapshots()?;
    objects.retain(|object| made_once.iter().all(|kind| object["kind"] != *kind));
    let left = conformity::unsettled(&server.client, "settled", &objects).await;
    ensure!(left.is_empty(), "written again: {left:?}");
    Ok(())
}

//! A cluster made ready for scenarios and figures: up, images on every node, charts installed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::charts::{Charts, Installed, RedisImages};
use crate::cluster::{self, Cluster, LocalCluster, Steps};
use crate::images::{self, Image};
use crate::scenarios::{Context, ImageNames};
use crate::tools;

/// How long the operator may take to become available.
const AVAILABLE: Duration = Duration::from_mins(3);

/// Make the local cluster called `name` ready; what is there already is left as it is.
///
/// # Errors
/// What did not succeed, with the step's own words.
pub async fn local(name: &str, steps: &Steps) -> Result<Context> {
    let images = images::build(
        &[
            Image::PostgresOperator { revision: 1 },
            Image::PostgresOperator { revision: 2 },
            Image::Postgres { revision: 1 },
            Image::Postgres { revision: 2 },
            Image::Workload,
            Image::PgBouncer,
            Image::RedisOperator { revision: 1 },
            Image::Redis { revision: 1 },
            Image::Redis7,
            Image::Valkey,
        ],
        steps,
    )
    .await?;
    let cluster = LocalCluster::new(name, 3)?;
    cluster.up(steps).await?;
    let archives: Vec<_> = images.iter().map(|i| i.archive.clone()).collect();
    cluster.load(&archives).await?;
    steps.done("every node holds the images");
    let [
        operator,
        operator_next,
        postgres,
        postgres_next,
        workload,
        pgbouncer,
        redis_operator,
        redis,
        redis_7,
        valkey,
    ] = images.map(|i| i.name);
    let images = ImageNames {
        postgres,
        postgres_next,
        operator,
        operator_next,
        workload,
        pgbouncer,
        redis_operator,
        redis,
        redis_7,
        valkey,
    };
    let kubeconfig = cluster.kubeconfig();
    let client = cluster::client(&cluster).await?;
    install(&kubeconfig, &client, &images, steps).await?;
    Ok(Context {
        cluster: Arc::new(cluster),
        client,
        kubeconfig,
        kube: tools::kube().await?,
        images,
    })
}

/// Install or upgrade the charts and wait for the operator.
async fn install(
    kubeconfig: &Path,
    client: &kube::Client,
    images: &ImageNames,
    steps: &Steps,
) -> Result<()> {
    let charts = Charts::new(kubeconfig, client.clone()).await?;
    charts.definitions().await?;
    let names = Installed {
        operator: images.operator.clone(),
        postgres: images.postgres.clone(),
        pgbouncer: images.pgbouncer.clone(),
        redis: Some(RedisImages {
            operator: images.redis_operator.clone(),
            server: images.redis.clone(),
            older: images.redis_7.clone(),
            valkey: images.valkey.clone(),
        }),
    };
    charts.operators(&names).await?;
    charts.available(AVAILABLE).await?;
    steps.done("the operators are available");
    Ok(())
}

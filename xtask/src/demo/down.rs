//! Removes what the demo made and no more (I/O). It can be interrupted and run again.

use std::error::Error;
use std::time::{Duration, Instant};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy};
use kube::{Api, Client, Resource, ResourceExt};
use mainstay_crds::postgres::Postgres;
use mainstay_e2e::charts::{self, Charts};
use mainstay_e2e::cluster::Steps;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::record::{Record, Thing};
use super::{NAMESPACE, Place, SET, record};

/// Labels of what a set leaves behind.
const KEPT: &str = "app.kubernetes.io/managed-by=mainstay,app.kubernetes.io/name=postgres,\
                    app.kubernetes.io/instance=db";
/// How long an object may take to go.
const PATIENCE: Duration = Duration::from_mins(3);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Removes the demo.
pub async fn down(place: &Place) -> Result<(), Box<dyn Error>> {
    let steps = Steps::shown();
    if place.given {
        return clean(place, &steps).await;
    }
    if place.cluster.runs().await
        && let Err(error) = clean(place, &steps).await
    {
        // The cluster goes anyway, with everything in it.
        steps.done(&format!(
            "not everything could be removed by itself: {error}"
        ));
    }
    place.cluster.down(&steps).await?;
    Ok(())
}

async fn clean(place: &Place, steps: &Steps) -> Result<(), Box<dyn Error>> {
    let client = place.client().await?;
    let Some(made) = record::recall(&client).await? else {
        steps.done("there is no demo");
        return Ok(());
    };
    place.agree("Delete the demo, its data included,")?;
    remove::<Deployment>(&client, "application").await?;
    steps.done("the application is gone");
    set(&client, steps).await?;
    kept(&client, steps).await?;
    charts(place, &client, &made, steps).await?;
    if made.made(Thing::Namespace) {
        gone_namespace(&client, NAMESPACE).await?;
        steps.done(&format!("namespace {NAMESPACE} is gone"));
    } else {
        record::forget(&client).await?;
    }
    Ok(())
}

/// Lifts the protection, deletes the set and waits until it is gone.
async fn set(client: &Client, steps: &Steps) -> Result<(), Box<dyn Error>> {
    let api: Api<Postgres> = Api::namespaced(client.clone(), NAMESPACE);
    if !present(api.get_opt(SET).await)? {
        return Ok(());
    }
    let lift = json!({"spec": {"deletion": {"protection": false}}});
    api.patch(SET, &PatchParams::default(), &Patch::Merge(&lift))
        .await?;
    steps.done(&format!("deletion protection of {SET} is lifted"));
    remove::<Postgres>(client, SET).await?;
    steps.done(&format!("{SET} is gone"));
    Ok(())
}

/// Deletes what outlives a set: volumes, credentials, certificates, the Lease, the authority.
async fn kept(client: &Client, steps: &Steps) -> Result<(), Box<dyn Error>> {
    let claims = every::<PersistentVolumeClaim>(client, NAMESPACE).await?;
    let secrets = every::<Secret>(client, NAMESPACE).await?;
    every::<Lease>(client, NAMESPACE).await?;
    let authority: Api<Secret> = Api::namespaced(client.clone(), charts::NAMESPACE);
    let name = format!("postgres.{NAMESPACE}.{SET}.ca");
    present(
        authority
            .delete(&name, &DeleteParams::default())
            .await
            .map(|_| Some(())),
    )?;
    steps.done(&format!(
        "{claims} kept volumes and {secrets} kept Secrets are gone"
    ));
    Ok(())
}

async fn charts(
    place: &Place,
    client: &Client,
    made: &Record,
    steps: &Steps,
) -> Result<(), Box<dyn Error>> {
    let charts = Charts::new(&place.kubeconfig(), client.clone()).await?;
    let others = others(client).await?;
    if made.made(Thing::Operators) && others == 0 {
        charts.uninstall(charts::OPERATORS).await?;
        steps.done(&format!("chart {} is uninstalled", charts::OPERATORS));
    } else if made.made(Thing::Operators) {
        steps.done(&format!(
            "chart {} stays: {others} resources use it",
            charts::OPERATORS
        ));
    }
    if made.made(Thing::Definitions) && others == 0 {
        charts.uninstall(charts::CRDS).await?;
        definitions(client).await?;
        steps.done(&format!(
            "chart {} is uninstalled, the definitions are gone",
            charts::CRDS
        ));
    } else if made.made(Thing::Definitions) {
        steps.done(&format!(
            "the definitions stay: {others} resources use them"
        ));
    }
    if made.made(Thing::System) && others == 0 {
        gone_namespace(client, charts::NAMESPACE).await?;
        steps.done(&format!("namespace {} is gone", charts::NAMESPACE));
    }
    Ok(())
}

/// How many resources of ours are left in the cluster.
async fn others(client: &Client) -> Result<usize, kube::Error> {
    let api: Api<Postgres> = Api::all(client.clone());
    match api.list(&ListParams::default()).await {
        Ok(list) => Ok(list.items.len()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(0),
        Err(error) => Err(error),
    }
}

async fn definitions(client: &Client) -> Result<(), Box<dyn Error>> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in mainstay_crds::definitions::definitions()? {
        let name = definition.name_any();
        present(
            api.delete(&name, &DeleteParams::default())
                .await
                .map(|_| Some(())),
        )?;
        until_gone(&name, || async { present(api.get_opt(&name).await) }).await?;
    }
    Ok(())
}

async fn gone_namespace(client: &Client, name: &str) -> Result<(), Box<dyn Error>> {
    let api: Api<Namespace> = Api::all(client.clone());
    present(
        api.delete(name, &DeleteParams::default())
            .await
            .map(|_| Some(())),
    )?;
    until_gone(name, || async { present(api.get_opt(name).await) }).await
}

/// Deletes an object of the demo's namespace and waits until it and what it owns are gone.
async fn remove<K>(client: &Client, name: &str) -> Result<(), Box<dyn Error>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    let parameters = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    present(api.delete(name, &parameters).await.map(|_| Some(())))?;
    until_gone(name, || async { present(api.get_opt(name).await) }).await
}

/// Deletes every object that a set left, waits until they are gone and counts them.
async fn every<K>(client: &Client, namespace: &str) -> Result<usize, Box<dyn Error>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let selected = ListParams::default().labels(KEPT);
    let found = api.list(&selected).await?.items;
    for object in &found {
        let name = object.name_any();
        present(
            api.delete(&name, &DeleteParams::default())
                .await
                .map(|_| Some(())),
        )?;
    }
    let what = K::plural(&());
    until_gone(&what, || async {
        Ok(!api.list(&selected).await?.items.is_empty())
    })
    .await?;
    Ok(found.len())
}

/// Whether something is there; that it is not, is no error.
fn present<T>(answer: Result<Option<T>, kube::Error>) -> Result<bool, kube::Error> {
    match answer {
        Ok(found) => Ok(found.is_some()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

async fn until_gone<F, Fut>(what: &str, is_there: F) -> Result<(), Box<dyn Error>>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<bool, kube::Error>>,
{
    let start = Instant::now();
    while is_there().await? {
        if start.elapsed() > PATIENCE {
            return Err(format!("{what} is not gone after {} s", PATIENCE.as_secs()).into());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

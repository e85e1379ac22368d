//! What the demo found and what it made, so that `--down` removes no more than that (I/O).

use std::error::Error;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::PostParams;
use kube::{Api, Client};
use mainstay_e2e::charts::{self, Charts};
use serde_json::json;

use super::{NAMESPACE, Place, given};

/// Name of the ConfigMap that holds the record.
const NAME: &str = "mainstay-demo";
/// Value of what the demo made.
const MADE: &str = "made";

/// What the demo made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The definitions' chart.
    pub definitions: bool,
    /// The operators' chart.
    pub operators: bool,
    /// The namespace of the operators.
    pub system: bool,
    /// The demo's namespace.
    pub namespace: bool,
}

/// Writes down what is there before the demo makes anything. The first record stays.
pub async fn remember(client: &Client, place: &Place) -> Result<(), Box<dyn Error>> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let before = namespaces.get_opt(NAMESPACE).await?;
    if before.is_some() && recall(client).await?.is_some() {
        return Ok(());
    }
    if before.is_some() && given::is_there(client).await? {
        return Err(format!(
            "namespace {NAMESPACE} holds a Postgres that the demo did not make: use another cluster"
        )
        .into());
    }
    let charts = Charts::new(&place.kubeconfig, client.clone()).await?;
    let word = |found: bool| if found { "found" } else { MADE };
    let system = namespaces.get_opt(charts::NAMESPACE).await?.is_some();
    let record = json!({
        "metadata": {"name": NAME},
        "data": {
            "definitions": word(charts.exists(charts::CRDS).await?),
            "operators": word(charts.exists(charts::OPERATORS).await?),
            "system": word(system),
            "namespace": word(before.is_some()),
        },
    });
    given::namespace(client).await?;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let record: ConfigMap = serde_json::from_value(record)?;
    api.create(&PostParams::default(), &record).await?;
    Ok(())
}

/// What the demo made; none when there is no demo.
pub async fn recall(client: &Client) -> Result<Option<Record>, kube::Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let Some(found) = api.get_opt(NAME).await? else {
        return Ok(None);
    };
    let data = found.data.unwrap_or_default();
    let made = |key: &str| data.get(key).is_some_and(|v| v == MADE);
    Ok(Some(Record {
        definitions: made("definitions"),
        operators: made("operators"),
        system: made("system"),
        namespace: made("namespace"),
    }))
}

/// Forgets; the last step of `--down` where the namespace stays.
pub async fn forget(client: &Client) -> Result<(), kube::Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    match api.delete(NAME, &kube::api::DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

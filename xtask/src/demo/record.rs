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

/// Something that the demo makes unless it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// The definitions' chart.
    Definitions,
    /// The operators' chart.
    Operators,
    /// The namespace of the operators.
    System,
    /// The demo's namespace.
    Namespace,
}

impl Thing {
    const ALL: [Self; 4] = [
        Self::Definitions,
        Self::Operators,
        Self::System,
        Self::Namespace,
    ];

    /// Its key in the record.
    fn key(self) -> &'static str {
        match self {
            Self::Definitions => "definitions",
            Self::Operators => "operators",
            Self::System => "system",
            Self::Namespace => "namespace",
        }
    }
}

/// What the demo made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record(Vec<Thing>);

impl Record {
    /// Whether the demo made it.
    pub fn made(&self, thing: Thing) -> bool {
        self.0.contains(&thing)
    }
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
    let charts = Charts::new(&place.kubeconfig(), client.clone()).await?;
    let system = namespaces.get_opt(charts::NAMESPACE).await?;
    let found = [
        (Thing::Definitions, charts.exists(charts::CRDS).await?),
        (Thing::Operators, charts.exists(charts::OPERATORS).await?),
        (Thing::System, system.is_some()),
        (Thing::Namespace, before.is_some()),
    ];
    let data: serde_json::Map<String, serde_json::Value> = found
        .into_iter()
        .map(|(thing, found)| {
            (
                thing.key().to_owned(),
                json!(if found { "found" } else { MADE }),
            )
        })
        .collect();
    let record = json!({"metadata": {"name": NAME}, "data": data});
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
    let made = |thing: &Thing| data.get(thing.key()).is_some_and(|v| v == MADE);
    Ok(Some(Record(Thing::ALL.into_iter().filter(made).collect())))
}

/// Forgets; the last step of `--down` where the namespace stays.
pub async fn forget(client: &Client) -> Result<(), kube::Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    match api.delete(NAME, &kube::api::DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

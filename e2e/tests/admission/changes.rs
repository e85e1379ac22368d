//! Objects that the API server refuses, and changes that it does not allow, each with its exact sentence.

use std::fmt::Debug;

use anyhow::{Context as _, Result, bail, ensure};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn judge<K>(outcome: kube::Result<K>, sentence: &str) -> Result<()> {
    match outcome {
        Err(kube::Error::Api(status)) => {
            ensure!(status.message.contains(sentence), "{}", status.message);
            Ok(())
        }
        Err(other) => Err(other).context("no answer of the API server"),
        Ok(_) => bail!("accepted"),
    }
}

/// A bad object is not made.
pub async fn refused<K>(objects: Api<K>, bad: &K, sentence: &str) -> Result<()>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    judge(objects.create(&PostParams::default(), bad).await, sentence)
}

/// The spec of a good object is not changed so.
pub async fn unchanged<K>(objects: Api<K>, good: &K, patch: &Value, sentence: &str) -> Result<()>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    objects.create(&PostParams::default(), good).await?;
    let patch = Patch::Merge(json!({ "spec": patch }));
    let parameters = PatchParams::default();
    let outcome = objects.patch(&good.name_any(), &parameters, &patch).await;
    judge(outcome, sentence)
}

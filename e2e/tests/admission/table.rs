//! The table of bad resources, each with the exact sentence, and good ones that must pass.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{GroupVersionKind, Status};
use kube::{Client, discovery};
use libtest_mimic::Trial;
use mainstay_crds::{GROUP, VERSION};
use mainstay_e2e::apiserver::ApiServer;
use mainstay_testkit::api::merge;
use mainstay_testkit::cases::{By, Case};
use mainstay_testkit::{postgres_cases, redis_cases};
use serde_json::{Value, json};

use super::{Server, trial, workspace};

/// The table of a kind.
#[derive(Clone, Copy)]
struct Kind {
    /// Before the names of its tests.
    prefix: &'static str,
    plural: &'static str,
    name: &'static str,
    good: fn() -> Value,
}

const POSTGRES: Kind = Kind {
    prefix: "",
    plural: "postgreses",
    name: "Postgres",
    good: postgres_cases::good,
};
const REDIS: Kind = Kind {
    prefix: "redis::",
    plural: "redises",
    name: "Redis",
    good: redis_cases::good,
};

impl Kind {
    fn patched(self, patch: &Value) -> Value {
        let mut resource = (self.good)();
        merge(&mut resource, patch);
        resource
    }

    fn api(self, client: &Client) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(GROUP, VERSION, self.name);
        let resource = ApiResource::from_gvk_with_plural(&kind, self.plural);
        Api::namespaced_with(client.clone(), "shop", &resource)
    }
}

/// One test for each row of the tables.
pub fn trials(api: Option<&Arc<ApiServer>>) -> Vec<Trial> {
    let mut trials = of_kind(
        api,
        POSTGRES,
        postgres_cases::cases(),
        postgres_cases::also_good(),
    );
    trials.extend(of_kind(
        api,
        REDIS,
        redis_cases::cases(),
        redis_cases::also_good(),
    ));
    for (name, change) in good_changes() {
        let name = format!("accepted::{name}");
        trials.push(trial(name, api, move |server| changed(server, change)));
    }
    trials.push(trial("accepted::the examples", api, examples));
    trials
}

fn of_kind(
    api: Option<&Arc<ApiServer>>,
    kind: Kind,
    cases: Vec<Case>,
    also_good: Vec<(&'static str, Value)>,
) -> Vec<Trial> {
    let mut trials = Vec::new();
    let Kind { prefix, .. } = kind;
    for (number, case) in cases.into_iter().enumerate() {
        if case.by == By::Operator {
            continue;
        }
        let name = format!("{prefix}refused::{}", case.name);
        trials.push(trial(name, api, move |server| {
            refused(server, kind, case, number)
        }));
    }
    let good = [("the good one", json!({}))];
    for (name, patch) in good.into_iter().chain(also_good) {
        let name = format!("{prefix}accepted::{name}");
        trials.push(trial(name, api, move |server| async move {
            create(&server.client, kind, &kind.patched(&patch)).await?;
            Ok(())
        }));
    }
    trials
}

/// Changes of a stored resource that must be allowed: the resource, then the patch.
fn good_changes() -> Vec<(&'static str, (Value, Value))> {
    let plain = json!({ "spec": { "application": null } });
    vec![
        (
            "storage that grows",
            (
                json!({}),
                json!({ "spec": { "storage": { "size": "30Gi" } } }),
            ),
        ),
        (
            "storage of the same size in another unit",
            (
                json!({}),
                json!({ "spec": { "storage": { "size": "20480Mi" } } }),
            ),
        ),
        (
            "a default of application written out",
            (
                plain.clone(),
                json!({ "spec": { "application": { "database": "app" } } }),
            ),
        ),
        (
            "more instances",
            (plain, json!({ "spec": { "instances": 5 } })),
        ),
    ]
}

/// Creates the resource as a dry run, strictly: unknown fields are errors, as kubectl has it.
async fn create(client: &Client, kind: Kind, resource: &Value) -> kube::Result<Value> {
    let url = format!(
        "/apis/{GROUP}/{VERSION}/namespaces/shop/{}?dryRun=All&fieldValidation=Strict",
        kind.plural
    );
    let body = serde_json::to_vec(resource).map_err(kube::Error::SerdeError)?;
    let request = http::Request::post(url)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(kube::Error::HttpError)?;
    client.request(request).await
}

/// Stores the good resource, patched, under a name of its own.
async fn store(
    client: &Client,
    kind: Kind,
    name: &str,
    patch: &Value,
) -> Result<Api<DynamicObject>> {
    let mut resource = kind.patched(patch);
    merge(&mut resource, &json!({ "metadata": { "name": name } }));
    let api = kind.api(client);
    let resource: DynamicObject = serde_json::from_value(resource)?;
    api.create(&PostParams::default(), &resource).await?;
    Ok(api)
}

async fn refused(server: Server, kind: Kind, case: Case, number: usize) -> Result<()> {
    let result = if case.by == By::Change {
        let name = format!("changed-{number}");
        let stored = store(&server.client, kind, &name, &json!({})).await?;
        let dry_run = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let patch = Patch::Merge(&case.patch);
        stored.patch(&name, &dry_run, &patch).await.map(drop)
    } else {
        create(&server.client, kind, &kind.patched(&case.patch))
            .await
            .map(drop)
    };
    let status = match result {
        Err(kube::Error::Api(status)) => status,
        Err(other) => return Err(other).context("no answer of the API server"),
        Ok(()) => bail!("accepted"),
    };
    compare(&case, &status)
}

/// The refusal is of that field, for that reason, and of nothing else.
fn compare(case: &Case, status: &Status) -> Result<()> {
    let details = status.details.as_ref();
    let causes = details.map(|d| d.causes.as_slice()).unwrap_or_default();
    if case.by == By::Schema {
        // The API server's own words; it adds that the rules were not looked at.
        let named = case.field.is_empty()
            || causes
                .iter()
                .any(|c| c.field == case.field && c.message.contains(&case.sentence));
        ensure!(
            named && status.message.contains(&case.sentence),
            "expected {}: …{}…; the API server said: {}",
            case.field,
            case.sentence,
            status.message
        );
        return Ok(());
    }
    let field = if case.field.is_empty() {
        "<nil>"
    } else {
        case.field
    };
    let right = match causes {
        [only] => {
            let said = only.message.strip_prefix("Invalid value: ");
            // The value comes first: `"object": ` or `"string": `.
            let said = said.and_then(|said| said.split_once("\": "));
            only.field == field && said.is_some_and(|(_, said)| said == case.sentence)
        }
        _ => false,
    };
    ensure!(
        right,
        "expected {field}: {}; the API server said: {}",
        case.sentence,
        status.message
    );
    Ok(())
}

async fn changed(server: Server, (before, patch): (Value, Value)) -> Result<()> {
    let name = format!("good-{}", patch.to_string().len());
    let postgreses = store(&server.client, POSTGRES, &name, &before).await?;
    let parameters = PatchParams::default();
    postgreses
        .patch(&name, &parameters, &Patch::Merge(&patch))
        .await?;
    Ok(())
}

/// Every manifest of a kind of ours in `examples/` is accepted as it is.
async fn examples(server: Server) -> Result<()> {
    let mut seen = 0;
    for entry in std::fs::read_dir(workspace()?.join("examples")).context("examples/")? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).with_context(|| path.display().to_string())?;
        for document in documents {
            if !document["apiVersion"]
                .as_str()
                .unwrap_or_default()
                .starts_with("mainstay.dev/")
            {
                continue;
            }
            dry_run(&server.client, document)
                .await
                .with_context(|| path.display().to_string())?;
            seen += 1;
        }
    }
    ensure!(seen > 0, "examples/ has no resource of ours");
    Ok(())
}

async fn dry_run(client: &Client, document: Value) -> Result<()> {
    let mut object: DynamicObject = serde_json::from_value(document)?;
    object.metadata.namespace = Some("shop".to_owned());
    let types = object.types.clone().context("no kind")?;
    let kind = GroupVersionKind::try_from(&types)?;
    let (resource, _) = discovery::pinned_kind(client, &kind).await?;
    let name = object.metadata.name.clone().context("no name")?;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "shop", &resource);
    let parameters = PatchParams {
        dry_run: true,
        ..PatchParams::apply("test").validation_strict()
    };
    api.patch(&name, &parameters, &Patch::Apply(&object))
        .await?;
    Ok(())
}

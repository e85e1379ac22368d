//! A new set from the backups of another one.

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{ObjectMeta, PostParams};
use mainstay_crds::common::Bootstrap;
use mainstay_crds::common::backup::Recovery;
use mainstay_crds::postgres::Postgres;

use super::{Options, Point, yaml};
use crate::follow::{Look, Progress};
use crate::words::condition;
use crate::{Asked, Output, json};

/// The new set: as the other one is, with its data from that one's backups. It has none of its labels: they may say
/// to whom that one belongs, as Argo CD's do. It has no backups of its own yet,
/// for these have to go where nobody else's are.
///
/// # Errors
/// The other one has no backups, or not those.
fn wanted(
    source: &Postgres,
    namespace: &str,
    new: &str,
    to: &Point,
    backup: Option<&str>,
    instances: Option<i32>,
    now: Timestamp,
) -> Result<Postgres> {
    let name = source.name_any();
    ensure!(
        name != new,
        "{new} is there already: name a new set with `--as`"
    );
    let backups = source
        .spec
        .backup
        .as_ref()
        .with_context(|| format!("{name} has no backups: its `spec.backup` is not set"))?;
    let status = source.status.clone().unwrap_or_default();
    let recovery = status.recovery.unwrap_or_default();
    to.check(&recovery, now)?;
    let mut repository = backups.repository.clone();
    repository
        .prefix
        .get_or_insert_with(|| format!("{namespace}/{name}"));
    let mut spec = source.spec.clone();
    spec.backup = None;
    spec.bootstrap = Some(Bootstrap {
        recovery: Some(Recovery {
            repository,
            keys: format!("{name}-backup-keys"),
            backup: backup.map(str::to_owned),
            target: to.target(),
        }),
    });
    spec.instances = instances.or(spec.instances);
    if spec.instances() < source.spec.instances() {
        // What the other one promises may need more instances.
        spec.durability = None;
        spec.quorum = None;
        spec.asynchronous = None;
    }
    let metadata = ObjectMeta {
        name: Some(new.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    Ok(Postgres {
        metadata,
        spec,
        status: None,
    })
}

fn look(pg: &Postgres) -> Look {
    let status = pg.status.clone().unwrap_or_default();
    let is = |kind| {
        let found = condition(&status.conditions, kind);
        found.is_some_and(|c| c.status == "True")
    };
    let says = |kind| {
        let found = condition(&status.conditions, kind);
        found.map_or_else(String::new, |c| c.message.clone())
    };
    if is("Stalled") {
        return Look::Failed(format!(
            "it does not go on until somebody looks: {}",
            says("Stalled")
        ));
    }
    if is("Ready") {
        return Look::Done(format!("{} serves", pg.name_any()));
    }
    let instances = status.instances.iter().filter_map(|i| i.state.as_deref());
    let doing = instances.chain(status.waiting.as_deref()).next();
    Look::On(Progress {
        message: doing.map_or_else(|| says("Ready"), str::to_owned),
        bytes: None,
    })
}

pub(super) async fn run(
    options: &Options,
    to: &Point,
    new: &str,
    mut asked: Asked<'_>,
) -> Result<()> {
    let scene = asked.scene;
    let api = scene.api::<Postgres>();
    let source = api.get_opt(&options.set).await?.with_context(|| {
        format!(
            "there is no Postgres called {}; to make a new set of another kind write it with `spec.bootstrap.recovery`",
            options.set
        )
    })?;
    let wanted = wanted(
        &source,
        &scene.namespace,
        new,
        to,
        options.backup.as_deref(),
        options.instances,
        Timestamp::now(),
    )?;
    if options.dry_run {
        return match asked.output {
            Output::Json => json(asked.out, &wanted),
            Output::Text => Ok(write!(asked.out, "{}", yaml(&wanted)?)?),
        };
    }
    let made = match api.create(&PostParams::default(), &wanted).await {
        Ok(made) => made,
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            bail!("{new} is there already: name a new set with `--as`")
        }
        Err(error) => return Err(error).context("the new set is not made"),
    };
    let told = format!("{new} is made");
    asked.conclude(made, &told, options.no_wait, look).await?;
    if asked.output == Output::Text {
        writeln!(
            asked.out,
            "It has no backups yet: give it a `spec.backup` with a prefix of its own."
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn source() -> Postgres {
        serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "Postgres",
            "metadata": {"name": "db", "labels": {"team": "a"}, "uid": "u", "resourceVersion": "1"},
            "spec": {
                "version": "17", "instances": 3, "durability": "quorum", "storage": {"size": "1Gi"},
                "backup": {
                    "repository": {"s3": {"bucket": "b"}, "credentials": "store"},
                    "encryption": {"iAcceptKeyLoss": true},
                },
            },
            "status": {"recovery": {
                "earliest": "2026-01-02T00:00:00Z", "latest": "2026-01-03T00:00:00Z",
            }},
        }))
        .unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-03T01:00:00Z".parse().unwrap()
    }

    fn made(to: &str, instances: Option<i32>) -> Result<Value> {
        let to = to.parse().map_err(anyhow::Error::msg)?;
        let pg = wanted(&source(), "shop", "db2", &to, None, instances, now())?;
        Ok(serde_json::to_value(pg)?)
    }

    #[test]
    fn the_new_set_is_as_the_other_with_its_data() {
        let new = made("2026-01-02T12:00:00+01:00", None).unwrap();
        assert_eq!(
            new["spec"],
            json!({
                "version": "17", "instances": 3, "durability": "quorum", "storage": {"size": "1Gi"},
                "bootstrap": {"recovery": {
                    "repository": {"s3": {"bucket": "b"}, "credentials": "store", "prefix": "shop/db"},
                    "keys": "db-backup-keys", "target": {"time": "2026-01-02T11:00:00Z"},
                }},
            })
        );
        let metadata = json!({"name": "db2", "namespace": "shop"});
        assert_eq!(new["metadata"], metadata);
        let latest = made("latest", Some(1)).unwrap();
        assert_eq!(latest["spec"]["instances"], 1);
        assert_eq!(
            latest["spec"]["durability"],
            Value::Null,
            "one cannot keep a quorum"
        );
        let recovery = &latest["spec"]["bootstrap"]["recovery"];
        assert_eq!(recovery["target"], Value::Null);
    }

    #[test]
    fn what_cannot_be_there_is_refused() {
        let refused = |to: &str| made(to, None).unwrap_err().to_string();
        assert!(refused("2026-01-01T00:00:00Z").contains("before the earliest"));
        assert!(refused("2026-02-01T00:00:00Z").contains("not come yet"));
        assert!(refused("yesterday").contains("write `latest`"));
        let mut without = source();
        without.spec.backup = None;
        let to = Point::Latest;
        let error = wanted(&without, "shop", "db2", &to, None, None, now()).unwrap_err();
        assert!(error.to_string().contains("no backups"), "{error}");
        let same = wanted(&source(), "shop", "db", &to, None, None, now()).unwrap_err();
        assert!(same.to_string().contains("--as"), "{same}");
    }

    #[test]
    fn what_is_printed_is_what_people_commit() {
        let to = Point::Latest;
        let new = wanted(&source(), "shop", "db2", &to, None, None, now()).unwrap();
        let text = yaml(&new).unwrap();
        let read: Postgres = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, new);
        assert!(!text.contains("null") && !text.contains("status"), "{text}");
    }

    #[test]
    fn it_is_followed_until_it_serves_or_cannot() {
        let seen = |conditions: Value, instances: Value| {
            let mut pg = source();
            let status = json!({"conditions": conditions, "instances": instances});
            pg.status = Some(serde_json::from_value(status).unwrap());
            look(&pg)
        };
        let is = |kind: &str, message: &str| {
            json!([{
                "type": kind, "status": "True", "reason": "R", "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }])
        };
        assert_eq!(
            seen(is("Ready", "x"), json!([])),
            Look::Done("db serves".into())
        );
        let failed = "it does not go on until somebody looks: no backup leads there".to_owned();
        assert_eq!(
            seen(is("Stalled", "no backup leads there"), json!([])),
            Look::Failed(failed)
        );
        let restoring =
            json!([{"name": "db-1", "role": "Unknown", "ready": false, "state": "is restored"}]);
        let Look::On(progress) = seen(json!([]), restoring) else {
            panic!("it goes on");
        };
        assert_eq!(progress.message, "is restored");
    }
}

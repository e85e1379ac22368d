//! What scenarios share: a namespace of their own, waiting with a reason, SQL from a client pod.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::api::{Api, AttachParams, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use mainstay_crds::postgres::Postgres;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Context;
use super::set::Set;

/// How long a set of up to three instances may take to become ready, with every allowance for a
/// slow machine. Figures are measured by the benchmarks, not asserted here.
pub const READY: Duration = Duration::from_mins(3);

/// Names of the instances of a set of three called `db`.
pub const INSTANCES: [&str; 3] = ["db-1", "db-2", "db-3"];

/// The host of an instance of a set, which its certificate bears.
pub fn host(namespace: &str, set: &str, instance: &str) -> String {
    format!("{instance}.{set}-peers.{namespace}.svc")
}

/// The container of a client's pod.
const PSQL: &str = "psql";

/// How often a condition is looked at. Scenarios poll; the product does not.
const LOOK: Duration = Duration::from_millis(250);
/// And at least so often.
const LONGEST: Duration = Duration::from_secs(2);

/// A namespace made for one scenario, under the `restricted` pod security standard.
pub struct Sandbox<'a> {
    /// The cluster and what runs on it.
    pub ctx: &'a Context,
    /// What it was made for.
    name: String,
    /// Name of the namespace.
    pub namespace: String,
}

impl<'a> Sandbox<'a> {
    /// Make the namespace, or use what a failed run left of it after emptying it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn new(ctx: &'a Context, name: &str) -> Result<Sandbox<'a>> {
        let namespaces: Api<Namespace> = Api::all(ctx.client.clone());
        let sandbox = Sandbox {
            ctx,
            name: name.to_owned(),
            namespace: format!("t-{}", name.replace('_', "-")),
        };
        if namespaces.get_opt(&sandbox.namespace).await?.is_some() {
            sandbox.remove().await?;
        }
        let namespace: Namespace = serde_json::from_value(json!({
            "metadata": {
                "name": sandbox.namespace,
                "labels": {
                    "pod-security.kubernetes.io/enforce": "restricted",
                    "pod-security.kubernetes.io/enforce-version": "latest",
                },
            },
        }))?;
        namespaces
            .create(&PostParams::default(), &namespace)
            .await?;
        Ok(sandbox)
    }

    /// Say something to whoever reads along, with the name: others may speak in between.
    pub fn say(&self, what: &str) {
        println!("   {}: {what}", self.name);
    }

    /// A typed client for objects of this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.ctx.client.clone(), &self.namespace)
    }

    /// Apply a set called `name` with these fields besides [`Set::base`].
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn apply<K: Set>(&self, name: &str, spec: &Value) -> Result<K> {
        let mut full = K::base();
        merge(&mut full, spec);
        let kind = K::kind(&());
        let object = json!({
            "apiVersion": K::api_version(&()),
            "kind": kind,
            "metadata": {"name": name},
            "spec": full,
        });
        let with = PatchParams::apply("e2e").force();
        self.api::<K>()
            .patch(name, &with, &Patch::Apply(&object))
            .await
            .with_context(|| format!("apply {kind} {name}"))
    }

    /// Apply a `Postgres`.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn postgres(&self, name: &str, spec: &Value) -> Result<Postgres> {
        self.apply(name, spec).await
    }

    /// Merge-patch the spec of a set.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn change_of<K: Set>(&self, name: &str, spec: &Value) -> Result<K> {
        let patch = Patch::Merge(json!({"spec": spec}));
        let changed = self.api::<K>();
        let changed = changed.patch(name, &PatchParams::default(), &patch).await;
        changed.with_context(|| format!("change {} {name}", K::kind(&())))
    }

    /// Merge-patch the spec of a `Postgres`.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn change(&self, name: &str, spec: &Value) -> Result<Postgres> {
        self.change_of(name, spec).await
    }

    /// Wait until a set is whole: see [`super::set::Seen::whole`].
    ///
    /// # Errors
    /// After `within`, with the status as last seen.
    pub async fn settled_of<K: Set>(&self, name: &str, within: Duration) -> Result<K> {
        let api = self.api::<K>();
        let what = format!("{name} to be ready and settled");
        self.until(&what, within, || async {
            let set = api.get(name).await?;
            let seen = set.seen();
            Ok(if seen.whole {
                Look::Done(set)
            } else {
                Look::NotYet(seen.told)
            })
        })
        .await
    }

    /// Wait until a `Postgres` is whole.
    ///
    /// # Errors
    /// After `within`, with the status as last seen.
    pub async fn settled(&self, name: &str, within: Duration) -> Result<Postgres> {
        self.settled_of(name, within).await
    }

    /// Look again and again until `look` is done.
    ///
    /// # Errors
    /// What `look` fails with (API errors are looked past), or after `within` what was last seen.
    pub async fn until<T, F, Fut>(&self, what: &str, within: Duration, mut look: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<Look<T>>>,
    {
        let begun = Instant::now();
        loop {
            let looks = Instant::now();
            let last = match look().await {
                Ok(Look::Done(value)) => return Ok(value),
                Ok(Look::NotYet(seen)) => seen,
                Err(e) if e.downcast_ref::<kube::Error>().is_some() => format!("{e:#}"),
                Err(e) => return Err(e.context(format!("while waiting for {what}"))),
            };
            if begun.elapsed() > within {
                bail!(
                    "waited {} s for {what}; last seen: {last}",
                    within.as_secs()
                );
            }
            // What takes long to look at is looked at less often: the machine has other things to do.
            tokio::time::sleep(looks.elapsed().clamp(LOOK, LONGEST)).await;
        }
    }

    /// Start a pod in which `psql` connects to set `set` as an application does: Secret mounted,
    /// `verify-full`, the access label. It stays until the namespace goes.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn client(&self, name: &str, set: &str, labelled: bool) -> Result<Client<'_>> {
        let image = &self.ctx.images.postgres;
        let secret = format!("{set}-app");
        self.client_pod(name, (set, &secret), labelled, (image, PSQL))
            .await?;
        Ok(Client {
            sandbox: self,
            pod: name.to_owned(),
        })
    }

    /// The pod of such a client: to which set and by which Secret it connects; an image that has `sleep`, and the container's name.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn client_pod(
        &self,
        name: &str,
        (set, secret): (&str, &str),
        labelled: bool,
        (image, container): (&str, &str),
    ) -> Result<()> {
        let label = if labelled { "allow" } else { "no" };
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {format!("access.mainstay.dev/{set}"): label}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": false,
                "securityContext": {
                    "runAsUser": 999, "runAsGroup": 999, "fsGroup": 999, "runAsNonRoot": true,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": container,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "infinity"],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "binding", "mountPath": "/binding", "readOnly": true}],
                }],
                "volumes": [{"name": "binding", "secret": {
                    "secretName": secret, "defaultMode": 0o440,
                }}],
            },
        }))?;
        let pods = self.api::<Pod>();
        pods.create(&PostParams::default(), &pod).await?;
        self.until(&format!("client pod {name} to run"), READY, || async {
            let phase = pods.get(name).await?.status.and_then(|s| s.phase);
            Ok(if phase.as_deref() == Some("Running") {
                Look::Done(())
            } else {
                Look::seen(&phase)
            })
        })
        .await
    }

    /// Run a program in a container and return what it printed.
    ///
    /// # Errors
    /// When it exits with another code than 0, with what it printed on standard error.
    pub async fn exec(&self, pod: &str, container: &str, command: &[&str]) -> Result<String> {
        // Not by kubectl: to start it takes more processor time than most of what is run.
        let attach = AttachParams::default()
            .container(container)
            .stdin(false)
            .stdout(true)
            .stderr(true);
        let failed = || format!("{command:?} in {pod}");
        let pods = self.api::<Pod>();
        let mut process = pods
            .exec(pod, command.iter().copied(), &attach)
            .await
            .with_context(failed)?;
        let (said, complained) = (process.stdout(), process.stderr());
        let ended = process.take_status().context("the program has no end")?;
        let (said, complained, ended) = tokio::join!(all_of(said), all_of(complained), ended);
        process.join().await.with_context(failed)?;
        let complained = complained?;
        let Some(ended) = ended else {
            bail!("{}: the connection broke: {complained}", failed());
        };
        if ended.status.as_deref() == Some("Success") {
            return Ok(said?.trim_end().to_owned());
        }
        let causes = ended.details.and_then(|d| d.causes).unwrap_or_default();
        let code = causes
            .into_iter()
            .find(|c| c.reason.as_deref() == Some("ExitCode"));
        let how = match code.and_then(|c| c.message) {
            Some(code) => format!("exit code {code}"),
            None => ended.message.unwrap_or_default(),
        };
        bail!("{}: {how}: {}", failed(), complained.trim_end())
    }

    /// SQL as the superuser through the Unix socket of an instance.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn admin_sql(&self, instance: &str, sql: &str) -> Result<String> {
        self.admin_sql_in(instance, "postgres", sql).await
    }

    /// The same in another database.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn admin_sql_in(&self, instance: &str, database: &str, sql: &str) -> Result<String> {
        let psql = [
            "psql",
            "-XAtq",
            "-h",
            "/var/run/postgresql",
            "-U",
            "postgres",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            sql,
            database,
        ];
        self.exec(instance, "postgres", &psql).await
    }

    /// The password that an application finds in a Secret.
    ///
    /// # Errors
    /// When there is none.
    pub async fn password(&self, secret: &str) -> Result<Vec<u8>> {
        let data = self.api::<Secret>().get(secret).await?.data;
        let password = data.and_then(|mut data| data.remove("password"));
        Ok(password.context("a password")?.0)
    }

    /// Uids of the pods of a set by name, in order of name.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn pod_uids(&self, set: &str) -> Result<Vec<(String, String)>> {
        let selector =
            format!("app.kubernetes.io/instance={set},app.kubernetes.io/managed-by=mainstay");
        let pods = self
            .api::<Pod>()
            .list(&ListParams::default().labels(&selector))
            .await?;
        let mut uids: Vec<_> = pods
            .into_iter()
            .map(|p| (p.name_any(), p.uid().unwrap_or_default()))
            .collect();
        uids.sort();
        Ok(uids)
    }

    /// Delete one object and wait until it is gone.
    ///
    /// # Errors
    /// When it is refused, or still there after `within`.
    pub async fn delete<K>(&self, name: &str, within: Duration) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let uid = api.get(name).await?.uid();
        api.delete(name, &DeleteParams::default()).await?;
        self.until(&format!("{name} to be gone"), within, || async {
            let now = api.get_opt(name).await?;
            Ok(match now {
                Some(object) if object.uid() == uid => Look::NotYet("still there".into()),
                _ => Look::Done(()),
            })
        })
        .await
    }

    /// Delete the namespace and wait until it is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub async fn remove(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.ctx.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await?;
        let begun = Instant::now();
        self.until(
            &format!("namespace {} to be gone", self.namespace),
            READY,
            || async {
                let Some(now) = namespaces.get_opt(&self.namespace).await? else {
                    return Ok(Look::Done(()));
                };
                // Its controller looks again after half the pods' grace period, which is minutes
                // after the last pod has gone; or soon after the namespace has changed.
                let looks = (begun.elapsed().as_secs() / 5).to_string();
                let note = json!({"metadata": {"annotations": {"e2e/looks": looks}}});
                namespaces
                    .patch(
                        &self.namespace,
                        &PatchParams::default(),
                        &Patch::Merge(note),
                    )
                    .await?;
                Ok(Look::seen(&now.status.and_then(|s| s.conditions)))
            },
        )
        .await
    }

    /// After a success: delete the namespace, unless the scenario did so itself. That this works is
    /// part of every scenario.
    ///
    /// # Errors
    /// When something does not go.
    pub async fn clean_up(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.ctx.client.clone());
        if namespaces.get_opt(&self.namespace).await?.is_none() {
            return Ok(());
        }
        self.remove().await
    }
}

/// What a look at something found.
pub enum Look<T> {
    /// It is as wanted.
    Done(T),
    /// Not yet; this was seen.
    NotYet(String),
}

impl<T> Look<T> {
    /// Not yet, seeing `this`.
    pub fn seen(this: &impl Debug) -> Self {
        Self::NotYet(format!("{this:?}"))
    }
}

/// A pod with `psql` and an application's Secret.
pub struct Client<'a> {
    sandbox: &'a Sandbox<'a>,
    pod: String,
}

/// Which Service a client asks.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// Reads and writes.
    Primary,
    /// Reads from replicas.
    Replicas,
}

impl Client<'_> {
    /// One statement through a Service, TLS verified in full. Prints rows unaligned.
    ///
    /// # Errors
    /// When it cannot connect within five seconds, or PostgreSQL refuses.
    pub async fn sql(&self, side: Side, sql: &str) -> Result<String> {
        let swap = match side {
            Side::Primary => "",
            // The Secret names the primary's Service; the replicas' differs in the suffix.
            Side::Replicas => "host=$(echo \"$host\" | sed 's/-rw\\./-ro./'); ",
        };
        let script = format!(
            "cd /binding; host=$(cat host); {swap}PGPASSWORD=$(cat password) PGCONNECT_TIMEOUT=5 exec psql -XAtq -v ON_ERROR_STOP=1 \
             \"host=$host port=$(cat port) dbname=$(cat database) user=$(cat username) sslmode=verify-full sslrootcert=/binding/ca.crt\" -c \"$0\""
        );
        self.sandbox
            .exec(&self.pod, PSQL, &["sh", "-c", &script, sql])
            .await
    }

    /// One attempt to connect with other connection words appended; for what must be refused.
    ///
    /// # Errors
    /// When it is refused: then the message is what matters.
    pub async fn try_with(&self, words: &str) -> Result<String> {
        let script = format!(
            "cd /binding; PGPASSWORD=$(cat password) PGCONNECT_TIMEOUT=5 exec psql -XAtq \
             \"host=$(cat host) port=$(cat port) dbname=$(cat database) user=$(cat username) {words}\" -c 'select 1'"
        );
        self.sandbox
            .exec(&self.pod, PSQL, &["sh", "-c", &script])
            .await
    }
}

/// Status of a condition of a `Postgres`.
pub fn condition<'a>(pg: &'a Postgres, kind: &str) -> Option<&'a str> {
    let conditions = &pg.status.as_ref()?.conditions;
    conditions
        .iter()
        .find(|c| c.type_ == kind)
        .map(|c| c.status.as_str())
}

/// The message of a condition of a `Postgres`.
pub fn condition_message<'a>(pg: &'a Postgres, kind: &str) -> Option<&'a str> {
    let conditions = &pg.status.as_ref()?.conditions;
    conditions
        .iter()
        .find(|c| c.type_ == kind)
        .map(|c| c.message.as_str())
}

/// Merge `over` into `base`: objects by key, null takes a key away, everything else replaces.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.remove(key);
                } else {
                    merge(base.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// All that a program prints.
async fn all_of(output: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(mut output) = output {
        output.read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

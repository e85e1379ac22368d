//! An application that writes all the while and keeps a ledger of what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use mainstay_workload::ledger::{self, Entry, Outcome, Verdict};
use serde_json::{Value, json};

use super::kit::{self, Look, READY, Sandbox};
use super::set::Kind;

/// Name of its pod and of the container, where there is one.
pub const WRITER: &str = "writer";
/// Which writes and reads are of a cluster.
const CLUSTER: &str = "--cluster";
/// Of each two writes one asks a replica to confirm it, as many as an election needs; the other shows what is
/// lost without.
const CONFIRMED: [&str; 4] = ["--wait", "1", "--wait-every", "2"];

/// A pod that writes a row every few milliseconds through the primary Service of the set `db`.
pub struct Writer<'a> {
    sandbox: &'a Sandbox<'a>,
    kind: Kind,
    pod: &'static str,
    cluster: bool,
}

/// What numbers there are of each ledger.
pub type Rows = BTreeMap<String, BTreeSet<u64>>;

/// By which the ledger of a pod is written, and looked for: that of the first bears the program's own name.
fn run_of(pod: &str) -> Option<[&str; 2]> {
    (pod != WRITER).then_some(["--run", pod])
}

impl<'a> Writer<'a> {
    /// Started on a node, and writing rows. What nobody knows the outcome of it writes again if it is
    /// missing, or in any case.
    pub async fn start(sandbox: &'a Sandbox<'a>, node: &str, in_any_case: bool) -> Result<Self> {
        let more: &[&str] = if in_any_case {
            &["--retries-write"]
        } else {
            &[]
        };
        let writer = Self {
            sandbox,
            kind: Kind::Postgres,
            pod: WRITER,
            cluster: false,
        };
        writer.begin(node, json!(null), more).await
    }

    /// The same through the set's pooler: what its Secret says of that is where the host usually is.
    pub async fn through_pooler(sandbox: &'a Sandbox<'a>, node: &str) -> Result<Self> {
        let same = ["port", "database", "username", "password", "ca.crt"];
        let mut items = vec![json!({"key": "pooler-host", "path": "host"})];
        items.extend(same.map(|key| json!({"key": key, "path": key})));
        let writer = Self {
            sandbox,
            kind: Kind::Postgres,
            pod: WRITER,
            cluster: false,
        };
        writer.begin(node, json!(items), &[]).await
    }

    /// Started on a node, and setting keys of a Redis; each second one is confirmed.
    pub async fn of_redis(sandbox: &'a Sandbox<'a>, node: &str) -> Result<Self> {
        Self::another(sandbox, Kind::Redis, WRITER, node, &CONFIRMED).await
    }

    /// The same of a cluster, by its own protocol.
    pub async fn of_cluster(sandbox: &'a Sandbox<'a>, node: &str) -> Result<Self> {
        Self::another(sandbox, Kind::RedisCluster, WRITER, node, &CONFIRMED).await
    }

    /// The same, by the endpoint for clients of a Sentinel.
    pub async fn by_sentinel(sandbox: &'a Sandbox<'a>, node: &str) -> Result<Self> {
        let [wait, one, every, two] = CONFIRMED;
        let options = [wait, one, every, two, "--sentinel"];
        Self::another(sandbox, Kind::Redis, WRITER, node, &options).await
    }

    /// One more of such a Redis, in a pod of that name and with a ledger of that name, with options of its own.
    pub async fn another(
        sandbox: &'a Sandbox<'a>,
        kind: Kind,
        name: &'static str,
        node: &str,
        options: &[&str],
    ) -> Result<Self> {
        let mut more = options.to_vec();
        more.extend(run_of(name).into_iter().flatten());
        let cluster = kind == Kind::RedisCluster;
        more.extend(cluster.then_some(CLUSTER));
        let writer = Self {
            sandbox,
            kind: Kind::Redis,
            pod: name,
            cluster,
        };
        writer.begin(node, json!(null), &more).await
    }

    async fn begin(self, node: &str, items: Value, more: &[&str]) -> Result<Self> {
        // A pooler makes clients wait, and answers; so does the client of a cluster, which goes on trying.
        let waits = !items.is_null() || self.cluster;
        let patience = if waits { "15s" } else { "1s" };
        let connects = if self.cluster { "5s" } else { "1s" };
        let mut args = vec![
            self.kind.word(),
            "write",
            "--ledger",
            "/ledger/ledger",
            "--connect-timeout",
            connects,
            "--answer-timeout",
            patience,
        ];
        args.extend(more);
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": self.pod, "labels": {"access.mainstay.dev/db": "allow"}},
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": false,
                "securityContext": {
                    "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                    "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": WRITER,
                    "image": self.sandbox.ctx.images.workload,
                    "imagePullPolicy": "IfNotPresent",
                    "args": args,
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        {"name": "binding", "mountPath": "/binding", "readOnly": true},
                        {"name": "ledger", "mountPath": "/ledger"},
                    ],
                }],
                "volumes": [
                    {"name": "binding", "secret": {"secretName": "db-app", "defaultMode": 0o440, "items": items}},
                    {"name": "ledger", "emptyDir": {}},
                ],
            },
        }))?;
        self.sandbox
            .api::<Pod>()
            .create(&PostParams::default(), &pod)
            .await?;
        self.more(100).await?;
        Ok(self)
    }

    /// Run a command of the workload for this kind of set in the pod, and return what it printed.
    pub async fn run(&self, command: &[&str]) -> Result<String> {
        let mut all = vec!["/mainstay-workload", self.kind.word()];
        all.extend(command);
        self.sandbox.exec(self.pod, WRITER, &all).await
    }

    /// What the ledger and the primary say.
    pub async fn verdict(&self) -> Result<Verdict> {
        let mut command = vec!["verify", "--ledger", "/ledger/ledger"];
        command.extend(self.cluster.then_some(CLUSTER));
        command.extend(run_of(self.pod).into_iter().flatten());
        let text = self.run(&command).await?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// The ledger.
    pub async fn ledger(&self) -> Result<Vec<Entry>> {
        self.ledger_of(0).await
    }

    /// The ledger, as soon as there are so many that count. It is waited for that in the pod, and not for long: to start a
    /// program there takes more processor time than a thousand rows.
    async fn ledger_of(&self, rows: usize) -> Result<Vec<Entry>> {
        let (wanted, file) = (rows.to_string(), "/ledger/ledger");
        let mut command = vec!["ledger", "--ledger", file, "--acknowledged", &wanted];
        if self.counts() == Outcome::Taken {
            command.push("--taken");
        }
        let text = self.run(&command).await?;
        // What is printed lacks the end of its last line.
        Ok(ledger::parse(&format!("{text}\n"))?)
    }

    /// The numbers of all ledgers that a Redis has: its primary, or the one behind another host.
    pub async fn rows(&self, host: Option<&str>) -> Result<Rows> {
        let mut command = vec!["rows"];
        if let Some(host) = host {
            command.extend(["--host", host]);
        }
        let text = self.run(&command).await?;
        rows(&text).with_context(|| format!("rows of {host:?}"))
    }

    /// A tag of which all keys are in one slot of an instance of a cluster.
    pub async fn tag_of(&self, instance: &str) -> Result<String> {
        let host = kit::host(&self.sandbox.namespace, "db", instance);
        let said = self.run(&["tag", "--host", &host]).await?;
        Ok(said.trim().to_owned())
    }

    /// What a row has to come to, to be one more. In a shard of a cluster nobody may be left who could confirm one.
    fn counts(&self) -> Outcome {
        if self.cluster {
            Outcome::Taken
        } else {
            Outcome::Acknowledged
        }
    }

    /// Wait until so many more rows were acknowledged, whatever became of others; of a cluster, or taken. The ledger then.
    pub async fn more(&self, rows: usize) -> Result<Vec<Entry>> {
        let so_far = |entries: &[Entry]| ledger::reached(entries, self.counts());
        let before = self.ledger().await;
        let wanted = rows + before.map_or(0, |entries| so_far(&entries));
        self.sandbox
            .until(&format!("{rows} more rows"), READY, || async {
                Ok(match self.ledger_of(wanted).await {
                    Ok(entries) if so_far(&entries) >= wanted => Look::Done(entries),
                    Ok(entries) => Look::seen(&entries.last()),
                    Err(error) => Look::NotYet(format!("{error:#}")),
                })
            })
            .await
    }

    /// Writes go on, and nothing that was acknowledged is lost. The longest pause, to be told.
    pub async fn holds(&self) -> Result<Duration> {
        self.more(50).await?;
        let verdict = self.verdict().await?;
        ensure!(verdict.holds(), "{verdict}");
        Ok(verdict.gap())
    }
}

/// The numbers that are there: on each line the name of a ledger and a number.
pub fn rows(text: &str) -> Option<Rows> {
    let mut rows = Rows::new();
    for line in text.lines() {
        let (run, id) = line.rsplit_once(' ')?;
        let of = rows.entry(run.to_owned()).or_default();
        of.insert(id.parse().ok()?);
    }
    Some(rows)
}

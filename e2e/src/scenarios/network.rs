//! Network policies are enforced by the cluster: without this, nothing that the product says about
//! who may connect would be tested.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::kit::{Look, READY, Sandbox};

/// How long a flow is waited for before it counts as dropped. An allowed one takes milliseconds.
const SILENCE: &str = "800ms";
/// A change of policies must be in force within this; it is printed how long it took.
const IN_FORCE: Duration = Duration::from_secs(5);

/// What a client saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Reached,
    Silent,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reached => "reached",
            Self::Silent => "dropped",
        })
    }
}

/// Flows between pods: within a node and across nodes, to pods and through Services, allowed and
/// denied, in both directions.
pub async fn network_policy(s: &Sandbox<'_>) -> Result<()> {
    let other = Sandbox::new(s.ctx, "network-policy-other").await?;
    let done = flows(s, &other).await;
    other.remove().await?;
    done
}

/// The pods' addresses, and the namespaces they are in.
struct Stage<'a> {
    s: &'a Sandbox<'a>,
    other: &'a Sandbox<'a>,
    /// The server's named port.
    main: String,
    /// Its other port.
    side: String,
    /// The Service in front of the named port.
    service: String,
}

/// A client's namespace and name, the address it tries, and what it must see.
type Flow<'a> = (&'a Sandbox<'a>, &'a str, String, Seen);

async fn flows(s: &Sandbox<'_>, other: &Sandbox<'_>) -> Result<()> {
    let stage = stage(s, other).await?;
    expect("no policy", stage.open()).await?;
    ingress(&stage).await?;
    union(&stage).await?;
    labels(&stage).await?;
    egress(&stage).await?;

    // The kubelet's probes came through all the time.
    let pod = s.api::<Pod>().get("server").await?;
    ensure!(
        ready(&pod),
        "the server's readiness probe was dropped: {:?}",
        pod.status
    );

    for policy in ["server", "more", "leave"] {
        s.api::<NetworkPolicy>()
            .delete(policy, &kube::api::DeleteParams::default())
            .await?;
    }
    in_force(s, "far-foe", &stage.main, Seen::Reached).await?;
    expect("policies deleted", stage.open()).await
}

impl<'a> Stage<'a> {
    /// Everybody reaches everything.
    fn open(&self) -> Vec<Flow<'a>> {
        let everybody = [
            (self.s, "near-friend"),
            (self.s, "near-foe"),
            (self.s, "far-friend"),
            (self.s, "far-foe"),
            (self.other, "stranger"),
        ];
        [&self.main, &self.side, &self.service]
            .into_iter()
            .flat_map(|address| {
                everybody.map(|(from, pod)| (from, pod, address.clone(), Seen::Reached))
            })
            .collect()
    }
}

async fn stage<'a>(s: &'a Sandbox<'a>, other: &'a Sandbox<'a>) -> Result<Stage<'a>> {
    let nodes: Api<Node> = Api::all(s.ctx.client.clone());
    let mut nodes: Vec<String> = nodes
        .list(&ListParams::default())
        .await?
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    nodes.sort();
    let [one, two, ..] = nodes.as_slice() else {
        bail!("needs two nodes, has {nodes:?}");
    };
    let pods = [
        (s, "server", one),
        (s, "near-friend", one),
        (s, "near-foe", one),
        (s, "far-friend", two),
        (s, "far-foe", two),
        (other, "stranger", two),
    ];
    futures::future::try_join_all(pods.map(|(sandbox, name, node)| pod(sandbox, name, node)))
        .await?;
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "server"},
        "spec": {"selector": {"name": "server"}, "ports": [{"port": 80, "targetPort": "main"}]},
    }))?;
    let service = s.api().create(&PostParams::default(), &service).await?;
    let service = service
        .spec
        .and_then(|spec| spec.cluster_ip)
        .context("the Service has no address")?;
    let service = format!("{service}:80");
    let server = address(s, "server").await?;
    // The proxies of both nodes know the Service, so that what fails later is a policy's doing.
    for pod in ["server", "far-friend"] {
        in_force(s, pod, &service, Seen::Reached).await?;
    }

    Ok(Stage {
        s,
        other,
        main: format!("{server}:8080"),
        side: format!("{server}:9090"),
        service,
    })
}

/// Ingress by label and by the name of a port.
async fn ingress(stage: &Stage<'_>) -> Result<()> {
    let &Stage {
        s,
        other,
        ref main,
        ref side,
        ref service,
    } = stage;
    allow(s, "server", &json!({
        "podSelector": {"matchLabels": {"name": "server"}},
        "ingress": [{
            "from": [{"podSelector": {"matchExpressions": [{"key": "name", "operator": "In", "values": ["near-friend", "far-friend"]}]}}],
            "ports": [{"port": "main"}],
        }],
    })).await?;
    in_force(s, "near-foe", main, Seen::Silent).await?;
    let friends = |address: &str, seen: Seen| {
        vec![
            (s, "near-friend", address.to_owned(), seen),
            (s, "far-friend", address.to_owned(), seen),
        ]
    };
    let foes = |address: &str| {
        vec![
            (s, "near-foe", address.to_owned(), Seen::Silent),
            (s, "far-foe", address.to_owned(), Seen::Silent),
            (other, "stranger", address.to_owned(), Seen::Silent),
        ]
    };
    let itself = vec![
        (s, "server", service.clone(), Seen::Reached),
        (s, "server", side.clone(), Seen::Reached),
    ];
    expect(
        "ingress from friends to one port",
        [
            friends(main, Seen::Reached),
            friends(service, Seen::Reached),
            friends(side, Seen::Silent),
            foes(main),
            foes(service),
            itself,
        ]
        .concat(),
    )
    .await?;
    Ok(())
}

/// Union: a second policy adds a namespace and a block with an exception.
async fn union(stage: &Stage<'_>) -> Result<()> {
    let &Stage {
        s,
        other,
        ref main,
        ref side,
        ..
    } = stage;
    let foe = address(s, "far-foe").await?;
    let near = address(s, "near-foe").await?;
    allow(s, "more", &json!({
        "podSelector": {},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": other.namespace}}, "podSelector": {}}], "ports": [{"port": 9000, "endPort": 9090}]},
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": [format!("{foe}/32")]}}], "ports": [{"port": 9090, "protocol": "TCP"}]},
        ],
    })).await?;
    in_force(other, "stranger", side, Seen::Reached).await?;
    expect(
        "a second policy adds",
        vec![
            (other, "stranger", side.clone(), Seen::Reached),
            (other, "stranger", main.clone(), Seen::Silent),
            (s, "near-foe", side.clone(), Seen::Reached),
            (s, "far-foe", side.clone(), Seen::Silent),
            (s, "near-friend", main.clone(), Seen::Reached),
            // The selector is empty: clients are isolated as well.
            (s, "far-friend", format!("{near}:8080"), Seen::Silent),
        ],
    )
    .await?;
    Ok(())
}

/// A label that changes is a change of the policy's meaning.
async fn labels(stage: &Stage<'_>) -> Result<()> {
    let &Stage { s, ref main, .. } = stage;
    relabel(&s.api::<Pod>(), "near-foe", &json!({"name": "near-friend"})).await?;
    in_force(s, "near-foe", main, Seen::Reached).await?;
    relabel(&s.api::<Pod>(), "near-foe", &json!({"name": "near-foe"})).await?;
    in_force(s, "near-foe", main, Seen::Silent).await?;
    Ok(())
}

/// Egress: to one port of one pod, by labels of its namespace.
async fn egress(stage: &Stage<'_>) -> Result<()> {
    let &Stage {
        s,
        other,
        ref main,
        ref side,
        ref service,
    } = stage;
    let namespaces: Api<Namespace> = Api::all(s.ctx.client.clone());
    relabel(&namespaces, &other.namespace, &json!({"trusted": "yes"})).await?;
    allow(s, "leave", &json!({
        "podSelector": {"matchLabels": {"name": "near-friend"}},
        "policyTypes": ["Egress"],
        "egress": [
            {"to": [{"podSelector": {"matchLabels": {"name": "server"}}}], "ports": [{"port": "main"}]},
            {"to": [{"namespaceSelector": {"matchLabels": {"trusted": "yes"}}}], "ports": [{"port": 9090}]},
        ],
    })).await?;
    let stranger = address(other, "stranger").await?;
    in_force(s, "near-friend", &format!("{stranger}:8080"), Seen::Silent).await?;
    expect(
        "egress",
        vec![
            (s, "near-friend", main.clone(), Seen::Reached),
            (s, "near-friend", service.clone(), Seen::Reached),
            (s, "near-friend", side.clone(), Seen::Silent),
            (s, "near-friend", format!("{stranger}:9090"), Seen::Reached),
            (s, "near-friend", format!("{stranger}:8080"), Seen::Silent),
            (s, "far-friend", format!("{stranger}:8080"), Seen::Reached),
        ],
    )
    .await?;
    Ok(())
}

/// A pod that listens on 8080 (named `main`) and 9090, and can try others.
async fn pod(s: &Sandbox<'_>, name: &str, node: &str) -> Result<()> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"name": name}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "c",
                "image": s.ctx.images.workload,
                "args": ["serve", "8080", "9090"],
                "ports": [{"name": "main", "containerPort": 8080}],
                "readinessProbe": {"tcpSocket": {"port": "main"}, "periodSeconds": 1, "failureThreshold": 2},
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}},
            }],
        },
    }))?;
    let pods = s.api::<Pod>();
    pods.create(&PostParams::default(), &pod).await?;
    s.until(&format!("pod {name} to be ready"), READY, || async {
        let pod = pods.get(name).await?;
        Ok(if ready(&pod) {
            Look::Done(())
        } else {
            Look::seen(&pod.status.and_then(|status| status.conditions))
        })
    })
    .await
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn address(s: &Sandbox<'_>, pod: &str) -> Result<String> {
    let status = s.api::<Pod>().get(pod).await?.status;
    status
        .and_then(|status| status.pod_ip)
        .with_context(|| format!("{pod} has no address"))
}

async fn allow(s: &Sandbox<'_>, name: &str, spec: &Value) -> Result<()> {
    let policy: NetworkPolicy =
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}))?;
    s.api().create(&PostParams::default(), &policy).await?;
    Ok(())
}

async fn relabel<K>(api: &Api<K>, name: &str, labels: &Value) -> Result<()>
where
    K: Resource + Clone + fmt::Debug + serde::de::DeserializeOwned,
{
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    api.patch(name, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// What `pod` sees of `address`.
async fn look(s: &Sandbox<'_>, pod: &str, address: &str) -> Result<Seen> {
    let command = [
        "/mainstay-workload",
        "tcp-probe",
        address,
        "--timeout",
        SILENCE,
    ];
    match s.exec(pod, "c", &command).await {
        Ok(_) => Ok(Seen::Reached),
        Err(error) if error.to_string().contains("exit code 1") => Ok(Seen::Silent),
        Err(error) => Err(error),
    }
}

/// Waits until a flow is as a change makes it.
async fn in_force(s: &Sandbox<'_>, pod: &str, address: &str, seen: Seen) -> Result<()> {
    let begun = Instant::now();
    s.until(
        &format!("{pod} to {address} to be {seen}"),
        IN_FORCE,
        || async {
            // A Service without endpoints on that node yet refuses: that is neither answer.
            Ok(match look(s, pod, address).await {
                Ok(now) if now == seen => Look::Done(()),
                Ok(now) => Look::seen(&now),
                Err(e) => Look::NotYet(format!("{e:#}")),
            })
        },
    )
    .await?;
    tracing::info!(pod, address, %seen, after = ?begun.elapsed(), "a change of policies is in force");
    Ok(())
}

async fn expect(state: &str, flows: Vec<Flow<'_>>) -> Result<()> {
    let tried = flows
        .iter()
        .map(|(from, pod, address, _)| look(from, pod, address));
    let seen = futures::future::try_join_all(tried).await?;
    let wrong: Vec<String> = flows
        .iter()
        .zip(seen)
        .filter(|((_, _, _, meant), seen)| meant != seen)
        .map(|((_, pod, address, meant), seen)| {
            format!("{pod} to {address} is {seen}, not {meant}")
        })
        .collect();
    ensure!(wrong.is_empty(), "{state}: {}", wrong.join("; "));
    Ok(())
}

//! Starting a cluster.

use std::path::Path;
use std::time::{Duration, Instant};

use kube::Client;

use super::control_plane::Starter;
use super::launch::{Daemon, Launch};
use super::layout::{CLUSTERS, Layout, OUTER};
use super::lock::Lock;
use super::records::Record;
use super::template::Template;
use super::{Description, LocalError, Programs, at, cgroups, config, down, load, network, pki};
use crate::cluster;
use crate::cluster::context::{ControllersContext, NodeContext};
use crate::cluster::steps::Steps;
use crate::process;

/// How long each thing that is waited for may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_mins(2);
const PAUSE: Duration = Duration::from_millis(50);
/// How many times the processor time of a process beside them all clusters get.
const WEIGHT: u32 = 4;

/// Starts the cluster, or does nothing if it runs. What is left of an interrupted start is removed
/// first.
pub async fn up(
    layout: &Layout,
    nodes: &[NodeContext],
    programs: &Programs,
    steps: &Steps,
) -> Result<(), LocalError> {
    let _lock = Lock::take(layout).await?;
    if let Some(found) = Description::read(layout).filter(|found| found.complete)
        && Record::read(&layout.record("anchor")).is_some_and(Record::alive)
    {
        steps.done(&format!(
            "cluster {} runs already, with {} nodes",
            layout.name(),
            found.nodes
        ));
        return Ok(());
    }
    down::clear(layout, &programs.helper).await?;
    match start(layout, nodes, programs, steps).await {
        Ok(()) => Ok(()),
        Err(error) => {
            // The state folder stays for a look at the logs; the next `up` or `down` removes it.
            let _ = cgroups::kill(&layout.cgroup()).await;
            Err(error)
        }
    }
}

async fn start(
    layout: &Layout,
    nodes: &[NodeContext],
    programs: &Programs,
    steps: &Steps,
) -> Result<(), LocalError> {
    watches(nodes.len())?;
    write_files(layout, nodes)?;
    cgroups::create(&format!("{}/outer", layout.cgroup()))?;
    cgroups::weigh(CLUSTERS, WEIGHT)?;
    for node in nodes {
        cgroups::create(&format!("{}/{}", layout.cgroup(), node.name))?;
        cgroups::create(&format!("{}/{}-system", layout.cgroup(), node.name))?;
    }
    let anchor = anchor(layout, programs).await?;
    network(layout, nodes, programs, anchor).await?;
    steps.done("namespaces, network and certificates");

    let starter = Starter {
        layout,
        programs,
        anchor,
    };
    let mut daemons = vec![starter.etcd()?, starter.apiserver()?, starter.forward()?];
    if let Some(template) = Template::latest() {
        futures::future::try_join_all(nodes.iter().map(|node| template.copy_to(&starter, node)))
            .await?;
    }
    for node in nodes {
        daemons.push(starter.containerd(node)?);
    }
    let port = wait(&mut daemons, "the forward", || read(&layout.file("port"))).await?;
    write(
        &layout.kubeconfig(),
        &pki::kubeconfig(
            layout,
            "admin",
            &format!("https://127.0.0.1:{}", port.trim()),
        ),
    )?;
    let client = client(layout).await?;
    wait_async(&mut daemons, "the API server", || answers(&client)).await?;
    steps.done("API server");

    daemons.push(starter.controller_manager()?);
    daemons.push(starter.scheduler()?);
    let pause = load::archives(std::slice::from_ref(&programs.pause)).await?;
    let fill = |node| load::first(layout, programs, anchor, node, &pause);
    futures::future::try_join_all(nodes.iter().map(fill)).await?;
    for node in nodes {
        daemons.push(starter.kubelet(node)?);
    }
    apply_addons(layout, programs).await?;
    daemons.push(starter.coredns()?);
    daemons.push(starter.controllers()?);
    steps.done("container runtimes, kubelets, DNS");

    let wanted = nodes.len();
    wait_async(&mut daemons, "the nodes", || enough(&client, wanted, false)).await?;
    for node in nodes {
        daemons.push(starter.node_proxy(node)?);
    }
    if let Some(first) = nodes.first() {
        daemons.push(starter.outer_proxy(first)?);
    }
    wait_async(&mut daemons, "the nodes to be Ready", || {
        enough(&client, wanted, true)
    })
    .await?;
    steps.done(&format!("{wanted} nodes Ready"));
    wait_async(&mut daemons, "the service proxies and DNS", || {
        services(layout, programs, anchor, nodes)
    })
    .await?;
    Description {
        nodes: wanted,
        complete: true,
    }
    .write(layout)?;
    steps.done(&format!(
        "cluster {} is up: export KUBECONFIG={}",
        layout.name(),
        layout.kubeconfig().display()
    ));
    Ok(())
}

/// Says at once what a kubelet would say a minute later and less clearly. The kernel allows a user
/// 128 instances by default, which is four clusters.
fn watches(nodes: usize) -> Result<(), LocalError> {
    let needed = 4 + 7 * nodes;
    let flags = rustix::fs::inotify::CreateFlags::CLOEXEC;
    let tried: Result<Vec<_>, _> = (0..needed)
        .map(|_| rustix::fs::inotify::init(flags))
        .collect();
    tried.map(drop).map_err(|_| LocalError::Watches { needed })
}

fn write(path: &Path, text: &str) -> Result<(), LocalError> {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text).map_err(at(&draft))?;
    std::fs::rename(&draft, path).map_err(at(path))
}

fn write_files(layout: &Layout, nodes: &[NodeContext]) -> Result<(), LocalError> {
    let folder = |path: &Path| std::fs::create_dir_all(path).map_err(at(path));
    for name in ["", "log", "pids", "pki", "conf", "controllers"] {
        folder(&layout.file(name))?;
    }
    folder(&layout.run())?;
    // It holds the keys of every user of the cluster.
    restrict(&layout.state())?;
    Description {
        nodes: nodes.len(),
        complete: false,
    }
    .write(layout)?;
    for (name, text) in pki::issue(nodes)? {
        write(&layout.pki(&name), &text)?;
    }
    let server = format!("https://{OUTER}:6443");
    let users = [
        "admin",
        "controller-manager",
        "scheduler",
        "proxy",
        "coredns",
    ]
    .into_iter();
    for user in users.chain(nodes.iter().map(|node| node.name.as_str())) {
        write(
            &layout.inner_kubeconfig(user),
            &pki::kubeconfig(layout, user, &server),
        )?;
    }
    write(&layout.file("Corefile"), &config::corefile(layout))?;
    write(
        &layout.file("resolv.conf"),
        &format!("nameserver {OUTER}\n"),
    )?;
    write(&layout.file("addons.json"), &config::addons().to_string())?;
    for node in nodes {
        for name in ["cni", "volumes"] {
            folder(&node.dir.join(name))?;
        }
        write(
            &node.dir.join("cni/10-pods.conflist"),
            &config::cni(node).to_string(),
        )?;
        write(
            &node.dir.join("containerd.toml"),
            &config::containerd(layout, node),
        )?;
        write(
            &node.dir.join("kubelet.json"),
            &config::kubelet(layout, node).to_string(),
        )?;
    }
    let context = ControllersContext {
        cluster: layout.name().to_owned(),
        state: layout.state(),
        kubeconfig: layout.inner_kubeconfig("admin"),
        nodes: nodes.to_vec(),
    };
    write(
        &layout.file("context.json"),
        &serde_json::to_string(&context)?,
    )
}

fn restrict(path: &Path) -> Result<(), LocalError> {
    use std::os::unix::fs::PermissionsExt as _;
    // Pods reach their volumes below it by bind mounts, which need no way through the folders above.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(at(path))
}

/// Starts the process that holds the mount namespace and the outer network namespace.
async fn anchor(layout: &Layout, programs: &Programs) -> Result<Record, LocalError> {
    let daemon = Launch::new(layout, "outer", "unshare")
        .args([
            "--mount",
            "--net",
            "--propagation",
            "private",
            "sleep",
            "infinity",
        ])
        .start(layout, &programs.helper, "anchor")?;
    let own =
        std::fs::read_link("/proc/self/ns/net").map_err(at(Path::new("/proc/self/ns/net")))?;
    wait(&mut [daemon], "the namespaces", || {
        let record = Record::read(&layout.record("anchor"))?;
        let link = |kind: &str| std::fs::read_link(format!("/proc/{}/ns/{kind}", record.pid)).ok();
        let program = std::fs::read_to_string(format!("/proc/{}/comm", record.pid)).ok()?;
        (link("net")? != own && program.trim() == "sleep").then_some(record)
    })
    .await
}

async fn network(
    layout: &Layout,
    nodes: &[NodeContext],
    programs: &Programs,
    anchor: Record,
) -> Result<(), LocalError> {
    let script = layout.file("network.sh");
    write(&script, &network::script(layout, nodes))?;
    // The pin of the outer namespace is made by this script: until then it is the anchor's own.
    let command = Launch::new(layout, "outer", "nsenter")
        .arg(format!("--mount=/proc/{}/ns/mnt", anchor.pid))
        .arg(format!("--net=/proc/{}/ns/net", anchor.pid))
        .args(["sh"])
        .arg(script);
    process::run(&mut command.command(&programs.helper)).await?;
    Ok(())
}

/// A client of the API server, through the forward.
pub async fn client(layout: &Layout) -> Result<Client, LocalError> {
    let kubeconfig = kube::config::Kubeconfig::read_from(layout.kubeconfig())?;
    let config = kube::Config::from_custom_kubeconfig(
        kubeconfig,
        &kube::config::KubeConfigOptions::default(),
    )
    .await?;
    Ok(Client::try_from(config)?)
}

async fn apply_addons(layout: &Layout, programs: &Programs) -> Result<(), LocalError> {
    let mut command = process::command(&programs.kube);
    command
        .args(["kubectl", "apply", "--server-side", "--kubeconfig"])
        .arg(layout.kubeconfig());
    process::run(command.arg("--filename").arg(layout.file("addons.json"))).await?;
    Ok(())
}

async fn answers(client: &Client) -> Option<()> {
    let request = http::Request::get("/readyz").body(Vec::new()).ok()?;
    client.request_text(request).await.ok().map(drop)
}

/// Whether so many nodes are registered, or even Ready.
async fn enough(client: &Client, wanted: usize, ready: bool) -> Option<()> {
    let nodes = cluster::nodes(client).await.ok()?;
    (nodes.iter().filter(|node| node.ready || !ready).count() >= wanted).then_some(())
}

/// From the outer namespace and from every node: whether the services' addresses lead to DNS.
async fn services(
    layout: &Layout,
    programs: &Programs,
    anchor: Record,
    nodes: &[NodeContext],
) -> Option<()> {
    for net in std::iter::once("outer").chain(nodes.iter().map(|node| node.name.as_str())) {
        let probe = Launch::new(layout, "outer", &programs.helper)
            .inside(layout, anchor, net)
            .args([
                "cluster-helper",
                "resolve",
                "--name",
                "kubernetes.default.svc.cluster.local",
            ]);
        process::run(&mut probe.command(&programs.helper))
            .await
            .ok()?;
    }
    Some(())
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

async fn wait<T>(
    daemons: &mut [Daemon],
    what: &str,
    mut see: impl FnMut() -> Option<T>,
) -> Result<T, LocalError> {
    wait_async(daemons, what, || std::future::ready(see())).await
}

/// Asks again and again until there is an answer; gives up when a process ended or time is over.
async fn wait_async<T, F: Future<Output = Option<T>>>(
    daemons: &mut [Daemon],
    what: &str,
    mut see: impl FnMut() -> F,
) -> Result<T, LocalError> {
    let start = Instant::now();
    loop {
        if let Some(seen) = see().await {
            return Ok(seen);
        }
        for daemon in daemons.iter_mut() {
            daemon.check()?;
        }
        if start.elapsed() > PATIENCE {
            return Err(LocalError::Late {
                what: what.to_owned(),
                after: PATIENCE,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

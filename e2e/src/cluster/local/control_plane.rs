//! The processes of the control plane and of each node, with their arguments.

use std::path::Path;

use super::launch::{Daemon, Launch};
use super::layout::{Layout, OUTER, PODS, SERVICES};
use super::records::Record;
use super::{LocalError, Programs};
use crate::cluster::context::NodeContext;

/// Where a kubelet makes a socket for plugins wherever its own folder is: kubelets of several nodes would
/// take it from each other, and the last would leave it on the machine.
const KUBELET: &str = "/var/lib/kubelet";

/// Starts processes of one cluster.
pub struct Starter<'a> {
    /// The cluster.
    pub layout: &'a Layout,
    /// Its programs.
    pub programs: &'a Programs,
    /// The process that holds its namespaces.
    pub anchor: Record,
}

impl Starter<'_> {
    fn helper(&self) -> &Path {
        &self.programs.helper
    }

    /// A component of Kubernetes in the outer namespace.
    fn outer(&self, component: &str) -> Launch {
        Launch::new(self.layout, "outer", &self.programs.kube)
            .inside(self.layout, self.anchor, "outer")
            .arg(component)
    }

    /// etcd, which need not survive a crash of the machine.
    pub fn etcd(&self) -> Result<Daemon, LocalError> {
        self.outer("etcd")
            .arg("--data-dir")
            .arg(self.layout.file("etcd"))
            .args([
                "--listen-client-urls",
                "http://127.0.0.1:2379",
                "--advertise-client-urls",
                "http://127.0.0.1:2379",
            ])
            .args([
                "--listen-peer-urls",
                "http://127.0.0.1:2380",
                "--unsafe-no-fsync",
                "--log-level",
                "warn",
            ])
            .start(self.layout, self.helper(), "etcd")
    }

    /// The API server.
    pub fn apiserver(&self) -> Result<Daemon, LocalError> {
        let pki = |name| self.layout.pki(name);
        self.outer("kube-apiserver")
            .args([
                "--etcd-servers",
                "http://127.0.0.1:2379",
                "--bind-address",
                "0.0.0.0",
            ])
            .args([
                "--advertise-address",
                &OUTER.to_string(),
                "--service-cluster-ip-range",
                SERVICES,
            ])
            .arg("--client-ca-file")
            .arg(pki("ca.crt"))
            .arg("--tls-cert-file")
            .arg(pki("apiserver.crt"))
            .arg("--tls-private-key-file")
            .arg(pki("apiserver.key"))
            .arg("--service-account-key-file")
            .arg(pki("sa.pub"))
            .arg("--service-account-signing-key-file")
            .arg(pki("sa.key"))
            .args([
                "--service-account-issuer",
                "https://kubernetes.default.svc.cluster.local",
            ])
            .args([
                "--authorization-mode",
                "Node,RBAC",
                "--enable-admission-plugins",
                "NodeRestriction",
                "--anonymous-auth=false",
            ])
            .arg("--kubelet-client-certificate")
            .arg(pki("kubelet-client.crt"))
            .arg("--kubelet-client-key")
            .arg(pki("kubelet-client.key"))
            .arg("--kubelet-certificate-authority")
            .arg(pki("ca.crt"))
            .args(["--kubelet-preferred-address-types", "InternalIP,Hostname"])
            .start(self.layout, self.helper(), "apiserver")
    }

    /// The controller manager.
    pub fn controller_manager(&self) -> Result<Daemon, LocalError> {
        let pki = |name| self.layout.pki(name);
        self.outer("kube-controller-manager")
            .arg("--kubeconfig")
            .arg(self.layout.inner_kubeconfig("controller-manager"))
            .args(["--leader-elect=false", "--use-service-account-credentials"])
            .arg("--service-account-private-key-file")
            .arg(pki("sa.key"))
            .arg("--root-ca-file")
            .arg(pki("ca.crt"))
            // Nobody asks it for certificates, and watching the authority's files for each kind of
            // request takes watches of the kernel, of which there are few.
            .args([
                "--controllers",
                "*,-certificatesigningrequest-signing-controller",
            ])
            .start(self.layout, self.helper(), "controller-manager")
    }

    /// The scheduler.
    pub fn scheduler(&self) -> Result<Daemon, LocalError> {
        self.outer("kube-scheduler")
            .arg("--kubeconfig")
            .arg(self.layout.inner_kubeconfig("scheduler"))
            .arg("--leader-elect=false")
            .start(self.layout, self.helper(), "scheduler")
    }

    /// The cluster's DNS.
    pub fn coredns(&self) -> Result<Daemon, LocalError> {
        Launch::new(self.layout, "outer", &self.programs.coredns)
            .inside(self.layout, self.anchor, "outer")
            .restarted()
            .arg("-conf")
            .arg(self.layout.file("Corefile"))
            .start(self.layout, self.helper(), "coredns")
    }

    /// Volumes and network policies.
    pub fn controllers(&self) -> Result<Daemon, LocalError> {
        Launch::new(self.layout, "outer", self.helper())
            .inside(self.layout, self.anchor, "outer")
            .restarted()
            .args(["cluster-helper", "controllers", "--context"])
            .arg(self.layout.file("context.json"))
            .start(self.layout, self.helper(), "controllers")
    }

    /// The loopback forward; it stays in the machine's namespaces.
    pub fn forward(&self) -> Result<Daemon, LocalError> {
        Launch::new(self.layout, "outer", self.helper())
            .args([
                "cluster-helper",
                "forward",
                "--net-of",
                &self.anchor.pid.to_string(),
            ])
            .args(["--target", &format!("{OUTER}:6443"), "--port-file"])
            .arg(self.layout.file("port"))
            .start(self.layout, self.helper(), "forward")
    }

    /// The service proxy of the outer namespace, so that what runs there reaches services.
    ///
    /// It has no node; it borrows the name of one, whose object it only waits for.
    pub fn outer_proxy(&self, borrowed: &NodeContext) -> Result<Daemon, LocalError> {
        self.proxy(&borrowed.name, &OUTER.to_string(), "outer")
            .start(self.layout, self.helper(), "proxy-outer")
    }

    fn proxy(&self, node: &str, address: &str, net: &str) -> Launch {
        let cgroup = if net == "outer" {
            "outer".to_owned()
        } else {
            format!("{net}-system")
        };
        Launch::new(self.layout, &cgroup, &self.programs.kube)
            .inside(self.layout, self.anchor, net)
            .arg("kube-proxy")
            .arg("--kubeconfig")
            .arg(self.layout.inner_kubeconfig("proxy"))
            .args([
                "--hostname-override",
                node,
                "--proxy-mode",
                "nftables",
                "--cluster-cidr",
                PODS,
            ])
            .args(["--bind-address", address, "--conntrack-max-per-core", "0"])
            .args([
                "--healthz-bind-address",
                &format!("{address}:10256"),
                "--metrics-bind-address",
                "127.0.0.1:10249",
            ])
    }

    /// A container runtime of no node, to fill a folder with images.
    pub fn spare_containerd(&self, config: &Path) -> Result<Daemon, LocalError> {
        Launch::new(self.layout, "outer", "containerd")
            .inside(self.layout, self.anchor, "outer")
            .arg("--config")
            .arg(config)
            .start(self.layout, self.helper(), "containerd-spare")
    }

    /// A node's container runtime.
    pub fn containerd(&self, node: &NodeContext) -> Result<Daemon, LocalError> {
        Launch::new(self.layout, &format!("{}-system", node.name), "containerd")
            .inside(self.layout, self.anchor, &node.name)
            .arg("--config")
            .arg(node.dir.join("containerd.toml"))
            .start(
                self.layout,
                self.helper(),
                &format!("containerd-{}", node.name),
            )
    }

    /// A node's kubelet.
    pub fn kubelet(&self, node: &NodeContext) -> Result<Daemon, LocalError> {
        Launch::new(
            self.layout,
            &format!("{}-system", node.name),
            &self.programs.kube,
        )
        .inside(self.layout, self.anchor, &node.name)
        .empty(KUBELET)
        .arg("kubelet")
        .arg("--config")
        .arg(node.dir.join("kubelet.json"))
        .arg("--kubeconfig")
        .arg(self.layout.inner_kubeconfig(&node.name))
        .arg("--root-dir")
        .arg(node.dir.join("kubelet"))
        .arg("--cert-dir")
        .arg(node.dir.join("certificates"))
        .args([
            "--hostname-override",
            &node.name,
            "--node-ip",
            &node.address.to_string(),
        ])
        .args([
            "--node-labels",
            &format!(
                "topology.kubernetes.io/zone={},topology.kubernetes.io/region=local",
                node.zone
            ),
        ])
        .start(
            self.layout,
            self.helper(),
            &format!("kubelet-{}", node.name),
        )
    }

    /// A node's service proxy.
    pub fn node_proxy(&self, node: &NodeContext) -> Result<Daemon, LocalError> {
        self.proxy(&node.name, &node.address.to_string(), &node.name)
            .start(self.layout, self.helper(), &format!("proxy-{}", node.name))
    }
}

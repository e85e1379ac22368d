//! The configuration files of a node and of the cluster's own DNS, rendered.

use std::path::Path;

use serde_json::{Value, json};

use super::layout::{DNS, Layout, OUTER};
use crate::cluster::context::NodeContext;
use crate::tools::PAUSE_IMAGE;

/// A node's containerd.
pub fn containerd(layout: &Layout, node: &NodeContext) -> String {
    runtime(
        &node.dir.join("containerd"),
        &layout.run().join(format!("{}.containerd", node.name)),
        &layout.containerd(&node.name),
        &node.dir.join("cni"),
    )
}

/// A containerd with these folders and this socket.
///
/// `restrict_oom_score_adj`: where the capability to lower it is missing, as in some virtual
/// machines, no sandbox starts otherwise.
pub fn runtime(root: &Path, state: &Path, socket: &Path, cni: &Path) -> String {
    format!(
        r#"version = 2
root = "{}"
state = "{}"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]
[grpc]
address = "{}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#,
        root.display(),
        state.display(),
        socket.display(),
        cni.display()
    )
}

/// A node's pod network: a routed veth per pod.
pub fn cni(node: &NodeContext) -> Value {
    json!({
        "cniVersion": "0.4.0", "name": "pods",
        "plugins": [{
            "type": "ptp", "ipMasq": false,
            "ipam": {
                "type": "host-local", "dataDir": node.dir.join("ipam"),
                "ranges": [[{"subnet": node.pod_subnet}]], "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
}

/// A node's kubelet.
pub fn kubelet(layout: &Layout, node: &NodeContext) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {
            "x509": {"clientCAFile": layout.pki("ca.crt")}, "webhook": {"enabled": true}, "anonymous": {"enabled": false},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}/{}", layout.cgroup(), node.name),
        "clusterDNS": [DNS.to_string()], "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{}", layout.containerd(&node.name).display()),
        "tlsCertFile": layout.pki(&format!("{}.crt", node.name)),
        "tlsPrivateKeyFile": layout.pki(&format!("{}.key", node.name)),
        "podLogsDir": node.dir.join("podlogs"),
        "resolvConf": layout.file("resolv.conf"),
        "failSwapOn": false,
        // The images of a test cluster are loaded once: none may be thrown away for space.
        "imageGCHighThresholdPercent": 100,
        // Not by free disk: it is the machine's, and nothing here could make more of it.
        "evictionHard": {"memory.available": "100Mi"},
        "nodeStatusUpdateFrequency": "4s",
        "serializeImagePulls": false,
        // A newer kubelet refuses version 1 of cgroups unless told not to.
        "failCgroupV1": false,
    })
}

/// The cluster's DNS. Answers live for 5 s, denials for 1 s, so that a client sees a new address soon
/// and a name that was asked for too early is not lost for long. There is nothing outside to ask.
pub fn corefile(layout: &Layout) -> String {
    format!(
        ".:53 {{
    bind {OUTER}
    errors
    ready {OUTER}:8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {}
        pods insecure
        ttl 5
    }}
    cache 5 {{
        denial 4096 1
    }}
}}
",
        layout.inner_kubeconfig("coredns").display()
    )
}

/// The DNS Service, which has no pods but the process in the outer namespace, and what DNS may read.
pub fn addons() -> Value {
    let labels = json!({"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"});
    let ports = |target: bool| -> Value {
        ["UDP", "TCP"]
            .map(|protocol| {
                let mut port = json!({"name": format!("dns-{}", protocol.to_lowercase()), "port": 53, "protocol": protocol});
                if target {
                    port["targetPort"] = 53.into();
                }
                port
            })
            .into()
    };
    let mut slice_labels = labels.clone();
    slice_labels["kubernetes.io/service-name"] = "kube-dns".into();
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            "spec": {"clusterIP": DNS.to_string(), "ports": ports(true)},
        },
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "kube-dns-outer", "namespace": "kube-system", "labels": slice_labels},
            "addressType": "IPv4", "ports": ports(false),
            "endpoints": [{"addresses": [OUTER.to_string()], "conditions": {"ready": true}}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "system:coredns"},
            "rules": [
                {"apiGroups": [""], "resources": ["services", "namespaces", "pods", "endpoints"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "system:coredns"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
        },
    ]})
}

//! Where things are in a data pod. The operator mounts them there, the agent finds them there.

/// Folder (an `emptyDir`) into which the init container installs the binary.
pub const BIN: &str = "/mainstay/bin";
/// Name of the binary in [`BIN`], the same for every engine.
pub const BINARY: &str = "mainstay";
/// Folder (an `emptyDir`) for sockets and rendered configuration; lost with the pod.
pub const RUN: &str = "/mainstay/run";
/// Socket on which PID 1 takes the agent's requests.
pub const INIT_SOCKET: &str = "/mainstay/run/init.sock";
/// Folder where the set's ConfigMap is mounted.
pub const CONFIG: &str = "/mainstay/config";
/// Key in the ConfigMap, hence file in [`CONFIG`], with the [`super::config::SetConfig`] as JSON.
pub const CONFIG_FILE: &str = "set.json";
/// Key in the ConfigMap, hence file in [`CONFIG`], with the [`super::config::Zones`] as JSON.
pub const ZONES_FILE: &str = "zones.json";
/// Key in the ConfigMap, hence file in [`CONFIG`], with the highest number of a history that is known of volumes which a
/// restore in place has set aside: promotions take higher ones, so that no number is used twice. Absent where there are
/// none. No part of the configuration's hash.
pub const TIMELINES_FILE: &str = "timelines.json";
/// Folder where the instance's certificate Secret is mounted (`tls.crt`, `tls.key`, `ca.crt`).
pub const TLS: &str = "/mainstay/tls";
/// Folder where the access Secret is mounted (one JSON [`super::config::Role`] per key).
pub const ACCESS: &str = "/mainstay/access";
/// Folder of the service account's projected token, CA and namespace.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Folder, relative to the data volume's mount, of the agent's durable state (outside the engine's own folder).
pub const STATE: &str = "mainstay";

/// Environment variable: folder under which all these absolute paths are taken. For runs outside
/// a container; not set in a pod.
pub const ROOT: &str = "MAINSTAY_ROOT";

/// An absolute `path` as seen under `root`.
pub fn under(root: &std::path::Path, path: &str) -> std::path::PathBuf {
    root.join(path.trim_start_matches('/'))
}

//! The volumes of pods, and where they are mounted.

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, DownwardAPIProjection, DownwardAPIVolumeFile, EmptyDirVolumeSource,
    KeyToPath, ObjectFieldSelector, ProjectedVolumeSource, SecretVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use mainstay_crds::common::quantity;

use crate::agent::paths;

/// Readable by the group only: some engines refuse keys that others may read.
pub const SECRET_MODE: i32 = 0o440;
/// Seconds that a token is valid; the kubelet renews it well before.
const TOKEN_SECONDS: i64 = 3607;

/// The mount of the binary's folder.
pub fn bin(read_only: bool) -> VolumeMount {
    mount("bin", paths::BIN, read_only)
}

/// What the usual automatic mount would hold.
pub fn service_account() -> ProjectedVolumeSource {
    ProjectedVolumeSource {
        default_mode: Some(SECRET_MODE),
        sources: Some(vec![
            VolumeProjection {
                service_account_token: Some(ServiceAccountTokenProjection {
                    expiration_seconds: Some(TOKEN_SECONDS),
                    path: "token".into(),
                    audience: None,
                }),
                ..VolumeProjection::default()
            },
            VolumeProjection {
                config_map: Some(ConfigMapProjection {
                    name: "kube-root-ca.crt".into(),
                    items: Some(vec![KeyToPath {
                        key: "ca.crt".into(),
                        path: "ca.crt".into(),
                        mode: None,
                    }]),
                    optional: None,
                }),
                ..VolumeProjection::default()
            },
            VolumeProjection {
                downward_api: Some(DownwardAPIProjection {
                    items: Some(vec![DownwardAPIVolumeFile {
                        path: "namespace".into(),
                        field_ref: Some(ObjectFieldSelector {
                            api_version: Some("v1".into()),
                            field_path: "metadata.namespace".into(),
                        }),
                        ..DownwardAPIVolumeFile::default()
                    }]),
                }),
                ..VolumeProjection::default()
            },
        ]),
    }
}

/// A volume with a whole Secret.
pub fn secret(name: &str, secret: String) -> Volume {
    Volume {
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(SECRET_MODE),
            ..SecretVolumeSource::default()
        }),
        ..named(name)
    }
}

/// A volume that lives and dies with the pod: on its node's disk unless `medium` is `Memory`, of at most `limit` bytes.
pub fn scratch(name: &str, medium: Option<&str>, limit: Option<i64>) -> Volume {
    Volume {
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(str::to_owned),
            size_limit: limit.map(quantity::of_bytes),
        }),
        ..named(name)
    }
}

/// A volume of this name that holds nothing yet.
pub fn named(name: &str) -> Volume {
    Volume {
        name: name.into(),
        ..Volume::default()
    }
}

/// Where a container finds a volume.
pub fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

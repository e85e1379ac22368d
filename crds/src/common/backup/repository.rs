//! Where backups are kept.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// Where backups and the log are kept. Exactly one of `s3`, `gcs`, `azure` and `volume` is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::one_store(),
    validation = rules::credentials_are_named(),
    validation = rules::a_volume_has_no_credentials(),
    validation = rules::a_volume_has_no_authority(),
    validation = rules::a_volume_is_not_immutable(),
)]
pub struct Repository {
    /// A bucket of Amazon's S3, or of a store that speaks its protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
    /// A bucket of Google Cloud Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcs: Option<Gcs>,
    /// A container of Azure Blob Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<Azure>,
    /// A volume of yours, for example on a file server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// What all names in the store begin with. Default: `<namespace>/<name>`. Nobody else may write there;
    /// a prefix that another set owns is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    #[x_kube(validation = rules::prefix())]
    pub prefix: Option<String>,
    /// Name of the Secret, in the same namespace, with the credentials of the store; a volume has none. Its
    /// keys are for S3 `accessKeyId`, `secretAccessKey` and, with temporary credentials, `sessionToken`; for
    /// Google `serviceAccount`, the JSON key file; for Azure `accessKey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::secret())]
    pub credentials: Option<String>,
    /// Certificates of the authority of the store. Then no other is trusted. Default: the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Authority>,
    /// Whether the store has to keep to it that nothing is overwritten: one that does not is refused.
    /// Default: false, and the status says which it is. Not for a volume: whoever mounts it can change files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
}

/// A bucket of S3.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// The bucket.
    #[schemars(length(max = 63))]
    #[x_kube(validation = rules::s3_bucket())]
    pub bucket: String,
    /// Where it is not Amazon's: `https://`, the host, and `:port` if it is not 443.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    #[x_kube(validation = rules::endpoint())]
    pub endpoint: Option<String>,
    /// Its region. Default: `us-east-1`, which stores without regions take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::region())]
    pub region: Option<String>,
    /// Whether the bucket is a part of the host name. Default: only at Amazon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_hosted: Option<bool>,
}

/// A bucket of Google Cloud Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gcs {
    /// The bucket.
    #[schemars(length(max = 222))]
    #[x_kube(validation = rules::gcs_bucket())]
    pub bucket: String,
}

/// A container of Azure Blob Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Azure {
    /// The storage account.
    #[schemars(length(max = 24))]
    #[x_kube(validation = rules::account())]
    pub account: String,
    /// The container.
    #[schemars(length(max = 63))]
    #[x_kube(validation = rules::container())]
    pub container: String,
}

/// A volume claim of yours, in the same namespace, which you make and which stays when the resource is deleted.
///
/// The backup container of every instance mounts it, and so do restores and drills: where these are on several
/// nodes its access mode has to be `ReadWriteMany`. A pod waits until its volume is there: a file server that is
/// away keeps instances from starting, and a bucket does not. Files belong to user and group 999.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Name of the claim. Never that of an instance's data: the backups would go with it.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::claim())]
    pub claim_name: String,
    /// Folder in the volume, in which `prefix` is a folder. It is made. Default: the volume's top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    #[x_kube(validation = rules::path())]
    pub path: Option<String>,
}

/// Certificates in PEM form. Exactly one of the fields is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::one_authority())]
pub struct Authority {
    /// The certificates themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    #[x_kube(validation = rules::certificate())]
    pub certificate: Option<String>,
    /// A key of a ConfigMap in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<KeyRef>,
    /// A key of a Secret in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeyRef>,
}

/// A key of an object in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct KeyRef {
    /// Name of the object.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object())]
    pub name: String,
    /// The key. Default: `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::key())]
    pub key: Option<String>,
}

impl KeyRef {
    /// The key.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or("ca.crt")
    }
}

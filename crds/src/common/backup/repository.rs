//! Where backups are kept.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// Where backups and the log are kept. Exactly one of `s3`, `gcs` and `azure` is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::one_store())]
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
    /// What all names in the store begin with. Default: `<namespace>/<name>`. Nobody else may write there;
    /// a prefix that another set owns is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    #[x_kube(validation = rules::prefix())]
    pub prefix: Option<String>,
    /// Name of the Secret, in the same namespace, with the credentials of the store. Its keys are for S3
    /// `accessKeyId`, `secretAccessKey` and, with temporary credentials, `sessionToken`; for Google
    /// `serviceAccount`, the JSON key file; for Azure `accessKey`.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::secret())]
    pub credentials: String,
    /// Certificates of the authority of the store. Then no other is trusted. Default: the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Authority>,
    /// Whether the store has to keep to it that nothing is overwritten: one that does not is refused.
    /// Default: false, and the status says which it is.
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

//! How a repository is reached.

use mainstay_backup::spec::RepositorySpec;

/// Where certificates of a store's authority are that the resource does not hold itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorityRef {
    /// In a ConfigMap: its name, and the key.
    ConfigMap(String, String),
    /// In a Secret: its name, and the key.
    Secret(String, String),
}

/// What a container needs to reach a repository, besides settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Name of the Secret with the store's credentials; a volume has none.
    pub credentials: Option<String>,
    /// Name of the claim of the volume, where it is one.
    pub claim: Option<String>,
    /// Keys of it that are mounted: others in that Secret are none of the container's business.
    pub keys: &'static [&'static str],
    /// Where certificates are.
    pub authority: Option<AuthorityRef>,
    /// Port of the store; none where it is a volume, which the node reaches.
    pub port: Option<u16>,
}

/// A store.
#[derive(Clone, Debug)]
pub struct Store {
    /// What a container is told of it.
    pub spec: RepositorySpec,
    /// What it needs besides.
    pub access: Access,
    /// Where it is, for people.
    pub place: String,
}

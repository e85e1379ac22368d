//! What differs from engine to engine.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::{ByteString, NamespaceResourceScope};
use kube::Resource;
use kube::core::object::HasStatus;
use mainstay_backup::shred::ShredSettings;
use mainstay_crds::access::Access;
use mainstay_crds::common::Deletion;
use mainstay_crds::operation::Operation;
use mainstay_crds::restore::Restore;
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::desired::credentials::{Credentials, CredentialsError, Given};
use super::desired::revision::Revision;
use super::desired::store::Store;
use super::desired::{DesiredError, Objects, Surroundings, Template};
use super::observe::kinds;
use super::status::SetStatus;
use super::steer::{Steered, Steering};
use super::validated::Common;
use crate::access::Password;
use crate::apply::Object;
use crate::backups::drill::{Drill, Start};
use crate::events::Happening;
use crate::outcome::Wait;
use crate::pki::LeafSpec;
use crate::watch::Kind;

/// Where a probe goes, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// Address of the Service.
    pub address: IpAddr,
    /// Host name that the certificate must bear.
    pub host: String,
    /// Trust in the set's authority, with the probe's own certificate.
    pub tls: Arc<ClientConfig>,
    /// With which it logs in, where a certificate is not enough.
    pub password: Option<Password>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Full version of the server, for example `17.6`.
    pub version: String,
}

/// What has run on the volume of an instance, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran<'a> {
    /// Name of the instance.
    pub name: &'a str,
    /// Its number.
    pub ordinal: u32,
    /// It is primary, by the Lease; of a set that leads itself by its own word, now or as it was noted last.
    pub is_seat: bool,
    /// Its pod is made from the template that is wanted.
    pub is_current: bool,
    /// Full version that runs now, as it says.
    pub runs: Option<&'a str>,
    /// Full version that was noted last.
    pub noted: Option<&'a str>,
}

/// What a resource says of its own end.
#[derive(Clone, Copy, Debug)]
pub struct Leaving<'a> {
    /// What is asked for.
    pub deletion: Option<&'a Deletion>,
    /// Whether it has backups.
    pub backups: bool,
}

/// An engine, as the operator has to know it. Never a value: what it answers depends on what it is given alone.
///
/// Everything is pure but [`Engine::probe`], [`Engine::greet`] and [`Engine::steer`], and the random numbers of [`Engine::credentials`].
pub trait Engine: Clone + Copy + Debug + Default + Send + Sync + 'static {
    /// The custom resource.
    type Resource: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + HasStatus<Status = Self::Status>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static;
    /// Its status: what every add-on says ([`SetStatus`]), and the engine's own.
    type Status: Serialize + Clone + Debug + Default + PartialEq + Send + Sync + 'static;
    /// The resource as it is meant: defaults applied, quantities read, illegal combinations unrepresentable.
    type Validated: Clone + Debug + Send + Sync + 'static;
    /// Something that is wrong with a resource: a sentence that says what to write instead.
    type Problem: Display + Send;
    /// Images of the versions that the operator runs.
    type Catalogue: Clone + Debug + Send + Sync + 'static;
    /// Why a probe failed: a sentence for the condition `Ready`.
    type ProbeError: Error + Send + Sync + 'static;

    /// What is kept between passes of a set that leads itself, by one process: connections, what was found last.
    type Helm: Default + Debug + Send + 'static;

    /// Kind of the resource.
    const KIND: &'static str;
    /// The add-on's name in labels and derived names: the kind in lower case.
    const APP: &'static str;
    /// Name of the engine's container.
    const CONTAINER: &'static str;
    /// Port on which clients reach it.
    const PORT: u16;
    /// Keys that stand in the application's Secret at times only, and are taken back.
    const PASSING: &'static [&'static str];
    /// Whether resources of kind `Access` are looked after.
    const LOGINS: bool = false;
    /// Why no operation changes the password of an application, in a sentence that says what to do instead; none: one does.
    const ONE_PASSWORD: Option<&'static str>;
    /// What a user does about a role or a database to which what is acknowledged is worth less than it should be: a
    /// sentence without its point.
    const STRENGTHEN: &'static str;
    /// Whether sets go back in time in place. Default: they do not, and a [`Restore`] of one is refused.
    const IN_PLACE: bool = false;
    /// Whether what is written is in the repository as it comes, so that any moment can be recovered. Else the moments
    /// are those of backups.
    const LOGGED: bool = true;

    // What is asked for, and what is said of it.

    /// The engine's part of the operators' catalogue.
    ///
    /// # Errors
    /// Why the text is none.
    fn catalogue(text: &str) -> Result<Self::Catalogue, String>;

    /// What the resource means, or everything that is wrong with it.
    fn validate(
        resource: &Self::Resource,
        catalogue: &Self::Catalogue,
    ) -> Result<Self::Validated, Vec<Self::Problem>>;

    /// What every engine has of that.
    fn common(validated: &Self::Validated) -> Common;

    /// What the resource says of its own end, also when it is otherwise wrong.
    fn leaving(resource: &Self::Resource) -> Leaving<'_>;

    /// Take over what is not in the resource: `image`, where its pods or its status pin one, the highest number of
    /// a `history` that was claimed of volumes which are set aside ([`crate::backups::restores::floors`]), and what the status
    /// says that it was.
    fn settle(
        validated: &mut Self::Validated,
        image: Option<String>,
        history: u64,
        before: &Self::Status,
    );

    /// Which instances have data that the engine which is asked for cannot use, by their numbers, and why, in words without a
    /// point: unless it is the primary, such an instance gets a new volume. Default: none has.
    ///
    /// # Errors
    /// What is wrong with the resource beside what has run already: nothing is changed then.
    fn unusable(
        _validated: &Self::Validated,
        _ran: &[Ran<'_>],
    ) -> Result<BTreeMap<u32, String>, Vec<Self::Problem>> {
        Ok(BTreeMap::new())
    }

    /// The set is made once more from its own repository, as this restore says. Default: no engine without
    /// [`Engine::IN_PLACE`] does that.
    ///
    /// # Errors
    /// What is wrong with the restore.
    fn found(
        _validated: &mut Self::Validated,
        _restore: &Restore,
    ) -> Result<(), Vec<Self::Problem>> {
        Ok(())
    }

    /// What every add-on says, of a status.
    fn common_status(status: &Self::Status) -> SetStatus;

    /// The status, with what the engine has of its own to say. `validated`: none of a resource that is wrong; `live`:
    /// every child but pods and claims.
    fn status(
        common: SetStatus,
        validated: Option<&Self::Validated>,
        live: &[Object],
    ) -> Self::Status;

    /// What is waited for besides the instances.
    fn waits(_validated: &Self::Validated, _live: &[Object]) -> Vec<Wait> {
        Vec::new()
    }

    // What is made of it.

    /// Kinds of children that sets of other engines do not have.
    fn kinds() -> Vec<Kind> {
        Vec::new()
    }

    /// Every kind that its sets have children of.
    fn all_kinds() -> Vec<Kind> {
        kinds::all(&Self::kinds())
    }

    /// Whether instances, and who is primary among them, do without the object of that name.
    fn is_optional(_set: &str, _name: &str) -> bool {
        false
    }

    /// The objects of a set, without pods, claims, Lease and Secrets.
    ///
    /// # Errors
    /// Then nothing is applied or pruned in this pass.
    fn objects(
        validated: &Self::Validated,
        around: &Surroundings<'_>,
    ) -> Result<Objects, DesiredError>;

    /// The revision of its pods. The same resource has the same in every release of the operator.
    fn revision(validated: &Self::Validated) -> Revision;

    /// The pod of an instance.
    fn pod(validated: &Self::Validated, instance: &str, template: &Template<'_>) -> Pod;

    /// Names of Services that lead to instances, besides those that every set has: instances' certificates bear them.
    fn services(_validated: &Self::Validated) -> Vec<String> {
        Vec::new()
    }

    /// Certificates besides those of instances, by names from which those of their Secrets follow
    /// ([`crate::names::certificate`]).
    fn certificates(_validated: &Self::Validated) -> BTreeMap<String, LeafSpec> {
        BTreeMap::new()
    }

    /// Secrets with credentials: the application's, and what the agents must know of it.
    ///
    /// # Errors
    /// When there are no random numbers.
    fn credentials(
        validated: &Self::Validated,
        given: &Given<'_>,
    ) -> Result<Credentials, CredentialsError>;

    /// With which password the probe logs in, of the Secret with passwords of the set's own users
    /// ([`crate::names::internal_secret`]). Default: with none, its certificate says who it is.
    fn probe_password(_internal: &BTreeMap<String, ByteString>) -> Option<Password> {
        None
    }

    /// What is wrong with a login, in sentences that say what to write instead.
    fn refuses(_access: &Access) -> Vec<String> {
        vec![format!("there are no logins of kind {}", Self::KIND)]
    }

    // Sets that lead themselves (`Common::self_led`).

    /// Look at all members, do what is next for them as one, and say whom else may be disturbed. It has to end by itself
    /// soon, and goes on from wherever it was left.
    fn steer(
        _helm: &mut Self::Helm,
        _steering: Steering<'_, Self>,
    ) -> impl Future<Output = Steered> + Send {
        std::future::ready(Steered::default())
    }

    /// Put what was found in the status.
    fn found_out(_status: &mut Self::Status, _before: &Self::Status, _helm: &Self::Helm) {}

    /// What of the difference between two statuses of a set that leads itself is worth an event, besides what is told of
    /// every set.
    fn happenings(_before: &Self::Status, _now: &Self::Status) -> Vec<Happening> {
        Vec::new()
    }

    // Backups. An engine has none as long as `Common::backup` is never there.

    /// What a drill is told; none of an engine without drills.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    fn drill_map(
        _validated: &Self::Validated,
        _start: &Start,
    ) -> Result<Option<ConfigMap>, serde_json::Error> {
        Ok(None)
    }

    /// The pod of a drill.
    fn drill_pod(
        _validated: &Self::Validated,
        _drill: &Drill,
        _operator_image: &str,
    ) -> Option<Pod> {
        None
    }

    /// The store whose copies of keys an operation destroys.
    ///
    /// # Errors
    /// What is wrong with the operation, in sentences.
    fn store(_operation: &Operation) -> Result<Store, String> {
        Err(format!(
            "there are no backups of a {} yet, so there are no keys of any",
            Self::KIND
        ))
    }

    /// The pod that removes copies of keys; none of an engine without a [`Engine::store`]. Metadata and policy are
    /// [`super::desired::shred`]'s.
    ///
    /// # Errors
    /// When its settings cannot be written as JSON.
    fn shred_pod(
        _operation: &Operation,
        _settings: &ShredSettings,
        _store: &Store,
        _operator_image: &str,
    ) -> Result<Option<Pod>, serde_json::Error> {
        Ok(None)
    }

    // How it is spoken with.

    /// One round trip of a client: connect, look whether it is a primary, write something as durably as clients do,
    /// close. It has to end by itself.
    fn probe(target: &Target) -> impl Future<Output = Result<Answer, Self::ProbeError>> + Send;

    /// What both sides say on a new connection before TLS begins. Default: nothing.
    ///
    /// # Errors
    /// In a sentence, when the other side says something else. `host`: whom it is said to.
    fn greet(_tcp: &mut TcpStream, _host: &str) -> impl Future<Output = Result<(), String>> + Send {
        std::future::ready(Ok(()))
    }
}

//! What differs from engine to engine.

use std::error::Error;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::net::TcpStream;

use super::observe::kinds;
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
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Full version of the server, for example `17.6`.
    pub version: String,
}

/// An engine, as the operator has to know it. Never a value: what is asked of it depends on what is given alone.
pub trait Engine: Clone + Copy + Debug + Default + Send + Sync + 'static {
    /// Why a probe failed: a sentence for the condition `Ready`.
    type ProbeError: Error + Send + Sync + 'static;

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
    /// What a user does about a role or a database to which what is acknowledged is worth less than it should be, and
    /// what comes of it: the second half of a sentence.
    const STRENGTHEN: &'static str;

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

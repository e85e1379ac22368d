//! Have the endpoints of the primary Service lead to the own pod. I/O; the rule is in
//! [`super::slice`].

use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::follow::{Seen, follow};
use super::slice::{Target, pointed};
use crate::names;

/// Longest time for a write, and the pause after one.
const WRITE: Duration = Duration::from_secs(2);

/// Where the endpoints shall lead, and which.
#[derive(Clone, Debug)]
pub struct Primary {
    /// Namespace of the set.
    pub namespace: String,
    /// Name of the set.
    pub set: String,
    /// Name of the own instance.
    pub instance: String,
    /// Address of the own pod.
    pub address: String,
    /// Name of the engine's port, as in the Service.
    pub port_name: String,
    /// The engine's port.
    pub port: u16,
}

/// Writes the endpoints when asked to; at rest it costs nothing.
pub struct Pointer {
    primary: Primary,
    slices: Api<EndpointSlice>,
    slice: Option<watch::Receiver<Option<Seen<EndpointSlice>>>>,
    /// Not again before then.
    next: Option<Instant>,
    why: String,
}

impl Pointer {
    /// At rest.
    pub fn new(client: Client, primary: Primary) -> Self {
        Self {
            slices: Api::namespaced(client, &primary.namespace),
            primary,
            slice: None,
            next: None,
            why: String::new(),
        }
    }

    /// Watch the endpoints no more.
    pub fn rest(&mut self) {
        self.slice = None;
    }

    /// Whether clients are led to the own pod, as far as was seen; unknown, it is none.
    pub fn leads_here(&self) -> bool {
        let Some(seen) = self.slice.as_ref().and_then(|s| s.borrow().clone()) else {
            return false;
        };
        let endpoints = seen.object.into_iter().flat_map(|slice| slice.endpoints);
        let mut addresses = endpoints.flat_map(|endpoint| endpoint.addresses);
        addresses.any(|address| address == self.primary.address)
    }

    /// When the endpoints have changed, or may be written again; never while at rest.
    pub async fn changed(&mut self) {
        if let Some(slice) = &mut self.slice
            && slice.changed().await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }

    /// Have the endpoints lead to this pod under an epoch, once: call it again when they have
    /// [`Pointer::changed`].
    pub async fn point(&mut self, epoch: u64) {
        let slice = self.slice.get_or_insert_with(|| {
            follow(
                self.slices.clone(),
                names::primary_service(&self.primary.set),
            )
        });
        if self.next.is_some_and(|next| Instant::now() < next) {
            return;
        }
        let Ok(address) = self.primary.address.parse() else {
            return;
        };
        let target = Target {
            address,
            instance: self.primary.instance.clone(),
            port_name: self.primary.port_name.clone(),
            port: self.primary.port,
            epoch,
        };
        let seen = slice.borrow_and_update().clone();
        let Some(new) = seen.and_then(|s| pointed(&s.object?, &target)) else {
            return;
        };
        let name = new.name_any();
        let params = PostParams::default();
        match timeout(WRITE, self.slices.replace(&name, &params, &new)).await {
            Ok(Ok(_)) => {
                tracing::info!(%name, %address, epoch, "the endpoints are written");
                // The watch has to show it first.
                self.next = Some(Instant::now() + WRITE);
                self.why.clear();
            }
            Ok(Err(error)) => self.not_pointed(said(&error)),
            Err(_) => self.not_pointed("the API server does not answer".to_owned()),
        }
    }

    /// Said once, not at every try.
    fn not_pointed(&mut self, why: String) {
        if self.why != why {
            tracing::warn!(%why, "the endpoints could not be written");
        }
        self.next = Some(Instant::now() + WRITE);
        self.why = why;
    }
}

/// What the API server said, without the object it said it with.
pub(crate) fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

//! What passes share, and what is remembered of a set between them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use kube::Client;

use crate::backoff::{Backoffs, Policy};
use crate::events::Events;
use crate::operator::engine::Engine;
use crate::operator::observe::identity::Identities;
use crate::operator::observe::servers::Servers;
use crate::operator::run::Settings;
use crate::operator::talk::Talk;
use crate::rollout::Expectations;
use crate::telemetry::metrics::Metrics;
use crate::watch::{Cache, Nodes, SetKey};

/// What every pass shares.
pub struct Context<E: Engine> {
    /// Client of the API server.
    pub client: Client,
    /// What the operator was told when it started.
    pub settings: Settings<E>,
    /// Children by set.
    pub cache: Arc<Cache>,
    /// Nodes: their zones, and which take pods.
    pub nodes: Nodes,
    /// Addresses of the API servers.
    pub servers: Servers,
    pub(super) talk: Talk,
    pub(crate) events: Events,
    pub(super) identities: Identities,
    pub(super) metrics: Arc<Metrics>,
    pub(super) backoffs: Backoffs<SetKey>,
    memory: Mutex<HashMap<SetKey, Memory<E>>>,
    /// Sets whose keys of backups somebody else has made, who need not have labelled them.
    keys: Mutex<HashSet<SetKey>>,
}

/// What is remembered of a set between passes. Losing it costs nothing but a few requests.
#[derive(Debug, Default)]
pub(super) struct Memory<E: Engine> {
    /// The resource that it is of: another one may have the name later.
    pub(super) uid: String,
    pub(super) expectations: Expectations,
    /// What the engine keeps of a set that leads itself.
    pub(super) helm: E::Helm,
    /// When this process looked at it first.
    pub(super) first: Option<Instant>,
    /// The status as written last: the cached resource may be older.
    pub(super) written: Option<Written<E>>,
}

/// A status as it is known to stand.
#[derive(Clone, Debug)]
pub(super) struct Written<E: Engine> {
    /// The resource that it is of.
    pub(super) uid: String,
    pub(super) status: E::Status,
    /// When this process wrote it, if it did.
    pub(super) at: Option<Instant>,
}

impl<E: Engine> Context<E> {
    /// A context without any set yet.
    pub fn new(
        client: Client,
        settings: Settings<E>,
        cache: Arc<Cache>,
        talk: Talk,
        events: Events,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            client,
            settings,
            cache,
            nodes: Nodes::default(),
            servers: Servers::default(),
            talk,
            events,
            identities: Identities::default(),
            metrics,
            backoffs: Backoffs::new(Policy::default()),
            memory: Mutex::default(),
            keys: Mutex::default(),
        }
    }

    /// A set is gone: end conversations with it, forget what was remembered.
    pub fn forget(&self, set: &SetKey) {
        self.talk.retain(|other| other != set);
        self.identities.retain(|other| other != set);
        self.backoffs.succeeded(set);
        self.with_memory(|memory| memory.remove(set));
        self.with_keys(|keys| keys.remove(set));
        self.metrics.service.forget(&set.namespace, &set.name);
        self.metrics.backups.forget(&set.namespace, &set.name);
        self.metrics.drills.forget(&set.namespace, &set.name);
    }

    pub(super) fn with_keys<T>(&self, work: impl FnOnce(&mut HashSet<SetKey>) -> T) -> T {
        work(&mut self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn with_memory<T>(
        &self,
        work: impl FnOnce(&mut HashMap<SetKey, Memory<E>>) -> T,
    ) -> T {
        work(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

//! Poolers hold clients back before this instance stops taking writes, and let them go on when one does. I/O.

use mainstay_shared::election::message::Wanted;

use super::super::poolers::Poolers;
use super::Machine;

impl Machine {
    /// The set's poolers, if it has any.
    fn poolers(&self) -> Option<Poolers> {
        let (config, _) = self.mounts.config.as_ref()?;
        let pooler = config.engine.pooler?;
        let tls = self.client_tls.borrow().clone()?;
        let seconds = pooler.pause_seconds;
        Some(Poolers::new(&config.set, &config.namespace, seconds, tls))
    }

    /// Whom to ask before an instance that takes writes stops doing so. They are told again when one
    /// does, be it this one.
    pub(super) fn poolers_to_pause(&mut self) -> Option<Poolers> {
        let poolers = self.poolers().filter(|_| self.is_open());
        if poolers.is_some() {
            self.told_poolers = None;
        }
        poolers
    }

    /// Clients are let in: those that poolers hold back may go on.
    pub(super) fn tell_poolers(&mut self) {
        let leads = self.is_open() && self.configuration.is_open();
        let stays = self.work.is_none() && self.handing.is_none() && !self.leaving;
        if !leads || !stays || self.telling.is_some() {
            return;
        }
        let Wanted::Primary { ballot, .. } = self.wanted() else {
            return;
        };
        let now = (ballot, self.engine.starts());
        if self.told_poolers.as_ref() == Some(&now) {
            return;
        }
        let Some(poolers) = self.poolers() else {
            return;
        };
        self.told_poolers = Some(now);
        self.telling = Some(Box::pin(async move { poolers.resume().await }));
    }
}

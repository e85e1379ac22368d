//! Commits that wait while replicas lack too much, with `durability: async` and a limit. I/O; when they
//! wait is decided in [`super::super::throttle`].

use std::time::Duration;

use mainstay_crds::common::Durability;
use mainstay_shared::agent::tell::set;
use mainstay_shared::election::message::Wanted;

use super::super::monitor::CALM;
use super::super::render::{any_of, member};
use super::super::sql::Vitals;
use super::super::throttle::Throttle;
use super::Machine;

/// Pause between looks at a primary whose replicas must not lack much; and when they nearly do.
const BRISK: Duration = Duration::from_millis(200);
const CLOSE: Duration = Duration::from_millis(50);

impl Machine {
    /// Most bytes that replicas may lack, where commits do not wait for them.
    fn max_lag(&self) -> Option<u64> {
        let (config, _) = self.mounts.config.as_ref()?;
        config
            .max_lag
            .filter(|_| config.durability == Durability::Async)
    }

    /// See what replicas lack, and be quicker about it the more that is.
    pub(super) fn look_at_lag(&mut self, starts: u64, vitals: &Vitals) {
        let Some(limit) = self.max_lag() else {
            set(&self.monitor.pace, CALM);
            return;
        };
        if self.throttle.0 != starts {
            self.throttle = (starts, Throttle::default());
        }
        let flushed = vitals.flushed.iter();
        let flushed = flushed.filter_map(|(name, end)| Some((member(name)?, *end)));
        let throttle = &mut self.throttle.1;
        let before = throttle.is_on();
        throttle.look(limit, vitals.position, &flushed.collect());
        if throttle.is_on() != before {
            let lacks = throttle.lacks();
            tracing::info!(
                on = !before,
                lacks,
                limit,
                "commits wait for a replica, or no longer"
            );
        }
        let pace = if throttle.is_close(limit) {
            CLOSE
        } else {
            BRISK
        };
        set(&self.monitor.pace, pace);
    }

    /// Whether commits wait since replicas lack too much; none where they never would.
    pub(super) fn is_throttling(&self) -> Option<bool> {
        self.max_lag()?;
        matches!(self.wanted(), Wanted::Primary { .. }).then(|| self.throttle.1.is_on())
    }

    /// For whom commits wait since replicas lack too much. Only of a primary whose door is open and
    /// whose group has nobody wait: elsewhere the group alone says it.
    pub(super) fn throttled(&self, wanted: &Wanted) -> Option<String> {
        let Wanted::Primary {
            group: Some(group),
            open: true,
            ..
        } = wanted
        else {
            return None;
        };
        let starts = self.engine.starts();
        let on = self.max_lag().is_some() && self.throttle.0 == starts && self.throttle.1.is_on();
        let charter = self.charter().filter(|_| on && group.acks == 0)?;
        let others: Vec<_> = charter
            .members
            .iter()
            .filter(|m| **m != group.primary)
            .collect();
        (!others.is_empty()).then(|| any_of(others))
    }
}

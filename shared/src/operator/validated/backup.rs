//! Backups as every engine means them alike.

use jiff::SignedDuration;
use mainstay_backup::crypto::{EncryptionError, EncryptionSpec};
use mainstay_backup::retention::Policy;
use mainstay_crds::common::backup::rules;
use mainstay_crds::common::backup::{Backups, Limits};
use mainstay_crds::common::quantity;

use super::Problem;
use super::read::within;
use crate::backups::cron::{Cron, CronError};
use crate::metadata::SetId;

/// Days of the recovery window unless said.
const DAYS: i32 = 14;
/// What is said of a schedule that is never due.
pub const NO_SUCH_DAY: &str = "there is no such day: write one that every year has, for example \"30 2 1 * *\" for the first of each month";
/// Collects what is wrong with one block.
pub struct Judge<'a> {
    /// The block, for example `backup`.
    pub at: &'static str,
    /// What is wrong so far.
    pub problems: &'a mut Vec<Problem>,
}

impl Judge<'_> {
    /// Says `sentence` of the field.
    pub fn say(&mut self, field: &str, sentence: &'static str) {
        self.problems.push(Problem::Backup {
            field: format!("{}{field}", self.at),
            sentence,
        });
    }

    /// Says `sentence` of the field unless it holds.
    pub fn check(&mut self, holds: bool, field: &str, sentence: &'static str) {
        if !holds {
            self.say(field, sentence);
        }
    }
}

/// To whom backups are encrypted.
pub fn encryption(asked: &Backups, judge: &mut Judge<'_>) -> EncryptionSpec {
    let spec = EncryptionSpec {
        recipients: asked.encryption.recipients.clone(),
        i_accept_key_loss: asked.encryption.i_accept_key_loss.unwrap_or(false),
    };
    match spec.escrow() {
        Ok(_) => {}
        Err(EncryptionError::NoEscrow) => judge.say(".encryption", rules::ESCROW),
        Err(_) => judge.say(".encryption.recipients", rules::RECIPIENTS),
    }
    spec
}

/// When backups are due; once a day unless said.
pub fn cron(asked: &Backups, set: Option<&SetId>, judge: &mut Judge<'_>) -> Option<Cron> {
    let text = asked.schedule.as_ref().and_then(|s| s.cron.as_ref());
    let Some(text) = text else {
        return Some(Cron::daily(&set?.uid));
    };
    let parsed = Cron::parse(text);
    match parsed {
        Ok(_) => {}
        Err(CronError::Syntax) => judge.say(".schedule.cron", rules::CRON),
        Err(CronError::Never) => judge.say(".schedule.cron", NO_SUCH_DAY),
    }
    parsed.ok()
}

/// What is kept.
pub fn policy(asked: &Backups, judge: &mut Judge<'_>) -> Policy {
    let retention = asked.retention.clone().unwrap_or_default();
    let days = match (retention.days, retention.count) {
        (None, None) => Some(DAYS),
        (days, _) => days,
    };
    judge.check(
        days.is_none_or(|n| rules::DAYS.contains(&n)),
        ".retention.days",
        rules::RETENTION_DAYS,
    );
    judge.check(
        retention.count.is_none_or(|n| rules::COUNT.contains(&n)),
        ".retention.count",
        rules::RETENTION_COUNT,
    );
    Policy {
        window: days.map(|n| SignedDuration::from_hours(24 * i64::from(n))),
        count: retention.count.and_then(|n| u32::try_from(n).ok()),
    }
}

/// Bytes in a second, and requests at once.
pub fn limits(asked: Option<&Limits>, judge: &mut Judge<'_>) -> (Option<u64>, Option<u32>) {
    let Some(asked) = asked else {
        return (None, None);
    };
    let bandwidth = asked.bandwidth.as_ref().map(|q| {
        let bytes = quantity::whole(q).ok();
        within(bytes, rules::MIN_BANDWIDTH, rules::MAX_BANDWIDTH)
    });
    judge.check(
        bandwidth != Some(None),
        ".limits.bandwidth",
        rules::BANDWIDTH,
    );
    let requests = asked.concurrency;
    judge.check(
        requests.is_none_or(|n| rules::REQUESTS.contains(&n)),
        ".limits.concurrency",
        rules::CONCURRENCY,
    );
    let bandwidth = bandwidth.flatten().and_then(|n| u64::try_from(n).ok());
    (bandwidth, requests.and_then(|n| u32::try_from(n).ok()))
}

//! A set as it is, as far as its backups care.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mainstay_backup::api::{BackupEntry, Order, Report};
use mainstay_crds::backup::Backup;

/// The container beside an instance.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Name of the instance.
    pub name: &'a str,
    /// Uid of its pod.
    pub pod_uid: &'a str,
    /// What it says, or why it does not answer.
    pub report: Result<&'a Report, &'a str>,
}

/// A set as it is.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Now.
    pub now: Timestamp,
    /// Kind and name of the set, for sentences.
    pub set: (&'a str, &'a str),
    /// Where its repository is, for people; none: it has none.
    pub repository: Option<&'a str>,
    /// Containers that are there.
    pub members: &'a [Member<'a>],
    /// Name of the instance that is primary.
    pub seat: &'a str,
    /// Names of instances that a backup may be made from, the best first.
    pub candidates: &'a [&'a str],
    /// Why there is none, when there is none.
    pub unsuitable: &'a str,
    /// So many increments after a full backup.
    pub chain: u32,
    /// Why an order was refused, by its text.
    pub refusals: &'a BTreeMap<String, String>,
}

impl<'a> Setting<'a> {
    /// What the container beside the primary says: what counts of the archive and the catalogue.
    pub fn primary(&self) -> Option<Member<'a>> {
        self.members.iter().find(|m| m.name == self.seat).copied()
    }

    /// Its report.
    pub fn primary_report(&self) -> Option<&'a Report> {
        self.primary()?.report.ok()
    }

    /// Whether it has a repository at all.
    pub fn wanted(&self) -> bool {
        self.repository.is_some()
    }

    /// Every report.
    pub fn reports(&self) -> impl Iterator<Item = &'a Report> {
        self.members.iter().filter_map(|m| m.report.ok())
    }

    /// The backup that was made for one of the orders of this object.
    pub(super) fn made_for(&self, backup: &Backup) -> Option<&'a BackupEntry> {
        let mut entries = self.reports().flat_map(|r| &r.catalogue);
        entries.find(|e| e.order.as_deref().is_some_and(|o| is_of(o, backup)))
    }
}

/// What is to be asked of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Name of the instance.
    pub instance: String,
    /// Uid of its pod.
    pub pod_uid: String,
    /// Under this name, one at a time.
    pub what: String,
    /// The same again is only asked under another token.
    pub token: String,
    /// The order.
    pub order: Order,
}

impl Ask {
    pub(super) fn of(member: Member<'_>, what: &str, token: &str, order: Order) -> Self {
        let nonce = member.report.map_or("", |r| r.nonce.as_str());
        Self {
            instance: member.name.to_owned(),
            pod_uid: member.pod_uid.to_owned(),
            what: what.to_owned(),
            // A process that has started anew has forgotten what it was asked.
            token: format!("{nonce} {token}"),
            order,
        }
    }
}

/// Text of an order: that of each attempt is another, so that no result is taken for that of a later one.
pub(super) fn order(backup: &Backup, attempt: i32) -> String {
    let uid = backup.metadata.uid.as_deref().unwrap_or_default();
    format!("{uid}.{attempt}")
}

/// Whether it is an order of this object.
pub(super) fn is_of(order: &str, backup: &Backup) -> bool {
    let uid = backup.metadata.uid.as_deref().filter(|uid| !uid.is_empty());
    uid.is_some_and(|uid| {
        let rest = order.strip_prefix(uid);
        rest.is_some_and(|rest| rest.starts_with('.'))
    })
}

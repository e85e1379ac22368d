//! Backups as every engine means them alike.

use jiff::SignedDuration;
use mainstay_backup::crypto::{EncryptionError, EncryptionSpec};
use mainstay_backup::ids::{BackupId, OwnerId};
use mainstay_backup::retention::Policy;
use mainstay_backup::spec::RepositorySpec;
use mainstay_crds::common::backup::{Backups, Drill, Limits, Recovery};
use mainstay_crds::common::backup::{checks, rules};
use mainstay_crds::common::rules::{MAX_CPU_MILLIS, MAX_MEMORY, MIN_CPU_MILLIS, MIN_MEMORY};
use mainstay_crds::common::{Deletion, quantity, sentences};
use mainstay_crds::restore::Restore;

use super::read::within;
use super::repository::repository;
use super::{Drills, Problem, syntax};
use crate::backups::container::settings::Settings;
use crate::backups::cron::{Cron, CronError};
use crate::metadata::SetId;
use crate::operator::desired::store::Access;

/// Days of the recovery window unless said.
const DAYS: i32 = 14;
/// What is said of a schedule that is never due.
const NO_SUCH_DAY: &str = "there is no such day: write one that every year has, for example \"30 2 1 * *\" for the first of each month";
/// What is said of a repository that would be read and written at once.
pub const ONTO_ITSELF: &str =
    "the set would write its backups where bootstrap.recovery reads others': write another prefix";
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

/// What the containers are told that make backups, and how their repository is reached; or what is wrong with it.
pub fn own(
    asked: &Backups,
    set: Option<&SetId>,
    judge: &mut Judge<'_>,
) -> Option<(Settings, Access)> {
    let encryption = encryption(asked, judge);
    let (bytes_per_second, concurrency) = limits(asked.limits.as_ref(), judge);
    let owner = asked.adopt.as_ref().map(|text| text.parse());
    judge.check(
        owner.as_ref().is_none_or(Result::is_ok),
        ".adopt",
        rules::OWNER,
    );
    let (repository, access) = repository(&asked.repository, set, judge)?;
    let set = set?;
    let settings = Settings {
        resource: format!("{}/{}", set.namespace, set.name),
        repository: RepositorySpec {
            bytes_per_second,
            concurrency,
            encryption: Some(encryption),
            ..repository
        },
        immutable: asked.repository.immutable.unwrap_or(false),
        adopt: owner.and_then(Result::ok),
        break_archive: false,
    };
    Some((settings, access))
}

/// What a set is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// For people: which resource is made.
    pub resource: String,
    /// The repository, for reading.
    pub repository: RepositorySpec,
    /// How it is reached.
    pub access: Access,
    /// The backup that is asked for; none: it is chosen.
    pub backup: Option<BackupId>,
}

/// What a set is made from; or what is wrong with it. The moment is the engine's to judge.
pub fn source(asked: &Recovery, set: Option<&SetId>, judge: &mut Judge<'_>) -> Option<Source> {
    judge.check(syntax::is_subdomain(&asked.keys), ".keys", rules::SECRET);
    let backup = asked.backup.as_ref().map(|id| id.parse());
    judge.check(
        backup.as_ref().is_none_or(Result::is_ok),
        ".backup",
        rules::BACKUP_ID,
    );
    if asked.repository.prefix.is_none() {
        judge.say(".repository.prefix", rules::PREFIX_IS_NAMED);
    }
    let (repository, access) = repository(&asked.repository, set, judge)?;
    let set = set?;
    Some(Source {
        resource: format!("{}/{}", set.namespace, set.name),
        repository: for_reading(repository),
        access,
        backup: backup.and_then(Result::ok),
    })
}

/// A repository that is only read: which recipients does not matter then; that it is encrypted does.
pub fn for_reading(repository: RepositorySpec) -> RepositorySpec {
    RepositorySpec {
        encryption: Some(EncryptionSpec {
            recipients: Vec::new(),
            i_accept_key_loss: true,
        }),
        ..repository
    }
}

/// A set goes back where it is, in its own repository: which backup is asked for, if one is, and the id by which the set
/// owns the repository. Or what is wrong with it; the moment is the engine's to judge.
pub fn back(asked: &Restore, judge: &mut Judge<'_>) -> Option<(Option<BackupId>, OwnerId)> {
    let backup = asked.spec.backup.as_ref().map(|id| id.parse());
    judge.check(
        backup.as_ref().is_none_or(Result::is_ok),
        ".backup",
        rules::BACKUP_ID,
    );
    let from = asked.status.as_ref().and_then(|s| s.from.as_ref());
    let owner = from.and_then(|from| from.owner.parse().ok());
    judge.check(owner.is_some(), ".status.from.owner", rules::OWNER);
    Some((backup.transpose().ok()?, owner?))
}

/// The repository that a set goes back to is asked for no more.
pub fn repository_is_read() -> Problem {
    Problem::Backup {
        field: "backup".to_owned(),
        sentence: rules::IN_USE,
    }
}

/// A last backup needs a repository.
pub fn last(deletion: Option<&Deletion>, backups: bool, problems: &mut Vec<Problem>) {
    let asked = deletion.and_then(|d| d.final_backup);
    if asked == Some(true) && !backups {
        problems.push(Problem::Backup {
            field: "deletion.finalBackup".to_owned(),
            sentence: rules::FINAL_BACKUP,
        });
    }
}

/// A set does not write where it is made from: its own backups would be another's.
pub fn apart(
    own: Option<&RepositorySpec>,
    other: Option<&RepositorySpec>,
    problems: &mut Vec<Problem>,
) {
    let place = |s: &RepositorySpec| (s.place.clone(), s.prefix.clone());
    if own
        .zip(other)
        .is_some_and(|(own, other)| place(own) == place(other))
    {
        problems.push(Problem::Backup {
            field: "backup.repository.prefix".to_owned(),
            sentence: ONTO_ITSELF,
        });
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
    parsed(text, ".schedule.cron", rules::CRON, judge)
}

/// A schedule in the field `at`; `sentence` says how one is written.
fn parsed(text: &str, at: &str, sentence: &'static str, judge: &mut Judge<'_>) -> Option<Cron> {
    let parsed = Cron::parse(text);
    match parsed {
        Ok(_) => {}
        Err(CronError::Syntax) => judge.say(at, sentence),
        Err(CronError::Never) => judge.say(at, NO_SUCH_DAY),
    }
    parsed.ok()
}

/// Drills, but for what each check asks, which is the engine's to judge: here only that it asks one thing, in the form
/// that it has.
pub fn drill(asked: &Drill, set: Option<&SetId>, judge: &mut Judge<'_>) -> Option<Drills> {
    let cron = match &asked.schedule {
        None => set.map(|set| Cron::weekly(&set.uid)),
        Some(text) => parsed(text, ".drill.schedule", rules::DRILL_CRON, judge),
    };
    for (i, check) in asked.checks.iter().enumerate() {
        for (field, sentence) in checks::problems(check) {
            judge.say(&format!(".drill.checks[{i}]{field}"), sentence);
        }
    }
    let size = asked.resources.clone().unwrap_or_default();
    let cpu = size.cpu.as_ref().map(|q| {
        let milli = quantity::milli(q).ok();
        within(milli, MIN_CPU_MILLIS, MAX_CPU_MILLIS)
    });
    judge.check(cpu != Some(None), ".drill.resources.cpu", sentences::CPU);
    let memory = size.memory.as_ref().map(|q| {
        let bytes = quantity::whole(q).ok();
        within(bytes, MIN_MEMORY, MAX_MEMORY)
    });
    judge.check(
        memory != Some(None),
        ".drill.resources.memory",
        sentences::MEMORY,
    );
    let seconds = asked.timeout_seconds();
    judge.check(
        rules::DRILL_SECONDS.contains(&seconds),
        ".drill.timeoutSeconds",
        rules::DRILL_TIMEOUT,
    );
    Some(Drills {
        cron: cron?,
        target: asked.target.unwrap_or_default(),
        cpu_milli: cpu.flatten(),
        memory: memory.flatten(),
        keep: asked.keep_on_failure.unwrap_or(false),
        seconds: u32::try_from(seconds).ok()?,
    })
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

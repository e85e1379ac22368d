//! Backups, and the beginning from one, as they are meant.

use jiff::Timestamp;
use mainstay_backup::crypto::EncryptionSpec;
use mainstay_backup::retention::Policy;
use mainstay_crds::common::backup::rules;
use mainstay_crds::common::backup::{
    Check, Drill as AskedDrill, DrillTarget, OnFull, RecoveryTarget,
};
use mainstay_crds::common::rules::{MAX_CPU_MILLIS, MAX_MEMORY, MIN_CPU_MILLIS, MIN_MEMORY};
use mainstay_crds::common::{Durability, quantity, sentences};
use mainstay_crds::postgres::Postgres;
use mainstay_crds::postgres::rules as postgres;
use mainstay_crds::restore::Restore;
use mainstay_shared::backups::cron::{Cron, CronError};
use mainstay_shared::metadata::SetId;
use mainstay_shared::names;
use mainstay_shared::operator::validated::backup::{
    Judge, NO_SUCH_DAY, cron, encryption, limits, policy,
};
use mainstay_shared::operator::validated::read::within;
use mainstay_shared::operator::validated::repository::{place, repository};
use mainstay_shared::operator::validated::{Backups, Drills, Problem, syntax};

pub use mainstay_shared::operator::desired::store::{Access, AuthorityRef};

use super::Validated;
use crate::backup::settings::{DrillCheck, RepositorySpec, RestoreSettings, Settings, Target};

/// When gaps of schedules are counted from; any day would do.
const EPOCH: Timestamp = Timestamp::UNIX_EPOCH;

/// What is said of a repository that would be read and written at once.
pub const ONTO_ITSELF: &str =
    "the set would write its backups where bootstrap.recovery reads others': write another prefix";

/// Backups. Defaults are applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Backup {
    /// What the containers are told.
    pub settings: Settings,
    /// What they need besides.
    pub access: Access,
    /// Where it is, for people.
    pub place: String,
    /// When backups are due.
    pub cron: Cron,
    /// Increments after a full backup.
    pub chain: u32,
    /// What is kept.
    pub policy: Policy,
    /// For how many days what increments need is kept.
    pub summary_days: u32,
    /// What gives way when log that waits has nearly filled a volume.
    pub on_full: OnFull,
    /// Whether new replicas get their data from here.
    pub seed: bool,
    /// Drills, if they are asked for.
    pub drill: Option<Drill>,
}

/// Drills. Defaults are applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Drill {
    /// When they are due.
    pub cron: Cron,
    /// Which moment they recover.
    pub target: DrillTarget,
    /// What must hold.
    pub checks: Vec<DrillCheck>,
    /// Processor time, in thousandths of a processor; none: as an instance.
    pub cpu_milli: Option<i64>,
    /// Memory in bytes; none: as an instance.
    pub memory: Option<i64>,
    /// Whether the pod of one that failed stays for a while.
    pub keep: bool,
    /// Seconds that one may take.
    pub seconds: u32,
}

impl Backup {
    /// What every engine has of them.
    pub fn common(&self) -> Backups {
        Backups {
            place: self.place.clone(),
            cron: self.cron.clone(),
            chain: self.chain,
            policy: self.policy,
            on_full: Some(self.on_full),
            drill: self.drill.as_ref().map(|drill| Drills {
                cron: drill.cron.clone(),
                target: drill.target,
                keep: drill.keep,
                seconds: drill.seconds,
            }),
        }
    }
}

/// A beginning from a repository. Defaults are applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    /// What the container is told.
    pub settings: RestoreSettings,
    /// What it needs besides.
    pub access: Access,
    /// Name of the Secret with what opens the backups.
    pub keys: String,
    /// Where it is, for people.
    pub place: String,
}

/// The backups that are asked for, or what is wrong with them.
pub fn backup(
    resource: &Postgres,
    set: Option<&SetId>,
    major: Option<u32>,
    durability: Durability,
    problems: &mut Vec<Problem>,
) -> Option<Backup> {
    let asked = resource.spec.backup.as_ref()?;
    let on_full = OnFull::effective(asked.on_full, durability);
    let mut judge = Judge {
        at: "backup",
        problems,
    };
    let encryption = encryption(asked, &mut judge);
    let cron = cron(asked, set, &mut judge);
    let incrementals = asked.schedule.as_ref().and_then(|s| s.incrementals);
    let chain = incrementals.unwrap_or(0);
    if !rules::CHAIN.contains(&chain) {
        judge.say(".schedule.incrementals", rules::INCREMENTALS);
    } else if chain > 0 && major.is_some_and(|m| m < postgres::INCREMENTAL_SINCE) {
        judge.say(".schedule.incrementals", postgres::NO_INCREMENTALS);
    }
    let policy = policy(asked, &mut judge);
    let wanted = asked.drill.as_ref();
    let drill = wanted.map(|wanted| drill(wanted, set, &mut judge));
    let (bytes_per_second, concurrency) = limits(asked.limits.as_ref(), &mut judge);
    let owner = asked.adopt.as_ref().map(|text| text.parse());
    judge.check(
        owner.as_ref().is_none_or(Result::is_ok),
        ".adopt",
        rules::OWNER,
    );
    let (repository, access) = repository(&asked.repository, set, &mut judge)?;
    let (set, cron) = (set?, cron?);
    Some(Backup {
        place: place(&repository),
        settings: Settings {
            resource: format!("{}/{}", set.namespace, set.name),
            repository: RepositorySpec {
                bytes_per_second,
                concurrency,
                encryption: Some(encryption),
                ..repository
            },
            immutable: asked.repository.immutable.unwrap_or(false),
            adopt: owner.and_then(Result::ok),
            break_archive: on_full == OnFull::BreakArchive,
        },
        access,
        on_full,
        // An increment may be late, or one may have failed.
        summary_days: (2 * cron.widest_gap(EPOCH) + 2).max(10),
        cron,
        chain: u32::try_from(chain).unwrap_or(0),
        seed: asked.seed_replicas.unwrap_or(false),
        policy,
        drill: drill.flatten(),
    })
}

/// The beginning that is asked for, or what is wrong with it.
pub fn recovery(
    resource: &Postgres,
    set: Option<&SetId>,
    major: Option<u32>,
    problems: &mut Vec<Problem>,
) -> Option<Recovery> {
    let asked = resource.spec.bootstrap.as_ref()?.recovery.as_ref()?;
    let mut judge = Judge {
        at: "bootstrap.recovery",
        problems,
    };
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
    let target = target(asked.target.as_ref(), ".target", &mut judge);
    let (repository, access) = repository(&asked.repository, set, &mut judge)?;
    let set = set?;
    Some(Recovery {
        place: place(&repository),
        settings: RestoreSettings {
            resource: format!("{}/{}", set.namespace, set.name),
            repository: RepositorySpec {
                // Which recipients does not matter for reading; that it is encrypted does.
                encryption: Some(EncryptionSpec {
                    recipients: Vec::new(),
                    i_accept_key_loss: true,
                }),
                ..repository
            },
            major: major?,
            backup: backup.and_then(Result::ok),
            target: target?,
            owner: None,
        },
        access,
        keys: asked.keys.clone(),
    })
}

/// What a set is made from that goes back in time in place: its own repository.
///
/// # Errors
/// What is wrong with the moment.
pub fn in_place(
    asked: &Restore,
    validated: &Validated,
) -> Result<Option<Recovery>, Vec<super::Problem>> {
    let Some(own) = &validated.backup else {
        return Ok(None);
    };
    let mut problems = Vec::new();
    let mut judge = Judge {
        at: "restore",
        problems: &mut problems,
    };
    let spec = &asked.spec;
    let target = target(spec.moment.as_ref(), ".moment", &mut judge);
    let backup = spec.backup.as_ref().map(|id| id.parse());
    judge.check(
        backup.as_ref().is_none_or(Result::is_ok),
        ".backup",
        rules::BACKUP_ID,
    );
    let from = asked.status.as_ref().and_then(|s| s.from.as_ref());
    let owner = from.and_then(|from| from.owner.parse().ok());
    judge.check(owner.is_some(), ".status.from.owner", rules::OWNER);
    let Some(target) = target.filter(|_| problems.is_empty()) else {
        return Err(problems.into_iter().map(Into::into).collect());
    };
    Ok(Some(Recovery {
        place: own.place.clone(),
        settings: RestoreSettings {
            resource: own.settings.resource.clone(),
            repository: RepositorySpec {
                encryption: Some(EncryptionSpec {
                    recipients: Vec::new(),
                    i_accept_key_loss: true,
                }),
                ..own.settings.repository.clone()
            },
            major: validated.major,
            backup: backup.and_then(Result::ok),
            target,
            owner,
        },
        access: own.access.clone(),
        keys: names::backup_keys(&validated.common.set.name),
    }))
}

/// A last backup needs a repository.
pub fn last(resource: &Postgres, problems: &mut Vec<Problem>) {
    let spec = &resource.spec;
    let asked = spec.deletion.as_ref().and_then(|d| d.final_backup);
    if asked == Some(true) && spec.backup.is_none() {
        problems.push(Problem::Backup {
            field: "deletion.finalBackup".to_owned(),
            sentence: rules::FINAL_BACKUP,
        });
    }
}

/// A set does not write where it is made from: its own backups would be another's.
pub fn apart(backup: Option<&Backup>, recovery: Option<&Recovery>, problems: &mut Vec<Problem>) {
    let place = |s: &RepositorySpec| (s.place.clone(), s.prefix.clone());
    let same = backup.zip(recovery).is_some_and(|(backup, recovery)| {
        place(&backup.settings.repository) == place(&recovery.settings.repository)
    });
    if same {
        problems.push(Problem::Backup {
            field: "backup.repository.prefix".to_owned(),
            sentence: ONTO_ITSELF,
        });
    }
}

fn drill(asked: &AskedDrill, set: Option<&SetId>, judge: &mut Judge<'_>) -> Option<Drill> {
    let cron = match &asked.schedule {
        None => set.map(|set| Cron::weekly(&set.uid)),
        Some(text) => {
            let parsed = Cron::parse(text);
            match parsed {
                Ok(_) => {}
                Err(CronError::Syntax) => judge.say(".drill.schedule", rules::DRILL_CRON),
                Err(CronError::Never) => judge.say(".drill.schedule", NO_SUCH_DAY),
            }
            parsed.ok()
        }
    };
    for (i, check) in asked.checks.iter().enumerate() {
        let says = check.sql.bytes().any(|b| !b.is_ascii_whitespace());
        judge.check(says, &format!(".drill.checks[{i}].sql"), rules::SQL);
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
    let checks = asked.checks.iter().cloned();
    Some(Drill {
        cron: cron?,
        target: asked.target.unwrap_or_default(),
        checks: checks
            .map(|Check { sql, expect }| DrillCheck { sql, expect })
            .collect(),
        cpu_milli: cpu.flatten(),
        memory: memory.flatten(),
        keep: asked.keep_on_failure.unwrap_or(false),
        seconds: u32::try_from(seconds).ok()?,
    })
}

/// A moment, in the field `at`.
fn target(asked: Option<&RecoveryTarget>, at: &str, judge: &mut Judge<'_>) -> Option<Target> {
    let Some(target) = asked else {
        return Some(Target::Latest);
    };
    let RecoveryTarget {
        time,
        lsn,
        xid,
        name,
    } = target;
    let given = [time, lsn, xid, name];
    if given.into_iter().flatten().count() > 1 {
        judge.say(at, rules::ONE_TARGET);
        return None;
    }
    if let Some(time) = time {
        let parsed = Some(time).filter(|t| t.contains('T'));
        let parsed = parsed.and_then(|t| t.parse::<Timestamp>().ok());
        judge.check(parsed.is_some(), &format!("{at}.time"), rules::TIME);
        return parsed.map(Target::Time);
    }
    if let Some(lsn) = lsn {
        judge.check(is_lsn(lsn), &format!("{at}.lsn"), rules::LSN);
        return Some(Target::Lsn(lsn.clone()));
    }
    if let Some(xid) = xid {
        let parsed = xid.parse().ok().filter(|n| *n > 0);
        judge.check(parsed.is_some(), &format!("{at}.xid"), rules::XID);
        return parsed.map(Target::Xid);
    }
    if let Some(name) = name {
        let fits = (1..=63).contains(&name.len()) && !name.chars().any(|c| c.is_ascii_control());
        judge.check(fits, &format!("{at}.name"), rules::POINT);
        return Some(Target::Name(name.clone()));
    }
    Some(Target::Latest)
}

fn is_lsn(text: &str) -> bool {
    let part = |p: &str| (1..=8).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_hexdigit());
    text.split_once('/')
        .is_some_and(|(high, low)| part(high) && part(low))
}

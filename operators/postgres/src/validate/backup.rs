//! Backups, and the beginning from one, as they are meant.

use jiff::Timestamp;
use mainstay_backup::retention::Policy;
use mainstay_crds::common::Durability;
use mainstay_crds::common::backup::rules;
use mainstay_crds::common::backup::{Check, Drill as AskedDrill, OnFull, RecoveryTarget};
use mainstay_crds::postgres::Postgres;
use mainstay_crds::postgres::rules as postgres;
use mainstay_crds::restore::Restore;
use mainstay_shared::backups::cron::Cron;
use mainstay_shared::metadata::SetId;
use mainstay_shared::names;
use mainstay_shared::operator::validated::backup::{
    Judge, back, cron, drill as drills, for_reading, own, policy, repository_is_read, source,
};
use mainstay_shared::operator::validated::repository::place;
use mainstay_shared::operator::validated::{Backups, Drills, Problem};

pub use mainstay_shared::operator::desired::store::{Access, AuthorityRef};
pub use mainstay_shared::operator::validated::backup::{apart, last};

use super::Validated;
use crate::backup::settings::{DrillCheck, RestoreSettings, Settings, Target};

/// When gaps of schedules are counted from; any day would do.
const EPOCH: Timestamp = Timestamp::UNIX_EPOCH;

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
    /// What every engine has of them.
    pub common: Drills,
    /// What must hold.
    pub checks: Vec<DrillCheck>,
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
            drill: self.drill.as_ref().map(|drill| drill.common.clone()),
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
    let (settings, access) = own(asked, set, &mut judge)?;
    let cron = cron?;
    Some(Backup {
        place: place(&settings.repository),
        settings: Settings {
            break_archive: on_full == OnFull::BreakArchive,
            ..settings
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
    let target = target(asked.target.as_ref(), ".target", &mut judge);
    let source = source(asked, set, &mut judge)?;
    Some(Recovery {
        place: place(&source.repository),
        settings: RestoreSettings {
            resource: source.resource,
            repository: source.repository,
            major: major?,
            backup: source.backup,
            target: target?,
            owner: None,
        },
        access: source.access,
        keys: asked.keys.clone(),
    })
}

/// What a set is made from that goes back in time in place: its own repository.
///
/// # Errors
/// What is wrong with the moment; or the repository is asked for no more, without which the set would begin with nothing.
pub fn in_place(asked: &Restore, validated: &Validated) -> Result<Recovery, Vec<super::Problem>> {
    let own = validated.backup.as_ref();
    let own = own.ok_or_else(|| vec![super::Problem::from(repository_is_read())])?;
    let mut problems = Vec::new();
    let mut judge = Judge {
        at: "restore",
        problems: &mut problems,
    };
    let target = target(asked.spec.moment.as_ref(), ".moment", &mut judge);
    let back = back(asked, &mut judge);
    let (Some(target), Some((backup, owner))) = (target, back) else {
        return Err(problems.into_iter().map(Into::into).collect());
    };
    Ok(Recovery {
        place: own.place.clone(),
        settings: RestoreSettings {
            resource: own.settings.resource.clone(),
            repository: for_reading(own.settings.repository.clone()),
            major: validated.major,
            backup,
            target,
            owner: Some(owner),
        },
        access: own.access.clone(),
        keys: names::backup_keys(&validated.common.set.name),
    })
}

/// Drills whose checks are statements.
fn drill(asked: &AskedDrill, set: Option<&SetId>, judge: &mut Judge<'_>) -> Option<Drill> {
    let common = drills(asked, set, judge);
    let of_keys = |c: &Check| c.keys.is_some() || c.key.is_some() || !c.command.is_empty();
    judge.check(
        !asked.checks.iter().any(of_keys),
        ".drill.checks",
        postgres::CHECKS,
    );
    let statement = |check: &Check| {
        Some(DrillCheck {
            sql: check.sql.clone()?,
            expect: check.expect.clone(),
        })
    };
    Some(Drill {
        common: common?,
        checks: asked.checks.iter().filter_map(statement).collect(),
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

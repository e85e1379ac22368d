//! Backups, and the beginning from one, as they are meant.

use jiff::Timestamp;
use mainstay_backup::ids::OwnerId;
use mainstay_backup::retention::Policy;
use mainstay_crds::common::backup::rules as common;
use mainstay_crds::common::backup::{Check, Drill as AskedDrill};
use mainstay_crds::redis::{Redis, RedisSpec, rules};
use mainstay_crds::restore::Restore;
use mainstay_shared::backups::cron::Cron;
use mainstay_shared::metadata::SetId;
use mainstay_shared::names;
use mainstay_shared::operator::desired::store::Access;
use mainstay_shared::operator::validated::backup::{
    Judge, back, cron, drill as drills, for_reading, own, policy, repository_is_read, source,
};
use mainstay_shared::operator::validated::repository::place;
use mainstay_shared::operator::validated::{Backups, Drills, Problem};

pub use mainstay_shared::operator::validated::backup::{Source, apart, last};

use super::{DATABASES, Validated};
use crate::backup::settings::{DrillCheck, Settings};

/// Databases that Redis has by itself.
const OWN_DATABASES: u32 = 16;

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
    /// What is kept.
    pub policy: Policy,
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
            chain: 0,
            policy: self.policy,
            on_full: None,
            drill: self.drill.as_ref().map(|drill| drill.common.clone()),
        }
    }
}

/// A beginning from a repository. Defaults are applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// What it is made from.
    pub source: Source,
    /// Name of the Secret with what opens the backups.
    pub keys: String,
    /// The newest backup that is no later than this is taken; none: the newest of all, or the one that is named.
    pub moment: Option<Timestamp>,
    /// Where the set goes back in place: the id by which it owns its repository, which the dataset keeps. None: the
    /// dataset is a new set's.
    pub owner: Option<OwnerId>,
    /// Highest epoch that is known of the set.
    pub epoch: u64,
    /// When the resource was made, where that is known.
    pub made: Option<Timestamp>,
}

/// The backups that are asked for, or what is wrong with them. `kept`: whether a dataset outlasts a restart.
pub fn backup(
    resource: &Redis,
    set: Option<&SetId>,
    kept: bool,
    problems: &mut Vec<Problem>,
) -> Option<Backup> {
    let asked = resource.spec.backup.as_ref()?;
    let mut judge = Judge {
        at: "backup",
        problems,
    };
    judge.check(kept, "", rules::NOTHING_KEPT);
    let cron = cron(asked, set, &mut judge);
    let incrementals = asked.schedule.as_ref().and_then(|s| s.incrementals);
    judge.check(
        incrementals.is_none_or(|n| n < 1),
        ".schedule.incrementals",
        rules::NO_INCREMENTALS,
    );
    judge.check(asked.on_full.is_none(), ".onFull", rules::NO_LOG);
    judge.check(
        asked.seed_replicas != Some(true),
        ".seedReplicas",
        rules::NO_SEEDS,
    );
    let drill = asked.drill.as_ref();
    let drill = drill.map(|wanted| drill_of(&resource.spec, wanted, set, &mut judge));
    let policy = policy(asked, &mut judge);
    let (settings, access) = own(asked, set, &mut judge)?;
    Some(Backup {
        place: place(&settings.repository),
        settings,
        access,
        cron: cron?,
        policy,
        drill: drill.flatten(),
    })
}

/// Drills that look for keys.
fn drill_of(
    spec: &RedisSpec,
    asked: &AskedDrill,
    set: Option<&SetId>,
    judge: &mut Judge<'_>,
) -> Option<Drill> {
    let common = drills(asked, set, judge);
    let of_sql = asked.checks.iter().any(|check| check.sql.is_some());
    judge.check(!of_sql, ".drill.checks", rules::CHECKS);
    let databases = spec.parameters.get(DATABASES);
    let databases = databases.and_then(|n| n.parse().ok());
    let databases = databases.unwrap_or(OWN_DATABASES);
    if spec.is_cluster() {
        let first = |check: &Check| check.database.is_none_or(|n| n <= 0);
        let of_one = asked.checks.iter().all(first);
        judge.check(of_one, ".drill.checks", rules::CHECKS_OF_ONE_DATABASE);
        let by_key = |check: &Check| rules::names_a_key(&check.command);
        let by_key = asked.checks.iter().all(by_key);
        judge.check(by_key, ".drill.checks", rules::CHECKS_OF_KEYS);
    }
    let mut checks = Vec::new();
    for (i, asked) in asked.checks.iter().enumerate() {
        let there = |n: i32| u32::try_from(n).map_or(true, |n| n < databases);
        judge.check(
            spec.is_cluster() || asked.database.is_none_or(there),
            &format!(".drill.checks[{i}].database"),
            rules::NO_DATABASE,
        );
        checks.extend(check(asked));
    }
    Some(Drill {
        common: common?,
        checks,
    })
}

/// A check, if it is one.
fn check(asked: &Check) -> Option<DrillCheck> {
    let database = asked.database.and_then(|n| u32::try_from(n).ok());
    if let Some(keys) = &asked.keys {
        let number = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
        return Some(DrillCheck::Keys {
            database,
            at_least: number(keys.at_least),
            at_most: number(keys.at_most),
        });
    }
    let database = database.unwrap_or(0);
    if let Some(name) = &asked.key {
        return Some(DrillCheck::Key {
            database,
            name: name.clone(),
            kind: asked.kind.clone(),
            value: asked.expect.clone(),
        });
    }
    (!asked.command.is_empty()).then(|| DrillCheck::Command {
        database,
        words: asked.command.clone(),
        expect: asked.expect.clone(),
    })
}

/// The beginning that is asked for, or what is wrong with it. `kept`: whether a dataset outlasts a restart.
pub fn recovery(
    resource: &Redis,
    set: Option<&SetId>,
    kept: bool,
    problems: &mut Vec<Problem>,
) -> Option<Recovery> {
    let asked = resource.spec.bootstrap.as_ref()?.recovery.as_ref()?;
    let mut judge = Judge {
        at: "bootstrap",
        problems,
    };
    judge.check(kept, "", rules::NOTHING_MADE);
    judge.at = "bootstrap.recovery";
    judge.check(asked.target.is_none(), ".target", rules::NO_MOMENTS);
    Some(Recovery {
        source: source(asked, set, &mut judge)?,
        keys: asked.keys.clone(),
        moment: None,
        owner: None,
        epoch: 0,
        made: resource.metadata.creation_timestamp.as_ref().map(|t| t.0),
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
    let moment = asked.spec.moment.as_ref();
    let time = moment.and_then(|m| m.time.as_ref());
    judge.check(moment.is_none() || time.is_some(), ".moment", rules::TIMES);
    let time = time.map(|text| text.parse::<Timestamp>());
    judge.check(
        time.as_ref().is_none_or(Result::is_ok),
        ".moment.time",
        common::TIME,
    );
    let back = back(asked, &mut judge);
    let epoch = asked.status.as_ref().and_then(|s| s.epoch);
    let (Some((backup, owner)), true) = (back, problems.is_empty()) else {
        return Err(problems.into_iter().map(Into::into).collect());
    };
    Ok(Recovery {
        source: Source {
            resource: own.settings.resource.clone(),
            repository: for_reading(own.settings.repository.clone()),
            access: own.access.clone(),
            backup,
        },
        keys: names::backup_keys(&validated.common.set.name),
        moment: time.and_then(Result::ok),
        owner: Some(owner),
        epoch: epoch.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
        made: None,
    })
}

//! Backups, and the beginning from one, as they are meant.

use mainstay_backup::retention::Policy;
use mainstay_crds::redis::{Redis, rules};
use mainstay_shared::backups::cron::Cron;
use mainstay_shared::metadata::SetId;
use mainstay_shared::operator::desired::store::Access;
use mainstay_shared::operator::validated::backup::{Judge, cron, own, policy, source};
use mainstay_shared::operator::validated::repository::place;
use mainstay_shared::operator::validated::{Backups, Problem};

pub use mainstay_shared::operator::validated::backup::{Source, apart, last};

use crate::backup::settings::Settings;

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
            drill: None,
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
    judge.check(asked.drill.is_none(), ".drill", rules::NO_DRILLS);
    let policy = policy(asked, &mut judge);
    let (settings, access) = own(asked, set, &mut judge)?;
    Some(Backup {
        place: place(&settings.repository),
        settings,
        access,
        cron: cron?,
        policy,
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
    })
}

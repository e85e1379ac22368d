//! Backups, and the beginning from one, as they are meant.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use mainstay_backup::crypto::{EncryptionError, EncryptionSpec};
use mainstay_backup::retention::Policy;
use mainstay_crds::common::backup::rules;
use mainstay_crds::common::backup::{
    Authority, Azure, Backups, Check, Drill as AskedDrill, DrillTarget, Gcs, Limits, OnFull,
    RecoveryTarget, Repository, S3, Volume,
};
use mainstay_crds::common::rules::{MAX_CPU_MILLIS, MAX_MEMORY, MIN_CPU_MILLIS, MIN_MEMORY};
use mainstay_crds::common::{Durability, quantity, sentences};
use mainstay_crds::operation::Operation;
use mainstay_crds::postgres::Postgres;
use mainstay_crds::postgres::rules as postgres;
use mainstay_crds::restore::Restore;
use mainstay_shared::backups::cron::{Cron, CronError};
use mainstay_shared::metadata::SetId;
use mainstay_shared::names;
use mainstay_shared::operator::desired::store::Store;

pub use mainstay_shared::operator::desired::store::{Access, AuthorityRef};

use super::{Problem, Validated, syntax, within};
use crate::backup::settings::{
    ACCESS_KEY, ACCESS_KEY_ID, SECRET_ACCESS_KEY, SERVICE_ACCOUNT, SESSION_TOKEN,
};
use crate::backup::settings::{
    DrillCheck, PlaceSpec, RepositorySpec, RestoreSettings, Settings, Target,
};

/// Days of the recovery window unless said.
const DAYS: i32 = 14;
/// Region of stores that have none.
const REGION: &str = "us-east-1";
/// Port of stores unless said.
const HTTPS: u16 = 443;
/// When gaps of schedules are counted from; any day would do.
const EPOCH: Timestamp = Timestamp::UNIX_EPOCH;

/// What is said of a schedule that is never due.
pub const NO_SUCH_DAY: &str = "there is no such day: write one that every year has, for example \"30 2 1 * *\" for the first of each month";
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

/// Collects what is wrong with one block.
struct Judge<'a> {
    at: &'static str,
    problems: &'a mut Vec<Problem>,
}

impl Judge<'_> {
    fn say(&mut self, field: &str, sentence: &'static str) {
        self.problems.push(Problem::Backup {
            field: format!("{}{field}", self.at),
            sentence,
        });
    }

    /// Says `sentence` of the field unless it holds.
    fn check(&mut self, holds: bool, field: &str, sentence: &'static str) {
        if !holds {
            self.say(field, sentence);
        }
    }
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

/// The store whose copies of keys an operation destroys, and where it is, for people; or what is wrong with it.
///
/// # Errors
/// In sentences.
pub fn store(operation: &Operation) -> Result<Store, String> {
    let asked = operation.spec.destroy_keys.as_ref();
    let asked = asked.ok_or_else(|| format!("spec.destroyKeys: {}", sentences::KEYS_ARE_NAMED))?;
    let set = SetId {
        namespace: operation.namespace().unwrap_or_default(),
        name: operation.spec.target.name.clone(),
        ..SetId::default()
    };
    let mut problems = Vec::new();
    let mut judge = Judge {
        at: "destroyKeys",
        problems: &mut problems,
    };
    let found = repository(&asked.repository, Some(&set), &mut judge);
    let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
    match found.filter(|_| problems.is_empty()) {
        Some((spec, access)) => {
            let place = place(&spec);
            Ok(Store {
                spec,
                access,
                place,
            })
        }
        None => Err(words.join("; ")),
    }
}

/// What a set is made from that goes back in time in place: its own repository.
///
/// # Errors
/// What is wrong with the moment.
pub fn in_place(asked: &Restore, validated: &Validated) -> Result<Option<Recovery>, Vec<Problem>> {
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
        return Err(problems);
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
        keys: names::backup_keys(&validated.set.name),
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

fn encryption(asked: &Backups, judge: &mut Judge<'_>) -> EncryptionSpec {
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

fn cron(asked: &Backups, set: Option<&SetId>, judge: &mut Judge<'_>) -> Option<Cron> {
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

fn policy(asked: &Backups, judge: &mut Judge<'_>) -> Policy {
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

fn limits(asked: Option<&Limits>, judge: &mut Judge<'_>) -> (Option<u64>, Option<u32>) {
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

fn repository(
    asked: &Repository,
    set: Option<&SetId>,
    judge: &mut Judge<'_>,
) -> Option<(RepositorySpec, Access)> {
    let credentials = asked.credentials.as_deref();
    judge.check(
        credentials.is_none_or(syntax::is_subdomain),
        ".repository.credentials",
        rules::SECRET,
    );
    judge.check(
        credentials.is_some() || asked.volume.is_some(),
        ".repository.credentials",
        rules::CREDENTIALS,
    );
    let prefix = match (&asked.prefix, set) {
        (Some(prefix), _) => prefix.clone(),
        (None, Some(set)) => format!("{}/{}", set.namespace, set.name),
        (None, None) => String::new(),
    };
    let named = asked.prefix.as_deref();
    judge.check(
        named.is_none_or(is_prefix),
        ".repository.prefix",
        rules::PREFIX,
    );
    let (inline, reference) = authority(asked.authority.as_ref(), judge);
    let (place, keys, port) = match (&asked.s3, &asked.gcs, &asked.azure, &asked.volume) {
        (Some(s3), None, None, None) => {
            let port = port(s3.endpoint.as_deref());
            (of_s3(s3, judge), S3_KEYS, Some(port))
        }
        (None, Some(gcs), None, None) => (of_gcs(gcs, judge), GCS_KEYS, Some(HTTPS)),
        (None, None, Some(azure), None) => (of_azure(azure, judge), AZURE_KEYS, Some(HTTPS)),
        (None, None, None, Some(volume)) => {
            has_no_store(asked, judge);
            (of_volume(volume, set, judge), NO_KEYS, None)
        }
        _ => {
            judge.say(".repository", rules::ONE_STORE);
            return None;
        }
    };
    let spec = RepositorySpec {
        place,
        prefix,
        authority: inline,
        bytes_per_second: None,
        concurrency: None,
        encryption: None,
    };
    let access = Access {
        credentials: asked.credentials.clone(),
        claim: asked.volume.as_ref().map(|v| v.claim_name.clone()),
        keys,
        authority: reference,
        port,
    };
    Some((spec, access))
}

const S3_KEYS: &[&str] = &[ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN];
const GCS_KEYS: &[&str] = &[SERVICE_ACCOUNT];
const AZURE_KEYS: &[&str] = &[ACCESS_KEY];
const NO_KEYS: &[&str] = &[];

fn of_s3(asked: &S3, judge: &mut Judge<'_>) -> PlaceSpec {
    let inner = |b: u8| b == b'-' || b == b'.';
    judge.check(
        is_name(&asked.bucket, 3..=63, inner),
        ".repository.s3.bucket",
        rules::S3_BUCKET,
    );
    judge.check(
        asked.endpoint.as_deref().is_none_or(is_endpoint),
        ".repository.s3.endpoint",
        rules::ENDPOINT,
    );
    let region = asked.region.as_deref();
    judge.check(
        region.is_none_or(|r| is_name(r, 1..=64, |b| b == b'-')),
        ".repository.s3.region",
        rules::REGION,
    );
    PlaceSpec::S3 {
        endpoint: asked.endpoint.clone(),
        region: region.unwrap_or(REGION).to_owned(),
        bucket: asked.bucket.clone(),
        virtual_hosted: asked.virtual_hosted.unwrap_or(asked.endpoint.is_none()),
    }
}

fn of_gcs(asked: &Gcs, judge: &mut Judge<'_>) -> PlaceSpec {
    let inner = |b: u8| matches!(b, b'-' | b'.' | b'_');
    judge.check(
        is_name(&asked.bucket, 3..=222, inner),
        ".repository.gcs.bucket",
        rules::GCS_BUCKET,
    );
    PlaceSpec::Gcs {
        bucket: asked.bucket.clone(),
    }
}

fn of_azure(asked: &Azure, judge: &mut Judge<'_>) -> PlaceSpec {
    judge.check(
        is_name(&asked.account, 3..=24, |_| false),
        ".repository.azure.account",
        rules::ACCOUNT,
    );
    judge.check(
        is_name(&asked.container, 3..=63, |b| b == b'-'),
        ".repository.azure.container",
        rules::CONTAINER,
    );
    PlaceSpec::Azure {
        account: asked.account.clone(),
        container: asked.container.clone(),
    }
}

/// What a volume does not have.
fn has_no_store(asked: &Repository, judge: &mut Judge<'_>) {
    judge.check(
        asked.credentials.is_none(),
        ".repository.credentials",
        rules::NO_CREDENTIALS,
    );
    judge.check(
        asked.authority.is_none(),
        ".repository.authority",
        rules::NO_AUTHORITY,
    );
    judge.check(
        asked.immutable != Some(true),
        ".repository.immutable",
        rules::NOT_IMMUTABLE,
    );
}

fn of_volume(asked: &Volume, set: Option<&SetId>, judge: &mut Judge<'_>) -> PlaceSpec {
    let claim = &asked.claim_name;
    judge.check(
        syntax::is_subdomain(claim),
        ".repository.volume.claimName",
        rules::CLAIM,
    );
    let instance = claim.strip_suffix("-data");
    let own = set
        .zip(instance)
        .is_some_and(|(set, instance)| names::ordinal(&set.name, instance).is_some());
    judge.check(!own, ".repository.volume.claimName", rules::OWN_CLAIM);
    let path = asked.path.as_deref();
    judge.check(
        path.is_none_or(|path| is_prefix(path) && path.len() <= 200),
        ".repository.volume.path",
        rules::PATH,
    );
    PlaceSpec::Volume {
        claim: claim.clone(),
        path: path.unwrap_or_default().to_owned(),
    }
}

/// Certificates as the settings have them, and where they are if not there.
fn authority(
    asked: Option<&Authority>,
    judge: &mut Judge<'_>,
) -> (Option<String>, Option<AuthorityRef>) {
    let Some(asked) = asked else {
        return (None, None);
    };
    let at = ".repository.authority";
    for (field, reference) in [("configMap", &asked.config_map), ("secret", &asked.secret)] {
        let Some(reference) = reference else { continue };
        judge.check(
            syntax::is_subdomain(&reference.name),
            &format!("{at}.{field}.name"),
            rules::OBJECT,
        );
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let key = reference.key();
        judge.check(
            !key.is_empty() && key.bytes().all(allowed),
            &format!("{at}.{field}.key"),
            rules::KEY,
        );
    }
    match (&asked.certificate, &asked.config_map, &asked.secret) {
        (Some(text), None, None) => {
            judge.check(
                text.contains("-----BEGIN CERTIFICATE-----"),
                &format!("{at}.certificate"),
                rules::CERTIFICATE,
            );
            (Some(text.clone()), None)
        }
        // Empty: they are a file among the secrets.
        (None, Some(map), None) => {
            let of = AuthorityRef::ConfigMap(map.name.clone(), map.key().to_owned());
            (Some(String::new()), Some(of))
        }
        (None, None, Some(secret)) => {
            let of = AuthorityRef::Secret(secret.name.clone(), secret.key().to_owned());
            (Some(String::new()), Some(of))
        }
        _ => {
            judge.say(at, rules::ONE_AUTHORITY);
            (None, None)
        }
    }
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

/// Where a repository is, for people.
fn place(spec: &RepositorySpec) -> String {
    let prefix = &spec.prefix;
    match &spec.place {
        PlaceSpec::S3 {
            bucket, endpoint, ..
        } => {
            let host = endpoint.as_deref().and_then(|e| e.strip_prefix("https://"));
            host.map_or_else(
                || format!("s3://{bucket}/{prefix}"),
                |host| format!("s3://{bucket}/{prefix} at {host}"),
            )
        }
        PlaceSpec::Gcs { bucket } => format!("gs://{bucket}/{prefix}"),
        PlaceSpec::Azure { account, container } => {
            format!("azure://{account}/{container}/{prefix}")
        }
        PlaceSpec::Volume { claim, path } if path.is_empty() => {
            format!("volume://{claim}/{prefix}")
        }
        PlaceSpec::Volume { claim, path } => format!("volume://{claim}/{path}/{prefix}"),
    }
}

fn is_name(text: &str, length: std::ops::RangeInclusive<usize>, inner: fn(u8) -> bool) -> bool {
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    length.contains(&bytes.len())
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|b| edge(b) || inner(*b))
}

fn is_prefix(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let segment = |s: &str| !s.is_empty() && s != "." && s != ".." && s.bytes().all(allowed);
    text.len() <= 400 && text.split('/').all(segment)
}

/// Host and port of an endpoint.
fn host(endpoint: &str) -> Option<(&str, Option<&str>)> {
    let rest = endpoint.strip_prefix("https://")?;
    let end = rest.rfind(']').map_or(0, |bracket| bracket + 1);
    match rest[end..].rfind(':') {
        Some(colon) => Some((&rest[..end + colon], Some(&rest[end + colon + 1..]))),
        None => Some((rest, None)),
    }
}

fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = host(text) else {
        return false;
    };
    let named = |host: &str| {
        let edge = |b: &u8| b.is_ascii_alphanumeric();
        let bytes = host.as_bytes();
        bytes.first().is_some_and(edge)
            && bytes.last().is_some_and(edge)
            && bytes.iter().all(|b| edge(b) || b".-".contains(b))
    };
    let address = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let good = address.map_or_else(
        || named(host),
        |a| !a.is_empty() && a.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
    );
    let port = port.is_none_or(|p| !p.starts_with('0') && p.len() <= 5 && p.parse::<u16>().is_ok());
    good && port
}

/// Port of an endpoint.
fn port(endpoint: Option<&str>) -> u16 {
    let said = endpoint.and_then(host).and_then(|(_, port)| port);
    said.and_then(|p| p.parse().ok()).unwrap_or(HTTPS)
}

fn is_lsn(text: &str) -> bool {
    let part = |p: &str| (1..=8).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_hexdigit());
    text.split_once('/')
        .is_some_and(|(high, low)| part(high) && part(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_stores_are_opened() {
        assert_eq!(port(None), 443);
        assert_eq!(port(Some("https://store.example.com")), 443);
        assert_eq!(port(Some("https://store.example.com:9000")), 9000);
        assert_eq!(port(Some("https://[fd00::1]:7480")), 7480);
        assert_eq!(port(Some("https://[fd00::1]")), 443);
    }
}

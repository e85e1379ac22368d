//! Rules of backups that the API server checks (CEL), each with its sentence.

use std::ops::RangeInclusive;

use kube::core::Rule;

use crate::common::rules as common;

/// Incremental backups after a full one.
pub const CHAIN: RangeInclusive<i32> = 0..=30;
/// Days of a recovery window.
pub const DAYS: RangeInclusive<i32> = 1..=3650;
/// Backups that are kept.
pub const COUNT: RangeInclusive<i32> = 1..=1000;
/// Requests at a time.
pub const REQUESTS: RangeInclusive<i32> = 1..=16;
/// Seconds that a drill may take.
pub const DRILL_SECONDS: RangeInclusive<i32> = 300..=604_800;
/// Smallest bandwidth, in bytes a second.
pub const MIN_BANDWIDTH: i64 = 256 << 10;
/// Largest bandwidth, in bytes a second.
pub const MAX_BANDWIDTH: i64 = 100 << 30;

/// Of `encryption` without a recipient.
pub const ESCROW: &str = "backups could be opened with the Secret <name>-backup-keys alone, and are lost with it: write \
     at least one escrow recipient in recipients, or iAcceptKeyLoss: true";
/// Of `encryption.recipients`.
pub const RECIPIENTS: &str =
    "write recipients of age as age-keygen -y prints them: age1 and 58 more characters";
/// Of `schedule.cron`.
pub const CRON: &str = "write five fields in UTC (minute, hour, day of the month, month, day of the week) in quotes, \
     for example \"30 2 * * *\" for every day at 02:30; names such as MON and @daily are not known";
/// Of `schedule.incrementals`.
pub const INCREMENTALS: &str = "write a number between 0 and 30: so many incremental backups are made after each full one, \
     and a restore needs all of them";
/// Of `retention.days`.
pub const RETENTION_DAYS: &str =
    "write days between 1 and 3650, for example 14: every moment of them can be recovered";
/// Of `retention.count`.
pub const RETENTION_COUNT: &str = "write a number of backups between 1 and 1000, for example 7";
/// Of `limits.bandwidth`.
pub const BANDWIDTH: &str = "write bytes in a second between 256Ki and 100Gi, for example 50Mi";
/// Of `limits.concurrency`.
pub const CONCURRENCY: &str =
    "write a number of requests at a time between 1 and 16, for example 3";
/// Of `drill.schedule`.
pub const DRILL_CRON: &str = "write five fields in UTC (minute, hour, day of the month, month, day of the week) in quotes, \
     for example \"30 3 * * 0\" for every Sunday at 03:30; names such as SUN and @weekly are not known";
/// Of `drill.checks[].sql`.
pub const SQL: &str =
    "write one statement that returns a row, for example select count(*) > 0 from orders";
/// Of `drill.timeoutSeconds`.
pub const DRILL_TIMEOUT: &str =
    "write seconds between 300 and 604800 (a week), or leave it out for 14400 (4 hours)";
/// Of `deletion.finalBackup` without backups.
pub const FINAL_BACKUP: &str =
    "there is no repository for a last backup: write backup as well, or leave finalBackup out";
/// Of no repository, while a set goes back in place to what is in it.
pub const IN_USE: &str = "a restore of this set reads its repository: write backup as it was, or go back to the volumes from before (revert: true in \
     the Restore)";
/// Of `adopt`.
pub const OWNER: &str =
    "write the owner's id as status.recovery.owner or the refusal has it: 32 hexadecimal digits";
/// Of a repository in no store, or in several.
pub const ONE_STORE: &str = "write exactly one of s3, gcs, azure and volume";
/// Of a bucket without `credentials`.
pub const CREDENTIALS: &str = "write credentials: the name of a Secret in the same namespace with the keys of the bucket, for \
     example backup-store";
/// Of a volume with `credentials`.
pub const NO_CREDENTIALS: &str =
    "whoever mounts a volume needs no credentials: remove credentials, or write a bucket";
/// Of a volume with `authority`.
pub const NO_AUTHORITY: &str = "a volume has no certificates: remove authority, or write a bucket";
/// Of a volume that shall be immutable.
pub const NOT_IMMUTABLE: &str = "files on a volume can be changed and deleted by whoever mounts it: remove immutable, or write \
     a bucket, which can refuse to";
/// Of `volume.claimName`.
pub const CLAIM: &str =
    "write the name of a PersistentVolumeClaim in the same namespace, for example backups";
/// Of the claim of an instance.
pub const OWN_CLAIM: &str = "that is the volume of an instance's data, and the backups would be lost with it: write a claim of \
     its own";
/// Of `volume.path`.
pub const PATH: &str = "write folders in the volume of letters, digits, '.', '_' and '-' with '/' between them, for example \
     postgres/shop, or leave it out for the volume's top";
/// Of `prefix`.
pub const PREFIX: &str =
    "write words of letters, digits, '.', '_' and '-' with '/' between them, for example shop/db";
/// Of a recovery without `prefix`.
pub const PREFIX_IS_NAMED: &str = "write the prefix of the set that made the backups, which is its <namespace>/<name> \
     unless it says otherwise";
/// Of the name of a Secret.
pub const SECRET: &str =
    "write the name of a Secret in the same namespace, for example backup-store";
/// Of the name of a Secret or ConfigMap.
pub const OBJECT: &str = "write the name of an object in the same namespace, for example store-ca";
/// Of a key in one.
pub const KEY: &str = "write a key of it, for example ca.crt: letters, digits, '-', '_' and '.'";
/// Of `s3.bucket`.
pub const S3_BUCKET: &str =
    "write the name of a bucket: 3 to 63 lower-case letters, digits, '-' and '.'";
/// Of `gcs.bucket`.
pub const GCS_BUCKET: &str =
    "write the name of a bucket: 3 to 222 lower-case letters, digits, '-', '_' and '.'";
/// Of `s3.endpoint`.
pub const ENDPOINT: &str = "write https://, the host, and :port if it is not 443, for example https://store.example.com:9000; \
     leave it out for Amazon's S3";
/// Of `s3.region`.
pub const REGION: &str =
    "write the region's name, for example eu-north-1, or leave it out where there are none";
/// Of `azure.account`.
pub const ACCOUNT: &str = "write the storage account: 3 to 24 lower-case letters and digits";
/// Of `azure.container`.
pub const CONTAINER: &str = "write the container: 3 to 63 lower-case letters, digits and '-'";
/// Of `authority`.
pub const ONE_AUTHORITY: &str = "write exactly one of certificate, configMap and secret";
/// Of `authority.certificate`.
pub const CERTIFICATE: &str =
    "write certificates in PEM form, beginning with -----BEGIN CERTIFICATE-----";
/// Of `recovery.backup`.
pub const BACKUP_ID: &str = "write the id of a backup as status.backupId of a Backup has it, for example \
     20260102t030405z-0011223344556677";
/// Of `recovery.target` with several moments.
pub const ONE_TARGET: &str =
    "write one of time, lsn, xid and name, or none of them for the latest moment";
/// Of `recovery.target.time`.
pub const TIME: &str = "write a time with its offset and in quotes, for example \"2026-01-02T03:04:05Z\" or \
     \"2026-01-02T04:04:05.5+01:00\"";
/// Of `recovery.target.lsn`.
pub const LSN: &str =
    "write a position in the log as PostgreSQL prints it, for example \"1/A0000028\"";
/// Of `recovery.target.xid`.
pub const XID: &str = "write the number of a transaction in quotes, for example \"731\"";
/// Of `recovery.target.name`.
pub const POINT: &str = "write the name of a restore point in one line of at most 63 characters";
/// Of another `bootstrap`.
pub const BOOTSTRAP_CHANGES: &str = "bootstrap says what the first data is made from, which has been done: write it as it was, or \
     remove it; for other data make a new resource";
/// Of `timeoutSeconds` in a `Backup`.
pub const TIMEOUT: &str =
    "write seconds between 60 and 604800 (a week), or leave it out for 43200 (12 hours)";
/// Of a changed `Backup`.
pub const BACKUP_CHANGES: &str = "a backup is made once, as it was asked for: make another one under another name (or cancel \
     this one with cancel: true)";

fn matches(pattern: &str, sentence: &str) -> Rule {
    Rule::new(format!("self.matches('{pattern}')")).message(sentence)
}

fn within(range: &RangeInclusive<i32>, sentence: &str) -> Rule {
    let (least, most) = (range.start(), range.end());
    Rule::new(format!("self >= {least} && self <= {most}")).message(sentence)
}

/// Exactly one of these fields is there.
fn one_of(fields: &[&str], sentence: &str) -> Rule {
    let there: Vec<String> = fields.iter().map(|f| format!("has(self.{f})")).collect();
    Rule::new(format!(
        "[{}].filter(there, there).size() == 1",
        there.join(",")
    ))
    .message(sentence)
}

/// Of `encryption`.
pub fn escrow() -> Rule {
    Rule::new(
        "(has(self.recipients) && self.recipients.size() > 0) || \
         (has(self.iAcceptKeyLoss) && self.iAcceptKeyLoss)",
    )
    .message(ESCROW)
}

/// Of `encryption.recipients`.
pub fn recipients() -> Rule {
    Rule::new("self.all(r, r.matches('^age1[02-9ac-hj-np-z]{58}$'))").message(RECIPIENTS)
}

/// One field of cron: a list of numbers, ranges and `*`, each with a step if it has one.
fn field(number: &str) -> String {
    let item = format!(r"(\\*|{number}(-{number})?)(/[1-9][0-9]?)?");
    format!("{item}(,{item})*")
}

/// Of `schedule.cron`. That a range goes up, and that there is such a day, only the operator says.
pub fn cron() -> Rule {
    five_fields(CRON)
}

/// Of `drill.schedule`.
pub fn drill_cron() -> Rule {
    five_fields(DRILL_CRON)
}

/// Of `drill.timeoutSeconds`.
pub fn drill_timeout() -> Rule {
    within(&DRILL_SECONDS, DRILL_TIMEOUT)
}

/// Of `drill.checks[].sql`. Whether it is a statement is found out by the drill.
pub fn sql() -> Rule {
    Rule::new(r"self.matches('\\S')").message(SQL)
}

fn five_fields(sentence: &str) -> Rule {
    let fields = [
        field("[0-5]?[0-9]"),
        field("([01]?[0-9]|2[0-3])"),
        field("(0?[1-9]|[12][0-9]|3[01])"),
        field("(0?[1-9]|1[0-2])"),
        field("[0-7]"),
    ];
    matches(&format!("^{}$", fields.join(" ")), sentence)
}

/// Of `schedule.incrementals`.
pub fn incrementals() -> Rule {
    within(&CHAIN, INCREMENTALS)
}

/// Of `retention.days`.
pub fn days() -> Rule {
    within(&DAYS, RETENTION_DAYS)
}

/// Of `retention.count`.
pub fn count() -> Rule {
    within(&COUNT, RETENTION_COUNT)
}

/// Of `limits.bandwidth`.
pub fn bandwidth() -> Rule {
    common::between("256Ki", "100Gi", BANDWIDTH)
}

/// Of `limits.concurrency`.
pub fn concurrency() -> Rule {
    within(&REQUESTS, CONCURRENCY)
}

/// Of `adopt`.
pub fn owner() -> Rule {
    matches("^[0-9a-f]{32}$", OWNER)
}

/// Of `deletion.finalBackup`.
pub fn final_backup() -> Rule {
    Rule::new(
        "!has(self.deletion) || !has(self.deletion.finalBackup) || !self.deletion.finalBackup || has(self.backup)",
    )
    .message(FINAL_BACKUP)
    .field_path(".deletion.finalBackup")
}

/// Of `repository`.
pub fn one_store() -> Rule {
    one_of(&["s3", "gcs", "azure", "volume"], ONE_STORE)
}

/// Of a bucket without `credentials`.
pub fn credentials_are_named() -> Rule {
    Rule::new("has(self.volume) || has(self.credentials)")
        .message(CREDENTIALS)
        .field_path(".credentials")
}

/// What a volume does not have.
fn not_with_a_volume(field: &str, sentence: &str) -> Rule {
    Rule::new(format!("!has(self.volume) || !has(self.{field})"))
        .message(sentence)
        .field_path(format!(".{field}"))
}

/// Of a volume with `credentials`.
pub fn a_volume_has_no_credentials() -> Rule {
    not_with_a_volume("credentials", NO_CREDENTIALS)
}

/// Of a volume with `authority`.
pub fn a_volume_has_no_authority() -> Rule {
    not_with_a_volume("authority", NO_AUTHORITY)
}

/// Of a volume that shall be immutable.
pub fn a_volume_is_not_immutable() -> Rule {
    Rule::new("!has(self.volume) || !has(self.immutable) || !self.immutable")
        .message(NOT_IMMUTABLE)
        .field_path(".immutable")
}

/// Of `volume.claimName`.
pub fn claim() -> Rule {
    matches(common::SUBDOMAIN, CLAIM)
}

/// A repository is never on the volume of an instance's data. `blocks`: those of the spec that it is in, the
/// outermost first.
pub fn not_on_own_data(blocks: &[&str]) -> Rule {
    let mut at = "self.spec".to_owned();
    let mut missing = Vec::new();
    for block in blocks.iter().chain(&["repository", "volume"]) {
        at = format!("{at}.{block}");
        // A repository is there wherever its block is.
        if *block != "repository" {
            missing.push(format!("!has({at})"));
        }
    }
    // Not by a pattern with the name in it: the API server reckons that too dear.
    let claim = format!("{at}.claimName");
    let own = format!(
        "({claim}.startsWith(self.metadata.name + '-') && \
         {claim}.substring(self.metadata.name.size() + 1).matches('^[1-9][0-9]*-data$'))"
    );
    Rule::new(format!("{} || !{own}", missing.join(" || ")))
        .message(OWN_CLAIM)
        .field_path(format!("{}.claimName", at.trim_start_matches("self")))
}

/// Of `volume.path`.
pub fn path() -> Rule {
    folders(PATH)
}

/// Names of folders with `/` between them, none of which leads out.
fn folders(sentence: &str) -> Rule {
    Rule::new(
        "self.matches('^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$') && !self.matches('(^|/)[.][.]?(/|$)')",
    )
    .message(sentence)
}

/// Of `repository.prefix`.
pub fn prefix() -> Rule {
    folders(PREFIX)
}

/// Of a repository to recover from.
pub fn prefix_is_named() -> Rule {
    Rule::new("has(self.repository.prefix)")
        .message(PREFIX_IS_NAMED)
        .field_path(".repository.prefix")
}

/// Of the name of a Secret.
pub fn secret() -> Rule {
    matches(common::SUBDOMAIN, SECRET)
}

/// Of the name of a Secret or ConfigMap.
pub fn object() -> Rule {
    matches(common::SUBDOMAIN, OBJECT)
}

/// Of a key in one.
pub fn key() -> Rule {
    matches("^[A-Za-z0-9._-]+$", KEY)
}

/// Of `s3.bucket`.
pub fn s3_bucket() -> Rule {
    matches("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", S3_BUCKET)
}

/// Of `gcs.bucket`.
pub fn gcs_bucket() -> Rule {
    matches("^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", GCS_BUCKET)
}

/// Of `s3.endpoint`.
pub fn endpoint() -> Rule {
    matches(
        r"^https://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\\[[0-9a-fA-F:]+\\])(:[1-9][0-9]{0,4})?$",
        ENDPOINT,
    )
}

/// Of `s3.region`.
pub fn region() -> Rule {
    matches("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", REGION)
}

/// Of `azure.account`.
pub fn account() -> Rule {
    matches("^[a-z0-9]{3,24}$", ACCOUNT)
}

/// Of `azure.container`.
pub fn container() -> Rule {
    matches("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", CONTAINER)
}

/// Of `authority`.
pub fn one_authority() -> Rule {
    one_of(&["certificate", "configMap", "secret"], ONE_AUTHORITY)
}

/// Of `authority.certificate`.
pub fn certificate() -> Rule {
    Rule::new("self.contains('-----BEGIN CERTIFICATE-----')").message(CERTIFICATE)
}

/// Of `recovery.backup`.
pub fn backup_id() -> Rule {
    matches("^[0-9]{8}t[0-9]{6}z-[0-9a-f]{16}$", BACKUP_ID)
}

/// Of `recovery.target`.
pub fn one_target() -> Rule {
    Rule::new(
        "[has(self.time),has(self.lsn),has(self.xid),has(self.name)].filter(there, there).size() <= 1",
    )
    .message(ONE_TARGET)
}

/// Of `recovery.target.time`.
pub fn time() -> Rule {
    matches(
        "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
        TIME,
    )
}

/// Of `recovery.target.lsn`.
pub fn lsn() -> Rule {
    matches("^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$", LSN)
}

/// Of `recovery.target.xid`.
pub fn xid() -> Rule {
    matches("^[1-9][0-9]{0,18}$", XID)
}

/// Of `recovery.target.name`.
pub fn point() -> Rule {
    Rule::new(r"self.size() >= 1 && !self.matches('[\\x00-\\x1f\\x7f]')").message(POINT)
}

/// What the first data is made from stays, or is not said any more.
pub fn bootstrap_is_fixed() -> Rule {
    Rule::new(
        "!has(self.bootstrap) || (has(oldSelf.bootstrap) && self.bootstrap == oldSelf.bootstrap)",
    )
    .message(BOOTSTRAP_CHANGES)
    .field_path(".bootstrap")
}

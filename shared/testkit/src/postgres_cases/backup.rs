//! Bad backups, and bad beginnings from one.

#![allow(
    clippy::needless_pass_by_value,
    reason = "what is written as json! is given away"
)]

use mainstay_crds::common::backup::rules;
use mainstay_crds::postgres::rules as postgres;
use serde_json::{Value, json};

use super::By::{Both, Change, Operator, Schema};
use super::{Case, spec};
use crate::api::merge;

/// A recipient, and one with a letter changed: only its checksum tells.
const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
const MISTYPED: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwq";
const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

/// Backups that are good, with `patch` over them.
fn backup(patch: Value) -> Value {
    let mut backup = json!({
        "repository": { "s3": { "bucket": "backups" }, "credentials": "backup-store" },
        "encryption": { "recipients": [RECIPIENT] },
    });
    merge(&mut backup, &patch);
    json!({ "backup": backup })
}

/// A beginning that is good, with `patch` over it.
fn recovery(patch: Value) -> Value {
    let mut recovery = json!({
        "repository": { "s3": { "bucket": "backups" }, "credentials": "backup-store", "prefix": "shop/old" },
        "keys": "old-backup-keys",
    });
    merge(&mut recovery, &patch);
    json!({ "bootstrap": { "recovery": recovery } })
}

/// Good ones.
pub fn good() -> Vec<(&'static str, Value)> {
    let of = |spec: Value| json!({ "spec": spec });
    let s3 = json!({
        "bucket": "my.bucket", "endpoint": "https://store.example.com:9000", "region": "eu-north-1",
        "virtualHosted": true,
    });
    let said = json!({
        "repository": {
            "s3": s3, "prefix": "a/b_c/D.e", "authority": { "certificate": PEM }, "immutable": true,
        },
        "schedule": { "cron": "*/15 0-6,22 1,15 */2 1-5", "incrementals": 6 },
        "retention": { "days": 30, "count": 4 },
        "limits": { "bandwidth": "50Mi", "concurrency": 8 },
        "onFull": "BreakArchive",
        "adopt": "00112233445566778899aabbccddeeff",
    });
    let gcs = json!({
        "repository": { "s3": null, "gcs": { "bucket": "my_bucket" }, "authority": { "configMap": { "name": "ca" } } },
        "encryption": { "recipients": null, "iAcceptKeyLoss": true },
    });
    let azure = json!({ "repository": {
        "s3": null, "azure": { "account": "shop1", "container": "backups" },
        "authority": { "secret": { "name": "ca", "key": "tls.crt" } },
    } });
    let volume = |volume: Value| json!({ "repository": { "s3": null, "credentials": null, "volume": volume } });
    let by_address = json!({ "repository": { "s3": { "endpoint": "https://[fd00::1]:7480" } } });
    let at = |target: Value| of(recovery(json!({ "target": target })));
    let older = json!({ "version": "16", "image": "postgres:16.4" });
    let mut of_16 = backup(json!({ "schedule": { "incrementals": 0 } }));
    merge(&mut of_16, &older);
    vec![
        ("backups", of(backup(json!({})))),
        ("backups with everything said", of(backup(said))),
        ("backups at Google", of(backup(gcs))),
        ("backups at Azure", of(backup(azure))),
        (
            "backups on a volume",
            of(backup(volume(json!({ "claimName": "backups" })))),
        ),
        (
            "backups in a folder of a volume",
            of(backup(volume(
                json!({ "claimName": "file-server.shop", "path": "postgres/of_shop.1" }),
            ))),
        ),
        (
            "backups on a claim that is called nearly like an instance's",
            of(backup(volume(json!({ "claimName": "db-2-data-x" })))),
        ),
        (
            "backups on the claim of another set",
            of(backup(volume(json!({ "claimName": "mydb-2-data" })))),
        ),
        (
            "the latest of a volume",
            of(recovery(volume(json!({ "claimName": "backups" })))),
        ),
        ("a store by its address", of(backup(by_address))),
        ("no incremental backups of 16", of(of_16)),
        ("the latest of a repository", of(recovery(json!({})))),
        (
            "a time with an offset",
            at(json!({ "time": "2026-01-02T03:04:05.678+01:00" })),
        ),
        (
            "a time in UTC",
            at(json!({ "time": "2026-01-02T03:04:05Z" })),
        ),
        ("a position", at(json!({ "lsn": "1/A0000028" }))),
        ("a transaction", at(json!({ "xid": "731" }))),
        (
            "a named point",
            at(json!({ "name": "before 'the' change" })),
        ),
        (
            "a backup by its id",
            of(recovery(
                json!({ "backup": "20260102t030405z-0011223344556677" }),
            )),
        ),
    ]
}

/// Bad ones.
pub fn cases() -> Vec<Case> {
    [of_repositories(), of_backups(), of_beginnings()].concat()
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn of_repositories() -> Vec<Case> {
    let repository = |what, field, sentence: &str, patch: Value| {
        let patch = backup(json!({ "repository": patch }));
        spec(what, Both, field, sentence, patch)
    };
    let volume = |what, field, sentence: &str, patch: Value| {
        let mut on_volume =
            json!({ "s3": null, "credentials": null, "volume": { "claimName": "backups" } });
        merge(&mut on_volume, &patch);
        repository(what, field, sentence, on_volume)
    };
    let s3 = |what, field, sentence: &str, patch: Value| {
        repository(what, field, sentence, json!({ "s3": patch }))
    };
    let prefix = |what, prefix: &str| {
        let patch = json!({ "prefix": prefix });
        repository(what, "spec.backup.repository.prefix", rules::PREFIX, patch)
    };
    let endpoint = |what, endpoint: &str| {
        let patch = json!({ "endpoint": endpoint });
        s3(
            what,
            "spec.backup.repository.s3.endpoint",
            rules::ENDPOINT,
            patch,
        )
    };
    let authority = |what, authority: Value| {
        let patch = json!({ "authority": authority });
        repository(
            what,
            "spec.backup.repository.authority",
            rules::ONE_AUTHORITY,
            patch,
        )
    };
    vec![
        repository(
            "backups nowhere",
            "spec.backup.repository",
            rules::ONE_STORE,
            json!({ "s3": null }),
        ),
        repository(
            "backups in two places",
            "spec.backup.repository",
            rules::ONE_STORE,
            json!({ "gcs": { "bucket": "backups" } }),
        ),
        repository(
            "credentials that are no name",
            "spec.backup.repository.credentials",
            rules::SECRET,
            json!({ "credentials": "My Store" }),
        ),
        repository(
            "no credentials",
            "spec.backup.repository.credentials",
            rules::CREDENTIALS,
            json!({ "credentials": null }),
        ),
        repository(
            "backups in a bucket and on a volume",
            "spec.backup.repository",
            rules::ONE_STORE,
            json!({ "credentials": null, "volume": { "claimName": "backups" } }),
        ),
        volume(
            "a volume with credentials",
            "spec.backup.repository.credentials",
            rules::NO_CREDENTIALS,
            json!({ "credentials": "backup-store" }),
        ),
        volume(
            "a volume with an authority",
            "spec.backup.repository.authority",
            rules::NO_AUTHORITY,
            json!({ "authority": { "certificate": PEM } }),
        ),
        volume(
            "a volume that is immutable",
            "spec.backup.repository.immutable",
            rules::NOT_IMMUTABLE,
            json!({ "immutable": true }),
        ),
        volume(
            "a claim that is no name",
            "spec.backup.repository.volume.claimName",
            rules::CLAIM,
            json!({ "volume": { "claimName": "My Backups" } }),
        ),
        spec(
            "the claim of an instance",
            Both,
            "spec.backup.repository.volume.claimName",
            rules::OWN_CLAIM,
            backup(json!({ "repository": {
                "s3": null, "credentials": null, "volume": { "claimName": "db-2-data" },
            } })),
        ),
        spec(
            "the claim of an instance to restore from",
            Both,
            "spec.bootstrap.recovery.repository.volume.claimName",
            rules::OWN_CLAIM,
            recovery(json!({ "repository": {
                "s3": null, "credentials": null, "volume": { "claimName": "db-1-data" },
            } })),
        ),
        volume(
            "a folder that leads out of the volume",
            "spec.backup.repository.volume.path",
            rules::PATH,
            json!({ "volume": { "path": "../other" } }),
        ),
        volume(
            "a folder from the node's top",
            "spec.backup.repository.volume.path",
            rules::PATH,
            json!({ "volume": { "path": "/backups" } }),
        ),
        prefix("a prefix that leads out", "shop/../other"),
        prefix("a prefix that ends with a slash", "shop/"),
        prefix("no prefix", ""),
        s3(
            "a bucket with capitals",
            "spec.backup.repository.s3.bucket",
            rules::S3_BUCKET,
            json!({ "bucket": "Backups" }),
        ),
        s3(
            "a region that is none",
            "spec.backup.repository.s3.region",
            rules::REGION,
            json!({ "region": "EU North" }),
        ),
        endpoint("a store without encryption", "http://store.example.com"),
        endpoint("a store without a protocol", "store.example.com:9000"),
        endpoint("a store with a path", "https://store.example.com/backups"),
        endpoint("a store with a password", "https://me:pw@store.example.com"),
        repository(
            "a bucket at Google with capitals",
            "spec.backup.repository.gcs.bucket",
            rules::GCS_BUCKET,
            json!({ "s3": null, "gcs": { "bucket": "Backups" } }),
        ),
        repository(
            "an account with a dash",
            "spec.backup.repository.azure.account",
            rules::ACCOUNT,
            json!({ "s3": null, "azure": { "account": "my-shop", "container": "backups" } }),
        ),
        repository(
            "a container of two letters",
            "spec.backup.repository.azure.container",
            rules::CONTAINER,
            json!({ "s3": null, "azure": { "account": "shop", "container": "ab" } }),
        ),
        authority("no authority", json!({})),
        authority(
            "two authorities",
            json!({ "certificate": PEM, "secret": { "name": "ca" } }),
        ),
        repository(
            "an authority that is no certificate",
            "spec.backup.repository.authority.certificate",
            rules::CERTIFICATE,
            json!({ "authority": { "certificate": "store.example.com" } }),
        ),
        repository(
            "an authority in no object",
            "spec.backup.repository.authority.configMap.name",
            rules::OBJECT,
            json!({ "authority": { "configMap": { "name": "Store CA" } } }),
        ),
        repository(
            "an authority under no key",
            "spec.backup.repository.authority.secret.key",
            rules::KEY,
            json!({ "authority": { "secret": { "name": "ca", "key": "a/b" } } }),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn of_backups() -> Vec<Case> {
    let one = |what, by, field, sentence: &str, patch: Value| {
        spec(what, by, field, sentence, backup(patch))
    };
    let cron = |what, by, sentence: &str, cron: &str| {
        let patch = json!({ "schedule": { "cron": cron } });
        one(what, by, "spec.backup.schedule.cron", sentence, patch)
    };
    let recipients = |what, by, recipient: &str| {
        let patch = json!({ "encryption": { "recipients": [recipient] } });
        let field = "spec.backup.encryption.recipients";
        one(what, by, field, rules::RECIPIENTS, patch)
    };
    let mut of_16 = backup(json!({ "schedule": { "incrementals": 6 } }));
    merge(
        &mut of_16,
        &json!({ "version": "16", "image": "postgres:16.4" }),
    );
    let unknown_escrow = json!({ "encryption": { "recipients": null, "iAcceptKeyLoss": false } });
    vec![
        one(
            "keys that only the cluster has",
            Both,
            "spec.backup.encryption",
            rules::ESCROW,
            json!({ "encryption": { "recipients": [] } }),
        ),
        spec(
            "a last backup without a repository",
            Both,
            "spec.deletion.finalBackup",
            rules::FINAL_BACKUP,
            json!({ "deletion": { "finalBackup": true } }),
        ),
        one(
            "what gives way, in other words",
            Schema,
            "spec.backup.onFull",
            "Unsupported value",
            json!({ "onFull": "stopWrites" }),
        ),
        one(
            "keys that may be lost, unsaid",
            Both,
            "spec.backup.encryption",
            rules::ESCROW,
            unknown_escrow,
        ),
        recipients("a recipient that is none", Both, "ssh-ed25519 AAAA"),
        recipients(
            "a key in the place of a recipient",
            Both,
            "AGE-SECRET-KEY-1QQQ",
        ),
        recipients("a mistyped recipient", Operator, MISTYPED),
        cron("a schedule in words", Both, rules::CRON, "@daily"),
        cron("a schedule of four fields", Both, rules::CRON, "30 2 * *"),
        cron("a schedule at 25 o'clock", Both, rules::CRON, "30 25 * * *"),
        cron(
            "a schedule on a named day",
            Both,
            rules::CRON,
            "30 2 * * MON",
        ),
        cron(
            "a schedule in steps of nothing",
            Both,
            rules::CRON,
            "*/0 * * * *",
        ),
        cron(
            "a schedule that goes back",
            Operator,
            rules::CRON,
            "30 6-2 * * *",
        ),
        cron(
            "a schedule on no day",
            Operator,
            "there is no such day: write one that every year has, for example \"30 2 1 * *\" for the first of each month",
            "30 2 31 2 *",
        ),
        one(
            "too long a chain",
            Both,
            "spec.backup.schedule.incrementals",
            rules::INCREMENTALS,
            json!({ "schedule": { "incrementals": 31 } }),
        ),
        spec(
            "incremental backups of 16",
            Both,
            "spec.backup.schedule.incrementals",
            postgres::NO_INCREMENTALS,
            of_16,
        ),
        one(
            "backups kept for no day",
            Both,
            "spec.backup.retention.days",
            rules::RETENTION_DAYS,
            json!({ "retention": { "days": 0 } }),
        ),
        one(
            "no backup kept",
            Both,
            "spec.backup.retention.count",
            rules::RETENTION_COUNT,
            json!({ "retention": { "count": 0 } }),
        ),
        one(
            "a trickle",
            Both,
            "spec.backup.limits.bandwidth",
            rules::BANDWIDTH,
            json!({ "limits": { "bandwidth": "1Ki" } }),
        ),
        one(
            "no request at a time",
            Both,
            "spec.backup.limits.concurrency",
            rules::CONCURRENCY,
            json!({ "limits": { "concurrency": 0 } }),
        ),
        one(
            "an owner that is none",
            Both,
            "spec.backup.adopt",
            rules::OWNER,
            json!({ "adopt": "shop/db" }),
        ),
    ]
}

fn of_beginnings() -> Vec<Case> {
    let one = |what, by, field, sentence: &str, patch: Value| {
        spec(what, by, field, sentence, recovery(patch))
    };
    let target = |what, field, sentence: &str, target: Value| {
        one(what, Both, field, sentence, json!({ "target": target }))
    };
    let time = "spec.bootstrap.recovery.target.time";
    let mut onto_itself = recovery(json!({ "repository": { "prefix": "shop/db" } }));
    merge(&mut onto_itself, &backup(json!({})));
    vec![
        one(
            "a beginning without its prefix",
            Both,
            "spec.bootstrap.recovery.repository.prefix",
            rules::PREFIX_IS_NAMED,
            json!({ "repository": { "prefix": null } }),
        ),
        one(
            "a beginning from nowhere",
            Both,
            "spec.bootstrap.recovery.repository",
            rules::ONE_STORE,
            json!({ "repository": { "s3": null } }),
        ),
        one(
            "keys that are no name",
            Both,
            "spec.bootstrap.recovery.keys",
            rules::SECRET,
            json!({ "keys": "" }),
        ),
        one(
            "a backup that is none",
            Both,
            "spec.bootstrap.recovery.backup",
            rules::BACKUP_ID,
            json!({ "backup": "yesterday" }),
        ),
        target(
            "two moments at once",
            "spec.bootstrap.recovery.target",
            rules::ONE_TARGET,
            json!({ "xid": "7", "lsn": "0/1" }),
        ),
        target(
            "a time without its offset",
            time,
            rules::TIME,
            json!({ "time": "2026-01-02T03:04:05" }),
        ),
        target(
            "a time in words",
            time,
            rules::TIME,
            json!({ "time": "yesterday" }),
        ),
        one(
            "a day that is none",
            Operator,
            time,
            rules::TIME,
            json!({ "target": { "time": "2026-02-30T03:04:05Z" } }),
        ),
        target(
            "a position that is none",
            "spec.bootstrap.recovery.target.lsn",
            rules::LSN,
            json!({ "lsn": "28" }),
        ),
        target(
            "no transaction",
            "spec.bootstrap.recovery.target.xid",
            rules::XID,
            json!({ "xid": "0" }),
        ),
        target(
            "a point of two lines",
            "spec.bootstrap.recovery.target.name",
            rules::POINT,
            json!({ "name": "a\nb" }),
        ),
        spec(
            "a set on top of what it begins with",
            Operator,
            "spec.backup.repository.prefix",
            "the set would write its backups where bootstrap.recovery reads others': write another prefix",
            onto_itself,
        ),
        spec(
            "a beginning for a set that has begun",
            Change,
            "spec.bootstrap",
            rules::BOOTSTRAP_CHANGES,
            recovery(json!({})),
        ),
    ]
}

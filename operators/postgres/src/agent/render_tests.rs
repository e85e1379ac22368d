use mainstay_crds::common::{Durability, Enforcement, Rejoin};

use super::*;
use crate::settings::PostgresSettings;

fn config(parameters: &[(&str, &str)]) -> PostgresConfig {
    PostgresConfig {
        set: "db".into(),
        namespace: "shop".into(),
        members: vec!["db-1".into(), "db-2".into(), "db-3".into()],
        durability: Durability::Quorum,
        enforcement: Enforcement::Required,
        across_zones: true,
        max_lag: None,
        rejoin: Rejoin::Rewind,
        engine: PostgresSettings {
            major: 17,
            parameters: parameters
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
            database: "app".into(),
            owner: "app".into(),
            max_slot_wal_keep_mib: 512,
            host_rules: vec![],
            pooler: None,
            archive: None,
        },
    }
}

fn facts() -> Facts {
    Facts {
        instance: "db-2".into(),
        user: "postgres".into(),
        listen: "*".into(),
        root: "/".into(),
        run: "/mainstay/run".into(),
        tls: "/mainstay/run/tls".into(),
        sockets: "/var/run/postgresql".into(),
        primary: Some(("db-1".into(), "10.0.0.1".into())),
        application: "db-2.0a".into(),
        standby_names: standby_names(Some(&group(1))),
        open: true,
        writes: true,
        zeroed: true,
        floors: BTreeMap::new(),
    }
}

#[test]
fn a_replica_keeps_what_its_data_needs() {
    let floors: BTreeMap<String, u64> = [
        ("max_connections".to_owned(), 100),
        ("max_wal_senders".to_owned(), 20),
    ]
    .into();
    let facts = Facts { floors, ..facts() };
    let text = render(
        &config(&[("max_connections", "50"), ("max_wal_senders", "30")]),
        &facts,
    )
    .settings;
    assert_eq!(line(&text, "max_connections"), "max_connections = '100'");
    assert_eq!(line(&text, "max_wal_senders"), "max_wal_senders = '30'");
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let start = format!("{name} = ");
    let mut found = text.lines().filter(|l| l.starts_with(&start));
    let line = found.next().unwrap();
    assert_eq!(found.next(), None, "{name} stands once");
    line
}

#[test]
fn the_user_changes_defaults_and_not_what_is_managed() {
    let config = config(&[
        ("Port", "1"),
        ("max_wal_senders", "3"),
        ("work_mem", "4MB"),
        ("my.x", "it's\n\\"),
    ]);
    let text = render(&config, &facts()).settings;
    assert_eq!(line(&text, "port"), "port = '5432'");
    assert_eq!(line(&text, "max_wal_senders"), "max_wal_senders = '3'");
    assert_eq!(line(&text, "work_mem"), "work_mem = '4MB'");
    assert_eq!(line(&text, "my.x"), "my.x = 'it''s \\\\'");
}

fn group(acks: usize) -> Group {
    let member = |m: &str| member(m).unwrap();
    Group {
        primary: member("db-2.0a"),
        voters: [member("db-1.0b"), member("db-3.0c")].into(),
        acks,
    }
}

#[test]
fn commits_wait_for_the_group() {
    let text = render(&config(&[]), &facts()).settings;
    let expected = "synchronous_standby_names = 'ANY 1 (\"db-1.0b\",\"db-3.0c\")'";
    assert_eq!(line(&text, "synchronous_standby_names"), expected);
    assert_eq!(standby_names(Some(&group(0))), "", "suspended");
    assert!(
        standby_names(None).contains("nobody"),
        "nothing is acknowledged"
    );
}

#[test]
fn a_closed_door_lets_in_nobody_but_our_own() {
    let closed = Facts {
        open: false,
        ..facts()
    };
    let access = render(&config(&[]), &closed).access;
    let last = access.lines().last().unwrap();
    assert_eq!(last, "host    all  all  all  reject");
    assert!(!access.contains("hostssl all  all  all  scram"));
    assert!(access.contains("mainstay_replication"));
}

#[test]
fn a_file_of_the_log_is_not_filled_first_unless_the_user_has_decided() {
    let hasty = Facts {
        zeroed: false,
        ..facts()
    };
    let of = |facts: &Facts, parameters: &[(&str, &str)]| {
        let text = render(&config(parameters), facts).settings;
        let set = text.lines().find(|l| l.starts_with("wal_init_zero"));
        set.map(str::to_owned)
    };
    assert_eq!(of(&facts(), &[]), None, "PostgreSQL's default");
    assert_eq!(of(&hasty, &[]).as_deref(), Some("wal_init_zero = 'off'"));
    let asked = of(&hasty, &[("WAL_init_zero", "on")]);
    assert_eq!(asked.as_deref(), Some("wal_init_zero = 'on'"));
}

#[test]
fn a_member_is_known_by_the_name_it_streams_by() {
    let m = Member::new("db-1", "0123");
    assert_eq!(member(&application(&m)), Some(m));
    assert_eq!(member("psql"), None);
}

#[test]
fn the_primary_is_verified_by_its_name_at_its_address() {
    let text = render(&config(&[]), &facts()).settings;
    let line = line(&text, "primary_conninfo");
    for part in [
        "host=''db-1.db-peers.shop.svc''",
        "hostaddr=''10.0.0.1''",
        "sslmode=''verify-full''",
        "application_name=''db-2.0a''",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn nobody_comes_in_without_tls_and_our_roles_only_by_certificate() {
    let text = render(&config(&[]), &facts()).access;
    let rules: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    for rule in &rules {
        assert!(
            rule.starts_with("local") || rule.starts_with("hostssl") || rule.ends_with("reject"),
            "{rule}"
        );
        assert!(!rule.contains("trust"));
    }
    let reject = rules.iter().position(|r| r.ends_with("reject")).unwrap();
    assert_eq!(
        rules.last().unwrap().split_whitespace().last(),
        Some("scram-sha-256")
    );
    assert!(
        reject < rules.len() - 1,
        "our roles are refused before passwords are asked"
    );
}

#[test]
fn slots_have_names_that_postgresql_takes() {
    assert_eq!(slot("my-db-12"), "my_db_12");
}

#[test]
fn poolers_look_up_logins_only_where_there_are_any_and_clients_are_let_in() {
    let before = render(&config(&[]), &facts());
    assert!(!format!("{before:?}").contains("pooler"));
    let mut pooled = config(&[]);
    pooled.engine.pooler = Some(crate::settings::PoolerSettings { pause_seconds: 5 });
    let open = render(&pooled, &facts());
    assert_eq!(open.settings, before.settings);
    let (lookup, refused) = (
        "hostssl postgres     mainstay_pooler       all  cert map=pooler\n",
        "host    all,replication  mainstay_replication,mainstay_probe,postgres,mainstay_pooler  all  reject\n",
    );
    let at = |text: &str, line: &str| text.find(line);
    assert!(at(&open.access, lookup).unwrap() < at(&open.access, refused).unwrap());
    assert!(
        open.identities
            .contains("pooler  \"pooler.mainstay\"  mainstay_pooler\n")
    );
    let closed = Facts {
        open: false,
        ..facts()
    };
    let closed = render(&pooled, &closed).access;
    assert!(!closed.contains(lookup) && closed.contains(refused));
}

#[test]
fn the_log_is_archived_where_there_are_backups() {
    let mut config = config(&[("archive_mode", "off")]);
    let before = render(&config, &facts());
    assert!(!before.settings.contains("archive_command"));
    // Backups were switched off, and the server was not restarted yet: nothing may pile up.
    let off = render(&self::config(&[]), &facts());
    assert!(off.settings.contains("archive_command = 'true'"));
    assert!(!off.settings.contains("archive_mode"));
    config.engine.archive = Some(ArchiveSettings::default());
    let files = render(&config, &facts());
    for line in [
        "archive_mode = 'always'",
        "archive_command = '\"/mainstay/bin/mainstay\" push --socket \"/mainstay/backup-run/archive.sock\" %p'",
        "archive_timeout = '60s'",
        "summarize_wal = 'on'",
    ] {
        assert!(
            files.settings.lines().any(|l| l == line),
            "{line}: {}",
            files.settings
        );
    }
    assert!(files.access.contains("local   replication  postgres"));
    assert!(!before.access.contains("local   replication"));
    config.engine.major = 16;
    assert!(!render(&config, &facts()).settings.contains("summarize_wal"));
}

#[test]
fn while_writes_are_refused_nothing_piles_up_by_itself() {
    let mut config = config(&[
        ("default_transaction_read_only", "off"),
        ("autovacuum", "on"),
    ]);
    config.engine.archive = Some(ArchiveSettings::default());
    let facts = Facts {
        writes: false,
        ..facts()
    };
    let files = render(&config, &facts);
    for line in [
        "archive_timeout = '0'",
        "autovacuum = 'off'",
        "default_transaction_read_only = 'on'",
    ] {
        let found = files.settings.lines().filter(|l| *l == line).count();
        assert_eq!(found, 1, "{line}: {}", files.settings);
    }
    assert!(files.access.contains("hostssl all  all  all"), "it is read");
}

//! An instance: PostgreSQL and the process that makes backups, side by side.

use super::*;

/// An instance.
pub struct Node {
    pub name: String,
    pub resource: String,
    pub root: PathBuf,
    pub address: String,
    /// After how many seconds a file of the log is ended that is not full.
    pub archive_timeout: u64,
    pub(super) postgres: Option<Child>,
    pub(super) sidecar: Option<Child>,
}

impl Node {
    pub fn path(&self, absolute: &str) -> PathBuf {
        paths::under(&self.root, absolute)
    }

    pub fn data(&self) -> PathBuf {
        self.path("/var/lib/postgresql/data/pgdata")
    }

    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.root.join(name)).unwrap_or_default();
        format!(
            "--- postgres\n{}\n--- backup\n{}",
            read("postgres.log"),
            read("backup.log")
        )
    }

    /// Waits until its processes have said something.
    pub fn until_said(&self, words: &str) {
        let begun = Instant::now();
        while !self.log().contains(words) {
            assert!(
                begun.elapsed() < long(),
                "not said: {words}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it has received all that its primary has written.
    pub fn has_all_of(&self, primary: &Node) {
        let lsn = primary.sql("select pg_current_wal_flush_lsn()");
        let sql = format!("select pg_last_wal_receive_lsn() >= '{lsn}'");
        let begun = Instant::now();
        while self.sql(&sql) != "t" {
            assert!(begun.elapsed() < long(), "{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn postgres_log(&self) -> String {
        fs::read_to_string(self.root.join("postgres.log")).unwrap_or_default()
    }

    pub fn sockets(&self) -> String {
        self.path("/var/run/postgresql").display().to_string()
    }

    /// Everything of it is PostgreSQL's.
    pub fn give(&self) {
        give(&self.root);
    }

    fn log_file(&self, name: &str) -> fs::File {
        fs::File::options()
            .create(true)
            .append(true)
            .open(self.root.join(name))
            .unwrap()
    }

    pub(super) fn run(&self, subcommand: &str) -> Command {
        let log = self.log_file("backup.log");
        let mut run = command(program());
        run.arg(subcommand)
            .env(paths::ROOT, &self.root)
            .env("MAINSTAY_LISTEN", &self.address)
            .env("MAINSTAY_LOG", "info,mainstay_postgres=debug")
            .env("POD_NAME", &self.name)
            .env("POD_UID", "uid")
            .env("POD_IP", &self.address)
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        run
    }

    /// Makes new data and runs: PostgreSQL, and the process that makes backups.
    pub fn begin(&mut self) {
        self.initialise();
        self.start(None);
        self.start_sidecar();
    }

    /// Copies a primary's data, and follows it with both processes.
    pub fn follow(&mut self, primary: &Self) {
        self.clone_of(primary);
        self.start(Some(primary));
        self.start_sidecar();
    }

    /// Makes new data, with small segments: the log is what is tested, not how much it is.
    pub fn initialise(&self) {
        self.initialise_with(1);
    }

    /// Makes new data with segments of so many MiB.
    pub fn initialise_with(&self, segment: u32) {
        let mut initdb = command(programs().join("initdb"));
        initdb
            .arg("--pgdata")
            .arg(self.data())
            .args([
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
                "--auth=trust",
                "--data-checksums",
                "--no-sync",
            ])
            .arg(format!("--wal-segsize={segment}"))
            .stdout(Stdio::null());
        assert!(initdb.status().unwrap().success());
    }

    /// Copies another node's data, to be its replica.
    fn clone_of(&self, primary: &Node) {
        let mut copy = command(programs().join("pg_basebackup"));
        copy.args([
            "-h",
            &primary.sockets(),
            "-U",
            "postgres",
            "--checkpoint=fast",
            "--no-sync",
            "-D",
        ])
        .arg(self.data());
        assert!(copy.status().unwrap().success());
        fs::write(self.data().join("standby.signal"), "").unwrap();
        give(&self.data());
    }

    /// Starts PostgreSQL, as the agent would; `primary`: whom to follow.
    pub fn start(&mut self, primary: Option<&Node>) {
        let mut settings = vec![
            ("archive_mode", "always".to_owned()),
            (
                "archive_command",
                format!(
                    "\"{}\" push --socket \"{}\" %p",
                    program().display(),
                    self.path(SOCKET).display()
                ),
            ),
            ("archive_timeout", format!("{}s", self.archive_timeout)),
            ("listen_addresses", String::new()),
            ("unix_socket_directories", self.sockets()),
            ("hot_standby", "on".to_owned()),
            ("fsync", "off".to_owned()),
            ("shared_buffers", "32MB".to_owned()),
            ("max_wal_size", "64MB".to_owned()),
            ("wal_log_hints", "on".to_owned()),
            ("track_commit_timestamp", "on".to_owned()),
            ("log_timezone", "UTC".to_owned()),
            ("timezone", "UTC".to_owned()),
            ("wal_retrieve_retry_interval", "200ms".to_owned()),
        ];
        if major() >= 17 {
            settings.push(("summarize_wal", "on".to_owned()));
        }
        if let Some(primary) = primary {
            settings.push((
                "primary_conninfo",
                format!("host={} user=postgres", primary.sockets()),
            ));
        }
        let line =
            |(name, value): &(&str, String)| format!("{name} = '{}'", value.replace('\'', "''"));
        let lines: Vec<String> = settings.iter().map(line).collect();
        let text = lines.join("\n");
        fs::write(self.root.join("postgresql.conf"), text).unwrap();
        fs::write(
            self.root.join("pg_hba.conf"),
            "local all all trust\nlocal replication all trust\n",
        )
        .unwrap();
        let log = self.log_file("postgres.log");
        let mut postgres = command(programs().join("postgres"));
        postgres
            .arg("-D")
            .arg(self.data())
            .arg("-c")
            .arg(format!(
                "config_file={}",
                self.root.join("postgresql.conf").display()
            ))
            .arg("-c")
            .arg(format!(
                "hba_file={}",
                self.root.join("pg_hba.conf").display()
            ))
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.postgres = Some(postgres.spawn().unwrap());
        let begun = Instant::now();
        while self.try_sql("select 1").is_err() {
            assert!(begun.elapsed() < long(), "{}", self.log());
            let ended = self.postgres.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn start_sidecar(&mut self) {
        self.sidecar = Some(self.run("backup").spawn().unwrap());
    }

    /// The process that makes backups.
    pub fn sidecar_pid(&self) -> u32 {
        self.sidecar.as_ref().unwrap().id()
    }

    pub fn stop_sidecar(&mut self) {
        if let Some(mut sidecar) = self.sidecar.take() {
            sidecar.kill().unwrap();
            sidecar.wait().unwrap();
        }
    }

    /// Stops PostgreSQL: in order, or as a crash does. How long it took.
    pub fn stop(&mut self, orderly: bool) -> Duration {
        let begun = Instant::now();
        if let Some(mut postgres) = self.postgres.take() {
            let signal = if orderly {
                Signal::SIGINT
            } else {
                Signal::SIGQUIT
            };
            kill(Pid::from_raw(postgres.id().cast_signed()), signal).unwrap();
            postgres.wait().unwrap();
        }
        begun.elapsed()
    }

    pub fn promote(&self) {
        self.sql("select pg_promote(true, 60)");
    }

    /// Looks at what was restored, as a drill does; its last words.
    pub fn drill(&self, checks: &[(&str, Option<&str>)]) -> DrillReport {
        let check = |(sql, expect): &(&str, Option<&str>)| DrillCheck {
            sql: (*sql).to_owned(),
            expect: expect.map(str::to_owned),
        };
        let settings = DrillSettings {
            resource: self.resource.clone(),
            database: "postgres".into(),
            role: "app".into(),
            statement_seconds: 2,
            checks: checks.iter().map(check).collect(),
        };
        let file = self.path(paths::CONFIG).join(DRILL_FILE);
        fs::write(file, serde_json::to_string(&settings).unwrap()).unwrap();
        give(&self.root);
        let status = self.run("drill").status().unwrap();
        let text = fs::read_to_string(self.path(TERMINATION_MESSAGE)).unwrap();
        let report: DrillReport = serde_json::from_str(&text).unwrap();
        assert_eq!(status.success(), report.passed, "{report:?}");
        report
    }

    /// Ends the segment that is being written; its name.
    pub fn switch(&self) -> String {
        self.sql("select pg_logical_emit_message(true, 'test', 'x')");
        self.sql("select pg_walfile_name(pg_switch_wal() - 1)")
    }

    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        let mut psql = command("/usr/bin/psql");
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            &self.sockets(),
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-c",
            sql,
        ]);
        let output = psql.output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}\n{}", self.log()))
    }

    /// Writes rows into the ledger, each in a transaction of its own.
    pub fn write(&self, rows: u32) {
        self.sql("create table if not exists ledger (n serial primary key, filling text)");
        self.sql(&format!(
            "do $$ begin for i in 1..{rows} loop insert into ledger (filling) values (repeat(md5(random()::text), 100)); commit; end loop; end $$"
        ));
    }

    /// Numbers and moments of the ledger's rows.
    pub fn ledger(&self) -> Vec<(u32, i64)> {
        let text = self.sql(
            "select n || ' ' || (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::int8 from ledger order by n",
        );
        text.lines()
            .map(|line| {
                let (n, at) = line.split_once(' ').unwrap();
                (n.parse().unwrap(), at.parse().unwrap())
            })
            .collect()
    }

    pub fn rows(&self) -> Vec<u32> {
        let text = self.sql("select n from ledger order by n");
        text.lines().map(|n| n.parse().unwrap()).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(20_000);
            eprintln!("log of {}:\n{}", self.name, log.get(from..).unwrap_or(&log));
        }
        self.stop_sidecar();
        self.stop(false);
    }
}

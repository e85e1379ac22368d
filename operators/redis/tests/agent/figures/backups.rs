//! Backups and restores of datasets of two kinds: ours, those of another build of the program if one is named, and what
//! anybody would do by hand with the programs that everybody has, in turn.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use mainstay_backup::api::{Outcome, OwnerState};
use mainstay_redis::agent::render::check;
use mainstay_redis::resp::words;
use mainstay_redis::settings::RULES;
use mainstay_shared::agent::config::Role;
use mainstay_shared::agent::paths;
use mainstay_shared::backups::container::restoring::RestoreStep;
use mainstay_shared::names;

use crate::backup::{BUCKET, Vault, back_up, until};
use crate::meter::{Peak, Rounds, megabytes, peak, processor};
use crate::pod::{PROGRAM, Pod, Set};

/// Values that a script sets at once, and bytes of each, about.
const AT_ONCE: u64 = 1000;
const VALUE: u64 = 1024;
/// Digits that look random, and documents: scripts that set them.
const KINDS: [(&str, &str); 2] = [
    (
        "digits without any order",
        "for i = 1, ARGV[2] do local n = ARGV[1] * ARGV[2] + i local v = {}
         for j = 1, 26 do v[j] = redis.sha1hex(n * 100 + j) end
         redis.call('SET', 'key:' .. n, table.concat(v)) end",
    ),
    (
        "documents",
        r#"local states = {'open', 'paid', 'sent', 'returned'}
           for i = 1, ARGV[2] do local n = ARGV[1] * ARGV[2] + i local h = redis.sha1hex(n)
           local at = function(k, m) return tonumber(string.sub(h, k, k + 5), 16) % m end
           local lines = {}
           for j = 1, 18 do lines[j] = string.format('{"article":"%s","count":%d,"price":%.2f}',
             string.sub(h, j, j + 7), at(j, 9) + 1, at(j + 3, 100000) / 100) end
           redis.call('SET', 'order:' .. n, string.format('{"order":%d,"customer":"customer-%d","state":"%s","lines":[%s]}',
             n, at(20, 50000), states[at(10, 4) + 1], table.concat(lines, ','))) end"#,
    ),
];
/// Who receives the dataset for the way by hand.
const BY_HAND: &str = "by-hand";

/// A login that may receive the dataset as `redis-cli --rdb` does.
pub fn by_hand() -> Role {
    Role {
        name: BY_HAND.into(),
        verifier: format!("#{}", check(BY_HAND)),
        attributes: [(RULES.to_owned(), "+sync +psync +replconf +ping".to_owned())].into(),
    }
}

async fn fill(set: &Set, pod: &Pod, mib: u64, script: &str) {
    let mut db = set.connect(pod).await.unwrap();
    db.call(words(["FLUSHALL"])).await.unwrap();
    for n in 0..mib * (1 << 20) / (AT_ONCE * VALUE) {
        let (n, at_once) = (n.to_string(), AT_ONCE.to_string());
        let eval = words(["EVAL", script, "0", &n, &at_once]);
        db.call(eval).await.unwrap();
    }
}

/// Processor time of the programs that this process has started and waited for.
fn children() -> f64 {
    processor("self", false)
}

/// `redis-cli --rdb`, `zstd`, `curl`; back by the same, and a Redis that makes an append-only file of it.
struct ByHand<'a> {
    set: &'a Set,
    pod: &'a Pod,
    vault: &'a Vault,
    folder: tempfile::TempDir,
}

impl ByHand<'_> {
    /// curl for one piece, in words for a shell: `$FILE` is its name.
    fn curl(&self, method: &str, round: usize, with_body: bool) -> String {
        let file = self.folder.path().join("PIECE");
        let body = with_body.then_some(file.as_path());
        let key = format!("/{BUCKET}/by-hand/{round}/PIECE");
        let args = self.vault.store().request(method, &key, &[], body);
        let kept = args.iter().filter(|arg| *arg != "--include");
        let quoted: Vec<String> = kept
            .map(|arg| format!("\"{}\"", arg.replace("PIECE", "$FILE")))
            .collect();
        format!("curl --fail {}", quoted.join(" "))
    }

    fn run(&self, script: &str) {
        let mut shell = Command::new("/bin/bash");
        shell
            .args(["-o", "pipefail", "-ec", script])
            .current_dir(self.folder.path());
        let output = shell.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }

    /// Makes a backup, in pieces of 16 MiB.
    fn back_up(&self, round: usize) {
        let Self {
            set, pod, folder, ..
        } = self;
        let authority: PathBuf = pod.path(paths::TLS).join("ca.crt");
        let put = self.curl("PUT", round, true);
        fs::write(
            folder.path().join("put"),
            format!("set -e\ncat > {}/$FILE\n{put} > /dev/null\nrm {}/$FILE\necho $FILE >> {}/pieces-{round}\n",
                folder.path().display(), folder.path().display(), folder.path().display()),
        )
        .unwrap();
        self.run(&format!(
            "{} -h {} -p 6379 --tls --sni {} --cacert {} --user {BY_HAND} -a {BY_HAND} --no-auth-warning --rdb - 2>/dev/null \
             | zstd -q -c -3 -T1 | split -b 16M -d -a 4 --filter 'bash {}/put' - piece",
            set.program("redis-cli").display(),
            pod.address,
            names::instance_host(&pod.name, &set.name, &set.namespace),
            authority.display(),
            folder.path().display(),
        ));
    }

    /// Brings a backup back, and has a Redis make of it what one with an append-only file starts from.
    fn restore(&self, round: usize) {
        let get = self.curl("GET", round, false);
        let (server, cli) = (
            self.set.program("redis-server"),
            self.set.program("redis-cli"),
        );
        let script = format!(
            "rm -rf data && mkdir data\n\
             for FILE in $(cat pieces-{round}); do {get}; done | zstd -q -d -c > data/dump.rdb\n\
             {server} --port 0 --unixsocket $PWD/socket --dir $PWD/data --appendonly no --save '' > log &\n\
             ask() {{ {cli} -s $PWD/socket \"$@\" 2>&1 | tr -d '\\r'; }}\n\
             until ask PING | grep -q PONG; do sleep 0.1; done\n\
             ask CONFIG SET appendonly yes\n\
             until ask INFO persistence | grep -E '^aof_(rewrite_in_progress|rewrite_scheduled):' | grep -c ':0' | grep -q 2; do sleep 0.1; done\n\
             ask SHUTDOWN NOSAVE || true\n\
             wait\n\
             test -s data/appendonlydir/appendonly.aof.*.base.rdb\n",
            server = server.display(),
            cli = cli.display(),
        );
        self.run(&script);
    }
}

/// One of the programs that are compared.
struct Build {
    name: &'static str,
    program: PathBuf,
    made: Rounds,
    restored: Rounds,
    memory: Peak,
}

impl Build {
    fn new(name: &'static str, program: PathBuf) -> Self {
        Self {
            name,
            program,
            made: Rounds::default(),
            restored: Rounds::default(),
            memory: Peak::default(),
        }
    }

    async fn back_up(&mut self, set: &Set, pod: &Pod, vault: &Vault, order: &str) {
        let beside = vault.beside(set, pod);
        let pid = beside.pid();
        until(set, pod, "ours", |r| r.ownership.state == OwnerState::Ours).await;
        let used = || processor(&pid.to_string(), true);
        let work = || {
            peak(pid, || {
                tokio::task::block_in_place(|| {
                    tokio::runtime::Handle::current().block_on(back_up(set, pod, order))
                })
            })
        };
        let (outcome, most) = self.made.time(used, work);
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        self.memory = self.memory.larger(most);
        beside.end();
    }

    async fn restore(&mut self, set: &Set, vault: &Vault, name: &str, number: u8) {
        let set = set.beside(name, 1).await;
        let pod = set.pod(1, number);
        let report = self.restored.time(children, || vault.restore(&set, &pod));
        assert_eq!(report.step, RestoreStep::Done, "{report:?}");
        fs::remove_dir_all(&pod.root).unwrap();
    }
}

/// Of a set of one, with [`by_hand`] among its logins.
pub async fn measure(set: &Set, pod: &Pod, mib: u64, rounds: usize) {
    // Folders in which pods of one address are made follow one another.
    let mut number = 20;
    for (kind, (what, script)) in KINDS.into_iter().enumerate() {
        fill(set, pod, mib, script).await;
        let mut vault = Vault::new().await;
        let by_hand = ByHand {
            set,
            pod,
            vault: &Vault::new().await,
            folder: tempfile::tempdir_in("/dev/shm").unwrap(),
        };
        let mut builds = vec![Build::new("ours", PathBuf::from(&*PROGRAM))];
        if let Ok(other) = std::env::var("MAINSTAY_FIGURES_OTHER") {
            builds.push(Build::new("the other build", PathBuf::from(other)));
        }
        let (mut made, mut restored) = (Rounds::default(), Rounds::default());
        for round in 0..rounds {
            for build in &mut builds {
                vault.program.clone_from(&build.program);
                let order = format!("{} {kind} {round}", build.name);
                build.back_up(set, pod, &vault, &order).await;
            }
            made.time(children, || by_hand.back_up(round));
        }
        let backups = vault.backups(pod).await;
        let newest = backups.iter().max_by_key(|manifest| manifest.begun);
        let plain = megabytes(newest.unwrap().plain());
        println!("  {what}, a snapshot of {plain:.0} MB");
        let mut sizes: Vec<f64> = backups.iter().map(|m| megabytes(m.stored())).collect();
        sizes.dedup();
        println!("  as stored, each: {sizes:.0?} MB");
        for round in 0..rounds {
            for build in &mut builds {
                vault.program.clone_from(&build.program);
                let name = format!("copy-{number}");
                build.restore(set, &vault, &name, number).await;
                number += 1;
            }
            restored.time(children, || by_hand.restore(round));
        }
        for build in &builds {
            println!(
                "  memory of the container, {}: {}",
                build.name, build.memory
            );
            build.made.line(&format!("backup, {}", build.name), plain);
        }
        made.line("backup, by hand", plain);
        for build in &builds {
            let line = format!("restore, {}", build.name);
            build.restored.line(&line, plain);
        }
        restored.line("restore, by hand", plain);
        for build in &builds[1..] {
            println!(
                "  ours against {}: {:.2} times as fast a backup, {:.2} times a restore",
                build.name,
                build.made.median() / builds[0].made.median(),
                build.restored.median() / builds[0].restored.median()
            );
        }
        println!(
            "  ours against by hand: {:.2} times as fast a backup, {:.2} times a restore",
            made.median() / builds[0].made.median(),
            restored.median() / builds[0].restored.median()
        );
    }
}

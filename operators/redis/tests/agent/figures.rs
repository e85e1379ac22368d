//! Figures for docs/benchmarks.md: `cargo xtask bench redis`. Not a test: it asserts nothing about time.
//!
//! `MAINSTAY_FIGURES_MIB` says how large the dataset is that is backed up (1024 by default), `MAINSTAY_FIGURES_ROUNDS` how
//! often everything is measured (3), `MAINSTAY_FIGURES_OTHER` another build of the program, whose backups and restores are
//! measured in turn with this one's; requests are not, then.

mod backups;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use mainstay_shared::agent::paths;
use mainstay_shared::names;

use crate::meter::{median, number};
use crate::pod::{Pod, Set};

/// Port of the one without TLS, at the address of the one with it.
const PLAIN_PORT: &str = "7000";
/// What redis-benchmark is asked for: how many requests are sent before answers are waited for, and how many in all.
const LOADS: [(&str, &str); 2] = [("1", "200000"), ("16", "1000000")];

/// A Redis with the same persistence, which knows neither users nor TLS.
struct Plain {
    process: Child,
    folder: tempfile::TempDir,
}

impl Plain {
    async fn start(set: &Set, pod: &Pod) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let process = Command::new(set.program("redis-server"))
            .args(["--port", PLAIN_PORT, "--bind", &pod.address])
            .args(["--protected-mode", "no", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "everysec"])
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let address = format!("{}:{PLAIN_PORT}", pod.address);
        crate::wait_for("the one without TLS", async || {
            tokio::net::TcpStream::connect(&address).await.is_ok()
        })
        .await;
        Self { process, folder }
    }

    fn end(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.folder.close().unwrap();
    }
}

/// Requests a second of `SET` and `GET`, as redis-benchmark tells them.
fn benchmark(set: &Set, pod: &Pod, tls: bool, (pipeline, requests): (&str, &str)) -> [f64; 2] {
    let mut command = Command::new(set.program("redis-benchmark"));
    command
        .args(["-h", &pod.address, "-t", "set,get", "--csv"])
        .args(["-c", "50", "-d", "100", "-r", "100000"])
        .args(["-P", pipeline, "-n", requests]);
    if tls {
        let authority: PathBuf = pod.path(paths::TLS).join("ca.crt");
        let host = names::instance_host(&pod.name, &set.name, &set.namespace);
        command
            .args(["-p", "6379", "--tls", "--sni", &host, "--cacert"])
            .arg(authority)
            .args(["--user", "app", "-a", &set.password]);
    } else {
        command.args(["-p", PLAIN_PORT]);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let of = |test: &str| -> f64 {
        let line = text.lines().find(|l| l.starts_with(test));
        let line = line.unwrap_or_else(|| panic!("no {test} in {text}"));
        line.split('"').nth(3).unwrap().parse().unwrap()
    };
    [of("\"SET\""), of("\"GET\"")]
}

fn spread(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted[sorted.len() - 1];
    format!("{:.0} / {:.0} / {last:.0}", sorted[0], median(&sorted))
}

async fn throughput(set: &Set, pod: &Pod, rounds: usize) {
    let plain = Plain::start(set, pod).await;
    for load in LOADS {
        let (mut without, mut with) = ([vec![], vec![]], [vec![], vec![]]);
        for _ in 0..rounds {
            for (tls, all) in [(false, &mut without), (true, &mut with)] {
                for (all, one) in all.iter_mut().zip(benchmark(set, pod, tls, load)) {
                    all.push(one);
                }
            }
        }
        for (n, what) in ["SET", "GET"].into_iter().enumerate() {
            println!(
                "  {what}, {} at a time of each of 50 clients, requests a second: without TLS {}, ours {} (n={rounds}), ratio {:.2}",
                load.0,
                spread(&without[n]),
                spread(&with[n]),
                median(&with[n]) / median(&without[n])
            );
        }
    }
    plain.end();
}

#[ignore = "figures: cargo xtask bench redis"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures() {
    let mib = number("MAINSTAY_FIGURES_MIB", 1024);
    let rounds = usize::try_from(number("MAINSTAY_FIGURES_ROUNDS", 3)).unwrap();
    let mut set = Set::new(1).await;
    let bytes = (mib * 2) << 20;
    let parameters = &mut set.config.engine.parameters;
    parameters.insert("maxmemory".into(), bytes.to_string());
    set.logins.push(backups::by_hand());
    let pods = set.all(1).await;
    println!("Redis 7.0, one instance with an append-only file");
    if std::env::var_os("MAINSTAY_FIGURES_OTHER").is_none() {
        throughput(&set, &pods[0], rounds).await;
    }
    backups::measure(&set, &pods[0], mib, rounds).await;
    set.finish(pods);
}

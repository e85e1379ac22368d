//! Applications in other languages, with those languages' own libraries: programs in the folders beside this file, each
//! of which says how it is used.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mainstay_e2e::tools::languages::{self, Program};

/// Longest wait for anything.
const LONG: Duration = Duration::from_mins(1);

/// What one of them says when it does not trust a server. The last three are all that redis-py says of an endpoint of a
/// Sentinel, and ioredis of that and of a cluster.
const DISTRUST: [&str; 6] = [
    "CERTIFICATE_VERIFY_FAILED",
    "certificate",
    "SSLHandshakeException",
    "No master found",
    "All sentinels are unreachable",
    "Connection is closed",
];

/// An application.
#[derive(Clone)]
pub struct Language {
    /// Its library.
    pub library: &'static str,
    program: Program,
}

/// All of them. To be had before the test is in a network of its own.
pub async fn all() -> Vec<Language> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let python = languages::python(&folder.join("python")).await.unwrap();
    let node = languages::node(&folder.join("node")).await.unwrap();
    let java = languages::java(&folder.join("java")).await.unwrap();
    let all = [("redis-py", python), ("ioredis", node), ("Jedis", java)];
    all.map(|(library, program)| Language { library, program })
        .into()
}

/// Write the files of a binding, as the kubelet mounts a Secret.
pub fn mount(folder: &Path, keys: &[(&str, &str)]) {
    fs::create_dir_all(folder).unwrap();
    for (key, value) in keys {
        fs::write(folder.join(key), value).unwrap();
    }
}

/// What a client has said: until when it had written what.
#[derive(Default)]
struct Said {
    wrote: u64,
    last: Option<Instant>,
    pause: Duration,
}

/// One that runs.
pub struct Client {
    pub library: &'static str,
    child: Child,
    said: Arc<Mutex<Said>>,
    complained: Arc<Mutex<String>>,
}

impl Language {
    /// Begin to write as `mode` says; the first `quick` numbers without a pause.
    pub fn start(&self, mode: &str, binding: &Path, quick: u64) -> Client {
        let mut command = self.program.command();
        command
            .args([mode.as_ref(), binding.as_os_str(), self.library.as_ref()])
            .arg(quick.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(Said::default()));
        let complained = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Some(number) = line.strip_prefix("wrote ") else {
                    continue;
                };
                let now = Instant::now();
                let mut heard = heard.lock().unwrap();
                heard.wrote = number.parse().unwrap();
                heard.pause = heard.last.map_or(Duration::ZERO, |last| {
                    heard.pause.max(now.duration_since(last))
                });
                heard.last = Some(now);
            }
        });
        let errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let heard = Arc::clone(&complained);
        std::thread::spawn(move || {
            for line in errors.map_while(Result::ok) {
                let mut heard = heard.lock().unwrap();
                heard.push_str(&line);
                heard.push('\n');
            }
        });
        Client {
            library: self.library,
            child,
            said,
            complained,
        }
    }

    /// The key of a number.
    pub fn key(library: &str, number: u64) -> String {
        format!("{library}:{number}")
    }
}

impl Client {
    /// The last number that is safe.
    pub fn wrote(&self) -> u64 {
        self.said.lock().unwrap().wrote
    }

    /// What it has said of errors.
    pub fn complaints(&self) -> String {
        self.complained.lock().unwrap().clone()
    }

    /// The longest time between two numbers since it was asked last.
    pub fn pause(&self) -> Duration {
        std::mem::take(&mut self.said.lock().unwrap().pause)
    }

    /// Until it has written so many more.
    pub async fn more(&mut self, numbers: u64) {
        let (begun, wanted) = (Instant::now(), self.wrote() + numbers);
        while self.wrote() < wanted {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < LONG,
                "{} has written {} of {wanted}, ended {ended:?}:\n{}",
                self.library,
                self.wrote(),
                self.complaints()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Tell it to end; the last number.
    pub async fn finish(mut self) -> u64 {
        drop(self.child.stdin.take());
        let ended = self.ended().await;
        assert!(ended, "{}: {}", self.library, self.complaints());
        self.wrote()
    }

    /// It gives up, having written nothing: who is asked shows no certificate that it would trust.
    pub async fn refuses(mut self) {
        drop(self.child.stdin.take());
        let done = self.ended().await;
        let why = self.complaints();
        assert!(!done && self.wrote() == 0, "{}: {why}", self.library);
        let sign = DISTRUST.iter().any(|sign| why.contains(sign));
        assert!(sign, "{}: {why}", self.library);
    }

    /// Until it ends; whether it says that all is well.
    async fn ended(&mut self) -> bool {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // What it said last has been read soon.
                tokio::time::sleep(Duration::from_millis(100)).await;
                return status.success();
            }
            let late = begun.elapsed() > LONG;
            assert!(!late, "{} does not end", self.library);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

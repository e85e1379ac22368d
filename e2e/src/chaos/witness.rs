//! A writer and a reader in each member's own network.
//!
//! A client that goes through the Service sees one primary at a time, whatever there is. So each pod of
//! the set has a writer that asks the pod's own server, from within the pod's network namespace: cut off
//! with it, it still reaches it, and what it was told is in a ledger on this machine. Pods are found by
//! their processes, not through the API server: also those that it believes to be gone, and while it is
//! away.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::Secret;
use mainstay_workload::binding::{Binding, BindingError};
use mainstay_workload::journal::{self, Journal};
use mainstay_workload::ledger::{self, Outcome};
use mainstay_workload::writer::{self, Again, Engine, Pace, Shows};
use mainstay_workload::{postgres, redis};
use tempfile::TempDir;
use tokio::sync::watch;

use super::readers::{self, Book, Shown};
use crate::faults::inside;
use crate::scenarios::kit::{self, Look, READY, Sandbox};
use crate::scenarios::set::Kind;

/// How often pods are looked for.
const LOOK: Duration = Duration::from_millis(300);
/// How its writer writes. Most servers refuse most of the time, being replicas; whom a server ends tries
/// again at leisure, for all those that connect take processor time from the one that takes over.
const PACE: Pace = Pace {
    interval: Duration::from_millis(25),
    retry: Duration::from_millis(200),
    connect: Duration::from_secs(1),
    answer: Duration::from_secs(1),
    again: Again::IfMissing,
    end: None,
};

/// What one writer was told.
pub struct Testimony {
    /// Name of its ledger.
    pub run: String,
    /// The ledger.
    pub entries: Vec<ledger::Entry>,
}

/// The writers and readers of a set, from [`Witnesses::start`] to [`Witnesses::end`].
pub struct Witnesses {
    folder: TempDir,
    book: Book,
    over: watch::Sender<bool>,
    looking: Option<JoinHandle<()>>,
}

impl Witnesses {
    /// Finds the pods of the set `db`, which is of that kind, from now on, and has a writer in each, which repeats what it does
    /// not know the outcome of if it is missing, or in any case.
    ///
    /// # Errors
    /// The application's Secret cannot be read, or there can be no thread.
    pub async fn start(s: &Sandbox<'_>, kind: Kind, in_any_case: bool) -> Result<Self> {
        Self::begin(s, kind, in_any_case, None).await
    }

    /// The same of a cluster, whose writers write to one shard: keys with this tag are its own. Nobody reads.
    ///
    /// # Errors
    /// As [`Witnesses::start`].
    pub async fn of_shard(s: &Sandbox<'_>, kind: Kind, tag: &str) -> Result<Self> {
        Self::begin(s, kind, false, Some(format!("{{{tag}}}"))).await
    }

    async fn begin(
        s: &Sandbox<'_>,
        kind: Kind,
        in_any_case: bool,
        tag: Option<String>,
    ) -> Result<Self> {
        let secret = s.api::<Secret>().get("db-app").await?;
        let data = secret.data.unwrap_or_default();
        let binding = Binding::of(|key| {
            let value = data
                .get(key)
                .map(|v| String::from_utf8_lossy(&v.0).into_owned());
            value.ok_or_else(|| BindingError::Key {
                key,
                path: PathBuf::from("Secret db-app"),
                source: std::io::ErrorKind::NotFound.into(),
            })
        })?;
        let folder = tempfile::tempdir()?;
        let (over, watched) = watch::channel(false);
        let book = Book::default();
        let look = Looking {
            kind,
            tag,
            cgroup: format!("/mainstay/{}/", s.ctx.cluster.name()),
            namespace: s.namespace.clone(),
            binding,
            folder: folder.path().to_owned(),
            book: Book::clone(&book),
            pace: Pace {
                again: Again::of(in_any_case),
                ..PACE
            },
            over: watched,
        };
        let looking = std::thread::Builder::new()
            .name("witnesses".to_owned())
            .spawn(move || look.until_over())?;
        Ok(Self {
            folder,
            book,
            over,
            looking: Some(looking),
        })
    }

    /// None: for figures of what a client sees where nobody else takes processor time. Nobody's word but
    /// the client's is judged then.
    ///
    /// # Errors
    /// No folder can be made.
    pub fn none() -> Result<Self> {
        Ok(Self {
            folder: tempfile::tempdir()?,
            book: Book::default(),
            over: watch::channel(false).0,
            looking: None,
        })
    }

    /// Whether there are any.
    pub fn are_there(&self) -> bool {
        self.looking.is_some()
    }

    /// What was told so far.
    ///
    /// # Errors
    /// A ledger cannot be read.
    pub fn so_far(&self) -> Result<Vec<Testimony>> {
        let mut all = Vec::new();
        for file in std::fs::read_dir(self.folder.path())? {
            let path = file?.path();
            let name = path.file_name().context("a file has a name")?;
            all.push(Testimony {
                run: name.to_string_lossy().into_owned(),
                entries: journal::read(&path)?,
            });
        }
        all.sort_by(|a, b| a.run.cmp(&b.run));
        Ok(all)
    }

    /// Waits until the server of an instance, as it runs now, has acknowledged something: else what it
    /// did would not have been seen. Where there are no witnesses there is nothing to wait for.
    ///
    /// # Errors
    /// It has not, for long.
    pub async fn hear(&self, s: &Sandbox<'_>, instance: &str) -> Result<()> {
        let named = || async { Ok(instance.to_owned()) };
        self.hear_leader(s, named).await.map(drop)
    }

    /// The same for whoever `leads` names at each look, which may have been late at the one before: the
    /// one that was heard.
    ///
    /// # Errors
    /// None of them was heard for long, or `leads` fails.
    pub async fn hear_leader<F: Future<Output = Result<String>> + Send>(
        &self,
        s: &Sandbox<'_>,
        leads: impl Fn() -> F + Sync,
    ) -> Result<String> {
        if !self.are_there() {
            return leads().await;
        }
        let since = writer::now();
        s.until("a write in the primary's own network", READY, || async {
            let instance = leads().await?;
            let all = self.so_far()?;
            // A pod's writer asks that pod's server alone.
            let own = format!("{instance}-");
            let its = all.iter().filter(|t| t.run.starts_with(&own));
            let mut entries = its.flat_map(|testimony| &testimony.entries);
            let heard = entries.any(|entry| entry.outcome >= Outcome::Taken && entry.sent > since);
            let told = || {
                let last = all.iter().map(|t| (&t.run, t.entries.last()));
                (&instance, last.collect::<Vec<_>>())
            };
            Ok(if heard {
                Look::Done(instance.clone())
            } else {
                Look::seen(&told())
            })
        })
        .await
    }

    /// Waits until any server has taken something: the instance.
    ///
    /// # Errors
    /// None has, for long.
    pub async fn hear_any(&self, s: &Sandbox<'_>) -> Result<String> {
        let since = writer::now();
        s.until("a write in any pod's own network", READY, || async {
            let all = self.so_far()?;
            let newest = all.iter().filter_map(|testimony| {
                let mut entries = testimony.entries.iter().rev();
                let taken = entries.find(|entry| entry.outcome >= Outcome::Taken)?;
                Some((taken.sent, instance(&testimony.run)?))
            });
            Ok(match newest.max() {
                Some((sent, instance)) if sent > since => Look::Done(instance.to_owned()),
                newest => Look::seen(&newest),
            })
        })
        .await
    }

    /// Ends them all: what the writers were told, and what the readers were shown.
    ///
    /// # Errors
    /// A ledger cannot be read.
    pub fn end(mut self) -> Result<(Vec<Testimony>, Vec<Shown>)> {
        self.over.send_replace(true);
        let Some(looking) = self.looking.take() else {
            return Ok((Vec::new(), Vec::new()));
        };
        let joined = looking.join();
        joined.map_err(|_| anyhow!("the thread that looks for pods panicked"))?;
        let all = self.so_far()?;
        ensure!(
            !all.is_empty(),
            "no pod of the set was found among the processes of this machine"
        );
        let shown = std::mem::take(&mut *self.book.lock().unwrap_or_else(PoisonError::into_inner));
        Ok((all, shown))
    }
}

impl Drop for Witnesses {
    fn drop(&mut self) {
        self.over.send_replace(true);
        if let Some(looking) = self.looking.take() {
            // What it did is of no interest any more.
            let _ = looking.join();
        }
    }
}

/// A pod of the set, as its processes tell.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    uid: String,
    instance: String,
    address: IpAddr,
    pid: i32,
}

struct Looking {
    kind: Kind,
    /// Of a cluster: what all keys bear.
    tag: Option<String>,
    /// Part of the control groups of the cluster's processes: another one on this machine may have a
    /// namespace of the same name.
    cgroup: String,
    namespace: String,
    binding: Binding,
    folder: PathBuf,
    book: Book,
    pace: Pace,
    over: watch::Receiver<bool>,
}

/// A writer: how it is told to end, and its thread.
type Writing = (watch::Sender<bool>, JoinHandle<()>);

impl Looking {
    fn until_over(self) {
        let mut writing: BTreeMap<String, Writing> = BTreeMap::new();
        let mut count = 0;
        while !*self.over.borrow() {
            let now = seen(&self.cgroup, &self.namespace);
            let there: BTreeSet<&String> = now.iter().map(|s| &s.uid).collect();
            // Of a pod without a first process: one is started for the next.
            let gone = writing.extract_if(.., |uid, (_, thread)| {
                !there.contains(uid) || thread.is_finished()
            });
            let gone: Vec<_> = gone.collect();
            end(gone.into_iter().map(|(_, writing)| writing));
            for pod in now {
                let Entry::Vacant(place) = writing.entry(pod.uid.clone()) else {
                    continue;
                };
                count += 1;
                match self.write(&pod, count) {
                    Ok(thread) => drop(place.insert(thread)),
                    // Its process has ended meanwhile: it is looked for again.
                    Err(error) => tracing::debug!(%error, "no writer"),
                }
            }
            std::thread::sleep(LOOK);
        }
        end(writing.into_values());
    }

    fn write(&self, pod: &Seen, count: usize) -> Result<Writing> {
        let tag = self.tag.as_deref().unwrap_or_default();
        let run = format!("{}-{count}{tag}", pod.instance);
        let binding = self.binding.clone();
        let host = kit::host(&self.namespace, "db", &pod.instance);
        let address = pod.address;
        match self.kind {
            Kind::Postgres => {
                let member = postgres::Member {
                    binding,
                    host,
                    address,
                    run: run.clone(),
                };
                self.write_to(member, pod, &run)
            }
            Kind::Redis | Kind::RedisCluster => {
                let member = redis::Member {
                    binding,
                    host,
                    address,
                    run: run.clone(),
                    clustered: self.tag.is_some(),
                };
                self.write_to(member, pod, &run)
            }
        }
    }

    fn write_to<E>(&self, member: E, pod: &Seen, run: &str) -> Result<Writing>
    where
        E: Engine<Session: Shows> + Send + 'static,
    {
        let file = self.folder.join(run);
        let mut journal = Journal::open(Some(&file))?;
        // Of one shard's members the client's newest number is elsewhere.
        let book = self.tag.is_none().then(|| Book::clone(&self.book));
        let pace = self.pace;
        let (over, mut told) = watch::channel(false);
        let thread = inside::network_of(pod.pid, run, move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                tokio::select! {
                    // Its ledger is on this machine's own disk: if that fails, so does reading it.
                    _ = writer::run(&member, pace, &mut journal) => {}
                    () = async {
                        match &book {
                            Some(book) => readers::read(&member, book).await,
                            None => std::future::pending().await,
                        }
                    } => {}
                    _ = told.wait_for(|over| *over) => {}
                }
            });
        })?;
        let thread = std::thread::spawn(move || {
            if let Ok(Err(error)) = thread.join() {
                tracing::debug!(%error, "no writer");
            }
        });
        Ok((over, thread))
    }
}

/// Whose server a writer of that name wrote to: see [`Looking::write`].
fn instance(run: &str) -> Option<&str> {
    run.rsplit_once('-').map(|(instance, _)| instance)
}

fn end(all: impl Iterator<Item = Writing>) {
    let told: Vec<_> = all
        .map(|(over, thread)| {
            over.send_replace(true);
            thread
        })
        .collect();
    for thread in told {
        // It has no result.
        let _ = thread.join();
    }
}

/// The pods of a namespace of which the first process of the engine's container runs.
fn seen(cgroup: &str, namespace: &str) -> Vec<Seen> {
    let table = std::fs::read_dir("/proc");
    let pids = table.into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| one(pid, cgroup, namespace)).collect()
}

fn one(pid: i32, cgroup: &str, namespace: &str) -> Option<Seen> {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    if !words.starts_with(b"/mainstay/bin/mainstay\0init\0") {
        return None;
    }
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    if !groups.contains(cgroup) {
        return None;
    }
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = |name: &str| -> Option<String> {
        let mut words = environment.split(|byte| *byte == 0);
        words.find_map(|word| {
            let value = std::str::from_utf8(word).ok()?.strip_prefix(name)?;
            Some(value.strip_prefix('=')?.to_owned())
        })
    };
    (value("POD_NAMESPACE")? == namespace).then_some(Seen {
        uid: value("POD_UID")?,
        instance: value("POD_NAME")?,
        address: value("POD_IP")?.parse().ok()?,
        pid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_named_after_its_server() {
        assert_eq!(instance("db-1-2{t2}"), Some("db-1"));
        assert_eq!(instance("db-12-7"), Some("db-12"));
    }

    #[test]
    fn a_pod_is_found_by_its_first_process_and_only_in_its_namespace() {
        use std::os::unix::process::CommandExt as _;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("init"), "read line").unwrap();
        // A shell that reads its script, with the command line that a data pod has.
        let mut child = std::process::Command::new("sh")
            .arg0("/mainstay/bin/mainstay")
            .args(["init", "--stop", "30"])
            .current_dir(folder.path())
            .stdin(std::process::Stdio::piped())
            .envs([
                ("POD_NAMESPACE", "shop-of-a-test"),
                ("POD_UID", "u-1"),
                ("POD_NAME", "db-1"),
                ("POD_IP", "10.0.0.7"),
            ])
            .spawn()
            .unwrap();
        // The parent may go on before the system shows the command line of the child.
        let begun = std::time::Instant::now();
        let found = loop {
            let found = seen("/", "shop-of-a-test");
            if !found.is_empty() || begun.elapsed() > Duration::from_secs(10) {
                break found;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let pid = i32::try_from(child.id()).unwrap();
        assert!(seen("/", "shop").is_empty());
        assert!(seen("/mainstay/none/", "shop-of-a-test").is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
        let expected = Seen {
            uid: "u-1".to_owned(),
            instance: "db-1".to_owned(),
            address: IpAddr::from([10, 0, 0, 7]),
            pid,
        };
        assert_eq!(found, [expected]);
    }
}

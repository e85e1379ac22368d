//! An agent without an engine: the real HTTPS interface, over TLS on loopback, with a status that
//! the test decides.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_crds::common::InstanceRole;
use mainstay_shared::agent::api::Status;
use mainstay_shared::agent::program::Programs;
use mainstay_shared::agent::server::{self, Interface, Order, Refusal};
use mainstay_shared::names::AGENT_PORT;
use rustls::ServerConfig;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// What an agent finds when it is told to look at its mounts: the hash of the configuration.
pub type Mount = Arc<dyn Fn() -> Option<String> + Send + Sync>;
/// What an agent does to hand over to the instance of that name.
pub type HandOver = Arc<dyn Fn(&str) + Send + Sync>;

/// What an agent has to do with the rest of the world.
#[derive(Clone)]
pub struct Surroundings {
    /// Its mounts.
    pub mount: Mount,
    /// Its Lease.
    pub hand_over: HandOver,
}

/// Next address on loopback to try.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// An agent. It ends when it is dropped.
pub struct FakeAgent {
    address: SocketAddr,
    status: Arc<watch::Sender<Status>>,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    restarts: Arc<AtomicUsize>,
    refuse_restarts: Arc<Mutex<Option<String>>>,
    tasks: Vec<JoinHandle<()>>,
    /// Where programs that it is sent are kept.
    _programs: TempDir,
}

impl FakeAgent {
    /// Start one on an address of its own within 127.0.0.0/8, at the agents' port: so the address
    /// alone finds it, as that of a pod does.
    ///
    /// # Errors
    /// When no address can be had.
    pub async fn start(
        tls: Arc<ServerConfig>,
        status: Status,
        around: Surroundings,
    ) -> io::Result<Self> {
        let listener = listen().await?;
        let folder = tempfile::tempdir()?;
        let address = listener.local_addr()?;
        let (sender, receiver) = watch::channel(status);
        let status = Arc::new(sender);
        let (tls, tls_seen) = watch::channel(Some(tls));
        let (orders, taken) = mpsc::channel(8);
        let (restarts, refuse_restarts) = (Arc::default(), Arc::default());
        let interface = Interface {
            status: receiver,
            orders,
            alive: Arc::new(|| true),
            metrics: Arc::new(|_| String::new()),
            election: tokio::sync::watch::channel(None).1,
            programs: Programs::new(folder.path().to_owned()),
        };
        let obeys = obey(
            taken,
            status.clone(),
            around,
            Arc::clone(&restarts),
            Arc::clone(&refuse_restarts),
        );
        let tasks = vec![
            tokio::spawn(server::serve(listener, tls_seen, interface)),
            tokio::spawn(obeys),
        ];
        Ok(Self {
            address,
            status,
            tls,
            restarts,
            refuse_restarts,
            tasks,
            _programs: folder,
        })
    }

    /// Where it listens.
    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    /// What it says at present.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Change what it says; a change raises the sequence.
    pub fn set(&self, change: impl FnOnce(&mut Status)) {
        set(&self.status, change);
    }

    /// Serve another certificate from the next connection on.
    pub fn serve_certificate(&self, tls: Arc<ServerConfig>) {
        self.tls.send_replace(Some(tls));
    }

    /// The certificate that it serves.
    pub fn certificate(&self) -> Option<Arc<ServerConfig>> {
        self.tls.borrow().clone()
    }

    /// How often it restarted its engine.
    pub fn restarts(&self) -> usize {
        self.restarts.load(Ordering::Acquire)
    }

    /// Refuse restarts with a sentence from now on; none to obey again.
    pub fn refuse_restarts(&self, why: Option<&str>) {
        *self
            .refuse_restarts
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = why.map(str::to_owned);
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn listen() -> io::Result<TcpListener> {
    let port = u16::try_from(AGENT_PORT).map_err(io::Error::other)?;
    // Test programs run side by side: each begins somewhere else.
    let start = u64::from(std::process::id()) * 7919;
    for _ in 0..1000 {
        let n = start + NEXT.fetch_add(1, Ordering::Relaxed);
        let [_, _, _, _, _, b, c, d] = n.to_be_bytes();
        let address = Ipv4Addr::new(127, b.max(1), c, d.clamp(1, 254));
        match TcpListener::bind((address, port)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            other => return other,
        }
    }
    Err(io::Error::from(io::ErrorKind::AddrNotAvailable))
}

fn set(status: &watch::Sender<Status>, change: impl FnOnce(&mut Status)) {
    status.send_if_modified(|status| {
        let before = status.clone();
        change(status);
        let changed = *status != before;
        if changed {
            status.sequence = before.sequence + 1;
        }
        changed
    });
}

async fn obey(
    mut orders: mpsc::Receiver<Order>,
    status: Arc<watch::Sender<Status>>,
    around: Surroundings,
    restarts: Arc<AtomicUsize>,
    refuse: Arc<Mutex<Option<String>>>,
) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::Look => set(&status, |status| status.config_hash = (around.mount)()),
            Order::Restart(wish, answer) => {
                let refused = refuse
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                let outdated = wish.nonce != status.borrow().nonce;
                let done = match refused {
                    _ if outdated => Err(Refusal::Outdated),
                    Some(why) => Err(Refusal::Impossible(why)),
                    None => {
                        let count = restarts.fetch_add(1, Ordering::AcqRel) + 1;
                        set(&status, |status| {
                            status.nonce = format!("{}.{count}", status.pod_uid);
                            status.pending_restart.clear();
                        });
                        Ok(())
                    }
                };
                // A caller that has gone away knows nothing, as with a real agent.
                let _ = answer.send(done);
            }
            Order::Upgrade(wish, _, answer) => {
                let done = if wish.nonce == status.borrow().nonce {
                    let count = restarts.fetch_add(1, Ordering::AcqRel) + 1;
                    set(&status, |status| {
                        status.nonce = format!("{}.{count}", status.pod_uid);
                        if let Some(program) = &mut status.program {
                            program.sha256.clone_from(&wish.sha256);
                        }
                    });
                    Ok(())
                } else {
                    Err(Refusal::Outdated)
                };
                let _ = answer.send(done);
            }
            Order::HandOver(wish, answer) => {
                let done = if wish.nonce == status.borrow().nonce {
                    (around.hand_over)(&wish.to);
                    // The engine starts again, as a replica.
                    let count = restarts.fetch_add(1, Ordering::AcqRel) + 1;
                    set(&status, |status| {
                        status.nonce = format!("{}.{count}", status.pod_uid);
                        status.pending_restart.clear();
                        status.role = InstanceRole::Replica;
                    });
                    Ok(())
                } else {
                    Err(Refusal::Outdated)
                };
                let _ = answer.send(done);
            }
        }
    }
}

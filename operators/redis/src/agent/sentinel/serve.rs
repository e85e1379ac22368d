//! The port, and the connections to it. I/O; what is answered is in [`super::session`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_shared::agent::listen::accept;
use mainstay_shared::agent::tell::set;
use rustix::net::sockopt;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::server::TlsStream;

use super::Known;
use super::reply::{Reply, command};
use super::session::{Session, Then, Users};
use super::view::{View, events};

/// Most clients at a time.
const CONNECTIONS: usize = 128;
/// Who has not logged in after so long goes.
const LOG_IN: Duration = Duration::from_secs(10);
/// Who has said more than this and has not logged in goes.
const STRANGE: u32 = 16;
/// So many commands of a client are answered at once. The agent has other work, which is done in between.
const TURN: usize = 32;
/// Who says nothing for so long, and does not listen, goes.
const IDLE: Duration = Duration::from_hours(1);
/// Who takes nothing for so long goes.
const WRITE: Duration = Duration::from_secs(10);
/// So much is kept before it is sent, in bytes.
const KEPT: usize = 16 << 10;
/// A client that says nothing is asked by the kernel whether it is there: after so long, so often, so many times.
const ALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);
/// Pause before a port that cannot be had is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Answer for as long as it is asked for. What is wrong goes into `trouble`.
pub async fn serve(
    address: SocketAddr,
    tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    known: watch::Receiver<Known>,
    view: watch::Receiver<Option<View>>,
    trouble: watch::Sender<Option<String>>,
) {
    let ids = Arc::new(AtomicU64::new(1));
    let mut asked = view.clone();
    loop {
        if asked.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(error) => {
                let why =
                    format!("clients of a Sentinel are not answered: port {address}: {error}");
                tracing::warn!(%why, "it is tried again");
                set(&trouble, Some(why));
                sleep(AGAIN).await;
                continue;
            }
        };
        set(&trouble, None);
        tracing::info!(%address, "clients of a Sentinel are answered");
        let (known, view, ids) = (known.clone(), view.clone(), Arc::clone(&ids));
        let taken = accept(listener, tls.clone(), CONNECTIONS, move |tls, peer| {
            let id = ids.fetch_add(1, Ordering::Relaxed);
            let client = Client::new(tls, id, known.clone(), view.clone());
            async move {
                if let Err(error) = client.run().await {
                    tracing::debug!(%peer, %error, "a client of a Sentinel is gone");
                }
            }
        });
        tokio::select! {
            () = taken => return,
            ended = asked.wait_for(Option::is_none) => if ended.is_err() { return },
        }
        tracing::info!(%address, "clients of a Sentinel are not answered any more");
    }
}

/// A connection.
struct Client {
    tls: TlsStream<TcpStream>,
    session: Session,
    known: watch::Receiver<Known>,
    view: watch::Receiver<Option<View>>,
    read: Vec<u8>,
    out: String,
    /// Commands before it had logged in.
    strange: u32,
}

impl Client {
    fn new(
        tls: TlsStream<TcpStream>,
        id: u64,
        known: watch::Receiver<Known>,
        view: watch::Receiver<Option<View>>,
    ) -> Self {
        keep_alive(tls.get_ref().0);
        Self {
            tls,
            session: Session::new(id),
            known,
            view,
            read: Vec::new(),
            out: String::new(),
            strange: 0,
        }
    }

    /// Until either side ends it, or it may stay no longer.
    async fn run(mut self) -> std::io::Result<()> {
        let begun = Instant::now();
        let mut told: Option<View> = None;
        loop {
            // None: it is not asked for any more.
            let Some(view) = self.view.borrow_and_update().clone() else {
                return self.end().await;
            };
            for event in told.iter().flat_map(|told| events(told, &view)) {
                self.say(self.session.hears(&event));
            }
            let then = self.answer(&view).await?;
            told = Some(view);
            self.send().await?;
            let roles = self.known.borrow_and_update().roles.clone();
            if then == Then::End || !self.session.may_stay(Users(&roles)) {
                return self.end().await;
            }
            let patience = if !self.session.is_known() {
                Some(LOG_IN.saturating_sub(begun.elapsed()))
            } else if self.session.listens() {
                None
            } else {
                Some(IDLE)
            };
            let lost = async move {
                match patience {
                    Some(patience) => sleep(patience).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = self.tls.read_buf(&mut self.read) => if read? == 0 {
                    return Ok(());
                },
                changed = self.view.changed() => if changed.is_err() {
                    return Ok(());
                },
                changed = self.known.changed() => if changed.is_err() {
                    return Ok(());
                },
                () = lost => return self.end().await,
            }
        }
    }

    /// In order: the client sees that it is meant.
    async fn end(&mut self) -> std::io::Result<()> {
        let ended = timeout(WRITE, self.tls.shutdown()).await;
        ended.map_err(|_| std::io::ErrorKind::TimedOut)?
    }

    /// Answer what was read.
    async fn answer(&mut self, view: &View) -> std::io::Result<Then> {
        loop {
            let roles = self.known.borrow().roles.clone();
            let (mut done, mut all) = (0, false);
            for _ in 0..TURN {
                let (words, length) = match command(self.read.get(done..).unwrap_or_default()) {
                    Ok(Some(read)) => read,
                    Ok(None) => {
                        all = true;
                        break;
                    }
                    Err(error) => {
                        self.say(vec![Reply::Refused(error.to_string())]);
                        return Ok(Then::End);
                    }
                };
                done += length;
                let (replies, then) = self.session.answer(&words, view, Users(&roles));
                self.say(replies);
                self.strange += u32::from(!self.session.is_known());
                if then == Then::End || self.strange > STRANGE {
                    return Ok(Then::End);
                }
                if self.out.len() >= KEPT {
                    self.send().await?;
                }
            }
            self.read.drain(..done);
            if all {
                return Ok(Then::Go);
            }
            tokio::task::yield_now().await;
        }
    }

    fn say(&mut self, replies: Vec<Reply>) {
        let protocol = self.session.protocol();
        for reply in replies {
            reply.write(protocol, &mut self.out);
        }
    }

    async fn send(&mut self) -> std::io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        let sent = async {
            self.tls.write_all(out.as_bytes()).await?;
            self.tls.flush().await
        };
        timeout(WRITE, sent)
            .await
            .map_err(|_| std::io::ErrorKind::TimedOut)?
    }
}

/// Whoever listens says nothing by itself, and one that is gone without a word shall not keep its place. Without it the
/// kernel would keep it for hours, which is no reason to refuse a client.
fn keep_alive(tcp: &TcpStream) {
    let (after, every, times) = ALIVE;
    let set = sockopt::set_socket_keepalive(tcp, true)
        .and_then(|()| sockopt::set_tcp_keepidle(tcp, after))
        .and_then(|()| sockopt::set_tcp_keepintvl(tcp, every))
        .and_then(|()| sockopt::set_tcp_keepcnt(tcp, times));
    if let Err(error) = set {
        tracing::debug!(%error, "a client is not asked whether it is there");
    }
}

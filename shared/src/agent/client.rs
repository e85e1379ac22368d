//! The operator's client of one agent, and that of other instances. I/O.
//!
//! One connection per client, kept between calls: a long poll costs no handshake. Memory per idle
//! client is that of one TLS session and two small buffers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::api::{self, HandOver, Reload, Restart, Status, Upgrade};
use super::program::PIECE;

/// Bound of connecting, handshake included.
const CONNECT: Duration = Duration::from_secs(5);
/// Bound of an answer beyond the time that was asked to wait.
const ANSWER: Duration = Duration::from_secs(5);
/// Bound of a reload: the kubelet may take its time to refresh mounts.
const RELOAD: Duration = Duration::from_secs(70);
/// Bound of a restart: stop with checkpoint, start with recovery.
const RESTART: Duration = Duration::from_mins(3);
/// Bound of a hand-over: a checkpoint, the stop, an election.
const HAND_OVER: Duration = Duration::from_mins(3);
/// Bound of one piece of a program, and of checking the whole.
const PROGRAM: Duration = Duration::from_secs(20);
/// Longest answer that is read.
const LIMIT: usize = 1 << 20;

/// An agent did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("no connection to the agent at {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    /// Connection or handshake took too long.
    #[error("no connection to the agent at {0} within {CONNECT:?}")]
    ConnectTimeout(SocketAddr),
    /// It is connected and does not answer.
    #[error("the agent at {0} did not answer in time")]
    Timeout(SocketAddr),
    /// The connection broke.
    #[error("the connection to the agent at {0} broke: {1}")]
    Broken(SocketAddr, hyper::Error),
    /// It refused: HTTP status and its sentence. 409 means that the decision was made on an
    /// outdated status; 504 that the change did not get there in time.
    #[error("the agent refused ({0}): {1}")]
    Refused(StatusCode, String),
    /// The answer is not what the contract says.
    #[error("the agent's answer could not be read: {0}")]
    Unreadable(String),
    /// The program to send.
    #[error("the program to send cannot be read: {0}")]
    Program(std::io::Error),
}

/// Client of one agent, at one address. Make a new one when the pod's address changes.
///
/// Guarantee: the agent's certificate is verified against the roots in the given configuration and
/// the host name of the instance, whatever address it has.
#[derive(Debug)]
pub struct AgentClient {
    address: SocketAddr,
    host: ServerName<'static>,
    tls: Arc<ClientConfig>,
    connection: Option<Link>,
}

/// One HTTPS connection to an agent.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    host: ServerName<'static>,
    sender: SendRequest<Full<Bytes>>,
}

impl Link {
    /// Connect and verify the agent as `host`. The caller bounds it.
    pub(crate) async fn connect(
        address: SocketAddr,
        host: ServerName<'static>,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, ClientError> {
        let failed = |e| ClientError::Connect(address, e);
        let tcp = TcpStream::connect(address).await.map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        let stream = TlsConnector::from(tls)
            .connect(host.clone(), tcp)
            .await
            .map_err(failed)?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(16 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| ClientError::Broken(address, e))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%address, %error, "connection to an agent ended");
            }
        });
        Ok(Self {
            address,
            host,
            sender,
        })
    }

    /// Where it leads to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether another exchange may begin, as far as is known.
    pub(crate) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// One request and the body of its answer, which is a refusal unless it is a success. The caller
    /// bounds it, and drops the link after an exchange that was given up or has failed.
    pub(crate) async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.host.to_str().as_ref())
            .body(Full::new(body))
            .map_err(|e| ClientError::Unreadable(e.to_string()))?;
        let broken = |e| ClientError::Broken(self.address, e);
        let sent = self.sender.send_request(request);
        let response = sent.await.map_err(broken)?;
        let status = response.status();
        let text = Limited::new(response.into_body(), LIMIT)
            .collect()
            .await
            .map_err(|e| ClientError::Unreadable(e.to_string()))?
            .to_bytes();
        if status.is_success() {
            return Ok(text);
        }
        let sentence = String::from_utf8_lossy(&text).trim().to_owned();
        Err(ClientError::Refused(status, sentence))
    }
}

impl AgentClient {
    /// A client that has not connected yet. `host` is [`crate::names::instance_host`].
    ///
    /// # Errors
    /// When `host` is no DNS name.
    pub fn new(
        address: SocketAddr,
        host: &str,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, ClientError> {
        let host = ServerName::try_from(host.to_owned())
            .map_err(|e| ClientError::Unreadable(format!("{host:?} is no host name: {e}")))?;
        Ok(Self {
            address,
            host,
            tls,
            connection: None,
        })
    }

    /// Where it connects to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The status: at once without `after`, else when its sequence is higher than `after` or
    /// `wait` is over.
    pub async fn status(
        &mut self,
        after: Option<u64>,
        wait: Duration,
    ) -> Result<Status, ClientError> {
        let path = match after {
            Some(after) => format!("{}?after={after}&wait={}", api::STATUS, wait.as_millis()),
            None => api::STATUS.to_owned(),
        };
        self.call(Method::GET, &path, Bytes::new(), wait + ANSWER)
            .await
    }

    /// Have the mounted configuration with that hash applied; returns once it is in force.
    pub async fn reload(&mut self, config_hash: &str) -> Result<Status, ClientError> {
        let body = body(&Reload {
            config_hash: config_hash.to_owned(),
        })?;
        self.call(Method::POST, api::RELOAD, body, RELOAD).await
    }

    /// Have the engine restarted in place; returns once it runs again. `nonce` is that of the
    /// status on which the decision was made.
    pub async fn restart(&mut self, nonce: &str, reason: &str) -> Result<Status, ClientError> {
        let body = body(&Restart {
            nonce: nonce.to_owned(),
            reason: reason.to_owned(),
        })?;
        self.call(Method::POST, api::RESTART, body, RESTART).await
    }

    /// Have a primary hand over to the instance `to`; returns once that one is primary. `nonce` is
    /// that of the primary's status on which the decision was made.
    pub async fn hand_over(
        &mut self,
        nonce: &str,
        to: &str,
        reason: &str,
    ) -> Result<Status, ClientError> {
        let body = body(&HandOver {
            nonce: nonce.to_owned(),
            to: to.to_owned(),
            reason: reason.to_owned(),
        })?;
        self.call(Method::POST, api::HAND_OVER, body, HAND_OVER)
            .await
    }

    /// Have an agent go on as another program, beside its running engine; returns once it is about
    /// to. `nonce` is that of the status on which the decision was made.
    pub async fn upgrade(
        &mut self,
        nonce: &str,
        program: &Path,
        sha256: &str,
        reason: &str,
    ) -> Result<Status, ClientError> {
        let mut file = File::open(program).await.map_err(ClientError::Program)?;
        let mut offset = 0;
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let limit = u64::try_from(PIECE).unwrap_or(u64::MAX);
            let read = (&mut file).take(limit).read_to_end(&mut piece).await;
            let read = read.map_err(ClientError::Program)?;
            if read == 0 {
                break;
            }
            let path = format!("{}?sha256={sha256}&offset={offset}", api::PROGRAM);
            self.call(Method::PUT, &path, piece.into(), PROGRAM).await?;
            offset += read;
        }
        let body = body(&Upgrade {
            nonce: nonce.to_owned(),
            sha256: sha256.to_owned(),
            reason: reason.to_owned(),
        })?;
        self.call(Method::POST, api::UPGRADE, body, PROGRAM).await
    }

    /// What is at `path`, as a value; bounded by `wait` and the time that an answer may take.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(
        &mut self,
        path: &str,
        wait: Duration,
    ) -> Result<T, ClientError> {
        let bound = wait + ANSWER;
        let answer = self
            .exchange(Method::GET, path, Bytes::new(), bound)
            .await?;
        parse(&answer)
    }

    /// Post a value to `path`; what is answered does not matter, unless it is a refusal.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send<T: Serialize>(&mut self, path: &str, value: &T) -> Result<(), ClientError> {
        let content = body(value)?;
        let sent = self.exchange(Method::POST, path, content, ANSWER).await;
        sent.map(drop)
    }

    async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        bound: Duration,
    ) -> Result<Status, ClientError> {
        parse(&self.exchange(method, path, body, bound).await?)
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        bound: Duration,
    ) -> Result<Bytes, ClientError> {
        let kept = self.connection.take().filter(Link::is_ready);
        let mut connection = if let Some(connection) = kept {
            connection
        } else {
            let link = Link::connect(self.address, self.host.clone(), Arc::clone(&self.tls));
            timeout(CONNECT, link)
                .await
                .map_err(|_| ClientError::ConnectTimeout(self.address))??
        };
        let answer = timeout(bound, connection.exchange(method, path, body))
            .await
            .map_err(|_| ClientError::Timeout(self.address))?;
        // Kept only after a whole exchange: a call that was given up leaves no half answer behind.
        if matches!(answer, Ok(_) | Err(ClientError::Refused(..))) {
            self.connection = Some(connection);
        }
        answer
    }
}

fn parse<T: DeserializeOwned>(answer: &Bytes) -> Result<T, ClientError> {
    serde_json::from_slice(answer).map_err(|e| ClientError::Unreadable(e.to_string()))
}

/// One request to one of our processes, over a connection of its own, which is bounded as a whole. The
/// server is verified as `host`. Returns the body of the answer.
///
/// # Errors
/// See [`ClientError`].
pub async fn post<T: Serialize>(
    address: SocketAddr,
    host: &str,
    tls: Arc<ClientConfig>,
    (path, value): (&str, &T),
    (connect, answer): (Duration, Duration),
) -> Result<Bytes, ClientError> {
    let host = ServerName::try_from(host.to_owned())
        .map_err(|e| ClientError::Unreadable(format!("{host:?} is no host name: {e}")))?;
    let content = body(value)?;
    let mut link = timeout(connect, Link::connect(address, host, tls))
        .await
        .map_err(|_| ClientError::Timeout(address))??;
    timeout(answer, link.exchange(Method::POST, path, content))
        .await
        .map_err(|_| ClientError::Timeout(address))?
}

/// A value as the body of a request.
pub(crate) fn body<T: Serialize>(value: &T) -> Result<Bytes, ClientError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|e| ClientError::Unreadable(e.to_string()))
}

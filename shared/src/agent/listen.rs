//! HTTPS between our own processes: who calls is told by a certificate of the set's authority. And what is before it,
//! for any protocol over TLS. I/O.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::names::OPERATOR_COMMON_NAME;
use crate::pki::facts_of_der;

/// Most connections at a time.
const CONNECTIONS: usize = 32;
/// A handshake, and the head of a request, must be there in this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection of somebody who keeps it may be idle for this long.
const IDLE: Duration = Duration::from_mins(10);
/// Longest body, unless another limit is given.
const BODY: usize = 64 << 10;

/// Who a connection comes from, by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// No certificate.
    Anyone,
    /// A certificate of the set's authority, with this common name.
    Member(Arc<str>),
    /// The operator.
    Operator,
}

/// An answer.
pub type Answer = Response<Full<Bytes>>;

/// What is served.
pub trait Service: Clone + Send + Sync + 'static {
    /// Whether such a caller keeps its connection. Others ask and go, and must not hold a place.
    fn keeps(&self, caller: &Caller) -> bool;

    /// The answer to a request.
    fn answer(
        self,
        request: Request<Incoming>,
        caller: Caller,
        peer: SocketAddr,
    ) -> impl Future<Output = Answer> + Send;
}

/// Serve until the process ends: see [`accept`].
pub async fn listen<S: Service>(
    listener: TcpListener,
    tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    service: S,
) {
    accept(listener, tls, CONNECTIONS, move |tls, peer| {
        connection(tls, peer, service.clone())
    })
    .await;
}

/// Take connections until the process ends, `places` at a time, and have each served once its handshake is done. `tls` is
/// read at every connection, so a renewed certificate is served from then on. Without TLS material there is no service.
pub async fn accept<F, S>(
    listener: TcpListener,
    tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    places: usize,
    serve: F,
) where
    F: Fn(TlsStream<TcpStream>, SocketAddr) -> S + Clone + Send + Sync + 'static,
    S: Future<Output = ()> + Send,
{
    let places = Arc::new(Semaphore::new(places));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // For example out of file descriptors: others must end first.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(config) = tls.borrow().clone() else {
            continue;
        };
        let serve = serve.clone();
        tokio::spawn(async move {
            // Small answers: waiting to fill a packet would only delay them.
            let _ = tcp.set_nodelay(true);
            match timeout(PATIENCE, TlsAcceptor::from(config).accept(tcp)).await {
                Ok(Ok(tls)) => serve(tls, peer).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "handshake failed"),
                Err(_) => {}
            }
            drop(place);
        });
    }
}

async fn connection<S: Service>(tls: TlsStream<TcpStream>, peer: SocketAddr, service: S) {
    let caller = match tls.get_ref().1.peer_certificates().and_then(<[_]>::first) {
        None => Caller::Anyone,
        Some(leaf) => match facts_of_der(leaf) {
            Ok(facts) if facts.common_name == OPERATOR_COMMON_NAME => Caller::Operator,
            Ok(facts) => Caller::Member(facts.common_name.into()),
            Err(_) => Caller::Anyone,
        },
    };
    let patience = if service.keeps(&caller) {
        IDLE
    } else {
        PATIENCE
    };
    let service = service_fn(move |request| {
        let (caller, service) = (caller.clone(), service.clone());
        async move { Ok::<_, Infallible>(service.answer(request, caller, peer).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(tls), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// The body of a request, as a value.
///
/// # Errors
/// The answer to give, when there is no such value.
pub async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Box<Answer>> {
    let body = body(request, BODY).await?;
    serde_json::from_slice(&body).map_err(|e| bad(&e.to_string()))
}

pub(super) async fn body(request: Request<Incoming>, limit: usize) -> Result<Bytes, Box<Answer>> {
    let all = Limited::new(request.into_body(), limit).collect();
    match timeout(PATIENCE, all).await {
        Ok(Ok(all)) => Ok(all.to_bytes()),
        Ok(Err(error)) => Err(bad(&error.to_string())),
        Err(_) => Err(bad("the body did not come")),
    }
}

fn bad(why: &str) -> Box<Answer> {
    Box::new(text(StatusCode::BAD_REQUEST, why))
}

/// A value as an answer.
pub fn json<T: Serialize>(value: &T) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => response(StatusCode::OK, "application/json", body),
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
    }
}

/// A sentence as an answer.
pub fn text(status: StatusCode, sentence: &str) -> Answer {
    response(
        status,
        "text/plain; charset=utf-8",
        format!("{sentence}\n").into_bytes(),
    )
}

fn response(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

//! I/O: plain HTTP for the kubelet and for Prometheus: `/healthz`, `/readyz`, `/metrics`.
//!
//! It tells nothing that is secret and takes no command, hence no TLS: the kubelet's probes could
//! not show a certificate, and the network policy decides who else may ask.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::metrics::{CONTENT_TYPE, Metrics};

/// Connections served at a time; others wait.
const CONNECTIONS: usize = 32;
/// A client that sends no request for this long is cut off.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the kubelet is told.
#[derive(Debug, Default)]
pub struct Health {
    ready: AtomicBool,
    stuck: AtomicBool,
}

impl Health {
    /// Ready: the process works, as leader or as a candidate with its watches running.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Stuck for good: the kubelet restarts the container.
    pub fn set_stuck(&self) {
        self.stuck.store(true, Ordering::Release);
    }
}

/// Serve until the future is dropped. Connections that fail are only logged.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, health: Arc<Health>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (metrics, health) = (metrics.clone(), health.clone());
                tokio::spawn(async move {
                    connection(stream, &metrics, &health).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection could be taken");
                // Out of file descriptors, most likely: a pause lets some become free.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, metrics: &Metrics, health: &Health) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), metrics, health);
        async { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

fn answer(
    method: &http::Method,
    path: &str,
    metrics: &Metrics,
    health: &Health,
) -> Response<Full<Bytes>> {
    if !matches!(*method, http::Method::GET | http::Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET");
    }
    let flag = |good: bool, bad: &'static str| {
        if good {
            text(StatusCode::OK, "ok")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, bad)
        }
    };
    match path {
        "/healthz" => flag(!health.stuck.load(Ordering::Acquire), "stuck"),
        "/readyz" => flag(health.ready.load(Ordering::Acquire), "not ready"),
        "/metrics" => match metrics.text() {
            Ok(all) => {
                let mut response = Response::new(Full::from(all));
                response.headers_mut().insert(
                    header::CONTENT_TYPE,
                    header::HeaderValue::from_static(CONTENT_TYPE),
                );
                response
            }
            Err(_) => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the metrics cannot be written",
            ),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /healthz, /readyz and /metrics",
        ),
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(path: &str, health: &Arc<Health>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, Arc::default(), health.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        server.abort();
        answer
    }

    #[tokio::test]
    async fn it_is_ready_when_told_and_alive_until_told_otherwise() {
        let health = Arc::new(Health::default());
        assert!(get("/readyz", &health).await.starts_with("HTTP/1.1 503"));
        health.set_ready(true);
        assert!(get("/readyz", &health).await.starts_with("HTTP/1.1 200"));
        assert!(get("/healthz", &health).await.starts_with("HTTP/1.1 200"));
        health.set_stuck();
        assert!(get("/healthz", &health).await.starts_with("HTTP/1.1 503"));
    }

    #[tokio::test]
    async fn metrics_are_served_in_the_text_form() {
        let answer = get("/metrics", &Arc::default()).await;
        assert!(answer.contains("application/openmetrics-text"), "{answer}");
        assert!(answer.trim_end().ends_with("# EOF"), "{answer}");
        assert!(
            get("/other", &Arc::default())
                .await
                .starts_with("HTTP/1.1 404")
        );
    }
}

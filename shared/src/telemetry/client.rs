//! I/O: a client of the API server whose requests are counted.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use kube::Client;
use kube::client::{Body, ClientBuilder};
use tower::{Layer, Service};

use super::metrics::Metrics;

/// Make a client of a configuration.
///
/// # Errors
/// When the configuration's certificates or credentials cannot be used.
pub fn counted(config: kube::Config, metrics: &Arc<Metrics>) -> Result<Client, kube::Error> {
    let layer = Counting(metrics.clone());
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

struct Counting(Arc<Metrics>);

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            metrics: self.0.clone(),
        }
    }
}

/// Passes requests on and counts the answers.
struct Counted<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, B> Service<http::Request<Body>> for Counted<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>>,
    S::Future: Send + 'static,
    S::Error: Send,
    B: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let verb = verb(&request);
        let (metrics, answer) = (self.metrics.clone(), self.inner.call(request));
        Box::pin(async move {
            let answer = answer.await;
            metrics.request(
                verb,
                answer.as_ref().ok().map(|answer| answer.status().as_u16()),
            );
            answer
        })
    }
}

fn verb<B>(request: &http::Request<B>) -> &'static str {
    match request.method().as_str() {
        "GET"
            if request
                .uri()
                .query()
                .is_some_and(|query| query.contains("watch=")) =>
        {
            "watch"
        }
        "GET" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "other",
    }
}

//! API requests, counted by the API server itself.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use kube::Client;

/// Requests by `verb resource` since the API server started.
pub type Counts = BTreeMap<String, f64>;

/// Read the API server's own count of requests.
///
/// # Errors
/// When its metrics cannot be read.
pub async fn counts(client: &Client) -> Result<Counts> {
    let text = client
        .request_text(http::Request::get("/metrics").body(Vec::new())?)
        .await?;
    Ok(parse(&text))
}

/// Requests per minute by `verb resource` during `window`.
///
/// # Errors
/// When the metrics cannot be read.
pub async fn per_minute(client: &Client, window: Duration) -> Result<Counts> {
    let before = counts(client).await?;
    tokio::time::sleep(window).await;
    let after = counts(client).await?;
    let scale = 60.0 / window.as_secs_f64();
    Ok(difference(&after, &before, scale))
}

/// What grew from `before` to `after`, times `scale`.
pub fn difference(after: &Counts, before: &Counts, scale: f64) -> Counts {
    after
        .iter()
        .map(|(key, n)| (key.clone(), (n - before.get(key).unwrap_or(&0.0)) * scale))
        .filter(|(_, more)| *more > 0.0)
        .collect()
}

/// Sum `apiserver_request_total` over everything but verb and resource.
fn parse(text: &str) -> Counts {
    let mut counts = Counts::new();
    for line in text.lines() {
        let Some(labels) = line.strip_prefix("apiserver_request_total{") else {
            continue;
        };
        let label = |name: &str| {
            let from = labels.find(&format!("{name}=\""))? + name.len() + 2;
            labels.get(from..)?.split('"').next()
        };
        let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else {
            continue;
        };
        let value: f64 = line
            .rsplit(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0.0);
        *counts.entry(format!("{verb} {resource}")).or_insert(0.0) += value;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_one_verb_are_summed() {
        let text = "# HELP x\napiserver_request_total{code=\"200\",resource=\"leases\",verb=\"PUT\"} 3\n\
                    apiserver_request_total{code=\"409\",resource=\"leases\",verb=\"PUT\"} 1\n";
        assert_eq!(parse(text), Counts::from([("PUT leases".to_owned(), 4.0)]));
    }
}

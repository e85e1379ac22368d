//! What can be seen of a process from outside: logs, metrics, health.

pub mod backups;
#[cfg(test)]
mod chart_tests;
pub mod client;
pub mod drills;
pub mod metrics;
pub mod server;
pub mod service;
mod sets;

use tracing_subscriber::EnvFilter;

/// Name of the environment variable with the log filter, for example `info,mainstay=debug`.
pub const LOG_FILTER: &str = "MAINSTAY_LOG";

/// Logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("the log filter {LOG_FILTER}={0:?} cannot be read: {1}; write for example `info`")]
    Filter(String, tracing_subscriber::filter::ParseError),
    /// It was done before.
    #[error("logs are set up already")]
    Twice,
}

/// Write logs as JSON, one line each, to the standard output. `filter` is what the environment said
/// (the caller reads it, once, in `main`); without it, `info`.
///
/// # Errors
/// When the filter cannot be read, or logs were set up before.
pub fn init(filter: Option<&str>) -> Result<(), TelemetryError> {
    let filter = filter.unwrap_or("info");
    let parsed = EnvFilter::try_new(filter)
        .map_err(|error| TelemetryError::Filter(filter.to_owned(), error))?;
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(parsed)
        .try_init()
        .map_err(|_| TelemetryError::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_refused_with_advice() {
        let error = init(Some("a=b=c")).unwrap_err();
        assert!(error.to_string().contains("for example `info`"), "{error}");
    }
}

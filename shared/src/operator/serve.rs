//! The operator as a process (I/O): settings, logs, health, leadership; then [`super::run`].

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::engine::Engine;
use super::run::{Settings, run};
use crate::access::entropy;
use crate::agent::program::Own;
use crate::events::Events;
use crate::hex::hex;
use crate::lease::clock::Boottime;
use crate::lease::{self, End, Timing, lead};
use crate::names;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::server::{Health, serve as serve_health};
use crate::telemetry::{self, client::counted};

/// How long passes that run may go on after the wish to stop. What is left of the pod's grace period
/// (10 seconds in the chart) is for letting the Lease go; whatever a pass was at, the next leader
/// finds it.
const GRACE: Duration = Duration::from_secs(5);

/// What the operator is started with.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// File with the image of each version, as the chart mounts it.
    #[arg(long)]
    catalogue: PathBuf,
    /// Namespace of the operator; authorities are kept there.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// Name of the operator's pod.
    #[arg(long, env = "POD_NAME")]
    pod: String,
    /// The operator's own image, from which data pods take their agent.
    #[arg(long, env = "MAINSTAY_IMAGE")]
    image: String,
    /// Log filter, for example `info`.
    #[arg(long, env = telemetry::LOG_FILTER)]
    log: Option<String>,
    /// Where health and metrics are served.
    #[arg(long, default_value_t = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)))]
    health: SocketAddr,
}

/// The operator could not start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Logs cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] telemetry::TelemetryError),
    /// The catalogue cannot be read.
    #[error("the image catalogue {0} cannot be read: {1}")]
    Catalogue(PathBuf, String),
    /// There is no way to the API server.
    #[error("no way to the API server is known: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The client cannot be made.
    #[error("no client of the API server can be made: {0}")]
    Client(#[from] Box<kube::Error>),
    /// A socket or a signal.
    #[error("the system refuses: {0}")]
    System(#[from] std::io::Error),
    /// No random numbers.
    #[error("the system gives no random numbers: {0}")]
    Entropy(#[from] getrandom::Error),
    /// The Lease's times do not fit together.
    #[error(transparent)]
    Timing(#[from] lease::TimingError),
    /// Another one leads by now; a new process is a new candidate.
    #[error("the leadership was lost: {0:?}")]
    Lost(lease::LostReason),
}

/// Run the operator until it is told to stop.
///
/// # Errors
/// When it cannot start, or when the leadership is lost: the process should end then.
pub async fn serve<E: Engine>(options: Options) -> Result<(), ServeError> {
    telemetry::init(options.log.as_deref())?;
    // Only one provider is compiled in; that it is set already is no harm.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = settings::<E>(&options)?;
    let metrics = Arc::new(Metrics::default());
    let health = Arc::new(Health::default());
    let listener = TcpListener::bind(options.health).await?;
    let mut config = kube::Config::infer().await?;
    // Watches end by themselves after minutes; nothing else takes this long.
    config.read_timeout = Some(Duration::from_secs(330));
    let client = counted(config, &metrics).map_err(Box::new)?;
    let (events, write_events) = Events::new(client.clone(), &options.pod);
    let nonce = hex(&entropy::<4>()?[..]);
    let lease = lease::Config {
        namespace: options.namespace.clone(),
        // It says which operator pod acts.
        name: format!("{}-{}", names::MANAGER, E::APP),
        identity: format!("{}_{nonce}", options.pod),
        timing: Timing::OPERATOR,
        grace: GRACE,
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        terminate.recv().await;
        tracing::info!("asked to stop");
    }
    .shared();
    // A candidate is as ready as a leader: it takes over when it is needed.
    health.set_ready(true);
    let (led_metrics, led_stop) = (metrics.clone(), stop.clone());
    let work = |_| async {
        led_metrics.set_leader(true);
        run(client.clone(), settings, events, led_metrics, led_stop).await;
    };
    // Nothing is left to report once the work has ended; the Lease is let go after that.
    let write_events = async {
        write_events.await;
        std::future::pending::<()>().await;
    };
    let led = tokio::select! {
        led = lead(&client, &lease, Arc::new(Boottime), stop, work) => led?,
        () = serve_health(listener, metrics, health) => End::Stopped,
        () = write_events => End::Stopped,
    };
    match led {
        End::Lost(reason) => Err(ServeError::Lost(reason)),
        End::Finished(()) | End::Stopped => Ok(()),
    }
}

fn settings<E: Engine>(options: &Options) -> Result<Settings<E>, ServeError> {
    let unreadable = |why: String| ServeError::Catalogue(options.catalogue.clone(), why);
    let text =
        std::fs::read_to_string(&options.catalogue).map_err(|e| unreadable(e.to_string()))?;
    Ok(Settings {
        namespace: options.namespace.clone(),
        image: options.image.clone(),
        catalogue: E::catalogue(&text).map_err(unreadable)?,
        program: Own::find()?,
    })
}

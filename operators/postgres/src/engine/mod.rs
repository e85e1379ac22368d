//! PostgreSQL as the operator has to know it: what differs from other engines.

pub mod probe;

use k8s_openapi::api::apps::v1::Deployment;
use mainstay_shared::operator::engine::{Answer, Engine, Target};
use mainstay_shared::watch::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::probe::{ProbeError, round_trip};
use crate::desired::credentials::PASSING;
use crate::desired::pooler::is_of_pooler;
use crate::settings::{PORT, SSL_REQUEST};

/// Kind of the resource.
pub const KIND: &str = "Postgres";
/// The add-on's name in labels and derived names.
pub const APP: &str = "postgres";
/// Name of the engine's container.
pub const CONTAINER: &str = "postgres";
/// Kind of Deployments, which poolers are.
pub const DEPLOYMENT: &str = "Deployment";

/// The engine of `kind: Postgres`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Postgresql;

impl Engine for Postgresql {
    type ProbeError = ProbeError;

    const KIND: &'static str = KIND;
    const APP: &'static str = APP;
    const CONTAINER: &'static str = CONTAINER;
    const PORT: u16 = PORT;
    const PASSING: &'static [&'static str] = &PASSING;
    const STRENGTHEN: &'static str = "ALTER ROLE or ALTER DATABASE … RESET ends it";

    fn kinds() -> Vec<Kind> {
        vec![Kind::of::<Deployment>(DEPLOYMENT)]
    }

    fn is_optional(set: &str, name: &str) -> bool {
        is_of_pooler(set, name)
    }

    async fn probe(target: &Target) -> Result<Answer, ProbeError> {
        round_trip(target).await
    }

    async fn greet(tcp: &mut TcpStream, host: &str) -> Result<(), String> {
        let sent = tcp.write_all(&SSL_REQUEST).await;
        sent.map_err(|e| e.to_string())?;
        let answer = tcp.read_u8().await.map_err(|e| e.to_string())?;
        if answer == b'S' {
            Ok(())
        } else {
            Err(format!("{host} does not speak TLS"))
        }
    }
}

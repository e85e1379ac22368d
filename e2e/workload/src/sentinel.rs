//! The primary as the endpoint for clients of a Sentinel tells it, by the client of crate `redis`.

use ::redis::aio::MultiplexedConnection;
use ::redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use ::redis::{AsyncConnectionConfig, ConnectionAddr, RedisResult, TlsCertificates, TlsMode};

use super::binding::{Binding, Endpoint};

/// A client of the endpoint, over verified TLS on both ways.
fn client(binding: &Binding, endpoint: &Endpoint) -> RedisResult<SentinelClient> {
    let certificates = || TlsCertificates {
        client_tls: None,
        root_cert: Some(binding.ca.as_bytes().to_vec()),
    };
    let service = ConnectionAddr::TcpTls {
        host: endpoint.host.clone(),
        port: endpoint.port,
        insecure: false,
        tls_params: None,
    };
    let master = SentinelServerType::Master;
    SentinelClientBuilder::new(vec![service], endpoint.master.clone(), master)?
        .set_client_to_sentinel_tls_mode(TlsMode::Secure)
        .set_client_to_sentinel_certificates(certificates())
        .set_client_to_sentinel_username(&binding.username)
        .set_client_to_sentinel_password(&binding.password)
        .set_client_to_redis_tls_mode(TlsMode::Secure)
        .set_client_to_redis_certificates(certificates())
        .set_client_to_redis_username(&binding.username)
        .set_client_to_redis_password(&binding.password)
        .build()
}

/// Connects to whoever is told to be the primary.
pub(super) async fn connect(
    binding: &Binding,
    endpoint: &Endpoint,
) -> RedisResult<MultiplexedConnection> {
    // Whoever asks has limits of his own.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let mut client = client(binding, endpoint)?;
    client.get_async_connection_with_config(&config).await
}

//! What is asked of a leader's engine before it is followed: what it is. I/O, but for reading the answer.
//!
//! As the user of replicas, who may ask for nothing else: `HELLO` is for everybody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::timeout;

use crate::resp::{Connection, Value, words};
use crate::settings::{Flavour, REPLICATION_ROLE};
use crate::version::Server;

/// Bound of the question.
const ANSWER: Duration = Duration::from_secs(2);

/// The server at this address, whose certificate is that of `host`.
///
/// # Errors
/// It is not known; a sentence.
pub async fn server(
    address: SocketAddr,
    host: &str,
    tls: Arc<ClientConfig>,
    password: &str,
) -> Result<Server, String> {
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| format!("{host} is no name that a certificate can bear"))?;
    let ask = async {
        let mut connection = Connection::tls(address, name, tls).await?;
        let hello = words(["HELLO", "2", "AUTH", REPLICATION_ROLE, password]);
        connection.call(hello).await
    };
    let failed = |why: String| format!("what runs at {host} is not known: {why}");
    match timeout(ANSWER, ask).await {
        Ok(Ok(answer)) => read(&answer).ok_or_else(|| failed("it does not say".to_owned())),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("it does not answer in time".to_owned())),
    }
}

/// What `HELLO` says, as a list of names and values.
fn read(answer: &Value) -> Option<Server> {
    let field = |name: &str| {
        let mut pairs = answer.items().chunks_exact(2);
        pairs.find_map(|pair| match pair {
            [key, value] if key.text().as_deref() == Some(name) => value.text(),
            _ => None,
        })
    };
    let flavour = match field("server")?.as_str() {
        "redis" => Flavour::Redis,
        "valkey" => Flavour::Valkey,
        _ => return None,
    };
    let version = field("version")?;
    Some(Server { flavour, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(server: &str, version: &str) -> Value {
        let text = |t: &str| Value::Bulk(t.into());
        Value::Array(vec![
            text("server"),
            text(server),
            text("version"),
            text(version),
            text("proto"),
            Value::Integer(2),
        ])
    }

    #[test]
    fn a_server_says_what_it_is() {
        let valkey = read(&hello("valkey", "8.1.1")).unwrap();
        assert_eq!(valkey.to_string(), "Valkey 8.1.1");
        let redis = read(&hello("redis", "7.0.15")).unwrap();
        assert_eq!(redis.to_string(), "Redis 7.0.15");
        assert_eq!(read(&hello("keydb", "6.3.4")), None);
        assert_eq!(read(&Value::Array(vec![])), None);
    }
}

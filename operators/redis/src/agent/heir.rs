//! Who takes over from a primary of a cluster whose container ends, and asking it to. I/O, but for the choice.
//!
//! `CLUSTER FAILOVER`, without force: the replica has this engine hold its writers back until it has everything, and then has
//! itself elected. Whoever is asked twice, or after somebody else was, does no harm: the engines vote.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::timeout;

use super::member::followers;
use super::vitals::Replica;
use crate::resp::{Connection, RespError, words};
use crate::settings::REPLICATION_ROLE;
use crate::shards::topology::Health;

/// Bound of one question.
const ANSWER: Duration = Duration::from_secs(1);

/// A replica that may take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heir {
    /// Where it is.
    address: SocketAddr,
    /// As whom its certificate is verified.
    host: String,
}

/// Who may take over, the best first: of those who follow this primary and are well by what its engine noted of the cluster
/// (`nodes`, as in `nodes.conf`), who has acknowledged most of it (`replicas`).
pub fn heirs(nodes: &str, replicas: &[Replica]) -> Vec<Heir> {
    let Some((_, followers)) = followers(nodes) else {
        return Vec::new();
    };
    let well = followers
        .iter()
        .filter(|n| n.health == Health::Fine && !n.handshake);
    let mut heirs: Vec<(Option<u64>, Heir)> = well
        .filter_map(|node| {
            let address = node.address.as_ref()?;
            let of = replicas.iter().filter(|r| r.online);
            let acknowledged = of.filter(|r| r.announced == address.host).map(|r| r.offset);
            let heir = Heir {
                address: SocketAddr::new(address.host.parse().ok()?, address.port),
                host: node.hostname.clone()?,
            };
            Some((acknowledged.max(), heir))
        })
        .collect();
    heirs.sort_by_cached_key(|(acknowledged, heir)| (Reverse(*acknowledged), heir.host.clone()));
    heirs.into_iter().map(|(_, heir)| heir).collect()
}

/// Ask one after the other until one accepts; who that is.
///
/// # Errors
/// Nobody does; a sentence.
pub async fn ask(heirs: &[Heir], tls: Arc<ClientConfig>, password: &str) -> Result<String, String> {
    let mut why = "it knows of no replica that is well".to_owned();
    for heir in heirs {
        let refused = match timeout(ANSWER, ask_one(heir, &tls, password)).await {
            Ok(Ok(())) => return Ok(heir.host.clone()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer in time".to_owned(),
        };
        why = format!("{}: {refused}", heir.host);
    }
    Err(why)
}

async fn ask_one(heir: &Heir, tls: &Arc<ClientConfig>, password: &str) -> Result<(), RespError> {
    let name = ServerName::try_from(heir.host.clone());
    let name =
        name.map_err(|_| RespError::Protocol("its name is none that a certificate bears"))?;
    let mut connection = Connection::tls(heir.address, name, Arc::clone(tls)).await?;
    connection.login(REPLICATION_ROLE, password).await?;
    let answer = connection.call(words(["CLUSTER", "FAILOVER"])).await?;
    answer.accepted().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "07c37dfeb235213a872192d90877d0cd55635b91";

    fn id(n: u8) -> String {
        format!("67ed2db8d677e59ec4a4cefb06858cf2a1a89fa{n}")
    }

    #[test]
    fn of_its_well_replicas_the_one_with_most_comes_first() {
        let of = |flags: &'static str| (flags, ME.to_owned());
        let others = [
            (2, of("slave")),
            (3, of("slave")),
            (4, of("slave,fail?")),
            (5, ("slave", id(6))),
            (6, ("master", "-".to_owned())),
            (7, of("slave")),
        ];
        let node = |id: &str, n: u8, rest: &str| {
            format!("{id} 10.0.0.{n}:6379@16379,db-{n}.db-peers.shop.svc {rest} 0 0 1 connected")
        };
        let mut nodes = vec![node(ME, 1, "myself,master -") + " 0-5460"];
        nodes.extend(others.map(|(n, (flags, of))| node(&id(n), n, &format!("{flags} {of}"))));
        let nodes = nodes.join("\n");
        let replica = |n: u8, online, offset| Replica {
            announced: format!("10.0.0.{n}"),
            online,
            offset,
            lag: Some(0),
        };
        let replicas = [
            replica(2, true, 10),
            replica(3, true, 11),
            replica(7, false, 99),
        ];
        let hosts = |replicas: &[Replica]| -> Vec<String> {
            let heirs = heirs(&nodes, replicas);
            heirs.iter().map(|h| h.host[..4].to_owned()).collect()
        };
        assert_eq!(hosts(&replicas), ["db-3", "db-2", "db-7"]);
        assert_eq!(hosts(&[]), ["db-2", "db-3", "db-7"], "it does not say");
        assert_eq!(heirs("", &replicas), []);
    }
}

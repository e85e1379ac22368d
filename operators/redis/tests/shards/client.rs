//! A client that goes where it is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mainstay_redis::resp::{Connection, RespError, Value, words};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::cluster::LONG;

/// The application's password.
pub const PASSWORD: &str = "app-password";
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(2);

pub struct Client {
    pub tls: Arc<ClientConfig>,
    /// `address:port` of members.
    pub seeds: Vec<String>,
    pub open: BTreeMap<String, Connection>,
    /// Which member had the last key.
    pub last: Option<String>,
}

impl Client {
    async fn connection(&mut self, place: &str) -> Result<Connection, RespError> {
        if let Some(open) = self.open.remove(place) {
            return Ok(open);
        }
        let address: std::net::SocketAddr = place.parse().unwrap();
        let host = ServerName::IpAddress(address.ip().into());
        let mut connection = Connection::tls(address, host, Arc::clone(&self.tls)).await?;
        connection.login("app", PASSWORD).await?;
        Ok(connection)
    }

    async fn at(
        &mut self,
        place: &str,
        asking: bool,
        command: &[String],
    ) -> Result<Value, RespError> {
        let mut connection = self.connection(place).await?;
        let mut commands = vec![command.to_vec()];
        if asking {
            commands.insert(0, words(["ASKING"]));
        }
        let answers = timeout(ANSWER, connection.pipeline(&commands)).await;
        let answers = answers.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        self.open.insert(place.to_owned(), connection);
        Ok(answers.into_iter().next_back().unwrap())
    }

    /// Until it is answered; none when nobody does for long.
    pub async fn call(&mut self, command: &[String]) -> Option<Value> {
        let begun = Instant::now();
        let mut seed = 0;
        let mut place = self.last.clone().unwrap_or_else(|| self.seeds[0].clone());
        let mut asking = false;
        while begun.elapsed() < LONG {
            let again = match self.at(&place, asking, command).await {
                Ok(Value::Error(why)) => {
                    let told: Vec<&str> = why.split(' ').collect();
                    match told.as_slice() {
                        ["MOVED", _, to] => Some(((*to).to_owned(), false)),
                        ["ASK", _, to] => Some(((*to).to_owned(), true)),
                        [
                            "CLUSTERDOWN" | "TRYAGAIN" | "LOADING" | "NOREPLICAS" | "READONLY",
                            ..,
                        ] => None,
                        _ => panic!("{why}"),
                    }
                }
                Ok(value) => {
                    self.last = Some(place);
                    return Some(value);
                }
                Err(_) => None,
            };
            (place, asking) = again.unwrap_or_else(|| {
                seed = (seed + 1) % self.seeds.len();
                (self.seeds[seed].clone(), false)
            });
            if !asking && seed > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        None
    }

    pub async fn set(&mut self, key: &str, value: &str) {
        let set = self.call(&words(["SET", key, value])).await;
        assert_eq!(set, Some(Value::Simple("OK".into())), "{key}");
    }

    pub async fn get(&mut self, key: &str) -> Option<String> {
        self.call(&words(["GET", key])).await.unwrap().text()
    }

    /// Until each member that was written to has a replica with everything.
    pub async fn wait_for_replicas(&mut self) {
        for place in self.open.keys().cloned().collect::<Vec<_>>() {
            let wait = words(["WAIT", "1", "1500"]);
            self.at(&place, false, &wait).await.unwrap();
        }
    }
}

/// What a writer wrote.
#[derive(Default)]
pub struct Written {
    /// What was acknowledged last of each key.
    pub keys: BTreeMap<String, u64>,
    /// The longest time that one write took.
    pub pause: Duration,
}

/// Somebody who writes all the time.
pub struct Writer {
    task: JoinHandle<Written>,
    end: Arc<AtomicBool>,
}

impl Writer {
    pub fn start(mut client: Client) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let task = tokio::spawn(async move {
            let mut written = Written::default();
            let mut version = 0;
            while !ended.load(Ordering::Relaxed) {
                version += 1;
                let key = format!("written-{}", version % 500);
                let begun = Instant::now();
                client.set(&key, &version.to_string()).await;
                written.pause = written.pause.max(begun.elapsed());
                written.keys.insert(key, version);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            written
        });
        Self { task, end }
    }

    /// What it wrote.
    pub async fn stop(self) -> Written {
        self.end.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

//! Flows for tests of network policies: one end that listens, one that tries.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a listener says to whoever connects.
const GREETING: &[u8] = b"here\n";

/// How an attempt to connect ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// The listener greeted.
    Reached,
    /// Somebody answered that nobody listens.
    Refused,
    /// Nobody answered in time: packets are dropped.
    Silent,
    /// Something else, for example a name that is unknown.
    Failed(String),
}

impl Reach {
    /// Exit code of the command, one for each.
    pub fn code(&self) -> u8 {
        match self {
            Self::Reached => 0,
            Self::Silent => 1,
            Self::Refused => 2,
            Self::Failed(_) => 3,
        }
    }

    /// One word for scripts.
    pub fn word(&self) -> &str {
        match self {
            Self::Reached => "reached",
            Self::Silent => "silent",
            Self::Refused => "refused",
            Self::Failed(why) => why,
        }
    }
}

/// Connects to `address` (`host:port`) and waits for the greeting.
pub async fn probe(address: &str, timeout: Duration) -> Reach {
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        let mut greeting = [0; GREETING.len()];
        stream.read_exact(&mut greeting).await?;
        Ok::<_, std::io::Error>(greeting)
    };
    match tokio::time::timeout(timeout, talk).await {
        Err(_) => Reach::Silent,
        Ok(Ok(greeting)) if greeting == GREETING => Reach::Reached,
        Ok(Ok(greeting)) => Reach::Failed(format!("somebody else answered: {greeting:?}")),
        Ok(Err(error)) => match error.kind() {
            ErrorKind::ConnectionRefused => Reach::Refused,
            ErrorKind::TimedOut => Reach::Silent,
            _ => Reach::Failed(error.to_string()),
        },
    }
}

/// Greets everybody who connects to one of `ports`, for ever.
///
/// # Errors
/// A port cannot be listened on.
pub async fn serve(ports: &[u16]) -> std::io::Result<()> {
    let mut listeners = Vec::new();
    for port in ports {
        listeners.push(TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).await?);
    }
    println!("listening on {ports:?}");
    futures::future::join_all(listeners.into_iter().map(greet)).await;
    Ok(())
}

async fn greet(listener: TcpListener) {
    loop {
        match listener.accept().await {
            // The other end may be gone already: its problem.
            Ok((mut stream, _)) => drop(stream.write_all(GREETING).await),
            // Out of files, for example: it passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_way_to_fail_has_its_word() {
        let wait = Duration::from_millis(300);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // The system accepts; nobody greets.
        assert_eq!(probe(&address, wait).await, Reach::Silent);
        let serving = tokio::spawn(greet(listener));
        assert_eq!(probe(&address, wait * 10).await, Reach::Reached);
        serving.abort();
        drop(serving.await);
        assert_eq!(probe(&address, wait * 10).await, Reach::Refused);
        assert_eq!(probe("no-such-host.invalid:1", wait * 10).await.code(), 3);
    }
}

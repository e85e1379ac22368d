//! An engine that is none: it speaks as much of PostgreSQL's protocol, over TLS, as the operator's
//! round trip needs, and keeps nothing.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Port of PostgreSQL.
const PORT: u16 = 5432;
/// Code of an `SSLRequest`, as a client's first message.
const SSL_REQUEST: u32 = 80_877_103;
/// Longest message that is read.
const LONGEST: u32 = 1 << 16;
/// Object identifiers of the types in answers.
const BOOL: u32 = 16;
const TEXT: u32 = 25;

/// Engines by the address at which they listen.
#[derive(Default)]
pub struct Engines(BTreeMap<IpAddr, Engine>);

struct Engine {
    tls: Arc<ServerConfig>,
    task: JoinHandle<()>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Engines {
    /// Listen at these addresses with these certificates, and at no other.
    ///
    /// # Errors
    /// When an address cannot be had.
    pub fn keep(
        &mut self,
        wanted: &BTreeMap<IpAddr, Arc<ServerConfig>>,
        version: &str,
    ) -> io::Result<()> {
        self.0.retain(|address, engine| {
            wanted
                .get(address)
                .is_some_and(|tls| Arc::ptr_eq(tls, &engine.tls))
        });
        for (address, tls) in wanted {
            if self.0.contains_key(address) {
                continue;
            }
            let listener = std::net::TcpListener::bind((*address, PORT))?;
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            let task = tokio::spawn(serve(listener, Arc::clone(tls), version.to_owned()));
            let engine = Engine {
                tls: Arc::clone(tls),
                task,
            };
            self.0.insert(*address, engine);
        }
        Ok(())
    }
}

async fn serve(listener: TcpListener, tls: Arc<ServerConfig>, version: String) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, version) = (Arc::clone(&tls), version.clone());
        tokio::spawn(async move {
            // A client that goes away is no matter.
            let _ = session(stream, tls, &version).await;
        });
    }
}

async fn session(mut tcp: TcpStream, tls: Arc<ServerConfig>, version: &str) -> io::Result<()> {
    let _length = tcp.read_u32().await?;
    if tcp.read_u32().await? != SSL_REQUEST {
        return Ok(());
    }
    tcp.write_all(b"S").await?;
    let mut stream = TlsAcceptor::from(tls).accept(tcp).await?;
    let startup = stream.read_u32().await?;
    body(&mut stream, startup).await?;
    let mut answer = message(b'R', &0_u32.to_be_bytes());
    answer.extend(ready());
    stream.write_all(&answer).await?;
    stream.flush().await?;
    let mut sql = String::new();
    loop {
        let kind = stream.read_u8().await?;
        let length = stream.read_u32().await?;
        let body = body(&mut stream, length).await?;
        let answer = match kind {
            b'X' => return Ok(()),
            b'P' => {
                // The statement's name, then its text.
                let text = body.split(|b| *b == 0).nth(1).unwrap_or_default();
                sql = String::from_utf8_lossy(text).into_owned();
                message(b'1', &[])
            }
            b'D' => described(&row(&sql, version)),
            b'B' => message(b'2', &[]),
            b'E' => executed(&row(&sql, version)),
            b'C' => message(b'3', &[]),
            b'S' => ready(),
            _ => Vec::new(),
        };
        stream.write_all(&answer).await?;
        if kind == b'S' {
            stream.flush().await?;
        }
    }
}

/// What follows a length, which counts itself.
async fn body(stream: &mut (impl AsyncReadExt + Unpin), length: u32) -> io::Result<Vec<u8>> {
    let length = length
        .checked_sub(4)
        .filter(|n| *n < LONGEST)
        .ok_or(io::ErrorKind::InvalidData)?;
    let mut body = vec![0; usize::try_from(length).unwrap_or_default()];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// The one row that a statement gives, by type and value.
fn row(sql: &str, version: &str) -> Vec<(u32, Vec<u8>)> {
    if sql.contains("pg_is_in_recovery") {
        vec![(TEXT, version.as_bytes().to_vec()), (BOOL, vec![0])]
    } else {
        vec![(TEXT, vec![])]
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(size(body.len() + 4));
    bytes.extend(body);
    bytes
}

fn size(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

fn count(columns: &[(u32, Vec<u8>)]) -> [u8; 2] {
    u16::try_from(columns.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes()
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

/// No parameters, and these columns.
fn described(columns: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut body = count(columns).to_vec();
    for (type_, _) in columns {
        // A name, no table and column of it, the type, any size and modifier, as text.
        body.extend(b"column\0");
        body.extend([0; 6]);
        body.extend(type_.to_be_bytes());
        body.extend((-1_i16).to_be_bytes());
        body.extend((-1_i32).to_be_bytes());
        body.extend([0; 2]);
    }
    let mut bytes = message(b't', &[0; 2]);
    bytes.extend(message(b'T', &body));
    bytes
}

fn executed(columns: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut body = count(columns).to_vec();
    for (_, value) in columns {
        body.extend(size(value.len()));
        body.extend(value);
    }
    let mut bytes = message(b'D', &body);
    bytes.extend(message(b'C', b"SELECT 1\0"));
    bytes
}

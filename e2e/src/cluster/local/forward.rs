//! The way from the machine's loopback into a cluster's outer namespace, for `kubectl` and tests.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};

use tokio::net::TcpStream;

use super::launch;
use super::{LocalError, at};

/// What to forward; the arguments of the hidden command.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Forward {
    /// Where the port that was chosen is written to.
    #[arg(long)]
    port_file: PathBuf,
    /// A process whose network namespace holds the target.
    #[arg(long)]
    net_of: i32,
    /// The target.
    #[arg(long)]
    target: SocketAddrV4,
}

/// Listens on a free port of the machine's loopback and connects from the other namespace.
///
/// Must run before the process has a second thread, since the threads follow into the namespace.
pub fn run(forward: &Forward) -> Result<(), LocalError> {
    let here = Path::new("127.0.0.1");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(at(here))?;
    let port = listener.local_addr().map_err(at(here))?.port();
    listener.set_nonblocking(true).map_err(at(here))?;
    launch::enter(
        None,
        Some(Path::new(&format!("/proc/{}/ns/net", forward.net_of))),
    )?;
    let draft = forward.port_file.with_extension("draft");
    std::fs::write(&draft, port.to_string()).map_err(at(&draft))?;
    std::fs::rename(&draft, &forward.port_file).map_err(at(&forward.port_file))?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(at(here))?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(at(here))?;
        loop {
            let (client, _) = listener.accept().await.map_err(at(here))?;
            tokio::spawn(carry(client, forward.target));
        }
    })
}

/// Carries one connection. Its failures are the client's to notice: the connection ends.
async fn carry(mut client: TcpStream, target: SocketAddrV4) {
    if let Ok(mut server) = TcpStream::connect(target).await {
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}

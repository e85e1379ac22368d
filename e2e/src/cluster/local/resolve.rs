//! One question to the cluster's DNS, from whatever namespace this runs in.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use super::layout::DNS;
use super::{LocalError, at};

/// What to ask for; the arguments of the hidden command.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Resolve {
    /// The full name.
    #[arg(long)]
    name: String,
}

/// Asks for the address once.
///
/// # Errors
/// No answer within a second, or one without an address.
pub fn run(resolve: &Resolve) -> Result<(), LocalError> {
    let here = Path::new("10.96.0.10:53");
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(at(here))?;
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .map_err(at(here))?;
    socket.connect((DNS, 53)).map_err(at(here))?;
    socket.send(&question(&resolve.name)).map_err(at(here))?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).map_err(at(here))?;
    if has_answer(&answer[..length]) {
        Ok(())
    } else {
        Err(at(here)(std::io::Error::other(format!(
            "{} has no address",
            resolve.name
        ))))
    }
}

/// A query for one IPv4 address, as RFC 1035 has it.
fn question(name: &str) -> Vec<u8> {
    let mut packet = vec![0x4d, 0x53, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, 1, 0, 1]);
    packet
}

/// Whether a reply reports no error and holds at least one record.
fn has_answer(packet: &[u8]) -> bool {
    packet.len() > 12
        && packet[..2] == [0x4d, 0x53]
        && packet[3].trailing_zeros() >= 4
        && packet[6..8] != [0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets() {
        assert_eq!(
            question("a.bc")[12..],
            [1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1]
        );
        let mut reply = question("a");
        assert!(!has_answer(&reply));
        reply[7] = 1;
        assert!(has_answer(&reply));
        reply[3] = 3;
        assert!(!has_answer(&reply));
    }
}

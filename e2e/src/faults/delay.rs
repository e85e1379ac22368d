//! Links between pods that are slow.
//!
//! Not every kernel has `netem`. This needs the queue of netfilter: the node's kernel hands over each
//! packet between the pods by number, and lets it go when it is told to.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::{FaultError, Undo, inside};
use crate::cluster::{Faults, NodeProcess};
use crate::process;

/// Delays every packet between a pod on `node` and pods elsewhere, until undone. `queue` is a number
/// that nobody else has on this node.
///
/// # Errors
/// The cluster does not run, has no such node, or the node's kernel has no such queue.
pub async fn slow<'a>(
    cluster: &'a dyn Faults,
    node: &'a str,
    queue: u16,
    pod: IpAddr,
    others: &[IpAddr],
    delay: Duration,
) -> Result<Undo<'a>, FaultError> {
    let over = Arc::new(AtomicBool::new(false));
    let ends = over.clone();
    let kubelet = cluster.process(node, NodeProcess::Kubelet)?;
    let mut pairs = Vec::new();
    for other in others {
        pairs.extend([(pod, *other), (*other, pod)]);
    }
    let rules = pairs.clone();
    let guard = Undo::new(format!("{pod} is slow"), move || {
        Box::pin(async move {
            let mut outcome = Ok(());
            for pair in &rules {
                outcome = outcome.and(rule(cluster, node, "-D", pair, queue).await);
            }
            over.store(true, Ordering::SeqCst);
            outcome
        })
    });
    let (told, ready) = tokio::sync::oneshot::channel();
    inside::network_of(kubelet, "delay", move || hold(queue, delay, &ends, told))?;
    let ready = ready.await;
    ready.map_err(|_| FaultError::Nothing("the kernel gave no queue of packets".to_owned()))?;
    for pair in &pairs {
        rule(cluster, node, "-I", pair, queue).await?;
    }
    Ok(guard)
}

/// Inserts or deletes the rule that hands over what goes from one to the other.
async fn rule(
    cluster: &dyn Faults,
    node: &str,
    how: &str,
    (from, to): &(IpAddr, IpAddr),
    queue: u16,
) -> Result<(), FaultError> {
    let (from, to, queue) = (from.to_string(), to.to_string(), queue.to_string());
    let words = [
        how,
        "FORWARD",
        "-s",
        &from,
        "-d",
        &to,
        "-j",
        "NFQUEUE",
        "--queue-num",
        &queue,
    ];
    process::run(&mut cluster.command(Some(node), "iptables", &words)?).await?;
    Ok(())
}

/// Holds packets back until it is over; what is held then is let go by the kernel with the socket.
fn hold(
    queue: u16,
    delay: Duration,
    over: &AtomicBool,
    told: tokio::sync::oneshot::Sender<()>,
) -> Result<(), Errno> {
    let socket = open(queue)?;
    // Nobody waits any more: then it is over.
    let _ = told.send(());
    let mut held: VecDeque<(Instant, u32)> = VecDeque::new();
    let mut buffer = vec![0; 1 << 16];
    while !over.load(Ordering::SeqCst) || !held.is_empty() {
        match rustix::net::recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) => {
                let due = Instant::now() + delay;
                held.extend(packets(&buffer[..length]).map(|id| (due, id)));
                continue;
            }
            // Too many at once: those that were not told of are lost, as on a link.
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        while held.front().is_some_and(|(due, _)| *due <= Instant::now()) {
            if let Some((_, id)) = held.pop_front() {
                rustix::net::send(&socket, &verdict(queue, id), SendFlags::empty())?;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn open(queue: u16) -> Result<OwnedFd, Errno> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::NETFILTER),
    )?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    for attribute in [bind(), numbers_only(), longest()] {
        let words = message(CONFIGURE, queue, &attribute);
        rustix::net::send(&socket, &words, SendFlags::empty())?;
    }
    Ok(socket)
}

/// Message types of the kernel's `nfnetlink_queue`: its subsystem is 3.
const PACKET: u16 = 3 << 8;
const VERDICT: u16 = PACKET + 1;
const CONFIGURE: u16 = PACKET + 2;
/// Length of the two headers of a message.
const HEADERS: usize = 20;
/// Of an attribute.
const HEADER: usize = 4;

/// Bind to the queue, whatever family.
fn bind() -> Vec<u8> {
    attribute(1, &[1, 0, 0, 0])
}

/// Hand over numbers and no content.
fn numbers_only() -> Vec<u8> {
    attribute(2, &[0, 0, 0, 0, 1])
}

/// Hold so many at most.
fn longest() -> Vec<u8> {
    attribute(3, &65_536_u32.to_be_bytes())
}

fn verdict(queue: u16, id: u32) -> Vec<u8> {
    let accept = 1_u32.to_be_bytes();
    let content = [accept, id.to_be_bytes()].concat();
    message(VERDICT, queue, &attribute(2, &content))
}

/// An attribute, padded to four bytes; lengths are in the machine's order.
fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + content.len()).unwrap_or(u16::MAX);
    let mut all = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    all.extend_from_slice(content);
    all.resize(all.len().next_multiple_of(4), 0);
    all
}

fn message(kind: u16, queue: u16, attribute: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADERS + attribute.len()).unwrap_or(u32::MAX);
    let mut all = length.to_ne_bytes().to_vec();
    all.extend(kind.to_ne_bytes());
    // A request.
    all.extend(1_u16.to_ne_bytes());
    // Neither a sequence nor a sender: nothing is answered.
    all.extend([0; 8]);
    // Any family, version 0, and which queue.
    all.extend([0, 0]);
    all.extend(queue.to_be_bytes());
    all.extend_from_slice(attribute);
    all
}

/// The numbers of the packets in what the kernel sent.
fn packets(mut bytes: &[u8]) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        loop {
            let length =
                usize::try_from(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
            let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
            let attributes = bytes.get(HEADERS..length)?;
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            if kind == PACKET
                && let Some(id) = number(attributes)
            {
                return Some(id);
            }
        }
    })
}

/// The number, which is in the attribute of kind 1.
fn number(mut attributes: &[u8]) -> Option<u32> {
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        if kind == 1 {
            return Some(u32::from_be_bytes(attributes.get(4..8)?.try_into().ok()?));
        }
        attributes = attributes.get(length.max(HEADER).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_what_the_kernel_sends() {
        let packet = |id: u32| {
            let mut content = id.to_be_bytes().to_vec();
            content.extend([8, 0, 2]);
            message(
                PACKET,
                7,
                &[attribute(9, &[1]), attribute(1, &content)].concat(),
            )
        };
        let bytes = [packet(5), message(2, 0, &[0; 4]), packet(6)].concat();
        assert_eq!(packets(&bytes).collect::<Vec<_>>(), [5, 6]);
        assert_eq!(packets(&bytes[..30]).count(), 0, "torn");
        assert_eq!(verdict(7, 5).len(), HEADERS + HEADER + 8);
    }
}

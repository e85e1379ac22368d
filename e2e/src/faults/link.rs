//! Links between pods that are cut, or lose packets, while everything else of their nodes works.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::{FaultError, Undo};
use crate::cluster::Faults;
use crate::process;

/// Where a link is broken.
#[derive(Clone, Copy)]
pub struct Link<'a> {
    /// The cluster.
    pub cluster: &'a dyn Faults,
    /// The node of the pod.
    pub node: &'a str,
    /// Name of the nftables table that holds the fault: nobody else on this node may have it.
    pub table: &'a str,
    /// Address of the pod.
    pub pod: IpAddr,
}

impl<'a> Link<'a> {
    /// Drops what goes between the pod and pods on other nodes, until undone: of each hundred packets
    /// so many.
    ///
    /// # Errors
    /// The cluster does not run, has no such node, or the node's kernel refuses the rule.
    pub async fn part(self, others: &[IpAddr], percent: u8) -> Result<Undo<'a>, FaultError> {
        let what = format!("{} is parted from {others:?}", self.pod);
        self.hold(what, &between(self.pod, others, percent)).await
    }

    /// Drops what the pod sends to a server and what that answers, until undone.
    ///
    /// # Errors
    /// As [`Link::part`].
    pub async fn silence(self, servers: &[SocketAddr]) -> Result<Undo<'a>, FaultError> {
        let what = format!("{} does not reach {servers:?}", self.pod);
        self.hold(what, &towards(self.pod, servers)).await
    }

    async fn hold(self, what: String, drops: &str) -> Result<Undo<'a>, FaultError> {
        let Self {
            cluster,
            node,
            table,
            ..
        } = self;
        let name = table.to_owned();
        let undo = Undo::new(what, move || {
            Box::pin(async move {
                let delete = ["delete", "table", "inet", name.as_str()];
                process::run(&mut cluster.command(Some(node), "nft", &delete)?).await?;
                Ok(())
            })
        });
        let rules = format!(
            "table inet {table} {{ chain parted {{ type filter hook forward priority -150; policy accept; {drops}}}; }}"
        );
        process::run(&mut cluster.command(Some(node), "nft", &[&rules])?).await?;
        Ok(undo)
    }
}

fn between(pod: IpAddr, others: &[IpAddr], percent: u8) -> String {
    let chance = if percent < 100 {
        format!("numgen random mod 100 < {percent} ")
    } else {
        String::new()
    };
    let mut text = String::new();
    for other in others {
        for (from, to) in [(pod, *other), (*other, pod)] {
            // Writing to a String cannot fail.
            let _ = write!(text, "ip saddr {from} ip daddr {to} {chance}drop; ");
        }
    }
    text
}

fn towards(pod: IpAddr, servers: &[SocketAddr]) -> String {
    let mut text = String::new();
    for server in servers {
        let (ip, port) = (server.ip(), server.port());
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "ip saddr {pod} ip daddr {ip} tcp dport {port} drop; \
             ip saddr {ip} tcp sport {port} ip daddr {pod} drop; "
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_are_dropped() {
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 1, 1]));
        let all = between(one, &[two], 100);
        for way in [
            "ip saddr 10.0.0.1 ip daddr 10.0.1.1 drop;",
            "ip saddr 10.0.1.1 ip daddr 10.0.0.1 drop;",
        ] {
            assert!(all.contains(way), "{all}");
        }
        assert!(between(one, &[two], 5).contains("mod 100 < 5 drop"));
        let server = towards(one, &[SocketAddr::new(two, 6443)]);
        for way in [
            "ip saddr 10.0.0.1 ip daddr 10.0.1.1 tcp dport 6443 drop;",
            "ip saddr 10.0.1.1 tcp sport 6443 ip daddr 10.0.0.1 drop;",
        ] {
            assert!(server.contains(way), "{server}");
        }
    }
}

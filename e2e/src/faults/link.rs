//! Links between pods that are cut, or lose packets, while everything else of their nodes works.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{FaultError, Undo};
use crate::cluster::Faults;
use crate::process;

/// Table of nftables that holds the fault; nothing else has it.
const TABLE: &str = "mainstay_fault";

/// Drops what goes between a pod on `node` and pods elsewhere, until undone: of each hundred packets
/// so many.
///
/// # Errors
/// The cluster does not run, has no such node, or the node's kernel refuses the rule.
pub async fn part<'a>(
    cluster: &'a dyn Faults,
    node: &'a str,
    pod: IpAddr,
    others: &[IpAddr],
    percent: u8,
) -> Result<Undo<'a>, FaultError> {
    let undo = Undo::new(format!("{pod} is parted from {others:?}"), move || {
        Box::pin(async move {
            let mut gone =
                cluster.command(Some(node), "nft", &["delete", "table", "inet", TABLE])?;
            process::run(&mut gone).await?;
            Ok(())
        })
    });
    let rules = rules(pod, others, percent);
    process::run(&mut cluster.command(Some(node), "nft", &[&rules])?).await?;
    Ok(undo)
}

fn rules(pod: IpAddr, others: &[IpAddr], percent: u8) -> String {
    let chance = if percent < 100 {
        format!("numgen random mod 100 < {percent} ")
    } else {
        String::new()
    };
    let mut text = format!("table inet {TABLE} {{ chain parted {{ ");
    text.push_str("type filter hook forward priority -150; policy accept; ");
    for other in others {
        for (from, to) in [(pod, *other), (*other, pod)] {
            // Writing to a String cannot fail.
            let _ = write!(text, "ip saddr {from} ip daddr {to} {chance}drop; ");
        }
    }
    text.push_str("}; }");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_are_dropped() {
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 1, 1]));
        let all = rules(one, &[two], 100);
        assert!(
            all.contains("ip saddr 10.0.0.1 ip daddr 10.0.1.1 drop;"),
            "{all}"
        );
        assert!(
            all.contains("ip saddr 10.0.1.1 ip daddr 10.0.0.1 drop;"),
            "{all}"
        );
        assert!(rules(one, &[two], 5).contains("mod 100 < 5 drop"));
    }
}

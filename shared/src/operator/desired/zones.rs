//! What agents are told of zones.

use crate::agent::config::Zones;

/// Nodes that instances have left, of which the zone is still told: more is history.
const MOST_LEFT: usize = 16;

/// Zones of the nodes on which instances are, or were as `told` says: so an instance that comes back
/// to its node knows its zone from the start, and a restart changes nothing. `zone` is what is known
/// of a node.
pub fn zones(told: &Zones, nodes: &[&str], zone: impl Fn(&str) -> Option<String>) -> Zones {
    let find = |node: &str| Some((node.to_owned(), zone(node)?));
    let left = told.keys().filter(|node| !nodes.contains(&node.as_str()));
    let left = left.filter_map(|node| find(node)).take(MOST_LEFT);
    nodes
        .iter()
        .filter_map(|node| find(node))
        .chain(left)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_left_stays_told_while_it_exists() {
        let known = |node: &str| match node {
            "n1" | "n2" => Some("a".to_owned()),
            "n3" => Some("b".to_owned()),
            _ => None,
        };
        let first = zones(&Zones::new(), &["n1", "n3", "unlabelled"], known);
        let of = |pairs: &[(&str, &str)]| -> Zones {
            let owned = |(n, z): &(&str, &str)| ((*n).to_owned(), (*z).to_owned());
            pairs.iter().map(owned).collect()
        };
        assert_eq!(first, of(&[("n1", "a"), ("n3", "b")]));
        // A pod is away: nothing changes.
        assert_eq!(zones(&first, &["n1"], known), first);
        let moved = zones(&first, &["n1", "n2"], known);
        assert_eq!(moved, of(&[("n1", "a"), ("n2", "a"), ("n3", "b")]));
        let gone = |node: &str| known(node).filter(|_| node != "n3");
        assert_eq!(
            zones(&moved, &["n1", "n2"], gone),
            of(&[("n1", "a"), ("n2", "a")])
        );
        let many: Vec<String> = (0..40).map(|n| format!("m{n:02}")).collect();
        let told = many.iter().map(|n| (n.clone(), "z".to_owned())).collect();
        let bounded = zones(&told, &["n1"], |_| Some("z".into()));
        assert_eq!(bounded.len(), MOST_LEFT + 1);
    }
}

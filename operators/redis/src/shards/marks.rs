//! Whose data it is: primaries bear the mark of their set, as the data of a set in replication does. By it backups find the
//! repository that is theirs. Pure.
//!
//! Who elects has no use for it here, so it names the set and nothing else. It is in the dataset of each primary, and goes to replicas
//! and into backups with that; keys that are moved leave it behind, so a shard that comes is given it anew.

use std::collections::BTreeSet;

use super::picture::Picture;
use super::plan::{Act, Plan};
use super::topology::{Bears, NodeId, View};
use crate::agent::mark::Mark;

/// The mark of a cluster's data.
pub fn of(set: String) -> Mark {
    Mark {
        set,
        ..Mark::default()
    }
}

/// Give it to primaries that have none. Nothing is done before all of them have said what they bear, nor where they differ.
///
/// Whoever does this anew after it was broken off does the same: what one of them bears already is what all get. While none
/// bears any it is named after the node that owns the first slot, which is random and kept with the data.
pub fn mark(picture: &Picture<'_>, plan: &mut Plan) {
    let mut owners: Vec<(&str, &NodeId, &View)> = Vec::new();
    for (id, slots) in &picture.owned {
        let Some((member, view)) = picture.seen(id) else {
            return;
        };
        if !view.is_primary() || view.loading || view.bears == Bears::Unknown {
            return;
        }
        if slots.contains(0) {
            owners.insert(0, (picture.name(member), id, view));
        } else {
            owners.push((picture.name(member), id, view));
        }
    }
    let borne: BTreeSet<&String> = owners
        .iter()
        .filter_map(|(_, _, view)| match &view.bears {
            Bears::Set(set) => Some(set),
            Bears::Nothing | Bears::Unknown => None,
        })
        .collect();
    let mut borne = borne.into_iter();
    let set = match (borne.next(), borne.next(), owners.first()) {
        (Some(set), None, _) => set.clone(),
        (None, _, Some((_, id, _))) => id.as_str().to_owned(),
        _ => return,
    };
    let bare = owners.iter().filter(|(_, _, v)| v.bears == Bears::Nothing);
    plan.harmless.extend(bare.map(|(name, ..)| Act::Mark {
        at: (*name).to_owned(),
        set: set.clone(),
    }));
}

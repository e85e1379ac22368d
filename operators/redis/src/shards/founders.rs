//! The first members of a cluster that is made from a backup: each was restored with a shard of it, and owns its slots before
//! it knows anybody. Pure.
//!
//! An engine that has keys and slots is not met otherwise. These are, on evidence: all members have answered; all that have anything
//! bear one mark, which is made of the resource and the backup; and their slots are all there are, each once. Until then nobody is met.

use std::collections::BTreeSet;

use super::picture::{Member, Presence};
use super::slots::SlotSet;
use super::topology::{Bears, Node, NodeId, Role, View};

/// The members that were restored, when they are one dataset and nobody has anything else.
///
/// # Errors
/// What is missing or wrong: a sentence.
pub fn founders(members: &[Member]) -> Result<BTreeSet<usize>, String> {
    let views = views(members)?;
    let ids: BTreeSet<&NodeId> = views.iter().map(|(_, _, view)| &view.me).collect();
    let mut founders: Vec<(usize, &str, &Node, &String)> = Vec::new();
    for (member, name, view) in &views {
        let me = view.myself().ok_or_else(|| unlike(name))?;
        if let Some(other) = view.nodes.keys().find(|id| !ids.contains(id)) {
            return Err(format!(
                "{name} knows node {other}, which is no member: its volume is of another cluster, and nobody is let in. Give it an \
                 empty volume"
            ));
        }
        if view.keys == 0 && me.slots.is_empty() {
            continue;
        }
        let restored = me.role == Role::Primary && !me.slots.is_empty();
        let open = !me.migrating.is_empty() || !me.importing.is_empty();
        match &view.bears {
            Bears::Set(set) if restored && !open => founders.push((*member, *name, me, set)),
            // It follows one of them already.
            _ if matches!(me.role, Role::Replica(_)) && me.slots.is_empty() => {}
            _ => return Err(unlike(name)),
        }
    }
    let mut all = SlotSet::default();
    for (at, (_, name, me, set)) in founders.iter().enumerate() {
        for (_, other, theirs, its) in founders.iter().take(at) {
            if set != its {
                return Err(format!(
                    "{other} and {name} were not restored from one backup: delete this resource with its volumes, and make it anew \
                     with the id of one (bootstrap.recovery.backup)"
                ));
            }
            if let Some(slot) = me.slots.and(&theirs.slots).iter().next() {
                return Err(format!(
                    "{other} and {name} both have slot {slot}, so they are no shards of one backup"
                ));
            }
        }
        all.extend(&me.slots);
    }
    match SlotSet::all().without(&all).ranges().first() {
        None => Ok(founders.iter().map(|(member, ..)| *member).collect()),
        Some(slots) => Err(format!("nobody was restored with slots {slots} yet")),
    }
}

/// What all members say.
fn views(members: &[Member]) -> Result<Vec<(usize, &str, &View)>, String> {
    let mut views = Vec::new();
    for (number, member) in members.iter().enumerate() {
        let name = member.name.as_str();
        match &member.presence {
            Presence::Seen(view) if view.loading => {
                return Err(format!("{name} reads its dataset"));
            }
            Presence::Seen(view) => views.push((number, name, &**view)),
            Presence::Unreachable(why) | Presence::Ended(why) => {
                return Err(format!("{name} does not answer yet: {why}"));
            }
            Presence::Gone { .. } => return Err(format!("{name} does not run")),
        }
    }
    Ok(views)
}

fn unlike(name: &str) -> String {
    format!(
        "{name} has keys or slots that no restore left there: what it has is left alone, and nobody is let in. Give it an empty volume"
    )
}

#[cfg(test)]
#[path = "founders_tests.rs"]
mod tests;

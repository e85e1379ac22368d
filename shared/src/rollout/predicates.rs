//! The rules, in the order in which they are asked. Each is a sentence and a small function.

use super::choose::{Candidate, Change, Setting};
use super::window::Door;
use crate::instances::Instance;

/// A named rule.
pub struct Predicate {
    /// Its name, a sentence: users read it in `status.waitingFor`.
    pub name: &'static str,
    /// The reason to hold the candidate back; none lets it pass.
    pub holds_back: fn(&Setting<'_>, &Candidate) -> Option<String>,
}

/// All rules. The first that holds a candidate back is the one shown.
pub const PREDICATES: &[Predicate] = &[
    Predicate {
        name: "wait_for_the_cache_to_catch_up",
        holds_back: wait_for_the_cache_to_catch_up,
    },
    Predicate {
        name: "unknown_is_not_down",
        holds_back: unknown_is_not_down,
    },
    Predicate {
        name: "wait_for_maintenance_window",
        holds_back: wait_for_maintenance_window,
    },
    Predicate {
        name: "one_instance_at_a_time",
        holds_back: one_instance_at_a_time,
    },
    Predicate {
        name: "give_up_a_copy_only_while_the_primary_serves",
        holds_back: give_up_a_copy_only_while_the_primary_serves,
    },
    Predicate {
        name: "wait_until_the_primary_knows_its_members",
        holds_back: wait_until_the_primary_knows_its_members,
    },
    Predicate {
        name: "wait_until_replicas_stream",
        holds_back: wait_until_replicas_stream,
    },
    Predicate {
        name: "keep_quorum_of_synced_members",
        holds_back: keep_quorum_of_synced_members,
    },
    Predicate {
        name: "primary_first_when_a_limit_is_lowered",
        holds_back: primary_first_when_a_limit_is_lowered,
    },
    Predicate {
        name: "primary_last",
        holds_back: primary_last,
    },
];

/// What holds a candidate back of a set that leads itself: only what does not ask for a primary.
pub fn held_back(setting: &Setting<'_>, candidate: &Candidate) -> Option<(&'static str, String)> {
    let rules = [
        "wait_for_the_cache_to_catch_up",
        "wait_for_maintenance_window",
    ];
    first_of(&rules, setting, candidate)
}

/// What holds one back of such a set that has to be replaced in any case.
pub fn unseen(setting: &Setting<'_>, candidate: &Candidate) -> Option<(&'static str, String)> {
    first_of(&["wait_for_the_cache_to_catch_up"], setting, candidate)
}

fn first_of(
    names: &[&str],
    setting: &Setting<'_>,
    candidate: &Candidate,
) -> Option<(&'static str, String)> {
    let mut rules = PREDICATES.iter().filter(|rule| names.contains(&rule.name));
    rules.find_map(|rule| Some((rule.name, (rule.holds_back)(setting, candidate)?)))
}

/// Own writes must be visible before anything is disturbed on the ground of what is seen.
fn wait_for_the_cache_to_catch_up(setting: &Setting<'_>, _: &Candidate) -> Option<String> {
    setting.unseen.map(str::to_owned)
}

/// An instance that cannot be asked may be serving: it is left alone.
fn unknown_is_not_down(setting: &Setting<'_>, candidate: &Candidate) -> Option<String> {
    let instance = setting.instance(&candidate.instance)?;
    if instance.is_down() {
        None
    } else {
        instance.unwell()
    }
}

/// What somebody wants changed waits for a window; what is broken, or leaves, does not.
fn wait_for_maintenance_window(setting: &Setting<'_>, candidate: &Candidate) -> Option<String> {
    let (waits, stays) = match candidate.change {
        Change::Restart { .. } | Change::Replace { .. } => (true, true),
        // Nobody notices it, but a freeze means that nothing is changed.
        Change::Upgrade { .. } => (false, true),
        Change::HandOver { .. } | Change::Remove { .. } => (false, false),
    };
    if setting.is_down(&candidate.instance) {
        return None;
    }
    match setting.door {
        Door::Until(opens) if waits => {
            Some(format!("the next maintenance window opens at {opens}"))
        }
        Door::Frozen if stays => Some(
            "changes are frozen: set maintenance.freeze to false, or give it a window".to_owned(),
        ),
        _ => None,
    }
}

/// While any other member does not serve, nobody else is disturbed.
fn one_instance_at_a_time(setting: &Setting<'_>, candidate: &Candidate) -> Option<String> {
    let others = setting
        .members
        .iter()
        .filter(|name| **name != candidate.instance);
    if setting.is_down(&candidate.instance) {
        // It is down already, and changing it makes nothing worse; unless it only waits for another one
        // that is on its way, as a replica waits for its primary, and a primary for its replicas.
        let stuck = setting
            .instance(&candidate.instance)
            .is_none_or(Instance::is_stuck);
        let mut asked = others
            .filter(|name| !stuck && (candidate.instance == setting.seat || *name == setting.seat));
        return asked.find_map(|name| setting.instance(name)?.in_flight());
    }
    others
        .map(|name| match setting.instance(name) {
            None => Some(format!("{name} is not there yet")),
            Some(instance) => instance.unwell(),
        })
        .find_map(|unwell| unwell)
}

/// An instance leaves only while the primary is seen to work.
fn give_up_a_copy_only_while_the_primary_serves(
    setting: &Setting<'_>,
    candidate: &Candidate,
) -> Option<String> {
    let leaves = matches!(candidate.change, Change::Remove { .. });
    (leaves && !setting.serves(setting.seat)).then(|| {
        let unwell = setting.instance(setting.seat).and_then(Instance::unwell);
        unwell.unwrap_or_else(|| format!("the primary {} is not there", setting.seat))
    })
}

/// Before an instance leaves, the primary has stopped counting on it.
fn wait_until_the_primary_knows_its_members(
    setting: &Setting<'_>,
    candidate: &Candidate,
) -> Option<String> {
    let leaves = matches!(candidate.change, Change::Remove { .. });
    let status = setting.instance(setting.seat)?.agent()?;
    (leaves && status.config_hash.as_deref() != Some(setting.config_hash)).then(|| {
        format!(
            "{} has not taken over the new list of members yet",
            setting.seat
        )
    })
}

/// Before a serving instance is disturbed, every other replica streams, as the primary says.
fn wait_until_replicas_stream(setting: &Setting<'_>, candidate: &Candidate) -> Option<String> {
    if setting.is_down(&candidate.instance) {
        return None;
    }
    let streaming = setting.streaming();
    setting
        .members
        .iter()
        .filter(|name| **name != candidate.instance && *name != setting.seat)
        .find(|name| !streaming.contains(name))
        .map(|name| format!("{name} does not stream from {} yet", setting.seat))
}

/// When commits wait for replicas, enough of them remain while one is away.
fn keep_quorum_of_synced_members(setting: &Setting<'_>, candidate: &Candidate) -> Option<String> {
    // Without the primary nothing commits anyway; and one that does not stream is not counted on.
    let streaming = setting.streaming();
    if candidate.instance == setting.seat || !streaming.contains(&candidate.instance) {
        return None;
    }
    let remain = setting
        .members
        .iter()
        .filter(|name| **name != candidate.instance && streaming.contains(name))
        .count();
    (remain < setting.confirmations).then(|| {
        format!(
            "without {} only {remain} replicas would stream, and a commit waits for {}",
            candidate.instance, setting.confirmations
        )
    })
}

/// A limit that replicas must not have lower than their primary is lowered on the primary first.
fn primary_first_when_a_limit_is_lowered(
    setting: &Setting<'_>,
    candidate: &Candidate,
) -> Option<String> {
    if candidate.instance == setting.seat || !matches!(candidate.change, Change::Restart { .. }) {
        return None;
    }
    lowers_a_limit(setting).then(|| {
        format!(
            "a limit is lowered that a replica must not have lower than the primary, so {} restarts first",
            setting.seat
        )
    })
}

/// The primary is disturbed when nobody else has to be.
fn primary_last(setting: &Setting<'_>, candidate: &Candidate) -> Option<String> {
    if candidate.instance != setting.seat || setting.is_down(setting.seat) {
        return None;
    }
    if matches!(candidate.change, Change::Restart { .. }) && lowers_a_limit(setting) {
        return None;
    }
    // Handing over changes nothing that replicas have to have first.
    if matches!(candidate.change, Change::HandOver { .. }) {
        return None;
    }
    let others: Vec<&str> = setting
        .candidates
        .iter()
        .filter(|c| c.instance != setting.seat)
        .map(|c| c.instance.as_str())
        .collect();
    (!others.is_empty()).then(|| format!("{} come first", others.join(", ")))
}

/// Whether a restart of the primary lowers a limit that replicas must not have lower than it.
pub(super) fn lowers_a_limit(setting: &Setting<'_>) -> bool {
    let restarts = setting
        .candidates
        .iter()
        .any(|c| c.instance == setting.seat && matches!(c.change, Change::Restart { .. }));
    restarts
        && setting
            .instance(setting.seat)
            .and_then(Instance::agent)
            .is_some_and(|status| status.restart_primary_first)
}

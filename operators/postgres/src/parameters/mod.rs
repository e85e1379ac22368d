//! PostgreSQL's parameters as a user may set them.

pub mod value;

use mainstay_crds::postgres::parameters::{self as facts, Context};

/// What a change of the parameters needs, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing: there is no change.
    Nothing,
    /// PostgreSQL reads its configuration again; no connection notices.
    Reload,
    /// PostgreSQL is started again, one instance at a time.
    Restart,
}

/// What a change of parameter `name` needs in `major`.
///
/// An extension's parameter is read again like any other: a module that must be loaded at start is
/// named in `shared_preload_libraries`, whose change is a restart by itself.
pub fn effect(major: u32, name: &str) -> Effect {
    match facts::find(major, name).map(|p| p.context) {
        Some(Context::Restart) => Effect::Restart,
        Some(Context::Internal) => Effect::Nothing,
        Some(Context::Reload | Context::Connection) | None => Effect::Reload,
    }
}

/// What the change from `before` to `after` needs in `major`: the most that one of its changes does.
pub fn effect_of_change<'a, M>(major: u32, before: &'a M, after: &'a M) -> Effect
where
    &'a M: IntoIterator<Item = (&'a String, &'a String)>,
{
    let differing = |one: &'a M, other: &'a M| {
        let other: Vec<_> = other.into_iter().collect();
        one.into_iter()
            .filter(move |pair| !other.contains(pair))
            .map(|(name, _)| effect(major, name))
            .max()
    };
    differing(before, after)
        .max(differing(after, before))
        .unwrap_or(Effect::Nothing)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::settings;

    #[test]
    fn a_change_needs_what_its_strongest_part_needs() {
        let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect()
        };
        let before = of(&[("work_mem", "4MB"), ("max_connections", "100")]);
        let change = |after: &BTreeMap<_, _>| effect_of_change(17, &before, after);
        assert_eq!(change(&before), Effect::Nothing);
        assert_eq!(
            change(&of(&[("work_mem", "8MB"), ("max_connections", "100")])),
            Effect::Reload
        );
        assert_eq!(
            change(&of(&[("work_mem", "8MB"), ("max_connections", "90")])),
            Effect::Restart
        );
        assert_eq!(change(&of(&[("work_mem", "4MB")])), Effect::Restart);
        assert_eq!(effect(17, "auto_explain.log_analyze"), Effect::Reload);
        assert_eq!(effect(17, "autovacuum_max_workers"), Effect::Restart);
        assert_eq!(effect(18, "autovacuum_max_workers"), Effect::Reload);
    }

    #[test]
    fn what_the_agents_render_is_refused_to_users() {
        for name in settings::MANAGED {
            assert!(facts::refused(name).is_some(), "{name}");
        }
    }
}

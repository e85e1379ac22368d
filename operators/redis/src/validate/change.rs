//! Another version: what is asked for, beside what has run already. Values only.
//!
//! A set goes to a newer version by replacing replicas, then handing over to one of them, then replacing the former
//! primary: that is how pods are replaced for anything else, and a newer server reads what an older one wrote. The way back
//! ends with the hand-over. Before it, what replicas have written is given up: the primary's data is the older one's still.

use std::collections::BTreeMap;

use mainstay_shared::operator::engine::Ran;

use super::{Problem, Validated};
use crate::version::{Server, number};

/// Instances with data that the wanted version does not read, and why. They get new volumes.
///
/// Of a cluster every primary counts. Who has become a replica of a newer one is found when the members are looked at
/// ([`crate::engine::steer`]).
///
/// # Errors
/// The primary's data is such, or an image holds another version than the resource says.
pub fn unusable(v: &Validated, ran: &[Ran<'_>]) -> Result<BTreeMap<u32, String>, Vec<Problem>> {
    let server = |version: &str| Server {
        flavour: v.flavour,
        version: version.to_owned(),
    };
    let wanted = server(&v.version);
    let other = |r: &&Ran<'_>| {
        let runs = r.runs.filter(|_| r.is_current);
        runs.is_some_and(|runs| number(runs) != number(&v.version))
    };
    if let Some(Ran {
        runs: Some(runs), ..
    }) = ran.iter().find(other)
    {
        return Err(vec![Problem::ImageVersion {
            image: v.common.image.clone(),
            holds: server(runs),
            version: v.version.clone(),
        }]);
    }
    let mut unusable = BTreeMap::new();
    for instance in ran {
        let versions = [instance.runs, instance.noted];
        let newest = versions.into_iter().flatten().max_by_key(|v| number(v));
        let Some(wrote) = newest.map(server).filter(|w| !wanted.reads(w)) else {
            continue;
        };
        if instance.is_seat {
            return Err(vec![Problem::Older {
                primary: instance.name.to_owned(),
                wrote,
                wanted,
            }]);
        }
        let why = format!("{wrote} has written it, which {wanted} does not read");
        unusable.insert(instance.ordinal, why);
    }
    Ok(unusable)
}

#[cfg(test)]
mod tests {
    use super::super::Shards;
    use super::*;
    use crate::desired::tests::cache;

    fn ran(ordinal: u32, runs: Option<&'static str>, noted: Option<&'static str>) -> Ran<'static> {
        Ran {
            name: ["", "cache-1", "cache-2", "cache-3"][ordinal as usize],
            ordinal,
            is_seat: ordinal == 1,
            is_current: false,
            runs,
            noted,
        }
    }

    fn wants(version: &str) -> Validated {
        Validated {
            version: version.to_owned(),
            ..cache()
        }
    }

    fn why(v: &Validated, ran: &[Ran<'_>]) -> String {
        unusable(v, ran).unwrap_err()[0].to_string()
    }

    const OLD: Option<&str> = Some("7.0.15");
    const NEW: Option<&str> = Some("8.0.2");

    #[test]
    fn a_newer_version_may_come_and_is_mixed_with_the_older_meanwhile() {
        let mixed = [ran(1, OLD, OLD), ran(2, OLD, OLD), ran(3, NEW, NEW)];
        assert_eq!(unusable(&wants("8.0"), &mixed), Ok(BTreeMap::new()));
        assert_eq!(unusable(&wants("8.0"), &[]), Ok(BTreeMap::new()));
        let unknown = [ran(1, None, None)];
        assert_eq!(unusable(&wants("7.0"), &unknown), Ok(BTreeMap::new()));
    }

    #[test]
    fn before_the_hand_over_replicas_go_back_with_new_volumes() {
        for three in [ran(3, NEW, NEW), ran(3, None, NEW), ran(3, NEW, OLD)] {
            let mixed = [ran(1, OLD, OLD), ran(2, OLD, OLD), three];
            let found = unusable(&wants("7.0"), &mixed).unwrap();
            assert_eq!(found.keys().collect::<Vec<_>>(), [&3]);
            assert!(found[&3].contains("Redis 8.0.2"), "{found:?}");
        }
    }

    #[test]
    fn after_it_nobody_goes_back() {
        // Also where the primary is gone with what it said.
        for one in [ran(1, NEW, NEW), ran(1, None, NEW)] {
            let why = why(&wants("7.0"), &[one, ran(2, OLD, OLD)]);
            assert!(
                why.starts_with("spec.version: ")
                    && why.contains("cache-1")
                    && why.contains("write 8.0"),
                "{why}"
            );
        }
    }

    #[test]
    fn a_cluster_goes_back_until_the_first_of_its_primaries_is_newer() {
        let clustered = |version| Validated {
            shards: Some(Shards {
                count: 3,
                replicas: 1,
            }),
            ..wants(version)
        };
        let leads = |ran: Ran<'static>| Ran {
            is_seat: true,
            ..ran
        };
        let mut all = [ran(1, OLD, OLD), leads(ran(2, OLD, OLD)), ran(3, NEW, NEW)];
        assert_eq!(unusable(&clustered("8.0"), &all), Ok(BTreeMap::new()));
        let found = unusable(&clustered("7.0"), &all).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), [&3]);
        // Both of two shards lead.
        all[2].is_seat = true;
        let why = why(&clustered("7.0"), &all);
        assert!(
            why.contains("cache-3") && why.contains("write 8.0"),
            "{why}"
        );
    }

    #[test]
    fn an_image_of_another_version_is_told_and_nothing_goes_on() {
        let current = |version| Ran {
            is_current: true,
            ..ran(3, version, None)
        };
        let said = why(&wants("7.0"), &[ran(1, OLD, OLD), current(NEW)]);
        assert!(
            said.starts_with("spec.image: ") && said.contains("Redis 8.0.2"),
            "{said}"
        );
        let said = why(&wants("8.0"), &[ran(1, OLD, OLD), current(OLD)]);
        assert!(said.contains("Redis 7.0.15"), "{said}");
        let fine = [ran(1, OLD, OLD), current(Some("8.0.4"))];
        assert_eq!(unusable(&wants("8.0"), &fine), Ok(BTreeMap::new()));
    }
}

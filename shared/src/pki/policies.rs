//! Whether a certificate is kept or issued anew: an ordered chain of small checks.

use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, PublicKeyData};

use super::read::is_issued_by;
use super::{BACKDATED_HOURS, Facts, LeafSpec, Pair, PkiError, facts};

/// What to do with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Keep,
    /// A new one is made, for this reason.
    Issue(Reason),
}

/// Why a certificate is made anew, in the order in which the checks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// There is none.
    #[error("there is no certificate yet")]
    Missing,
    /// Its text is damaged.
    #[error("the certificate or its key cannot be read")]
    Unreadable,
    /// The key belongs to another certificate.
    #[error("the key does not match the certificate")]
    KeyDoesNotMatch,
    /// Common name, DNS names or addresses differ from what they should be.
    #[error("the certificate bears other names")]
    WrongNames,
    /// It was signed by another authority.
    #[error("the certificate comes from another authority")]
    WrongIssuer,
    /// It begins in the future.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// A third of its time, or less, is left.
    #[error("the certificate is due for renewal")]
    RenewalDue,
}

/// What a check looks at.
struct Input<'a> {
    pair: &'a Pair,
    facts: &'a Facts,
    authority: &'a str,
    spec: &'a LeafSpec,
    now: Timestamp,
}

/// The checks, in order; the first that answers decides.
const CHAIN: &[fn(&Input<'_>) -> Option<Reason>] = &[
    key_does_not_match,
    wrong_names,
    wrong_issuer,
    not_yet_valid,
    is_due,
];

/// What to do with a leaf: `existing` as found, `authority` the certificate (PEM) it should come
/// from.
pub fn leaf_verdict(
    existing: Option<&Pair>,
    authority: &str,
    spec: &LeafSpec,
    now: Timestamp,
) -> Verdict {
    let Some(pair) = existing else {
        return Verdict::Issue(Reason::Missing);
    };
    let Ok(facts) = facts(&pair.certificate) else {
        return Verdict::Issue(Reason::Unreadable);
    };
    let input = Input {
        pair,
        facts: &facts,
        authority,
        spec,
        now,
    };
    CHAIN
        .iter()
        .find_map(|check| check(&input))
        .map_or(Verdict::Keep, Verdict::Issue)
}

/// What to do with the authority in Secret `secret`.
///
/// # Errors
/// When one exists that cannot be used. It is never replaced on its own: everyone trusts it.
pub fn authority_verdict(
    existing: Option<&Pair>,
    secret: &str,
    now: Timestamp,
) -> Result<Verdict, PkiError> {
    let Some(pair) = existing else {
        return Ok(Verdict::Issue(Reason::Missing));
    };
    let refuse = |why: String| PkiError::Authority {
        secret: secret.to_owned(),
        why,
    };
    let facts = facts(&pair.certificate).map_err(|e| refuse(e.to_string()))?;
    if matches(pair, &facts) != Some(true) {
        return Err(refuse(Reason::KeyDoesNotMatch.to_string()));
    }
    if facts.not_after <= now {
        return Err(refuse(format!("it ended at {}", facts.not_after)));
    }
    Ok(Verdict::Keep)
}

/// When a certificate is due for renewal: a third of the time for which it was issued is left.
pub fn renewal_due(facts: &Facts) -> Timestamp {
    facts.not_after - issued_for(facts) / 3
}

fn key_does_not_match(i: &Input<'_>) -> Option<Reason> {
    match matches(i.pair, i.facts) {
        None => Some(Reason::Unreadable),
        Some(false) => Some(Reason::KeyDoesNotMatch),
        Some(true) => None,
    }
}

fn wrong_names(i: &Input<'_>) -> Option<Reason> {
    let mut dns_names = i.spec.dns_names.clone();
    dns_names.sort_unstable();
    let mut addresses = i.spec.addresses.clone();
    addresses.sort_unstable();
    let same = i.facts.common_name == i.spec.common_name
        && i.facts.dns_names == dns_names
        && i.facts.addresses == addresses;
    (!same).then_some(Reason::WrongNames)
}

fn wrong_issuer(i: &Input<'_>) -> Option<Reason> {
    let issued =
        i.pair.ca == i.authority && is_issued_by(&i.pair.certificate, i.authority).unwrap_or(false);
    (!issued).then_some(Reason::WrongIssuer)
}

fn not_yet_valid(i: &Input<'_>) -> Option<Reason> {
    (i.facts.not_before > i.now).then_some(Reason::NotYetValid)
}

fn is_due(i: &Input<'_>) -> Option<Reason> {
    // A shorter duration in the resource takes effect at once, not when the old one ends.
    let too_long = issued_for(i.facts) > SignedDuration::from_hours(i.spec.hours);
    (too_long || renewal_due(i.facts) <= i.now).then_some(Reason::RenewalDue)
}

/// Time for which a certificate was issued, without that by which it is backdated.
fn issued_for(facts: &Facts) -> SignedDuration {
    facts.not_after.duration_since(facts.not_before) - SignedDuration::from_hours(BACKDATED_HOURS)
}

/// Whether the key belongs to the certificate; `None` when the key cannot be read.
fn matches(pair: &Pair, facts: &Facts) -> Option<bool> {
    let key = KeyPair::from_pem(pair.key.expose()).ok()?;
    Some(key.subject_public_key_info() == facts.public_key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Usage, issue_authority, issue_leaf};

    const NOW: i64 = 1_800_000_000;

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    fn hours_on(hours: i64) -> Timestamp {
        now() + SignedDuration::from_hours(hours)
    }

    fn spec() -> LeafSpec {
        LeafSpec {
            common_name: "db-1".into(),
            dns_names: vec!["db-1.db-peers.shop.svc".into(), "localhost".into()],
            addresses: vec![[127, 0, 0, 1].into()],
            usage: Usage::ServerAndClient,
            hours: 90,
        }
    }

    fn issued() -> (Pair, Pair) {
        let authority = issue_authority("shop", "db", now()).unwrap();
        let leaf = issue_leaf(&authority, &spec(), now()).unwrap();
        (authority, leaf)
    }

    #[test]
    fn a_leaf_is_kept_until_a_third_of_its_time_is_left() {
        let (authority, leaf) = issued();
        let verdict = |at| leaf_verdict(Some(&leaf), &authority.certificate, &spec(), at);
        assert_eq!(verdict(now()), Verdict::Keep);
        assert_eq!(verdict(hours_on(59)), Verdict::Keep);
        assert_eq!(verdict(hours_on(60)), Verdict::Issue(Reason::RenewalDue));
        assert_eq!(verdict(hours_on(-23)), Verdict::Keep);
        assert_eq!(verdict(hours_on(-25)), Verdict::Issue(Reason::NotYetValid));
    }

    #[test]
    fn a_shorter_duration_takes_effect_at_once() {
        let (authority, leaf) = issued();
        let shorter = LeafSpec {
            hours: 24,
            ..spec()
        };
        assert_eq!(
            leaf_verdict(Some(&leaf), &authority.certificate, &shorter, now()),
            Verdict::Issue(Reason::RenewalDue)
        );
    }

    #[test]
    fn a_leaf_ends_with_its_authority() {
        let (authority, _) = issued();
        let ends = facts(&authority.certificate).unwrap().not_after;
        let late = ends - SignedDuration::from_hours(10);
        let leaf = issue_leaf(&authority, &spec(), late).unwrap();
        assert_eq!(facts(&leaf.certificate).unwrap().not_after, ends);
    }

    #[test]
    fn each_defect_has_its_reason() {
        let (authority, leaf) = issued();
        let (other_authority, other) = issued();
        let ca = authority.certificate.as_str();
        let verdict = |pair: Option<&Pair>, spec: &LeafSpec| leaf_verdict(pair, ca, spec, now());
        assert_eq!(verdict(None, &spec()), Verdict::Issue(Reason::Missing));

        let torn = Pair {
            certificate: leaf.certificate[..80].into(),
            ..leaf.clone()
        };
        assert_eq!(
            verdict(Some(&torn), &spec()),
            Verdict::Issue(Reason::Unreadable)
        );
        let no_key = Pair {
            key: super::super::PrivateKeyPem::new("x".into()),
            ..leaf.clone()
        };
        assert_eq!(
            verdict(Some(&no_key), &spec()),
            Verdict::Issue(Reason::Unreadable)
        );
        let mixed = Pair {
            key: other.key.clone(),
            ..leaf.clone()
        };
        assert_eq!(
            verdict(Some(&mixed), &spec()),
            Verdict::Issue(Reason::KeyDoesNotMatch)
        );

        let renamed = LeafSpec {
            common_name: "db-2".into(),
            ..spec()
        };
        assert_eq!(
            verdict(Some(&leaf), &renamed),
            Verdict::Issue(Reason::WrongNames)
        );
        let more = LeafSpec {
            addresses: vec![],
            ..spec()
        };
        assert_eq!(
            verdict(Some(&leaf), &more),
            Verdict::Issue(Reason::WrongNames)
        );
        assert_eq!(
            verdict(Some(&other), &spec()),
            Verdict::Issue(Reason::WrongIssuer)
        );
        // The same name and another key: only the signature tells them apart.
        let claimed = Pair {
            ca: authority.certificate.clone(),
            ..other
        };
        assert_eq!(
            verdict(Some(&claimed), &spec()),
            Verdict::Issue(Reason::WrongIssuer)
        );
        assert_ne!(other_authority.certificate, authority.certificate);
    }

    #[test]
    fn an_authority_that_cannot_be_used_is_never_replaced() {
        let (authority, leaf) = issued();
        let verdict = |pair, at| authority_verdict(pair, "postgres.shop.db.ca", at);
        assert_eq!(
            verdict(None, now()).unwrap(),
            Verdict::Issue(Reason::Missing)
        );
        assert_eq!(verdict(Some(&authority), now()).unwrap(), Verdict::Keep);
        assert!(verdict(Some(&authority), hours_on(11 * 365 * 24)).is_err());
        let mixed = Pair {
            key: leaf.key,
            ..authority.clone()
        };
        assert!(verdict(Some(&mixed), now()).is_err());
    }
}

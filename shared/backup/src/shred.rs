//! Destroying keys: their copies in a repository go, and what else opens its backups is told.
//!
//! The keys themselves are needed for nothing of it, only their public parts: who does this can open no backup.
//! Contents are encrypted to escrow recipients as well, each object by itself. So without the copies an escrow key
//! still opens what was written while it was a recipient, and no longer what is older.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::BackupId;
use crate::layout;
use crate::manifest::recipients_named;
use crate::prune::Waits;
use crate::spec::RepositorySpec;
use crate::store::{Deleted, Reason, Store, StoreError};

/// Most recipients and copies that a report names: Kubernetes keeps 4096 bytes of last words.
pub const NAMED: usize = 8;
/// Most bytes of a manifest.
const MANIFEST: usize = 64 << 20;

/// What is to be done. No secret is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShredSettings {
    /// The repository.
    pub repository: RepositorySpec,
    /// Public parts of the keys (`age1…`).
    pub recipients: Vec<String>,
    /// Whether it is done although others open the backups afterwards.
    pub others_stay: bool,
}

/// What came of it, as the last words of who did it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShredReport {
    /// No copy is left that can be removed. False: nothing was removed, and [`Self::message`] says why.
    pub done: bool,
    /// Why nothing was removed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Whether another try may come to something else: it was the store.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub passes: bool,
    /// How many copies were removed.
    pub removed: u32,
    /// Copies that a lock keeps, at most [`NAMED`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptCopy>,
    /// How many backups there are that these keys open.
    pub backups: u32,
    /// Others that open something of it, at most [`NAMED`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// Whether copies are for recipients that no backup names: they are not known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unnamed: bool,
}

/// A copy that is still there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCopy {
    /// Its key.
    pub key: String,
    /// Until when; none: nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl From<Waits> for KeptCopy {
    fn from(Waits { key, until }: Waits) -> Self {
        Self { key, until }
    }
}

/// What is in a repository, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The recipients of each backup.
    pub backups: Vec<Vec<String>>,
    /// Keys of objects in the folder of copies, also of those of which only older versions are there.
    pub copies: BTreeSet<String>,
}

/// What is to be removed, and what else opens the backups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Copies of these keys.
    pub copies: Vec<String>,
    /// Backups that these keys open.
    pub backups: u32,
    /// Who else opens them.
    pub others: Vec<String>,
    /// Whether copies are for recipients that no backup names.
    pub unnamed: bool,
}

/// Judges what was found. `recipients`: public parts of the keys.
pub fn judge(found: &Found, recipients: &[String]) -> Verdict {
    let ours = |name: &String| recipients.contains(name);
    let opened = found.backups.iter().filter(|all| all.iter().any(ours));
    let opened: Vec<&Vec<String>> = opened.collect();
    let others: BTreeSet<&String> = opened.iter().flat_map(|all| all.iter()).collect();
    let others = others.into_iter().filter(|name| !ours(name));
    let mine = |key: &&String| {
        let name = key.strip_prefix(layout::KEYS);
        name.is_some_and(|name| {
            recipients
                .iter()
                .any(|r| name.starts_with(&format!("{r}-")))
        })
    };
    let copies: Vec<String> = found.copies.iter().filter(mine).cloned().collect();
    // A copy's key tells for whom it is: those that no backup names are not known.
    let named = |key: &String| {
        let of = |all: &&Vec<String>| {
            let escrow: Vec<String> = all.iter().filter(|n| !ours(n)).cloned().collect();
            recipients.iter().any(|r| layout::keys(r, &escrow) == *key)
        };
        opened.iter().any(of)
    };
    Verdict {
        unnamed: !copies.iter().all(named),
        backups: u32::try_from(opened.len()).unwrap_or(u32::MAX),
        others: others.cloned().collect(),
        copies,
    }
}

impl Verdict {
    /// Why nothing may be removed.
    pub fn refusal(&self, others_stay: bool) -> Option<String> {
        if self.backups == 0 && self.copies.is_empty() {
            return Some(
                "nothing in this repository was made with these keys: look at repository and its prefix".to_owned(),
            );
        }
        if others_stay || (self.others.is_empty() && self.copies.is_empty()) {
            return None;
        }
        let who = match self.others.as_slice() {
            [] => "escrow recipients that no backup names".to_owned(),
            all => named(all),
        };
        Some(format!(
            "the backups are encrypted to escrow recipients as well ({who}): whoever holds such a key reads them also \
             afterwards. Have those keys destroyed, and write escrowStays: true"
        ))
    }
}

/// The first of these, and how many more there are.
fn named(all: &[String]) -> String {
    let first: Vec<&str> = all.iter().take(3).map(String::as_str).collect();
    let more = all.len().saturating_sub(first.len());
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{more}", first.join(", "))
}

/// Looks, and removes the copies if that is not refused. It may be done again.
///
/// # Errors
/// The store's answer: some copies may be gone by then.
pub async fn shred(store: &Store, settings: &ShredSettings) -> Result<ShredReport, StoreError> {
    let verdict = judge(&look(store).await?, &settings.recipients);
    let mut report = ShredReport {
        backups: verdict.backups,
        others: verdict.others.iter().take(NAMED).cloned().collect(),
        unnamed: verdict.unnamed,
        ..ShredReport::default()
    };
    if let Some(why) = verdict.refusal(settings.others_stay) {
        report.message = why;
        return Ok(report);
    }
    for key in &verdict.copies {
        match store.delete(key, None).await? {
            Deleted::Gone => report.removed = report.removed.saturating_add(1),
            Deleted::Locked(until) if report.kept.len() < NAMED => report.kept.push(KeptCopy {
                key: key.clone(),
                until,
            }),
            Deleted::Locked(_) => {}
        }
        store.settle_names(key).await?;
    }
    report.done = true;
    Ok(report)
}

async fn look(store: &Store) -> Result<Found, StoreError> {
    let mut found = Found::default();
    for object in store.list(layout::KEYS).await? {
        found.copies.insert(object.key);
    }
    // A deleted object is not listed, and its versions are there.
    for version in store.versions_below(layout::KEYS).await? {
        found.copies.insert(version.key);
    }
    for name in store.folders(layout::BACKUPS).await? {
        let Ok(id) = name.parse::<BackupId>() else {
            continue;
        };
        match store.read(&layout::manifest(&id), None, MANIFEST).await {
            Ok((bytes, _)) => found.backups.push(recipients_named(&bytes)),
            Err(error) if error.reason == Reason::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|&name| name.to_owned()).collect()
    }

    fn found(backups: &[&[&str]], copies: &[String]) -> Found {
        Found {
            backups: backups.iter().map(|all| names(all)).collect(),
            copies: copies.iter().cloned().collect(),
        }
    }

    #[test]
    fn without_escrow_nothing_holds_it_up() {
        let verdict = judge(&found(&[&["age1own"]], &[]), &names(&["age1own"]));
        assert_eq!(verdict.refusal(false), None);
        assert_eq!((verdict.backups, verdict.copies.len()), (1, 0));
    }

    #[test]
    fn who_else_opens_them_is_named_and_has_to_be_accepted() {
        let copy = layout::keys("age1own", &names(&["age1escrow"]));
        let backups: [&[&str]; 2] = [&["age1own", "age1escrow"], &["age1old"]];
        let found = found(&backups, std::slice::from_ref(&copy));
        let verdict = judge(&found, &names(&["age1old", "age1own"]));
        assert_eq!(verdict.others, ["age1escrow"]);
        assert_eq!(
            (verdict.backups, &verdict.copies, verdict.unnamed),
            (2, &vec![copy], false)
        );
        let why = verdict.refusal(false).unwrap();
        assert!(
            why.contains("age1escrow") && why.contains("escrowStays"),
            "{why}"
        );
        assert_eq!(verdict.refusal(true), None);
    }

    #[test]
    fn a_copy_for_whom_no_backup_names_counts_as_escrow_too() {
        let copy = layout::keys("age1own", &names(&["age1later"]));
        let verdict = judge(&found(&[&["age1own"]], &[copy]), &names(&["age1own"]));
        assert!(verdict.unnamed && verdict.refusal(false).is_some());
    }

    #[test]
    fn the_wrong_repository_is_left_alone() {
        let copy = layout::keys("age1other", &names(&["age1escrow"]));
        let verdict = judge(
            &found(&[&["age1other", "age1escrow"]], &[copy]),
            &names(&["age1own"]),
        );
        assert!(verdict.copies.is_empty() && verdict.others.is_empty());
        assert!(verdict.refusal(true).unwrap().contains("prefix"));
    }

    proptest! {
        #[test]
        fn nothing_of_anybody_else_is_removed(
            backups in prop::collection::vec(prop::collection::vec("age1[a-d]{1,2}", 0..3), 0..4),
            copies in prop::collection::btree_set("keys/age1[a-d]{1,2}-[0-9a-f]{8}[.]age", 0..5),
            own in prop::collection::vec("age1[a-d]{1,2}", 1..3),
        ) {
            let verdict = judge(&Found { backups, copies }, &own);
            for copy in &verdict.copies {
                let recipient = copy["keys/".len()..].split('-').next().unwrap();
                prop_assert!(own.iter().any(|name| name == recipient), "{copy}");
            }
            prop_assert!(verdict.others.iter().all(|name| !own.contains(name)));
        }
    }
}

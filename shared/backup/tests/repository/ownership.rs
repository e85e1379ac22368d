//! Who may write.

use jiff::Timestamp;
use mainstay_backup::crypto::Protection;
use mainstay_backup::owner::{Claim, Refusal};
use mainstay_backup::repository::ClaimError;
use mainstay_backup::store::Guard;

use crate::kit::{Kit, claim, random};

pub async fn a_second_one_is_refused_and_writes_nothing(kit: Kit) {
    let (repository, _) = kit.owned(Protection::Plain).await;
    let before = kit.everything().await;
    let error = repository
        .claim(&claim(2), true, Timestamp::now(), random())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ClaimError::Refused(Refusal::Foreign { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("belongs to shop/db1"), "{error}");
    assert_eq!(kit.everything().await, before, "it wrote something");
    // And nobody takes a prefix that holds something of no known owner.
    let other = Kit::new(&kit.server, kit.place);
    other
        .store()
        .create("photos/cat.jpg", bytes::Bytes::from_static(b"meow"))
        .await
        .unwrap();
    let before = other.everything().await;
    let error = other
        .repository(Protection::Plain)
        .claim(&claim(1), true, Timestamp::now(), random())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("photos/cat.jpg"), "{error}");
    assert_eq!(other.everything().await, before, "it wrote something");
}

pub async fn adoption(kit: Kit) {
    let (repository, owned) = kit.owned(Protection::Plain).await;
    let first = repository.writer(owned);
    first.still_ours().await.unwrap();
    let adopting = Claim {
        adopt: Some(claim(1).owner),
        ..claim(2)
    };
    let second = repository
        .claim(&adopting, true, Timestamp::now(), random())
        .await
        .unwrap();
    assert_eq!(second.number, 2);
    let owners = repository.owners().await.unwrap();
    assert_eq!(owners[1].predecessor, Some(claim(1).owner));
    let error = first.still_ours().await.unwrap_err().to_string();
    assert!(error.contains("until shop/db2 adopted it"), "{error}");
    repository.writer(second).still_ours().await.unwrap();
}

pub async fn of_many_claims_at_once_one_holds(kit: Kit) {
    let repositories: Vec<_> = (1..=8)
        .map(|n| (n, kit.repository(Protection::Plain)))
        .collect();
    let claims = repositories.iter().map(|(n, repository)| async move {
        repository
            .claim(&claim(*n), true, Timestamp::now(), random())
            .await
    });
    let outcomes = futures::future::join_all(claims).await;
    let won: Vec<_> = outcomes.iter().flatten().collect();
    assert_eq!(won.len(), 1, "{outcomes:?}");
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(
            matches!(error, ClaimError::Refused(Refusal::Foreign { .. })),
            "{error}"
        );
    }
    assert_eq!(
        repositories[0].1.owners().await.unwrap()[0].owner,
        won[0].owner
    );
}

pub async fn the_store_is_probed(kit: Kit) {
    let (_, owned) = kit.owned(Protection::Plain).await;
    assert_eq!(owned.guard, Guard::Guarded);
    let left: Vec<_> = kit
        .everything()
        .await
        .into_iter()
        .filter(|found| found.key.starts_with("probe/"))
        .collect();
    assert_eq!(left, [], "the probe stays");
}

//! Plans that are carried out.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::crypto::Protection;
use mainstay_backup::layout;
use mainstay_backup::manifest::LogNeed;
use mainstay_backup::pieces::{Origin, PieceKind};
use mainstay_backup::prune::prune;
use mainstay_backup::repository::Content;
use mainstay_backup::retention::{Policy, plan};

use crate::kit::{Kit, TestEngine, back_up, content, restore};
use crate::log::label;

pub async fn a_plan_is_carried_out(kit: Kit) {
    let (repository, owned) = kit.owned(Protection::Plain).await;
    let writer = repository.writer(owned);
    let history = label("1-aa");
    writer
        .begin_history(&history, &Origin { parent: None })
        .await
        .unwrap();
    let now = Timestamp::now();
    let ago = |hours: i64| now.checked_sub(SignedDuration::from_hours(hours)).unwrap();
    let mut made = Vec::new();
    // A full backup, one on it, and a full one; each begins with the piece of its number.
    for (number, hours, increments) in [(1, 50, false), (2, 40, true), (3, 5, false)] {
        let name = label(&format!("{number:03}"));
        let piece = Content::Bytes(Bytes::from(format!("piece {number}")));
        writer
            .put_piece(&history, &name, PieceKind::Whole, piece)
            .await
            .unwrap();
        let mut engine = TestEngine::with(&[("f", content(number, 4 << 20))]);
        engine.increments = increments;
        engine.consistent_at = Some(ago(hours));
        engine.log = Some(LogNeed {
            history: history.clone(),
            from: name.clone(),
            until: name,
        });
        let parent = made.last();
        let manifest = back_up(&writer, &engine, parent).await.unwrap();
        made.push(manifest);
    }
    assert_eq!(made[1].parent, Some(made[0].id.clone()));
    let engine = TestEngine::default();
    let apply = async |hours: i64| {
        let catalogue = Catalogue::read(&repository, None).await.unwrap();
        let policy = Policy {
            window: Some(SignedDuration::from_hours(hours)),
            count: None,
        };
        let plan = plan(&policy, now, &catalogue.facts(Some(history.clone())));
        let pruned = prune(&writer, &engine, &catalogue, &plan, &[])
            .await
            .unwrap();
        assert_eq!(
            (&pruned.backups, pruned.pieces),
            (&plan.expire, plan.pieces.len())
        );
        (
            plan,
            Catalogue::read(&repository, Some(&catalogue))
                .await
                .unwrap(),
        )
    };
    // The window begins after the second: the chain stays as a whole.
    let (kept, catalogue) = apply(20).await;
    assert!(kept.is_empty(), "{kept}");
    assert_eq!(catalogue.chain(&made[1].id).unwrap().len(), 2);
    // Now after the third: the chain goes, and the log before the third.
    let (gone, catalogue) = apply(4).await;
    assert_eq!(
        gone.expire,
        [made[1].id.clone(), made[0].id.clone()],
        "{gone}"
    );
    assert_eq!(catalogue.backups, [made[2].clone()]);
    assert_eq!(catalogue.pieces.len(), 1);
    let left = repository.store().list(layout::BACKUPS).await.unwrap();
    assert!(
        left.iter()
            .all(|found| found.key.starts_with(&layout::backup(&made[2].id))),
        "{left:?}"
    );
    assert_eq!(
        restore(&repository, &made[2].files[0]).await.unwrap(),
        content(3, 4 << 20)
    );
    // In a bucket that keeps versions nothing stays behind a mark either.
    let versions = repository
        .store()
        .versions(&layout::manifest(&made[0].id))
        .await
        .unwrap();
    assert_eq!(versions, []);
}

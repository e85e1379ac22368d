//! Pieces of a log.

use bytes::Bytes;
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::crypto::{Keyring, Protection};
use mainstay_backup::layout::Label;
use mainstay_backup::pieces::{Origin, Parent, PieceKind};
use mainstay_backup::repository::{Content, PieceOutcome};

use crate::kit::{Kit, content, encrypted};

pub fn label(text: &str) -> Label {
    text.parse().unwrap()
}

pub async fn pieces(kit: Kit) {
    let (repository, owned) = kit.owned(encrypted(Keyring::generate([3; 32]), &[])).await;
    let writer = repository.writer(owned);
    let (first, second) = (label("1-aa"), label("2-bb"));
    writer
        .begin_history(&first, &Origin { parent: None })
        .await
        .unwrap();
    writer
        .begin_history(&first, &Origin { parent: None })
        .await
        .unwrap();
    let parent = Parent {
        history: first.clone(),
        at: label("000002"),
    };
    let origin = Origin {
        parent: Some(parent),
    };
    writer.begin_history(&second, &origin).await.unwrap();
    let error = writer
        .begin_history(&second, &Origin { parent: None })
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("there is one already"), "{error}");

    // Small ones from memory, large ones from a file in two passes; both twice.
    let small = content(1, 50_000);
    let large = kit.folder.path().join("large");
    std::fs::write(&large, content(2, 17 << 20)).unwrap();
    let put = async |name: &str, kind, content: Content<'_>| {
        writer
            .put_piece(&first, &label(name), kind, content)
            .await
            .unwrap()
    };
    let of_small = || Content::Bytes(Bytes::from(small.clone()));
    let PieceOutcome::Stored(one) = put("000001", PieceKind::Whole, of_small()).await else {
        panic!("it is new");
    };
    assert_eq!(
        put("000001", PieceKind::Whole, of_small()).await,
        PieceOutcome::There(one.clone())
    );
    let PieceOutcome::Stored(two) = put("000002", PieceKind::Whole, Content::File(&large)).await
    else {
        panic!("it is new");
    };
    assert_eq!(
        put("000002", PieceKind::Whole, Content::File(&large)).await,
        PieceOutcome::There(two.clone())
    );
    assert!(matches!(
        put("000001", PieceKind::Partial, of_small()).await,
        PieceOutcome::Stored(_)
    ));
    // The names of other pieces begin with this one's.
    assert!(matches!(
        put("000001-more", PieceKind::Whole, of_small()).await,
        PieceOutcome::Stored(_)
    ));

    let other = Content::Bytes(Bytes::from_static(b"another end of the world"));
    let PieceOutcome::Diverged { new, old } = put("000001", PieceKind::Whole, other).await else {
        panic!("two contents of one name");
    };
    assert_eq!(old, one);
    let catalogue = Catalogue::read(&repository, None).await.unwrap();
    assert_eq!(
        catalogue.pieces.len(),
        5,
        "both are kept: {:?}",
        catalogue.pieces
    );
    assert_eq!(catalogue.histories[&second], Some(origin));
    for (key, expected) in [
        (&one, small),
        (&two, content(2, 17 << 20)),
        (&new, b"another end of the world".to_vec()),
    ] {
        let mut back = Vec::new();
        repository.read_piece(key, None, &mut back).await.unwrap();
        assert!(back == expected, "{key:?}");
    }
    // Content that is not what the key says.
    let path = kit.files().join(mainstay_backup::layout::piece(&one));
    let swapped = std::fs::read(kit.files().join(mainstay_backup::layout::piece(&new))).unwrap();
    std::fs::write(path, swapped).unwrap();
    let error = repository
        .read_piece(&one, None, &mut tokio::io::sink())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("damaged"), "{error}");
}

pub async fn switching_encryption_on_is_no_divergence(kit: Kit) {
    let (plain, owned) = kit.owned(Protection::Plain).await;
    let history = label("1-aa");
    let piece = |text: &'static str| Content::Bytes(Bytes::from_static(text.as_bytes()));
    let put = async |repository: &mainstay_backup::repository::Repository, text| {
        repository
            .writer(owned.clone())
            .put_piece(&history, &label("1"), PieceKind::Whole, piece(text))
            .await
            .unwrap()
    };
    let PieceOutcome::Stored(stored) = put(&plain, "same").await else {
        panic!("it is new");
    };
    let encrypted = kit.repository(encrypted(Keyring::generate([3; 32]), &[]));
    assert_eq!(
        put(&encrypted, "same").await,
        PieceOutcome::There(stored.clone())
    );
    assert!(
        matches!(put(&encrypted, "other").await, PieceOutcome::Diverged { old, .. } if old == stored)
    );
}

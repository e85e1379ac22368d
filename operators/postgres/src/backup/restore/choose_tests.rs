use std::collections::BTreeMap;

use mainstay_backup::catalogue::Piece;
use mainstay_backup::ids::OwnerId;
use mainstay_backup::layout::Coding;
use mainstay_backup::manifest::{FORMAT, LogNeed};
use mainstay_backup::pieces::{Origin, Parent, PieceDigest};

use super::super::super::coverage::{SEGMENT_SIZE, START, STOP, TIMELINE};
use super::*;

const SIZE: SegmentSize = SegmentSize::DEFAULT;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn name(timeline: u32, number: u64) -> String {
    Segment { timeline, number }.name(SIZE)
}

fn history(timeline: u32) -> Label {
    format!("{timeline:08X}-0000000{timeline}").parse().unwrap()
}

fn piece(timeline: u32, number: u64, content: u8) -> Piece {
    Piece {
        key: PieceKey {
            history: history(timeline),
            piece: name(timeline, number).parse().unwrap(),
            digest: PieceDigest::new([content; 32], false),
            kind: PieceKind::Whole,
            coding: Coding::Zstd,
        },
        size: 1,
        stored: at(1000 + i64::try_from(number).unwrap() * 100),
    }
}

/// A backup whose log is one segment.
fn backup(timeline: u32, number: u64, parent: Option<&Manifest>) -> Manifest {
    let moment = at(1000 + i64::try_from(number).unwrap() * 100);
    let begin = number * SIZE.bytes();
    let details = [
        (SEGMENT_SIZE, SIZE.bytes().to_string()),
        (START, Lsn(begin + 0x28).to_string()),
        (STOP, Lsn(begin + 0x100).to_string()),
        (TIMELINE, timeline.to_string()),
        (MAJOR, "17".to_owned()),
    ];
    Manifest {
        format: FORMAT,
        id: BackupId::new(moment, [0; 8]),
        owner: OwnerId::new([1; 16]),
        parent: parent.map(|m| m.id.clone()),
        source: "PostgreSQL 17".into(),
        begun: moment,
        ended: moment,
        consistent_at: moment,
        log: Some(LogNeed {
            history: history(timeline),
            from: name(timeline, number).parse().unwrap(),
            until: name(timeline, number).parse().unwrap(),
        }),
        recipients: vec![],
        files: vec![],
        native: None,
        details: details.map(|(k, v)| (k.to_owned(), v)).into(),
    }
}

/// Timeline 1 until within segment 6, then timeline 2; backups in segments 2, 4 and 7.
fn repository() -> Catalogue {
    let mut pieces: Vec<Piece> = (1..=6).map(|n| piece(1, n, 0)).collect();
    pieces.extend((6..=9).map(|n| piece(2, n, 0)));
    let full = backup(1, 2, None);
    let backups = vec![full.clone(), backup(1, 4, Some(&full)), backup(2, 7, None)];
    let parent = Parent {
        history: history(1),
        at: name(1, 6).parse().unwrap(),
    };
    Catalogue {
        backups,
        pieces,
        histories: BTreeMap::from([
            (history(1), Some(Origin { parent: None })),
            (
                history(2),
                Some(Origin {
                    parent: Some(parent),
                }),
            ),
        ]),
        ..Catalogue::default()
    }
}

fn of(catalogue: &Catalogue, target: &Target) -> Result<Choice, String> {
    choose(catalogue, 17, None, target, at(5000)).map_err(|e| e.to_string())
}

fn names(choice: &Choice) -> Vec<&str> {
    choice
        .segments
        .iter()
        .map(|(name, _)| name.as_str())
        .collect()
}

#[test]
fn the_newest_backup_that_leads_there_with_its_chain_and_the_log_over_the_fork() {
    let catalogue = repository();
    let latest = of(&catalogue, &Target::Latest).unwrap();
    assert_eq!((latest.chain.len(), latest.timeline), (1, 2));
    assert_eq!(names(&latest), [name(2, 7), name(2, 8), name(2, 9)]);
    let earlier = of(&catalogue, &Target::Time(at(1450))).unwrap();
    assert_eq!(earlier.chain.len(), 2, "with what it is based on");
    let expected = [
        name(1, 4),
        name(1, 5),
        name(2, 6),
        name(2, 7),
        name(2, 8),
        name(2, 9),
    ];
    assert_eq!(
        names(&earlier),
        expected,
        "not what timeline 1 wrote beyond the fork"
    );
    let lsn = Lsn(5 * SIZE.bytes()).to_string();
    assert_eq!(of(&catalogue, &Target::Lsn(lsn)).unwrap().chain.len(), 2);
}

#[test]
fn only_what_the_backup_needs() {
    let catalogue = repository();
    let id = catalogue.backups[1].id.clone();
    let choice = choose(&catalogue, 17, Some(&id), &Target::Immediate, at(5000)).unwrap();
    assert_eq!(
        (names(&choice), choice.timeline),
        (vec![name(1, 4).as_str()], 1)
    );
}

#[test]
fn what_cannot_be_reached_is_refused_with_a_sentence() {
    let catalogue = repository();
    let refused = |target: &Target| of(&catalogue, target).unwrap_err();
    assert!(refused(&Target::Time(at(1150))).contains("is before 1970-01-01T00:20:00Z"));
    assert!(refused(&Target::Time(at(4000))).contains("ask for `latest`"));
    assert!(refused(&Target::Time(at(6000))).contains("future"));
    assert!(refused(&Target::Lsn("1/0".into())).contains("beyond 0/A000000"));
    assert!(refused(&Target::Lsn("0/100".into())).contains("first place"));
    assert!(refused(&Target::Lsn("x".into())).contains("not a place"));
    let error = choose(&catalogue, 16, None, &Target::Latest, at(5000)).unwrap_err();
    assert!(error.to_string().contains("of PostgreSQL 17"), "{error}");
    let stranger = BackupId::new(at(1), [9; 8]);
    let error = choose(&catalogue, 17, Some(&stranger), &Target::Latest, at(5000)).unwrap_err();
    assert!(error.to_string().contains("there is no backup"), "{error}");
    assert!(
        of(&Catalogue::default(), &Target::Latest)
            .unwrap_err()
            .contains("no backup")
    );
}

#[test]
fn over_a_hole_only_before_it() {
    let mut catalogue = repository();
    catalogue
        .pieces
        .retain(|p| p.key.piece.as_str() != name(2, 8));
    let latest = of(&catalogue, &Target::Latest).unwrap_err();
    assert!(
        latest.contains("is missing") && latest.contains("up to 0/8000000"),
        "{latest}"
    );
    let beyond = of(&catalogue, &Target::Lsn("0/8000100".into())).unwrap_err();
    assert!(beyond.contains("is missing"), "{beyond}");
    let before = of(&catalogue, &Target::Lsn("0/7000200".into())).unwrap();
    assert_eq!(names(&before), [name(2, 7)]);
}

#[test]
fn what_is_broken_is_passed_over_and_two_contents_are_refused() {
    let mut catalogue = repository();
    catalogue
        .pieces
        .retain(|p| p.key.piece.as_str() != name(2, 7));
    // The newest backup lacks its log: an older one does not lead over the hole either.
    assert!(
        of(&catalogue, &Target::Latest)
            .unwrap_err()
            .contains("is missing")
    );
    assert_eq!(
        of(&catalogue, &Target::Time(at(1450))).unwrap().chain.len(),
        2
    );
    let mut twice = repository();
    twice.pieces.push(piece(2, 8, 1));
    assert!(of(&twice, &Target::Latest).unwrap_err().contains("twice"));
}

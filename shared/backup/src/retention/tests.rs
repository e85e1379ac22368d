use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::catalogue::Unfinished;
use crate::ids::OwnerId;
use crate::manifest::Begun;
use crate::owner::{Reason, Record};
use crate::pieces::{Origin, Parent};

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(hour * 3600).unwrap()
}

fn id(hour: i64, n: u8) -> BackupId {
    BackupId::new(at(hour), [n; 8])
}

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

fn backup(hour: i64, parent: Option<BackupId>) -> BackupFact {
    BackupFact {
        id: id(hour, 1),
        parent,
        consistent_at: at(hour),
        log: None,
    }
}

fn window(hours: i64) -> Policy {
    Policy {
        window: Some(SignedDuration::from_hours(hours)),
        count: None,
    }
}

fn of(backups: Vec<BackupFact>) -> Facts {
    Facts {
        backups,
        ..Facts::default()
    }
}

#[test]
fn the_window_begins_with_the_newest_backup_from_before() {
    let facts = of(vec![
        backup(0, None),
        backup(10, None),
        backup(20, None),
        backup(30, None),
    ]);
    let plan = plan(&window(15), at(40), &facts);
    assert_eq!(plan.expire, [id(0, 1), id(10, 1)]);
    assert_eq!(
        plan.keep,
        [
            (id(20, 1), Stays::BeginsWindow),
            (id(30, 1), Stays::InWindow)
        ]
    );
    assert_eq!(
        plan.to_string(),
        format!(
            "keep    {}: the recovery window begins with it\nkeep    {}: it is within the recovery window\n\
             delete  {}\ndelete  {}\nlog     0 pieces stay, 0 are deleted\n",
            id(20, 1),
            id(30, 1),
            id(0, 1),
            id(10, 1)
        )
    );
}

#[test]
fn a_chain_goes_as_a_whole_and_increments_first() {
    let chain = |base: i64| {
        vec![
            backup(base, None),
            backup(base + 1, Some(id(base, 1))),
            backup(base + 2, Some(id(base + 1, 1))),
        ]
    };
    let facts = of([chain(0), chain(10), chain(20)].concat());
    let plan = plan(
        &Policy {
            window: None,
            count: Some(4),
        },
        at(40),
        &facts,
    );
    assert_eq!(plan.expire, [id(2, 1), id(1, 1), id(0, 1)]);
    let why: Vec<_> = plan
        .keep
        .iter()
        .map(|(id, why)| (id.clone(), why.clone()))
        .collect();
    assert!(why.contains(&(id(12, 1), Stays::Newest)));
    assert!(why.contains(&(id(10, 1), Stays::Chain(id(12, 1)))));
}

#[test]
fn what_is_broken_stays_and_promises_nothing() {
    let facts = of(vec![backup(0, None), backup(5, Some(id(4, 1)))]);
    let plan = plan(
        &Policy {
            window: None,
            count: Some(1),
        },
        at(40),
        &facts,
    );
    assert_eq!(
        plan.keep,
        [
            (id(0, 1), Stays::Newest),
            (id(5, 1), Stays::Broken(id(4, 1)))
        ]
    );
    let mut circle = of(vec![backup(1, Some(id(2, 1))), backup(2, Some(id(1, 1)))]);
    circle.backups.push(backup(3, None));
    let plan = super::plan(
        &Policy {
            window: None,
            count: Some(1),
        },
        at(40),
        &circle,
    );
    assert!(plan.expire.is_empty(), "{plan}");
}

#[test]
fn without_a_policy_nothing_goes() {
    let facts = of(vec![backup(0, None)]);
    assert!(plan(&Policy::default(), at(1000), &facts).is_empty());
}

#[test]
fn an_abandoned_history_is_let_go_when_the_window_has_passed_it() {
    let logged = |hour: i64, history: &str, piece: &str| BackupFact {
        log: Some(LogNeed {
            history: label(history),
            from: label(piece),
            until: label(piece),
        }),
        ..backup(hour, None)
    };
    let piece = |history: &str, name: &str, hour: i64| PieceFact {
        key: format!("{history}/{name}"),
        history: label(history),
        piece: label(name),
        kind: PieceKind::Whole,
        stored: at(hour),
    };
    let history = |name: &str, parent: Option<(&str, &str)>| HistoryFact {
        history: label(name),
        origin: Some(Origin {
            parent: parent.map(|(history, at)| Parent {
                history: label(history),
                at: label(at),
            }),
        }),
    };
    // History A went on to piece 4, then was taken back to piece 2: B goes on from there.
    let facts = Facts {
        backups: vec![
            logged(0, "A", "1"),
            logged(30, "A", "3"),
            logged(60, "B", "6"),
        ],
        pieces: vec![
            piece("A", "1", 1),
            piece("A", "2", 10),
            piece("A", "3", 31),
            piece("A", "4", 35),
            piece("B", "5", 41),
            piece("B", "6", 61),
        ],
        histories: vec![history("A", None), history("B", Some(("A", "2")))],
        live: Some(label("B")),
    };
    // The window reaches to before B's first backup: only the one at 0 leads there, not the newer one at 30.
    let early = plan(&window(20), at(70), &facts);
    assert!(
        early.keep.contains(&(id(0, 1), Stays::BeginsWindow)),
        "{early}"
    );
    assert_eq!(early.expire, [id(30, 1)]);
    // And when it has passed that too, all of A goes.
    let late = plan(&window(20), at(90), &facts);
    assert_eq!(late.expire, [id(0, 1), id(30, 1)]);
    assert_eq!(late.pieces, ["A/1", "A/2", "A/3", "A/4", "B/5"]);
    // Nobody says where B comes from: then none of it goes.
    let mut unknown = facts.clone();
    unknown.histories.remove(1);
    assert!(
        !plan(&window(20), at(90), &unknown)
            .pieces
            .contains(&"B/5".to_owned())
    );
}

#[test]
fn only_old_and_owned_leftovers_are_cleared() {
    let owner = OwnerId::new([1; 16]);
    let owners = [Record {
        number: 1,
        owner: owner.clone(),
        resource: "shop/db".into(),
        since: at(0),
        reason: Reason::Founded,
        predecessor: None,
    }];
    let left = |n: u8, owner: Option<OwnerId>, last: Option<i64>| Unfinished {
        id: id(0, n),
        begun: owner.map(|owner| Begun {
            id: id(0, n),
            owner,
            at: at(0),
        }),
        last_written: last.map(at),
        objects: 1,
    };
    let all = [
        left(1, Some(owner.clone()), Some(1)),
        left(2, Some(OwnerId::new([2; 16])), Some(1)),
        left(3, None, Some(1)),
        left(4, Some(owner.clone()), Some(39)),
        left(5, Some(owner.clone()), None),
        left(6, Some(owner), Some(1)),
    ];
    let day = SignedDuration::from_hours(24);
    assert_eq!(
        leftovers(&all, &owners, Some(&id(0, 6)), day, at(40)),
        [id(0, 1)]
    );
}

/// Histories, each parting from an earlier one, with pieces and backups in the order of time.
#[derive(Debug, Clone)]
struct World {
    facts: Facts,
    /// Every moment that could be recovered: its time, its history, and the piece it lies in.
    moments: Vec<(Timestamp, Label, Label)>,
    now: Timestamp,
}

/// What happens in an hour: a piece, a backup (full, or on the latest of this history), or a new history
/// that parts some pieces back.
#[derive(Debug, Clone)]
enum Event {
    Piece,
    Backup { incremental: bool },
    Part { back: usize },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Piece),
        2 => any::<bool>().prop_map(|incremental| Event::Backup { incremental }),
        1 => (0_usize..6).prop_map(|back| Event::Part { back }),
    ]
}

fn world() -> impl Strategy<Value = World> {
    prop::collection::vec(event(), 1..80).prop_map(build)
}

fn build(events: Vec<Event>) -> World {
    let name = |n: usize| label(&format!("{n:04}"));
    let mut facts = Facts {
        histories: vec![HistoryFact {
            history: label("h0"),
            origin: Some(Origin { parent: None }),
        }],
        ..Facts::default()
    };
    let mut moments = Vec::new();
    // The way of the live history: each of its pieces, with the history that holds it.
    let mut way: Vec<(Label, Label)> = Vec::new();
    let (mut history, mut histories, mut pieces) = (label("h0"), 1, 0);
    let mut hour = 0;
    for event in events {
        hour += 1;
        match event {
            Event::Piece => {
                pieces += 1;
                way.push((history.clone(), name(pieces)));
                facts.pieces.push(PieceFact {
                    key: format!("{history}/{}", name(pieces)),
                    history: history.clone(),
                    piece: name(pieces),
                    kind: PieceKind::Whole,
                    stored: at(hour),
                });
                moments.push((at(hour), history.clone(), name(pieces)));
            }
            Event::Backup { incremental } => {
                // It is consistent within the piece that comes next, and needs it.
                let parent = facts
                    .backups
                    .iter()
                    .rev()
                    .find(|b| b.log.as_ref().is_some_and(|log| log.history == history));
                let parent = incremental.then(|| parent.map(|b| b.id.clone())).flatten();
                pieces += 1;
                way.push((history.clone(), name(pieces)));
                facts.pieces.push(PieceFact {
                    key: format!("{history}/{}", name(pieces)),
                    history: history.clone(),
                    piece: name(pieces),
                    kind: PieceKind::Whole,
                    stored: at(hour),
                });
                facts.backups.push(BackupFact {
                    id: id(hour, 1),
                    parent,
                    consistent_at: at(hour),
                    log: Some(LogNeed {
                        history: history.clone(),
                        from: name(pieces),
                        until: name(pieces),
                    }),
                });
                moments.push((at(hour), history.clone(), name(pieces)));
            }
            Event::Part { back } => {
                let keep = way.len().saturating_sub(back);
                way.truncate(keep);
                let own = way.iter().rev().find(|(of, _)| *of == history);
                // Parting before this history began is parting from its parent: not made here.
                let Some((_, piece)) = own.cloned() else {
                    continue;
                };
                let next = label(&format!("h{histories}"));
                histories += 1;
                // Its name sorts before every piece.
                facts.pieces.push(PieceFact {
                    key: format!("{next}/descent"),
                    history: next.clone(),
                    piece: label("0000"),
                    kind: PieceKind::Lineage,
                    stored: at(hour),
                });
                facts.histories.push(HistoryFact {
                    history: next.clone(),
                    origin: Some(Origin {
                        parent: Some(Parent {
                            history: history.clone(),
                            at: piece,
                        }),
                    }),
                });
                history = next;
            }
        }
    }
    facts.live = Some(history);
    World {
        facts,
        moments,
        now: at(hour),
    }
}

/// Whether a moment can be recovered from what is there: an independent account of what recovery needs.
fn recoverable(
    world: &World,
    backups: &BTreeSet<&BackupId>,
    pieces: &BTreeSet<&str>,
    moment: &(Timestamp, Label, Label),
) -> bool {
    let (time, history, last) = moment;
    // From the moment back to the beginning: every history and the last piece of it that counts.
    let mut way: Vec<(Label, Label)> = vec![(history.clone(), last.clone())];
    while let Some(Parent { history, at }) = world
        .facts
        .histories
        .iter()
        .find(|fact| fact.history == way[way.len() - 1].0)
        .and_then(|fact| fact.origin.clone()?.parent)
    {
        way.push((history, at));
    }
    world.facts.backups.iter().any(|backup| {
        let mut link = Some(backup);
        while let Some(part) = link {
            if !backups.contains(&part.id) {
                return false;
            }
            link = part
                .parent
                .as_ref()
                .and_then(|parent| world.facts.backups.iter().find(|b| b.id == *parent));
        }
        let need = backup.log.as_ref().unwrap();
        let Some(step) = way.iter().position(|(of, _)| *of == need.history) else {
            return false;
        };
        if backup.consistent_at > *time || need.until > way[step].1 {
            return false;
        }
        world.facts.pieces.iter().all(|piece| {
            let on_way = way[..=step].iter().any(|(of, until)| {
                let in_order =
                    piece.piece <= *until && (*of != need.history || piece.piece >= need.from);
                *of == piece.history && (piece.kind == PieceKind::Lineage || in_order)
            });
            !on_way || pieces.contains(piece.key.as_str())
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_promised_moment_is_lost(world in world(), hours in 0_i64..60, count in prop::option::of(0_u32..4), tells in any::<bool>()) {
        let mut world = world;
        if !tells {
            world.facts.live = None;
        }
        let policy = Policy { window: Some(SignedDuration::from_hours(hours)), count };
        let plan = plan(&policy, world.now, &world.facts);
        let all: BTreeSet<&BackupId> = world.facts.backups.iter().map(|b| &b.id).collect();
        let all_pieces: BTreeSet<&str> = world.facts.pieces.iter().map(|p| p.key.as_str()).collect();
        let gone: BTreeSet<&BackupId> = plan.expire.iter().collect();
        let gone_pieces: BTreeSet<&str> = plan.pieces.iter().map(String::as_str).collect();
        let left: BTreeSet<&BackupId> = all.difference(&gone).copied().collect();
        let left_pieces: BTreeSet<&str> = all_pieces.difference(&gone_pieces).copied().collect();
        for moment in world.moments.iter().filter(|(time, ..)| *time >= at(world.now.as_second() / 3600 - hours)) {
            if recoverable(&world, &all, &all_pieces, moment) {
                prop_assert!(recoverable(&world, &left, &left_pieces, moment), "{:?} is lost by\n{}", moment, plan);
            }
        }
        // The newest by count restore too, each to its own moment.
        let mut newest: Vec<&BackupFact> = world.facts.backups.iter().collect();
        newest.sort_by_key(|b| std::cmp::Reverse(b.consistent_at));
        for backup in newest.into_iter().take(usize::try_from(count.unwrap_or(0)).unwrap()) {
            let need = backup.log.clone().unwrap();
            let moment = (backup.consistent_at, need.history, need.until);
            prop_assert!(recoverable(&world, &left, &left_pieces, &moment), "{} does not restore", backup.id);
        }
    }

    #[test]
    fn a_chain_is_never_cut(world in world(), hours in 0_i64..60, cut in any::<prop::sample::Index>()) {
        let plan = plan(&window(hours), world.now, &world.facts);
        // However far it was carried out: what is left leans on what is left.
        let done = if plan.expire.is_empty() { 0 } else { cut.index(plan.expire.len() + 1) };
        let gone: BTreeSet<&BackupId> = plan.expire[..done].iter().collect();
        for backup in world.facts.backups.iter().filter(|b| !gone.contains(&b.id)) {
            prop_assert!(backup.parent.as_ref().is_none_or(|parent| !gone.contains(parent)), "{} lost its base", backup.id);
        }
        // As a whole: no backup of a chain stays without all of it.
        for backup in &world.facts.backups {
            if let Some(parent) = &backup.parent {
                prop_assert_eq!(plan.expire.contains(&backup.id), plan.expire.contains(parent));
            }
        }
    }

    #[test]
    fn what_was_carried_out_leaves_nothing_to_do(world in world(), hours in 0_i64..60) {
        let first = plan(&window(hours), world.now, &world.facts);
        let mut facts = world.facts.clone();
        facts.backups.retain(|b| !first.expire.contains(&b.id));
        facts.pieces.retain(|p| !first.pieces.contains(&p.key));
        let second = plan(&window(hours), world.now, &facts);
        prop_assert!(second.expire.is_empty(), "{}\nthen\n{}", first, second);
    }

    #[test]
    fn what_no_backup_needs_is_what_goes_when_all_backups_stay(world in world()) {
        let plan = plan(&Policy::default(), world.now, &world.facts);
        for piece in &world.facts.pieces {
            let needed = needs(&world.facts, &piece.history, &piece.piece, piece.kind);
            prop_assert_eq!(needed, !plan.pieces.contains(&piece.key), "{}", piece.key);
        }
    }

    #[test]
    fn a_longer_window_keeps_more(world in world(), hours in 0_i64..60, more in 0_i64..30) {
        let short = plan(&window(hours), world.now, &world.facts);
        let long = plan(&window(hours + more), world.now, &world.facts);
        for id in &long.expire {
            prop_assert!(short.expire.contains(id), "{}", id);
        }
    }
}

use proptest::prelude::*;

use super::*;
use crate::shards::topology::{Address, Health};

fn member(n: u32, slots: &[&str], bears: Bears) -> Member {
    let id: NodeId = format!("{n:040x}").parse().unwrap();
    let mut owned = SlotSet::default();
    for range in slots {
        owned.insert_range(range.parse().unwrap());
    }
    let address = Address {
        host: format!("10.0.0.{n}"),
        port: 6379,
        bus: 16379,
    };
    let me = Node {
        id: id.clone(),
        address: Some(address.clone()),
        hostname: None,
        myself: true,
        role: Role::Primary,
        health: Health::Fine,
        handshake: false,
        epoch: u64::from(n),
        linked: true,
        slots: owned,
        migrating: [].into(),
        importing: [].into(),
    };
    let view = View {
        version: None,
        me: id.clone(),
        nodes: [(id, me)].into(),
        keys: 0,
        synced: false,
        apart: None,
        offset: 0,
        loading: false,
        foreign: false,
        counted: [].into(),
        bears,
    };
    Member {
        name: format!("db-{n}"),
        zone: None,
        address,
        moved: false,
        leaving: false,
        going: false,
        outdated: false,
        version: None,
        presence: Presence::Seen(Box::new(view)),
    }
}

fn of(set: &str) -> Bears {
    Bears::Set(set.to_owned())
}

#[test]
fn all_shards_of_one_backup_are_let_in_and_no_part_of_them() {
    let whole = [
        member(1, &["0-99", "200-16383"], of("a")),
        member(2, &["100-199"], of("a")),
        member(3, &[], Bears::Nothing),
    ];
    assert_eq!(founders(&whole), Ok([0, 1].into()));
    let why = |members: &[Member]| founders(members).unwrap_err();
    assert!(why(&whole[..1]).contains("100-199"));
    assert!(why(&[]).contains("0-16383"));
    let mut silent = whole.clone();
    silent[2].presence = Presence::Unreachable("no route".into());
    assert!(why(&silent).contains("db-3 does not answer yet: no route"));
    let mut gone = whole.clone();
    gone[1].presence = Presence::Gone {
        seconds: 9,
        data: true,
    };
    assert!(why(&gone).contains("db-2 does not run"));
    let mut loading = whole.clone();
    if let Presence::Seen(view) = &mut loading[0].presence {
        view.loading = true;
    }
    assert!(why(&loading).contains("reads"));
    // It has met somebody who is no member.
    let mut met = whole.clone();
    if let (Presence::Seen(view), Presence::Seen(other)) = (
        &mut met[0].presence,
        &member(9, &[], Bears::Nothing).presence,
    ) {
        view.nodes.extend(other.nodes.clone());
    }
    assert!(why(&met).contains("another cluster"));
}

proptest! {
    #[test]
    fn whoever_is_let_in_has_every_slot_once(
        dealt in prop::collection::vec(0_usize..4, 16), sets in prop::collection::vec(0_usize..2, 4),
    ) {
        let shares: Vec<Vec<String>> = (0..4).map(|n| {
            let mine = dealt.iter().enumerate().filter(|(_, to)| **to == n);
            mine.map(|(part, _)| format!("{}-{}", part * 1024, part * 1024 + 1023)).collect()
        }).collect();
        let members: Vec<Member> = shares.iter().zip(&sets).zip(1..).map(|((slots, set), n)| {
            let slots: Vec<&str> = slots.iter().map(String::as_str).collect();
            member(n, &slots, of(["a", "b"][*set]))
        }).collect();
        let with_slots: BTreeSet<usize> = dealt.iter().copied().collect();
        let one: BTreeSet<usize> = with_slots.iter().map(|n| sets[*n]).collect();
        match founders(&members) {
            Ok(found) => {
                prop_assert_eq!(one.len(), 1);
                prop_assert_eq!(found, with_slots);
            }
            Err(why) => prop_assert!(one.len() == 2, "{}", why),
        }
    }
}

use proptest::prelude::*;

use super::*;

const A: &str = "07c37dfeb235213a872192d90877d0cd55635b91";
const B: &str = "67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1";
const C: &str = "292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f";
const INFO: &str =
    "role:slave\r\nmaster_link_status:up\r\nmaster_repl_offset:42\r\ndb0:keys=5,expires=0\r\n";

fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

#[test]
fn a_member_says_what_it_knows() {
    let text = format!(
        "{A} 10.0.0.1:6379@16379,db-1 master,fail? - 0 1426238316232 2 disconnected 0-5459 9000\n\
         {B} 10.0.0.2:6379@16379,db-2,shard-id=69bc myself,master - 0 0 7 connected 5460-8999 9001-16383 \
         [77->-{A}] [5-<-{A}]\n\
         {C} :0@0 slave,noaddr {A} 1 2 2 disconnected\n\
         {} 10.0.0.9:6379@16379 handshake - 0 0 0 disconnected\n",
        C.replace('2', "3")
    );
    let view = View::read(&text, INFO).unwrap();
    assert_eq!((view.me.as_str(), view.nodes.len()), (B, 3));
    assert_eq!((view.keys, view.offset, view.synced), (5, 42, true));
    let me = view.myself().unwrap();
    assert_eq!(me.hostname.as_deref(), Some("db-2"));
    assert_eq!(me.slots.len(), 16_384 - 5460 - 1);
    assert_eq!(me.migrating, BTreeMap::from([(77, id(A))]));
    assert_eq!(me.importing, BTreeMap::from([(5, id(A))]));
    let a = &view.nodes[&id(A)];
    assert_eq!(a.health, Health::Suspected);
    assert!(!a.linked && a.slots.contains(9000) && !a.slots.contains(9001));
    let c = &view.nodes[&id(C)];
    assert_eq!((&c.address, &c.hostname), (&None, &None));
    assert_eq!(c.role, Role::Replica(Some(id(A))));
    assert_eq!(view.open(), [77, 5]);
    assert!(!view.is_blank());
}

#[test]
fn who_has_and_knows_nothing_is_blank() {
    let alone = format!("{A} :6379@16379 myself,master - 0 0 0 connected\n");
    let none = "role:master\r\nmaster_repl_offset:0\r\n";
    assert!(View::read(&alone, none).unwrap().is_blank());
    let keys = format!("{none}db0:keys=1,expires=0\r\n");
    assert!(!View::read(&alone, &keys).unwrap().is_blank());
    let slots = alone.replace('\n', " 5\n");
    assert!(!View::read(&slots, none).unwrap().is_blank());
    let company = format!("{alone}{B} 10.0.0.2:6379@16379 master,fail - 0 0 3 disconnected\n");
    assert!(!View::read(&company, none).unwrap().is_blank());
}

#[test]
fn what_is_no_topology_is_refused() {
    let line = format!("{A} 10.0.0.1:6379@16379 master - 0 0 0 connected");
    assert_eq!(View::read(&line, INFO), Err(TopologyError::Nobody));
    assert_eq!(View::read("", INFO), Err(TopologyError::Nobody));
    let mine = line.replace("master", "myself,master");
    assert_eq!(View::read(&mine, "loading"), Err(TopologyError::Info));
    for bad in [
        line.replace("6379@16379", "x@1"),
        line.replace(A, "07c3"),
        format!("{line} 16384"),
        format!("{line} [5->-{A}"),
        format!("{line} [5-{A}]"),
        "too short".to_owned(),
    ] {
        assert!(bad.parse::<Node>().is_err(), "{bad}");
    }
}

/// As the engine writes a node.
fn written(node: &Node) -> String {
    let flags = [
        (node.myself, "myself"),
        (node.role == Role::Primary, "master"),
        (matches!(node.role, Role::Replica(_)), "slave"),
        (node.health == Health::Suspected, "fail?"),
        (node.health == Health::Failed, "fail"),
        (node.handshake, "handshake"),
        (node.address.is_none(), "noaddr"),
    ];
    let flags: Vec<_> = flags.iter().filter(|f| f.0).map(|f| f.1).collect();
    let flags = if flags.is_empty() {
        "noflags".to_owned()
    } else {
        flags.join(",")
    };
    let place = match &node.address {
        Some(a) => format!("{}:{}@{}", a.host, a.port, a.bus),
        None => ":0@0".to_owned(),
    };
    let hostname = node.hostname.as_ref().map(|name| format!(",{name}"));
    let primary = match &node.role {
        Role::Replica(Some(id)) => id.as_str(),
        _ => "-",
    };
    let link = if node.linked {
        "connected"
    } else {
        "disconnected"
    };
    let mut words = vec![
        node.id.to_string(),
        place + hostname.as_deref().unwrap_or(""),
        flags,
        primary.to_owned(),
        "0 0".to_owned(),
        node.epoch.to_string(),
        link.to_owned(),
    ];
    for range in node.slots.ranges() {
        if range.first == range.last {
            words.push(range.first.to_string());
        } else {
            words.push(range.to_string());
        }
    }
    words.extend(node.migrating.iter().map(|(s, id)| format!("[{s}->-{id}]")));
    words.extend(node.importing.iter().map(|(s, id)| format!("[{s}-<-{id}]")));
    words.join(" ")
}

fn ids() -> impl Strategy<Value = NodeId> {
    "[0-9a-f]{40}".prop_map(|text| id(&text))
}

fn open() -> impl Strategy<Value = BTreeMap<u16, NodeId>> {
    prop::collection::btree_map(0..SLOTS, ids(), 0..3)
}

prop_compose! {
    fn nodes()(
        (id, epoch, linked, handshake, myself) in (ids(), any::<u64>(), any::<bool>(), any::<bool>(), any::<bool>()),
        host in prop::option::of(prop_oneof!["10\\.0\\.[0-9]\\.[0-9]", "fd00::[1-9]:[1-9]"]),
        (port, bus) in (any::<u16>(), any::<u16>()),
        hostname in prop::option::of("[a-z]{1,5}-[0-9]{1,2}"),
        role in prop_oneof![Just(Role::Primary), Just(Role::Unknown), prop::option::of(ids()).prop_map(Role::Replica)],
        health in prop_oneof![Just(Health::Fine), Just(Health::Suspected), Just(Health::Failed)],
        slots in prop::collection::vec(0..SLOTS, 0..20),
        migrating in open(),
        importing in open(),
    ) -> Node {
        let address = host.map(|host| Address { host, port, bus });
        let slots = slots.into_iter().collect();
        Node { id, address, hostname, myself, role, health, handshake, epoch, linked, slots, migrating, importing }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(node in nodes()) {
        prop_assert_eq!(written(&node).parse::<Node>(), Ok(node));
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        let _ = View::read(&text, INFO);
    }
}

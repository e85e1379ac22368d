use proptest::prelude::*;

use super::super::view::events;
use super::super::view::tests::{lead, set, view};
use super::*;

fn role(name: &str, passwords: &[&str], rules: &str) -> Role {
    let checks: Vec<String> = passwords.iter().map(|p| format!("#{}", check(p))).collect();
    Role {
        name: name.into(),
        verifier: checks.join(" "),
        attributes: [(RULES.to_owned(), rules.to_owned())].into(),
    }
}

fn roles() -> Vec<Role> {
    vec![
        role("app", &["new", "former"], "~* +@all"),
        role("orders", &["own"], "~orders:* +@read"),
        role("gone", &["own"], "off"),
        role("mainstay_probe", &["probe"], "+ping"),
    ]
}

/// With a primary and one replica.
fn known() -> View {
    view(Some(lead("cache-1", 4, &["cache-3"])), None)
}

fn nobody() -> View {
    view(None, Some(lead("cache-1", 4, &["cache-3"])))
}

fn ask_of(session: &mut Session, view: &View, line: &str) -> (Vec<Reply>, Then) {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    session.answer(&words, view, Users(&roles()))
}

fn ask(session: &mut Session, view: &View, line: &str) -> Reply {
    let (mut all, then) = ask_of(session, view, line);
    assert_eq!((all.len(), then), (1, Then::Go), "{line}");
    all.remove(0)
}

fn logged_in() -> Session {
    let mut session = Session::new(7);
    assert_eq!(
        ask(&mut session, &known(), "AUTH app new"),
        Reply::Word("OK")
    );
    session
}

/// The code of a refusal.
fn code(reply: &Reply) -> &str {
    match reply {
        Reply::Refused(why) => why.split(' ').next().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn field<'a>(reply: &'a Reply, name: &str) -> &'a str {
    match reply {
        Reply::Fields(all) => match &all.iter().find(|(key, _)| *key == name).unwrap().1 {
            Reply::Text(text) => text,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn items(reply: &Reply) -> &[Reply] {
    match reply {
        Reply::List(all) => all,
        other => panic!("{other:?}"),
    }
}

const ONE: &str = "cache-1.cache-peers.shop.svc";
const TWO: &str = "cache-2.cache-peers.shop.svc";
const THREE: &str = "cache-3.cache-peers.shop.svc";

#[test]
fn who_has_not_logged_in_is_told_nothing() {
    let mut session = Session::new(1);
    let view = known();
    assert_eq!(ask(&mut session, &view, "PING"), Reply::Word("PONG"));
    for line in [
        "SENTINEL masters",
        "SENTINEL get-master-addr-by-name cache",
        "ROLE",
        "INFO",
        "CLIENT ID",
        "SUBSCRIBE +switch-master",
        "UNSUBSCRIBE",
        "HELLO",
        "HELLO 3",
        "nothing",
    ] {
        assert_eq!(code(&ask(&mut session, &view, line)), "NOAUTH", "{line}");
    }
    assert!(!session.listens());
}

#[test]
fn applications_log_in_as_on_the_data_port_and_the_sets_own_users_do_not() {
    for (user, password, is) in [
        ("app", "new", true),
        ("app", "former", true),
        ("orders", "own", true),
        ("orders", "new", false),
        ("gone", "own", false),
        ("mainstay_probe", "probe", false),
        ("default", "", false),
        ("app", "", false),
    ] {
        let mut session = Session::new(1);
        let said = ask(&mut session, &known(), &format!("AUTH {user} {password}"));
        assert_eq!(said == Reply::Word("OK"), is, "{user} {password}");
        assert_eq!(session.is_known(), is);
    }
    let mut session = Session::new(1);
    let alone = ask(&mut session, &known(), "AUTH new");
    assert_eq!(code(&alone), "WRONGPASS");
}

#[test]
fn who_guesses_has_to_come_again() {
    let mut session = Session::new(1);
    for _ in 1..TRIES {
        let said = ask(&mut session, &known(), "AUTH app guess");
        assert_eq!(code(&said), "WRONGPASS");
    }
    let (_, then) = ask_of(&mut session, &known(), "HELLO 3 AUTH app guess");
    assert_eq!(then, Then::End);
}

#[test]
fn a_connection_ends_with_its_user() {
    let session = logged_in();
    assert!(session.may_stay(Users(&roles())));
    let without: Vec<Role> = roles().into_iter().filter(|r| r.name != "app").collect();
    assert!(!session.may_stay(Users(&without)));
    let off = [role("app", &["new"], "off")];
    assert!(!session.may_stay(Users(&off)));
    // Another password is none of its business, as on the data port.
    let changed = [role("app", &["other"], "+@all")];
    assert!(session.may_stay(Users(&changed)));
    assert!(Session::new(1).may_stay(Users(&[])));
}

#[test]
fn hello_logs_in_and_chooses_the_protocol() {
    let mut session = Session::new(7);
    let said = ask(&mut session, &known(), "hello 3 auth app new setname it");
    let Reply::Fields(fields) = &said else {
        panic!("{said:?}")
    };
    assert!(fields.contains(&("proto", Reply::Number(3))));
    assert!(fields.contains(&("id", Reply::Number(7))));
    assert_eq!(field(&said, "mode"), "sentinel");
    assert_eq!(session.protocol(), Protocol::Three);
    assert_eq!(
        ask(&mut session, &known(), "CLIENT GETNAME"),
        Reply::text("it")
    );
    assert_eq!(code(&ask(&mut session, &known(), "HELLO 4")), "NOPROTO");
    assert_eq!(code(&ask(&mut session, &known(), "HELLO 2 WHAT")), "ERR");
    assert_eq!(session.protocol(), Protocol::Three);
    ask(&mut session, &known(), "HELLO 2");
    assert_eq!(session.protocol(), Protocol::Two);
}

#[test]
fn the_primary_is_told_by_the_name_that_its_certificate_bears() {
    let (mut session, view) = (logged_in(), known());
    let address = ask(
        &mut session,
        &view,
        "SENTINEL get-master-addr-by-name cache",
    );
    assert_eq!(
        address,
        Reply::List(vec![Reply::text(ONE), Reply::text("6379")])
    );
    let masters = ask(&mut session, &view, "sentinel MASTERS");
    let [master] = items(&masters) else {
        panic!("{masters:?}")
    };
    assert_eq!(*master, ask(&mut session, &view, "SENTINEL master cache"));
    for (name, value) in [
        ("name", "cache"),
        ("ip", ONE),
        ("port", "6379"),
        ("flags", "master"),
        ("num-slaves", "1"),
        ("num-other-sentinels", "2"),
    ] {
        assert_eq!(field(master, name), value);
    }
    for word in ["slaves", "replicas"] {
        let replicas = ask(&mut session, &view, &format!("SENTINEL {word} cache"));
        let [replica] = items(&replicas) else {
            panic!("{replicas:?}")
        };
        assert_eq!(
            (field(replica, "ip"), field(replica, "port")),
            (THREE, "6379")
        );
        assert_eq!(field(replica, "flags"), "slave");
        assert_eq!(field(replica, "master-host"), ONE);
    }
    let others = ask(&mut session, &view, "SENTINEL sentinels cache");
    let hosts: Vec<&str> = items(&others).iter().map(|o| field(o, "ip")).collect();
    assert_eq!(
        hosts,
        [ONE, THREE],
        "the one that answers is not among them"
    );
    assert!(items(&others).iter().all(|o| field(o, "port") == "26379"));
    assert_eq!(
        ask(&mut session, &view, "ROLE"),
        Reply::List(vec![
            Reply::text("sentinel"),
            Reply::List(vec![Reply::text("cache")])
        ])
    );
    let Reply::Text(info) = ask(&mut session, &view, "INFO sentinel") else {
        panic!("INFO is a text")
    };
    let line = format!("master0:name=cache,status=ok,address={ONE}:6379,slaves=1,sentinels=3\r\n");
    assert!(info.contains(&line), "{info}");
}

#[test]
fn without_a_primary_nothing_names_the_last_one() {
    let (mut session, view) = (logged_in(), nobody());
    let of = |session: &mut Session, line: &str| ask(session, &view, line);
    assert_eq!(
        of(&mut session, "SENTINEL get-master-addr-by-name cache"),
        Reply::NoList
    );
    for line in ["SENTINEL masters", "SENTINEL slaves cache"] {
        assert_eq!(of(&mut session, line), Reply::List(vec![]), "{line}");
    }
    assert_eq!(code(&of(&mut session, "SENTINEL master cache")), "ERR");
    // Who else answers is known all the same.
    assert_eq!(
        items(&of(&mut session, "SENTINEL sentinels cache")).len(),
        2
    );
    let Reply::Text(info) = of(&mut session, "INFO") else {
        panic!("INFO is a text")
    };
    assert!(
        info.contains("sentinel_masters:0") && !info.contains("master0"),
        "{info}"
    );
}

#[test]
fn another_name_is_nobodys() {
    let (mut session, view) = (logged_in(), known());
    assert_eq!(
        ask(
            &mut session,
            &view,
            "SENTINEL get-master-addr-by-name mymaster"
        ),
        Reply::NoList
    );
    for sub in ["master", "slaves", "replicas", "sentinels"] {
        let said = ask(&mut session, &view, &format!("SENTINEL {sub} mymaster"));
        assert_eq!(said, refused("ERR No such master with that name"));
    }
}

#[test]
fn what_is_not_answered_says_so() {
    let (mut session, view) = (logged_in(), known());
    for (line, word) in [
        ("SENTINEL failover cache", "Operation"),
        ("SENTINEL reset *", "no vote"),
        ("SENTINEL what", "unknown subcommand 'what'"),
        ("SENTINEL master", "wrong number"),
        ("CLIENT KILL x", "unknown subcommand 'KILL'"),
        ("GET key", "data is on port 6379"),
        ("SUBSCRIBE", "wrong number"),
        ("CLIENT SETNAME a\tb", "cannot contain"),
    ] {
        match ask(&mut session, &view, line) {
            Reply::Refused(why) => assert!(why.contains(word), "{line}: {why}"),
            other => panic!("{line}: {other:?}"),
        }
    }
    assert_eq!(
        ask(&mut session, &view, "CLIENT SETINFO LIB-NAME x"),
        Reply::Word("OK")
    );
    assert_eq!(ask(&mut session, &view, "CLIENT ID"), Reply::Number(7));
    let (said, then) = ask_of(&mut session, &view, "QUIT");
    assert_eq!((said, then), (vec![Reply::Word("OK")], Then::End));
}

fn push(words: &[&str], more: Option<u64>) -> Reply {
    let words = words.iter().map(|w| Reply::text(*w));
    Reply::Push(words.chain(more.map(Reply::Number)).collect())
}

#[test]
fn who_listens_hears_of_the_switch_as_often_as_it_asked_for_it() {
    let mut session = logged_in();
    let before = known();
    let after = view(Some(lead("cache-2", 5, &["cache-3"])), None);
    let (said, _) = ask_of(&mut session, &before, "SUBSCRIBE +switch-master other");
    assert_eq!(
        said,
        [
            push(&["subscribe", "+switch-master"], Some(1)),
            push(&["subscribe", "other"], Some(2))
        ]
    );
    ask_of(&mut session, &before, "PSUBSCRIBE +s* -*");
    let event = events(&before, &after).remove(0);
    let text = format!("cache {ONE} 6379 {TWO} 6379");
    assert_eq!(
        session.hears(&event),
        [
            push(&["message", "+switch-master", &text], None),
            push(&["pmessage", "+s*", "+switch-master", &text], None)
        ]
    );
    // In the older protocol nothing else is said meanwhile.
    assert_eq!(code(&ask(&mut session, &before, "SENTINEL masters")), "ERR");
    let pong = ask(&mut session, &before, "PING");
    assert_eq!(
        pong,
        Reply::List(vec![Reply::text("pong"), Reply::text("")])
    );
    let (said, _) = ask_of(&mut session, &before, "UNSUBSCRIBE");
    assert_eq!(said.len(), 2);
    ask_of(&mut session, &before, "PUNSUBSCRIBE +s* -*");
    assert!(!session.listens() && session.hears(&event).is_empty());
    let (said, _) = ask_of(&mut session, &before, "UNSUBSCRIBE");
    let nothing = vec![Reply::text("unsubscribe"), Reply::Nothing, Reply::Number(0)];
    assert_eq!(said, [Reply::Push(nothing)]);
    ask(&mut session, &before, "HELLO 3");
    ask_of(&mut session, &before, "SUBSCRIBE x");
    assert_eq!(ask(&mut session, &before, "PING"), Reply::Word("PONG"));
    assert_eq!(
        items(&ask(&mut session, &before, "SENTINEL masters")).len(),
        1
    );
}

#[test]
fn a_client_keeps_no_more_than_it_may() {
    let mut session = logged_in();
    for n in 0..CHANNELS * 2 {
        ask_of(&mut session, &known(), &format!("SUBSCRIBE c{n}"));
        ask_of(&mut session, &known(), &format!("PSUBSCRIBE p{n}"));
    }
    assert_eq!(session.channels.len() + session.patterns.len(), CHANNELS);
    let long = "x".repeat(NAME + 1);
    let mut session = logged_in();
    ask_of(&mut session, &known(), &format!("SUBSCRIBE {long}"));
    ask_of(&mut session, &known(), &format!("CLIENT SETNAME {long}"));
    assert!(!session.listens() && session.name.is_empty());
}

fn any_word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "AUTH",
            "HELLO",
            "2",
            "3",
            "PING",
            "QUIT",
            "SENTINEL",
            "masters",
            "slaves",
            "sentinels",
            "master",
            "get-master-addr-by-name",
            "cache",
            "SUBSCRIBE",
            "PSUBSCRIBE",
            "UNSUBSCRIBE",
            "CLIENT",
            "SETNAME",
            "ID",
            "ROLE",
            "INFO",
            "app",
            "guess",
            "*",
            "+switch-master",
            "SETINFO",
            "orders",
        ])
        .prop_map(str::to_owned),
        ".{0,8}",
    ]
}

proptest! {
    #[test]
    fn nobody_learns_anything_without_a_password(
        commands in prop::collection::vec(prop::collection::vec(any_word(), 1..5), 1..12)
    ) {
        let (mut session, view) = (Session::new(1), known());
        for words in commands {
            let (all, then) = session.answer(&words, &view, Users(&roles()));
            for reply in &all {
                let mut out = String::new();
                reply.write(Protocol::Two, &mut out);
                prop_assert!(!out.contains(ONE), "{:?}: {}", words, out);
            }
            prop_assert!(!session.is_known() && !session.listens());
            if then == Then::End {
                break;
            }
        }
        let event = Event { channel: "+switch-master", text: ONE.into() };
        prop_assert!(session.hears(&event).is_empty());
    }

    #[test]
    fn every_command_of_who_is_known_is_answered_and_none_names_an_old_primary(
        commands in prop::collection::vec(prop::collection::vec(any_word(), 1..5), 1..12)
    ) {
        let (mut session, mut view) = (logged_in(), nobody());
        // Its agent answers; the last primary would be named by mistake alone.
        let set = super::super::view::Set { me: "cache-1".into(), ..(*set()).clone() };
        view.set = std::sync::Arc::new(set);
        for words in commands {
            let (all, then) = session.answer(&words, &view, Users(&roles()));
            prop_assert!(!all.is_empty());
            for reply in &all {
                let mut out = String::new();
                reply.write(session.protocol(), &mut out);
                prop_assert!(!out.contains(ONE), "{:?}: {}", words, out);
            }
            if then == Then::End {
                break;
            }
        }
    }
}

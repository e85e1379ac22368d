//! The election as it runs: three drivers on loopback with certificates, on the fake API server.
//! Throughout, two primaries that let clients in, an acknowledgement under an epoch that is over,
//! and the loss of an acknowledged write are failures wherever they are seen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests say what they expect

mod engine;
mod set;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use k8s_openapi::api::coordination::v1::Lease;
use mainstay_shared::agent::election::lease;
use mainstay_shared::election::member::Member;
use mainstay_shared::election::message::{Order, Room};
use mainstay_shared::election::policy::{Durability, Timing};
use mainstay_testkit::api::{Fault, Rule, Verb};
use tokio::time::sleep;

use set::{NAMESPACE, SET, Set, TIMING};

#[tokio::test]
async fn the_founder_leads_first_and_another_when_it_is_gone() {
    let mut set = Set::started(Durability::Required, TIMING);
    let (first, epoch) = set.settled().await;
    assert_eq!(first, "db-1");
    let stored: Lease = set.api.get(Some(NAMESPACE), SET).unwrap();
    let look = lease::read(&stored).unwrap();
    let charter = look.seen.charter.unwrap();
    assert_eq!(charter.members.len(), 3);
    assert_eq!(charter.ballot.epoch, epoch);
    let spec = stored.spec.unwrap();
    assert!(spec.holder_identity.unwrap().starts_with("db-1/"));
    assert_eq!(spec.lease_transitions, Some(1));
    set.until("the endpoints", |s| s.endpoint().as_deref() == Some("db-1"))
        .await;

    // Votes count one duration after the start.
    sleep(TIMING.duration).await;
    set.crash(&first).await;
    let (second, later, took) = set.next_primary(epoch).await;
    assert_ne!(second, first);
    eprintln!(
        "the pod of the primary gone: {took:?} to the next, a lease being {:?}",
        TIMING.duration
    );
    set.until("the endpoints", |s| {
        s.endpoint().as_deref() == Some(&second)
    })
    .await;

    // It comes back with its data, and follows.
    set.start(&first, false);
    assert_eq!(set.settled().await, (second, later));
}

#[tokio::test]
async fn notes_in_the_lease_keep_no_dead_holder_alive() {
    let mut set = Set::started(Durability::Required, TIMING);
    let (first, epoch) = set.settled().await;
    sleep(TIMING.duration).await;
    let api = set.api.clone();
    let annotator = tokio::spawn(async move {
        for n in 0.. {
            api.edit(Some(NAMESPACE), SET, |l: &mut Lease| {
                let notes = l.metadata.annotations.as_mut().unwrap();
                notes.insert("example.com/seen".into(), n.to_string());
            });
            sleep(TIMING.renew).await;
        }
    });
    set.crash(&first).await;
    let (second, later, _) = set.next_primary(epoch).await;
    assert_ne!(second, first);
    set.start(&first, false);
    assert_eq!(set.settled().await, (second, later));
    annotator.abort();
}

#[tokio::test]
async fn who_could_not_lead_leaves_it_to_another() {
    let mut set = Set::started(Durability::Required, TIMING);
    let (first, epoch) = set.settled().await;
    assert_eq!(first, "db-1");
    sleep(TIMING.duration).await;
    // A primary goes on if nobody has much more than it.
    set.tell_room("db-1", Room::Short);
    set.tell_room("db-2", Room::Short);
    sleep(TIMING.renew * 3).await;
    assert_eq!(set.settled().await, (first, epoch));
    // Else it hands over, and is asked to by nobody.
    set.tell_room("db-3", Room::Ample);
    let (second, after, took) = set.next_primary(epoch).await;
    assert_eq!(second, "db-3");
    eprintln!("handed over: {took:?}");
    set.settled().await;
    // To one that could not lead nobody hands over.
    let to = set.agent("db-2").handle.me.borrow().clone();
    let orders = set.agent("db-3").handle.orders.clone();
    orders.send(Order::HandOver(Some(to))).await.unwrap();
    sleep(TIMING.renew * 3).await;
    assert_eq!(set.settled().await, (second, after));
    assert_eq!(set.engines.hard_stops("db-1"), 0);

    // Its turn would come first.
    set.tell_room("db-1", Room::Enough);
    let (first, epoch) = ("db-3".to_owned(), after);
    sleep(TIMING.duration).await;
    // Nothing was acknowledged for it alone: else all would wait for its room.
    set.engines.cut("db-2", true);
    let before = set.engines.acknowledged();
    set.until("writes that another has", |set| {
        set.engines.acknowledged() > before + 3
    })
    .await;
    set.crash(&first).await;
    set.until("the next leads", |s| {
        s.agent("db-1").handle.held.borrow().is_some()
    })
    .await;
    set.engines.cut("db-2", false);
    let (second, later, _) = set.next_primary(epoch).await;
    assert_eq!(second, "db-1");
    // It can vote all the same.
    set.crash("db-1").await;
    set.start("db-1", false);
    let (again, _, _) = set.next_primary(later).await;
    assert_eq!(again, "db-1");
}

#[tokio::test]
async fn who_let_go_may_lead_again_at_once_after_another_has_led() {
    let set = Set::started(Durability::Required, Timing::DEFAULT);
    let (first, epoch) = set.settled().await;
    sleep(Timing::DEFAULT.duration).await;
    let hand_over = async |from: &str, to: &str, before| {
        let to = set.agent(to).handle.me.borrow().clone();
        let orders = set.agent(from).handle.orders.clone();
        orders.send(Order::HandOver(Some(to))).await.unwrap();
        set.next_primary(before).await
    };
    let (second, later, _) = hand_over(&first, "db-3", epoch).await;
    assert_eq!(second, "db-3");
    set.settled().await;
    let (third, last, took) = hand_over("db-3", &first, later).await;
    assert_eq!(third, first);
    eprintln!("handed back: {took:?}");
    assert!(took < Timing::DEFAULT.duration / 2);
    assert_eq!(set.settled().await, (third, last));
}

#[tokio::test]
async fn an_election_is_won_once_when_the_lease_is_seen_before_the_write_is_answered() {
    let set = Set::started(Durability::Required, TIMING);
    set.settled().await;
    sleep(TIMING.duration).await;
    let (first, epoch) = set.settled().await;
    let terms = |s: &Set| {
        let lease: Lease = s.api.get(Some(NAMESPACE), SET).unwrap();
        lease.spec.and_then(|s| s.lease_transitions).unwrap()
    };
    let before = terms(&set);
    let late = Fault::LateAnswer(TIMING.renew / 2);
    set.api
        .add_rule(Rule::new(late).verb(Verb::Update).resource("leases"));
    // It alone may stand: nobody else asks for a later epoch.
    let named = if first == "db-3" { "db-2" } else { "db-3" };
    let to = set.agent(named).handle.me.borrow().clone();
    let leader = &set.agent(&first).handle;
    leader.orders.send(Order::HandOver(Some(to))).await.unwrap();
    let (second, later, took) = set.next_primary(epoch).await;
    eprintln!("handed over with late answers: {took:?}");
    assert_eq!(second, named);
    // Not the epoch: who writes before the last holder has let go meets it, and stands again.
    assert_eq!(terms(&set), before + 1, "it won and did not notice");
    set.api.calm();
    assert_eq!(set.settled().await, (second, later));
    assert_eq!(terms(&set), before + 1);
}

#[tokio::test]
async fn a_hand_over_waits_for_no_lapse() {
    let set = Set::started(Durability::Required, Timing::DEFAULT);
    let (first, epoch) = set.settled().await;
    sleep(Timing::DEFAULT.duration).await;
    let to = set.agent("db-3").handle.me.borrow().clone();
    let order = Order::HandOver(Some(to));
    let leader = &set.agent(&first).handle;
    leader.orders.send(order).await.unwrap();
    let (second, later, took) = set.next_primary(epoch).await;
    eprintln!("a hand-over: {took:?}");
    assert!(
        took < Timing::DEFAULT.duration,
        "the Lease is given, not left"
    );
    assert_eq!(second, "db-3");
    assert_eq!(set.settled().await, (second, later));
    assert_eq!(set.engines.hard_stops(&first), 0);
}

#[tokio::test]
async fn who_leaves_and_may_not_write_the_lease_any_more_tells_the_others() {
    let set = Set::started(Durability::Required, Timing::DEFAULT);
    let (first, epoch) = set.settled().await;
    sleep(Timing::DEFAULT.duration).await;
    // As when its pod is deleted by force, with which its rights end.
    set.api
        .add_rule(Rule::new(Fault::Unreachable).client(&first));
    let leader = &set.agent(&first).handle;
    leader.orders.send(Order::HandOver(None)).await.unwrap();
    let (second, later, took) = set.next_primary(epoch).await;
    eprintln!("handed over without the API server: {took:?}");
    assert_ne!(second, first);
    assert!(
        took < Timing::DEFAULT.deadline,
        "nobody waits for the Lease"
    );
    set.api.calm();
    assert_eq!(set.settled().await, (second, later));
}

#[tokio::test]
async fn a_holder_that_reaches_the_api_server_and_no_voter_lets_go() {
    let mut set = Set::started(Durability::Required, TIMING);
    let (first, epoch) = set.settled().await;
    sleep(TIMING.duration).await;
    set.cut_from_peers(&first);
    let (second, later, took) = set.next_primary(epoch).await;
    eprintln!(
        "cut off from its voters alone: {took:?}, patience being {:?}",
        TIMING.patience
    );
    assert_ne!(second, first);
    assert!(took > TIMING.patience, "it may pass by itself");
    set.heal(&first);
    assert_eq!(set.settled().await, (second, later));
    // What was said of an epoch that is over is cleared.
    set.until("a Lease without old words", |s| {
        let lease: Lease = s.api.get(Some(NAMESPACE), SET).unwrap();
        let notes = lease.metadata.annotations.unwrap_or_default();
        !notes.keys().any(|key| key.contains("stranded"))
    })
    .await;
}

#[tokio::test]
async fn without_the_api_server_the_primary_goes_on_as_long_as_its_peers_do() {
    let mut set = Set::started(Durability::Required, TIMING);
    let (first, epoch) = set.settled().await;
    sleep(TIMING.duration).await;
    set.api.add_rule(Rule::new(Fault::Unreachable));
    set.api.cut_watches();
    sleep(TIMING.duration * 2).await;
    let before = set.engines.acknowledged();
    set.until("writes are acknowledged", |s| {
        s.engines.acknowledged() > before + 10
    })
    .await;
    assert_eq!(set.engines.open(), Some((first.clone(), epoch)));
    let wait = set.agent(&first).handle.wait.borrow().clone();
    assert!(
        wait.as_ref().is_some_and(|w| w.contains("promises")),
        "{wait:?}"
    );

    for other in ["db-2", "db-3"] {
        set.crash(other).await;
    }
    set.until("the primary stops", |s| {
        s.engines.open().is_none() && s.engines.hard_stops("db-1") == 1
    })
    .await;

    // It is back: so are they.
    set.api.calm();
    for other in ["db-2", "db-3"] {
        set.start(other, false);
    }
    let (_, later, took) = set.next_primary(epoch).await;
    eprintln!("the API server and two members back: {took:?} to the next primary");
    assert!(later > epoch);
    set.settled().await;
}

#[tokio::test]
async fn a_primary_that_is_cut_off_stops_and_follows_when_it_is_back() {
    let mut set = Set::started(Durability::Required, TIMING);
    let (first, epoch) = set.settled().await;
    sleep(TIMING.duration).await;
    set.cut(&first);
    let (second, later, took) = set.next_primary(epoch).await;
    eprintln!("the primary cut off: {took:?} to the next");
    assert_ne!(second, first);
    assert_eq!(set.engines.hard_stops(&first), 1);
    sleep(TIMING.duration).await;
    set.heal(&first);
    // Alone it did not stand, which would have cost the set another election.
    assert_eq!(set.settled().await, (second, later));
}

#[tokio::test]
async fn a_deleted_lease_is_made_anew_by_its_holder() {
    let set = Set::started(Durability::Required, TIMING);
    let (first, epoch) = set.settled().await;
    assert!(set.api.destroy::<Lease>(Some(NAMESPACE), SET));
    set.until("the Lease", |s| {
        s.api.get::<Lease>(Some(NAMESPACE), SET).is_some()
    })
    .await;
    let look = lease::read(&set.api.get(Some(NAMESPACE), SET).unwrap()).unwrap();
    assert_eq!(
        look.seat.as_deref(),
        Some("db-1"),
        "the founder's name stays"
    );
    assert_eq!(look.seen.charter.unwrap().ballot.epoch, epoch);
    sleep(TIMING.duration * 2).await;
    assert_eq!(set.settled().await, (first.clone(), epoch));
    assert_eq!(set.engines.hard_stops(&first), 0);
}

#[tokio::test]
async fn a_damaged_lease_is_told_and_the_primary_goes_on_by_its_peers() {
    let set = Set::started(Durability::Required, TIMING);
    let (first, epoch) = set.settled().await;
    sleep(TIMING.duration).await;
    set.api.edit(Some(NAMESPACE), SET, |l: &mut Lease| {
        let annotations = l.metadata.annotations.as_mut().unwrap();
        annotations.insert(lease::CHARTER.into(), "{".into());
    });
    set.api.forget_requests();
    sleep(TIMING.duration * 2).await;
    assert_eq!(set.engines.open(), Some((first.clone(), epoch)));
    let wait = set.agent(&first).handle.wait.borrow().clone();
    assert!(wait.is_some_and(|w| w.contains(lease::CHARTER)));
    let asked = set.api.requests().len();
    assert!(asked < 150, "{asked} requests");
    set.api.destroy::<Lease>(Some(NAMESPACE), SET);
    set.until("the Lease", |s| {
        let lease: Option<Lease> = s.api.get(Some(NAMESPACE), SET);
        lease.is_some_and(|l| lease::read(&l).is_ok())
    })
    .await;
    assert_eq!(set.settled().await, (first, epoch));
}

#[tokio::test]
async fn data_made_anew_is_a_new_member_that_comes_to_vote() {
    let set = Set::started(Durability::Required, TIMING);
    let (first, epoch) = set.settled().await;
    let old = set.agent("db-3").handle.me.borrow().clone();
    set.engines.lose_data("db-3");
    let new = set.agent("db-3").handle.renew().await.unwrap();
    assert_ne!(new.generation, old.generation);
    let votes = |s: &Set, who: &Member| {
        let charter = s.agent("db-1").handle.charter.borrow().clone().unwrap();
        charter.members.contains(who) && charter.groups.iter().all(|g| g.voters.contains(who))
    };
    set.until("the new one votes", |s| votes(s, &new)).await;
    set.until("the old one is gone", |s| !votes(s, &old)).await;
    assert_eq!(set.settled().await, (first.clone(), epoch));
    // Whoever holds the Lease cannot throw its data away.
    assert_eq!(set.agent(&first).handle.renew().await, None);
    assert_eq!(set.settled().await, (first, epoch));
}

#[tokio::test]
async fn a_volume_that_hangs_delays_neither_renewals_nor_the_end() {
    let set = Set::started(Durability::Required, TIMING);
    let (first, epoch) = set.settled().await;
    sleep(TIMING.duration).await;
    let hung = set.agent(&first).hang_volume();
    sleep(TIMING.duration).await;
    assert_eq!(set.settled().await, (first.clone(), epoch));
    // Nor does the engine's own check get through any more.
    set.engines.sicken(&first);
    let (_, later, took) = set.next_primary(epoch).await;
    eprintln!("the volume hangs: {took:?} to the next primary");
    assert!(later > epoch);
    assert_eq!(set.engines.hard_stops(&first), 1);
    drop(hung);
}

#[tokio::test]
async fn a_frozen_agent_is_replaced_and_stops_when_it_thaws() {
    let mut set = Set::started(Durability::Required, TIMING);
    let (first, epoch) = set.settled().await;
    sleep(TIMING.duration).await;
    let frozen = Arc::clone(&set.agent(&first).frozen);
    frozen.store(true, Ordering::Relaxed);
    // The thread stands still at the next name that it looks up: to connect anew.
    set.end_agent("db-3").await;
    set.start("db-3", false);
    let (second, later, took) = set.next_primary(epoch).await;
    eprintln!("frozen: {took:?} to the next");
    assert_eq!(set.engines.hard_stops(&first), 0, "it cannot itself");
    frozen.store(false, Ordering::Relaxed);
    set.until("it stops", |s| s.engines.hard_stops("db-1") == 1)
        .await;
    assert_eq!(set.settled().await, (second, later));
}

#[tokio::test]
async fn a_new_agent_process_goes_on_with_the_term() {
    let mut set = Set::started(Durability::Required, TIMING);
    let (first, epoch) = set.settled().await;
    set.end_agent(&first).await;
    set.start(&first, true);
    let held = |s: &Set| s.agent("db-1").handle.held.borrow().is_some();
    set.until("it holds", held).await;
    sleep(TIMING.duration * 2).await;
    assert_eq!(set.settled().await, (first.clone(), epoch));
    assert_eq!(set.engines.hard_stops(&first), 0);

    // Without a running engine there is nothing to go on with: a new epoch, by the same pod.
    set.end_agent(&first).await;
    set.engines.kill(&first);
    set.start(&first, false);
    let (again, _, took) = set.next_primary(epoch).await;
    eprintln!("the container of the primary started again: {took:?}");
    assert_eq!(again, first);
}

const TWO_ZONES: [&str; 3] = ["a", "a", "b"];

#[tokio::test]
async fn only_a_standby_in_another_zone_acknowledges_and_its_zone_can_be_lost() {
    let mut set = Set::in_zones(Durability::Required, TIMING, TWO_ZONES);
    let (first, epoch) = set.settled().await;
    assert_eq!(first, "db-1");
    set.until("only the other zone votes", |s| {
        s.voters("db-1") == ["db-3"]
    })
    .await;
    sleep(TIMING.duration).await;
    // The other zone is lost: a replica in the same one makes no acknowledgement.
    set.cut("db-3");
    let deaf = set.engines.acknowledged();
    sleep(TIMING.renew * 4).await;
    assert!(set.engines.acknowledged() <= deaf + 1, "what was under way");
    set.heal("db-3");
    set.until("writes go on", |s| s.engines.acknowledged() > deaf + 5)
        .await;

    // The larger zone is lost, with the primary: all that was acknowledged is in the other.
    assert_eq!(set.settled().await, (first, epoch));
    set.crash("db-1").await;
    set.crash("db-2").await;
    set.until("the other zone's leads", |s| {
        s.agent("db-3").handle.held.borrow().is_some()
    })
    .await;
    assert_eq!(set.engines.open(), None, "nobody else has what it writes");
    set.until("it waits for voters", |s| {
        let wait = s.agent("db-3").handle.wait.borrow().clone();
        wait.is_some_and(|w| w.contains("flush"))
    })
    .await;
    // That term is lost before anything was acknowledged in it: its group binds nobody.
    let held = |s: &Set| s.agent("db-3").handle.held.borrow().is_some();
    set.api
        .add_rule(Rule::new(Fault::Unreachable).client("db-3"));
    set.until("its term ends", |s| !held(s)).await;
    set.api.calm();
    set.until("it leads again", held).await;
    // One of that zone is back: though it voted for nobody before, it makes a quorum.
    set.start("db-2", false);
    let (third, later, _) = set.next_primary(epoch).await;
    assert_eq!(third, "db-3");
    assert!(later > epoch);
    set.start("db-1", false);
    assert_eq!(set.settled().await, (third, later));
    set.until("both of the other zone vote", |s| {
        s.voters("db-3") == ["db-1", "db-2"]
    })
    .await;
}

#[tokio::test]
async fn zones_that_become_known_later_interrupt_nothing() {
    let mut set = Set::started(Durability::Required, TIMING);
    let (first, epoch) = set.settled().await;
    set.until("zones do not count", |s| {
        s.voters("db-1") == ["db-2", "db-3"]
    })
    .await;
    set.tell_zone("db-2", "a");
    set.tell_zone("db-3", "b");
    sleep(TIMING.renew * 2).await;
    assert_eq!(set.voters(&first).len(), 2, "its own is not known");
    set.tell_zone("db-1", "a");
    set.until("only the other zone votes", |s| {
        s.voters("db-1") == ["db-3"]
    })
    .await;
    assert_eq!(set.settled().await, (first.clone(), epoch));
    // All in one zone: nobody could vote.
    set.tell_zone("db-3", "a");
    set.until("zones do not count", |s| s.voters("db-1").len() == 2)
        .await;
    assert_eq!(set.settled().await, (first.clone(), epoch));
    // An agent that starts again remembers where the others are.
    set.tell_zone("db-2", "b");
    set.until("only the other zone votes", |s| {
        s.voters("db-1") == ["db-2"]
    })
    .await;
    set.settled().await;
    set.crash("db-2").await;
    set.end_agent("db-1").await;
    set.start("db-1", true);
    sleep(TIMING.duration).await;
    assert_eq!(set.voters("db-1"), ["db-2"]);
    assert_eq!(set.engines.hard_stops("db-1"), 0);
}

#[tokio::test]
async fn a_lost_volume_of_the_only_voter_is_made_anew_and_writes_go_on() {
    let mut set = Set::in_zones(Durability::Required, TIMING, TWO_ZONES);
    let (first, _) = set.settled().await;
    set.until("only the other zone votes", |s| {
        s.voters("db-1") == ["db-3"]
    })
    .await;
    set.settled().await;
    sleep(TIMING.duration).await;
    set.engines.lose_data("db-3");
    let new = set.agent("db-3").handle.renew().await.unwrap();
    set.until("the new one votes", |s| {
        let charter = s.agent("db-1").handle.charter.borrow().clone().unwrap();
        charter.is_settled() && charter.groups[0].voters.contains(&new)
    })
    .await;
    assert_eq!(set.settled().await.0, first);
    // Also when the primary's engine ends before the new one has everything.
    set.engines.lose_data("db-3");
    set.agent("db-3").handle.renew().await.unwrap();
    set.end_agent("db-1").await;
    set.engines.kill("db-1");
    set.start("db-1", false);
    let (again, _) = set.settled().await;
    assert_eq!(again, "db-1");
}

#[tokio::test]
async fn preferred_zones_fall_back_to_the_own_one() {
    let mut set = Set::in_zones(Durability::Preferred, TIMING, TWO_ZONES);
    let (first, epoch) = set.settled().await;
    set.until("only the other zone votes", |s| {
        s.voters("db-1") == ["db-3"]
    })
    .await;
    set.settled().await;
    sleep(TIMING.duration).await;
    set.crash("db-3").await;
    let both = |s: &Set| {
        let charter = s.agent("db-1").handle.charter.borrow().clone().unwrap();
        charter.is_settled() && charter.groups[0].acks == 1 && charter.groups[0].voters.len() == 2
    };
    let took = set.until("the own zone votes", both).await;
    eprintln!(
        "the other zone lost: {took:?}, patience being {:?}",
        TIMING.patience
    );
    assert!(took > TIMING.patience / 2);
    let before = set.engines.acknowledged();
    set.until("writes go on", |s| s.engines.acknowledged() > before + 5)
        .await;
    set.start("db-3", false);
    set.until("only the other zone votes", |s| {
        s.voters("db-1") == ["db-3"]
    })
    .await;
    assert_eq!(set.settled().await, (first, epoch));
}

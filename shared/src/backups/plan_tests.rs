use mainstay_backup::api::Report;
use proptest::prelude::*;
use serde_json::json;

use super::super::fixture::{World, backup, entry, noon, report, result, running};
use super::*;
use BackupPhase::{Cancelled, Failed, Pending, Running as Runs, Succeeded};

fn of(world: &World, index: usize) -> BackupStatus {
    world.backups[index].status.clone().unwrap_or_default()
}

fn asked(steps: &[Step]) -> Vec<(&str, &str)> {
    let asks = steps.iter().flat_map(|s| &s.asks);
    asks.map(|a| (a.instance.as_str(), a.what.as_str()))
        .collect()
}

fn one(spec: &serde_json::Value) -> World {
    World::new(vec![backup("one", spec)])
}

const ORDER: &str = "uid-one.1";

#[test]
fn the_best_instance_is_asked_once_it_is_written_down() {
    let mut world = one(&json!({"incremental": true}));
    let steps = world.pass();
    assert_eq!(asked(&steps), [("db-2", "take uid-one.1")]);
    let status = of(&world, 0);
    assert_eq!((status.phase, status.attempts), (Some(Runs), Some(1)));
    let attempt = status.attempt.unwrap();
    assert_eq!(
        (attempt.order.as_str(), attempt.instance.as_str()),
        (ORDER, "db-2")
    );
    let Order::Take {
        incremental, chain, ..
    } = &steps[0].asks[0].order
    else {
        panic!("{steps:?}");
    };
    assert_eq!((*incremental, *chain), (true, Some(6)));
    // The container has not taken it yet: it is asked under the same token, and nothing is said anew.
    let again = world.pass();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].asks, steps[0].asks);
    assert_eq!(again[0].status, None);
    // A process that started anew has forgotten it.
    world.report("db-2").nonce = "n2".into();
    assert_ne!(world.pass()[0].asks[0].token, steps[0].asks[0].token);
}

#[test]
fn progress_is_written_in_steps_and_the_end_with_its_figures() {
    let mut world = one(&json!({}));
    world.pass();
    world.report("db-2").running = Some(running(ORDER, 100, Some(1000)));
    world.pass();
    assert_eq!(of(&world, 0).progress.as_deref(), Some("10%"));
    world.report("db-2").running = Some(running(ORDER, 149, Some(1000)));
    assert_eq!(world.pass(), [], "the same step of five percent");
    world.report("db-2").running = Some(running(ORDER, 5000, Some(1000)));
    world.pass();
    assert_eq!(
        of(&world, 0).progress.as_deref(),
        Some("99%"),
        "it is not done yet"
    );

    world.report("db-2").running = None;
    let id = entry(0).id;
    let done = result(ORDER, Outcome::Done { id: id.clone() });
    world.report("db-2").results.push(done);
    let steps = world.pass();
    assert_eq!(
        asked(&steps),
        [("db-2", "refresh")],
        "the catalogue tells, not the result"
    );
    assert_eq!(of(&world, 0).phase, Some(Runs));
    let mut made = entry(0);
    made.order = Some(ORDER.into());
    world.report("db-2").catalogue.push(made);
    world.pass();
    let status = of(&world, 0);
    assert_eq!(status.phase, Some(Succeeded));
    assert_eq!(status.backup_id, Some(id.to_string()));
    assert_eq!(status.size.as_deref(), Some("1.0 GiB"));
    assert_eq!(status.kind.as_deref(), Some("Full"));
    assert_eq!(status.repository.as_deref(), Some("s3://bucket/shop/db"));
    assert!(status.finished_at.is_some());
    assert_eq!(world.pass(), [], "what is over is never written again");
}

#[test]
fn of_an_unknown_whole_bytes_are_told() {
    let mut world = one(&json!({}));
    world.pass();
    world.report("db-2").running = Some(running(ORDER, 1 << 30, None));
    world.pass();
    assert_eq!(of(&world, 0).progress.as_deref(), Some("1.0 GiB"));
    world.report("db-2").running = Some(running(ORDER, 5 << 28, None));
    assert_eq!(world.pass(), []);
    world.report("db-2").running = Some(running(ORDER, 3 << 29, None));
    world.pass();
    assert_eq!(of(&world, 0).progress.as_deref(), Some("1.5 GiB"));
}

#[test]
fn what_may_pass_is_tried_again_elsewhere_with_growing_pauses() {
    let mut world = one(&json!({}));
    let fail = |world: &mut World, number: i32, at: &str| {
        let outcome = Outcome::Failed {
            why: "the store answers 503".into(),
            retryable: true,
        };
        let order = format!("uid-one.{number}");
        world.report(at).results.push(result(&order, outcome));
        let steps = world.pass();
        let told: Vec<_> = steps
            .iter()
            .filter_map(happening)
            .map(|h| h.reason)
            .collect();
        assert_eq!(told, ["AttemptFailed"]);
        let status = of(world, 0);
        assert_eq!(status.phase, Some(Pending));
        status.next_attempt_at.unwrap().0.duration_since(world.now)
    };
    world.pass();
    assert_eq!(fail(&mut world, 1, "db-2").as_secs(), 30);
    let message = of(&world, 0).message.unwrap();
    assert!(
        message.contains("attempt 1 failed: the store answers 503"),
        "{message}"
    );
    assert_eq!(world.pass(), [], "it waits");
    let due = world.look(due).unwrap();
    assert_eq!(due.duration_since(world.now).as_secs(), 30);
    world.now = due;
    world.candidates = vec!["db-3"];
    assert_eq!(asked(&world.pass()), [("db-3", "take uid-one.2")]);
    assert_eq!(of(&world, 0).attempts, Some(2));
    assert_eq!(fail(&mut world, 2, "db-3").as_secs(), 60);
}

#[test]
fn what_does_not_pass_by_itself_is_not_tried_again() {
    let mut world = one(&json!({}));
    world.pass();
    let outcome = Outcome::Failed {
        why: "the bucket is not there".into(),
        retryable: false,
    };
    world.report("db-2").results.push(result(ORDER, outcome));
    world.pass();
    let status = of(&world, 0);
    assert_eq!(status.phase, Some(Failed));
    assert_eq!(status.message.as_deref(), Some("the bucket is not there"));
    assert!(conditions::is_true(&status.conditions, conditions::STALLED));
}

#[test]
fn cancelling_gives_up_what_runs_and_says_so_when_it_has_ended() {
    let mut world = one(&json!({}));
    world.pass();
    world.report("db-2").running = Some(running(ORDER, 1, None));
    world.pass();
    world.backups[0].spec.cancel = Some(true);
    assert_eq!(asked(&world.pass()), [("db-2", "cancel uid-one.1")]);
    assert_eq!(of(&world, 0).phase, Some(Runs));
    world.report("db-2").running = None;
    world
        .report("db-2")
        .results
        .push(result(ORDER, Outcome::Cancelled));
    world.pass();
    assert_eq!(of(&world, 0).phase, Some(Cancelled));
    assert_eq!(world.pass(), []);
}

#[test]
fn what_was_cancelled_before_anybody_was_asked_is_over_at_once() {
    let mut world = one(&json!({"cancel": true}));
    assert_eq!(asked(&world.pass()), [] as [(&str, &str); 0]);
    assert_eq!(of(&world, 0).phase, Some(Cancelled));
}

#[test]
fn its_time_is_limited() {
    let mut world = one(&json!({"timeoutSeconds": 600}));
    world.pass();
    world.report("db-2").running = Some(running(ORDER, 1, None));
    world.pass();
    let deadline = world.look(due).unwrap();
    assert_eq!(deadline, noon() + SignedDuration::from_secs(600));
    world.now = deadline;
    assert_eq!(asked(&world.pass()), [("db-2", "cancel uid-one.1")]);
    world.report("db-2").running = None;
    world.pass();
    let status = of(&world, 0);
    assert_eq!(status.phase, Some(Failed));
    let message = status.message.unwrap();
    assert!(message.starts_with("given up after 600 s"), "{message}");
}

#[test]
fn a_pod_that_is_gone_or_silent_is_not_waited_for_for_ever() {
    let mut world = one(&json!({}));
    world.pass();
    world.reports.insert("db-2", Err("no connection"));
    world.pass();
    let status = of(&world, 0);
    assert_eq!(status.phase, Some(Runs));
    assert!(status.attempt.unwrap().silent_since.is_some());
    assert_eq!(world.pass(), [], "the silence is written once");
    // It answers again in time, and knows what it was asked.
    world.reports.insert("db-2", Ok(report(vec![])));
    world.report("db-2").running = Some(running(ORDER, 1, None));
    world.pass();
    assert_eq!(of(&world, 0).attempt.unwrap().silent_since, None);
    world.reports.insert("db-2", Err("no connection"));
    world.pass();
    world.now = world.look(due).unwrap();
    world.pass();
    assert_eq!(of(&world, 0).phase, Some(Pending));

    let mut world = one(&json!({}));
    world.pass();
    world.reports.remove("db-2");
    world.pass();
    let status = of(&world, 0);
    assert_eq!(status.phase, Some(Pending));
    let message = status.message.unwrap();
    assert!(message.contains("the pod of db-2 is gone"), "{message}");
}

#[test]
fn an_operator_that_lost_everything_takes_a_backup_that_is_there_for_done() {
    let mut world = one(&json!({}));
    world.pass();
    // The pod is gone, and with it all results; another one's catalogue shows what was stored.
    world.reports.remove("db-2");
    let mut made = entry(0);
    made.order = Some(ORDER.into());
    world.report("db-1").catalogue.push(made);
    world.pass();
    assert_eq!(of(&world, 0).phase, Some(Succeeded));
}

#[test]
fn one_after_the_other_in_the_order_in_which_they_were_made() {
    let mut later = backup("later", &json!({}));
    later.metadata.creation_timestamp = Some(Time(noon()));
    let all = ordered(vec![later, backup("first", &json!({}))]);
    let mut world = World::new(all);
    assert_eq!(asked(&world.pass()), [("db-2", "take uid-first.1")]);
    let waits = of(&world, 1).message.unwrap();
    assert_eq!(waits, "backup first comes first");
    let mut made = entry(0);
    made.order = Some("uid-first.1".into());
    world.report("db-2").catalogue.push(made);
    world.report("db-2").running = None;
    let steps = world.pass();
    assert_eq!(asked(&steps), [("db-2", "take uid-later.1")]);
}

#[test]
fn without_anybody_or_a_repository_it_waits_and_says_so() {
    let mut world = one(&json!({}));
    world.candidates.clear();
    world.pass();
    assert_eq!(of(&world, 0).message.as_deref(), Some("no instance serves"));
    let mut world = one(&json!({"timeoutSeconds": 60}));
    world.repository = None;
    world.pass();
    let status = of(&world, 0);
    assert_eq!(status.started_at, None, "its time does not begin");
    assert!(status.message.unwrap().contains("has no spec.backup"));
    world.now += SignedDuration::from_hours(24);
    assert_eq!(world.pass(), []);
    let told = without_target(&world.backups, world.now);
    let status = told[0].status.as_ref().unwrap();
    assert!(
        status
            .message
            .as_ref()
            .unwrap()
            .contains("there is no Postgres called db")
    );
}

#[test]
fn what_nobody_waits_for_is_given_up() {
    let mut world = one(&json!({}));
    world.pass();
    world.report("db-2").running = Some(running(ORDER, 1, None));
    assert_eq!(world.look(strays), []);
    world.report("db-3").running = Some(running("uid-deleted.1", 1, None));
    let asks = world.look(strays);
    assert_eq!(asks.len(), 1);
    assert_eq!(asks[0].what, "cancel uid-deleted.1");
    world.backups.clear();
    assert_eq!(
        world.look(strays).len(),
        2,
        "deleting the object gives it up"
    );
}

#[test]
fn a_refusal_is_told() {
    let mut world = one(&json!({}));
    world.pass();
    world.refusals.insert(ORDER.into(), "it is ending".into());
    world.pass();
    let message = of(&world, 0).message.unwrap();
    assert_eq!(message, "db-2 does not begin: it is ending");
}

/// Anything that a container may say of an order.
fn any_report() -> impl Strategy<Value = Result<Report, &'static str>> {
    let outcome = prop_oneof![
        Just(Outcome::Cancelled),
        any::<bool>().prop_map(|retryable| Outcome::Failed {
            why: "why".into(),
            retryable
        }),
        Just(Outcome::Done { id: entry(0).id }),
    ];
    let order = || (1..4).prop_map(|n| format!("uid-one.{n}"));
    let told = (
        prop::option::of((order(), 0_u64..2000)),
        prop::collection::vec((order(), outcome), 0..3),
        prop::option::of(order()),
    );
    prop_oneof![
        1 => Just(Err("silent")),
        4 => told.prop_map(|(runs, results, made)| {
            let mut all = vec![entry(600)];
            all.extend(made.map(|order| {
                let mut made = entry(0);
                made.order = Some(order);
                made
            }));
            let mut report = report(all);
            report.running = runs.map(|(order, bytes)| running(&order, bytes, Some(1000)));
            report.results = results.into_iter().map(|(o, outcome)| result(&o, outcome)).collect();
            Ok(report)
        }),
    ]
}

proptest! {
    /// Whatever containers say and however time goes: nothing is said of what is over, nobody is asked
    /// to make a backup that the status does not name, attempts only go up, and it comes to rest.
    #[test]
    fn whatever_is_told_the_rules_hold(
        told in prop::collection::vec((any_report(), any_report(), 0_i64..3000, any::<bool>()), 1..12),
    ) {
        let mut world = one(&json!({"timeoutSeconds": 7200}));
        for (second, third, seconds, cancel) in told {
            world.now += SignedDuration::from_secs(seconds);
            world.reports.insert("db-2", second);
            world.reports.insert("db-3", third);
            if cancel && seconds > 2500 {
                world.backups[0].spec.cancel = Some(true);
            }
            let before = of(&world, 0);
            let over = is_over(&world.backups[0]);
            let steps = world.pass();
            prop_assert!(!over || steps.is_empty());
            let status = of(&world, 0);
            prop_assert!(status.attempts >= before.attempts);
            prop_assert_eq!(status.phase == Some(Succeeded), status.backup_id.is_some());
            for ask in steps.iter().flat_map(|s| &s.asks) {
                if let Order::Take { order, .. } = &ask.order {
                    let attempt = status.attempt.clone().unwrap();
                    prop_assert_eq!(status.phase, Some(Runs));
                    prop_assert_eq!(order, &attempt.order);
                    prop_assert_eq!(&ask.pod_uid, &attempt.pod_uid);
                }
            }
            let rests = (0..4).any(|_| world.pass().iter().all(|s| s.status.is_none()));
            prop_assert!(rests, "{:?}", world.pass());
        }
    }
}

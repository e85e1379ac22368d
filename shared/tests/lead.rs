//! Operators that lead in turn, on the fake API server and paused time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests say what they expect

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use mainstay_shared::lease::clock::{Clock, Moment};
use mainstay_shared::lease::{Config, End, Leadership, LostReason, Timing, lead};
use mainstay_testkit::api::{FakeApi, Fault, Rule, Verb};
use tokio::time::{Instant, sleep};

const NAMESPACE: &str = "mainstay";

/// A clock on paused time; its wall clock may be anything.
struct TestClock {
    origin: Instant,
    wall: Timestamp,
}

impl Clock for TestClock {
    fn now(&self) -> Moment {
        self.origin.elapsed()
    }

    fn wall(&self) -> Timestamp {
        let passed = i64::try_from(self.origin.elapsed().as_micros()).unwrap();
        Timestamp::from_microsecond(self.wall.as_microsecond() + passed).unwrap()
    }
}

fn clock(wall: i64) -> Arc<dyn Clock> {
    Arc::new(TestClock {
        origin: Instant::now(),
        wall: Timestamp::from_second(wall).unwrap(),
    })
}

fn config(identity: &str) -> Config {
    Config {
        namespace: NAMESPACE.into(),
        name: "operator".into(),
        identity: identity.into(),
        timing: Timing::OPERATOR,
        grace: Duration::from_secs(5),
    }
}

/// As the chart makes it.
fn empty_lease(api: &FakeApi) {
    let mut lease = Lease::default();
    lease.metadata.namespace = Some(NAMESPACE.into());
    lease.metadata.name = Some("operator".into());
    api.put(&lease);
}

fn lease(api: &FakeApi) -> Lease {
    api.get(Some(NAMESPACE), "operator").unwrap()
}

fn holder(api: &FakeApi) -> Option<String> {
    lease(api).spec?.holder_identity
}

/// How many work at a time; it panics at two.
#[derive(Default)]
struct Workers {
    now: AtomicUsize,
    ever: AtomicUsize,
}

struct AtWork<'a>(&'a Workers);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Workers {
    fn begin(&self) -> AtWork<'_> {
        assert_eq!(
            self.now.fetch_add(1, Ordering::SeqCst),
            0,
            "two work at a time"
        );
        self.ever.fetch_add(1, Ordering::SeqCst);
        AtWork(self)
    }

    fn now(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }
}

/// Lead, and work until the leadership ends.
async fn work_for_ever(
    api: FakeApi,
    identity: &'static str,
    wall: i64,
    workers: Arc<Workers>,
) -> End<()> {
    let client = api.client_as(identity);
    let work = |leadership: Leadership| async move {
        let _at_work = workers.begin();
        assert!(leadership.is_held());
        pending::<()>().await;
    };
    lead(&client, &config(identity), clock(wall), pending(), work)
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn of_two_candidates_one_leads_and_the_other_takes_over_though_their_clocks_are_years_apart()
{
    let (api, workers) = (FakeApi::new(), Arc::new(Workers::default()));
    empty_lease(&api);
    let first = tokio::spawn(work_for_ever(
        api.clone(),
        "first",
        4_000_000_000,
        workers.clone(),
    ));
    sleep(Duration::from_secs(1)).await;
    let second = tokio::spawn(work_for_ever(api.clone(), "second", 1, workers.clone()));
    sleep(Duration::from_mins(5)).await;
    assert_eq!(holder(&api).as_deref(), Some("first"));
    assert_eq!(workers.ever.load(Ordering::SeqCst), 1);
    // It dies without a word.
    first.abort();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(workers.now(), 0, "nobody may take over yet");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(
        (holder(&api).as_deref(), workers.now()),
        (Some("second"), 1)
    );
    assert_eq!(lease(&api).spec.unwrap().lease_transitions, Some(2));
    second.abort();
}

#[tokio::test(start_paused = true)]
async fn who_cannot_reach_the_api_server_stops_before_another_takes_over() {
    let (api, workers) = (FakeApi::new(), Arc::new(Workers::default()));
    empty_lease(&api);
    let first = tokio::spawn(work_for_ever(api.clone(), "first", 1, workers.clone()));
    sleep(Duration::from_secs(1)).await;
    let _second = tokio::spawn(work_for_ever(api.clone(), "second", 1, workers.clone()));
    sleep(Duration::from_secs(20)).await;
    // Requests hang: no error tells it.
    api.add_rule(Rule::new(Fault::Hang).client("first"));
    let cut = Instant::now();
    assert_eq!(first.await.unwrap(), End::Lost(LostReason::Deadline));
    assert!(
        cut.elapsed() <= Timing::OPERATOR.deadline,
        "{:?}",
        cut.elapsed()
    );
    sleep(Duration::from_secs(20)).await;
    assert_eq!(
        (holder(&api).as_deref(), workers.now()),
        (Some("second"), 1)
    );
}

#[tokio::test(start_paused = true)]
async fn one_hung_request_and_lost_answers_lose_nothing() {
    let (api, workers) = (FakeApi::new(), Arc::new(Workers::default()));
    empty_lease(&api);
    api.add_rule(Rule::new(Fault::LostAnswer).verb(Verb::Update).times(1));
    let leading = tokio::spawn(work_for_ever(api.clone(), "first", 1, workers.clone()));
    sleep(Duration::from_secs(30)).await;
    assert_eq!(
        workers.now(),
        1,
        "an acquisition whose answer was lost is found"
    );
    for fault in [
        Fault::Hang,
        Fault::LostAnswer,
        Fault::Code(500),
        Fault::Unreachable,
    ] {
        api.add_rule(Rule::new(fault).times(1));
        sleep(Duration::from_secs(30)).await;
        assert_eq!(workers.now(), 1, "{fault:?}");
    }
    assert_eq!(workers.ever.load(Ordering::SeqCst), 1);
    assert_eq!(lease(&api).spec.unwrap().lease_transitions, Some(1));
    leading.abort();
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_is_made_again_by_its_holder_who_goes_on() {
    let (api, workers) = (FakeApi::new(), Arc::new(Workers::default()));
    empty_lease(&api);
    let leading = tokio::spawn(work_for_ever(api.clone(), "first", 1, workers.clone()));
    sleep(Duration::from_secs(30)).await;
    api.destroy::<Lease>(Some(NAMESPACE), "operator");
    sleep(Duration::from_secs(5)).await;
    assert_eq!((holder(&api).as_deref(), workers.now()), (Some("first"), 1));
    assert_eq!(workers.ever.load(Ordering::SeqCst), 1);
    leading.abort();
}

#[tokio::test(start_paused = true)]
async fn without_a_lease_a_candidate_makes_one_and_waits_a_full_duration() {
    let (api, workers) = (FakeApi::new(), Arc::new(Workers::default()));
    let leading = tokio::spawn(work_for_ever(api.clone(), "first", 1, workers.clone()));
    sleep(Duration::from_secs(14)).await;
    assert_eq!((holder(&api), workers.now()), (None, 0));
    sleep(Duration::from_secs(4)).await;
    assert_eq!((holder(&api).as_deref(), workers.now()), (Some("first"), 1));
    leading.abort();
}

#[tokio::test(start_paused = true)]
async fn whose_lease_was_taken_stops_at_the_next_renewal() {
    let (api, workers) = (FakeApi::new(), Arc::new(Workers::default()));
    empty_lease(&api);
    let leading = tokio::spawn(work_for_ever(api.clone(), "first", 1, workers.clone()));
    sleep(Duration::from_secs(30)).await;
    api.edit::<Lease>(Some(NAMESPACE), "operator", |lease| {
        lease.spec.get_or_insert_default().holder_identity = Some("usurper".into());
    });
    assert_eq!(
        leading.await.unwrap(),
        End::Lost(LostReason::Taken("usurper".into()))
    );
    assert_eq!(workers.now(), 0);
}

#[tokio::test(start_paused = true)]
async fn work_that_ends_lets_the_lease_go_for_the_next_at_once() {
    let api = FakeApi::new();
    empty_lease(&api);
    let client = api.client();
    let work = |leadership: Leadership| async move {
        sleep(Duration::from_mins(1)).await;
        leadership.epoch
    };
    let end = lead(&client, &config("first"), clock(1), pending(), work)
        .await
        .unwrap();
    assert_eq!(end, End::Finished(1));
    assert_eq!(holder(&api), None);
    let began = Instant::now();
    let (next, work) = (config("second"), |l: Leadership| async move { l.epoch });
    let end = lead(&client, &next, clock(1), pending(), work).await;
    assert_eq!(end.unwrap(), End::Finished(2));
    assert!(began.elapsed() < Duration::from_secs(1));
}

/// Says that it was dropped.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_candidate_and_a_leader_stop_when_asked() {
    let api = FakeApi::new();
    empty_lease(&api);
    let client = api.client();
    let stop = || sleep(Duration::from_secs(30));
    // The work has its grace to end by itself, and is dropped after it.
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Flag(dropped.clone());
    let work = |_| async move {
        let _flag = flag;
        pending::<()>().await;
    };
    let began = Instant::now();
    let end = lead(&client, &config("first"), clock(1), stop(), work)
        .await
        .unwrap();
    assert_eq!(end, End::Stopped);
    assert!(began.elapsed() >= Duration::from_secs(35));
    assert!(dropped.load(Ordering::SeqCst));
    assert_eq!(holder(&api), None, "it was let go");
    api.edit::<Lease>(Some(NAMESPACE), "operator", |lease| {
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some("other".into());
        spec.lease_duration_seconds = Some(3600);
    });
    let end = lead(&client, &config("third"), clock(1), stop(), |_| {
        pending::<()>()
    })
    .await
    .unwrap();
    assert_eq!(end, End::Stopped);
    assert_eq!(holder(&api).as_deref(), Some("other"));
}

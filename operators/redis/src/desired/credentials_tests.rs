use jiff::SignedDuration;
use mainstay_shared::access::existing_roles;
use mainstay_shared::apply::Object;
use mainstay_shared::operator::desired::credentials::{Coming, stale_keys};
use proptest::prelude::*;

use super::*;
use crate::agent::render::rules;
use crate::desired::tests::{backed_up, cache};

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + SignedDuration::from_hours(hours)
}

/// Data by names of Secrets.
type Data = BTreeMap<String, BTreeMap<String, ByteString>>;

fn made(password: &Password, before: &Data, now: Timestamp) -> (Data, Option<Timestamp>) {
    made_of(&cache(), password, before, now)
}

fn made_of(
    v: &Validated,
    password: &Password,
    before: &Data,
    now: Timestamp,
) -> (Data, Option<Timestamp>) {
    let roles = before.get("cache-access").map(existing_roles);
    let given = Given {
        password,
        ca: "PEM",
        roles: &roles.unwrap_or_default(),
        internal: before.get("cache-internal"),
        logins: &[],
        coming: None,
        now,
    };
    let credentials = credentials(v, &given).unwrap();
    let secrets = credentials.secrets.into_iter();
    let data = secrets.map(|s| (s.metadata.name.unwrap(), s.data.unwrap()));
    (data.collect(), credentials.due)
}

fn roles(data: &Data) -> BTreeMap<String, Role> {
    existing_roles(&data["cache-access"])
}

#[test]
fn what_is_there_is_kept() {
    let password = Password::from_entropy(&[1; ENTROPY_BYTES]);
    let (first, due) = made(&password, &BTreeMap::new(), at(0));
    assert_eq!(due, None);
    assert_eq!(made(&password, &first, at(5)), (first.clone(), None));
    let all = roles(&first);
    let names: Vec<&str> = all.keys().map(String::as_str).collect();
    assert_eq!(names, ["app", PROBE_ROLE, REPLICATION_ROLE]);
    let probe = &first["cache-internal"][PROBE_PASSWORD];
    let probe = Password::from_bytes(&probe.0).unwrap();
    assert_eq!(all[PROBE_ROLE].verifier, verifier(&probe));
}

#[test]
fn who_makes_backups_is_let_in_as_long_as_there_are_any() {
    let password = Password::from_entropy(&[1; ENTROPY_BYTES]);
    let (before, _) = made(&password, &BTreeMap::new(), at(0));
    assert!(!roles(&before).contains_key(BACKUP_ROLE));
    let (with, _) = made_of(&backed_up(false), &password, &before, at(0));
    let own = with["cache-internal"][BACKUP_PASSWORD].clone();
    let role = roles(&with)[BACKUP_ROLE].clone();
    let own_password = Password::from_bytes(&own.0).unwrap();
    assert_eq!(role.verifier, verifier(&own_password));
    assert_eq!(rules(&role), format!("on {} {BACKUP_RULES}", role.verifier));
    let (without, _) = made(&password, &with, at(0));
    assert!(rules(&roles(&without)[BACKUP_ROLE]).ends_with(" off"));
    // Once more it is the same.
    let (again, _) = made_of(&backed_up(false), &password, &without, at(0));
    assert_eq!(again["cache-internal"][BACKUP_PASSWORD], own);
}

#[test]
fn the_agents_secret_holds_no_password() {
    let password = Password::from_entropy(&[1; ENTROPY_BYTES]);
    let (data, _) = made(&password, &BTreeMap::new(), at(0));
    let text: String = data["cache-access"]
        .values()
        .map(|v| String::from_utf8_lossy(&v.0).into_owned())
        .collect();
    assert!(!text.contains(password.expose()));
    for own in data["cache-internal"].values() {
        assert!(!text.contains(&*String::from_utf8_lossy(&own.0)));
    }
}

#[test]
fn a_former_password_is_taken_for_an_hour_and_never_more_than_one() {
    let [first, second, third] = [1, 2, 3].map(|n| Password::from_entropy(&[n; ENTROPY_BYTES]));
    let verifiers = |of: &[&Password]| {
        let all: Vec<String> = of.iter().map(|p| verifier(p)).collect();
        all.join(" ")
    };
    let (data, _) = made(&first, &BTreeMap::new(), at(0));
    let (data, due) = made(&second, &data, at(1));
    assert_eq!(roles(&data)["app"].verifier, verifiers(&[&second, &first]));
    assert_eq!(due, Some(at(2)));
    // Nothing changes meanwhile, and another change lets the first go.
    assert_eq!(made(&second, &data, at(1)), (data.clone(), due));
    let (again, due) = made(&third, &data, at(1));
    assert_eq!(roles(&again)["app"].verifier, verifiers(&[&third, &second]));
    assert_eq!(due, Some(at(2)));
    let (back, _) = made(&first, &data, at(1));
    assert_eq!(roles(&back)["app"].verifier, verifiers(&[&first, &second]));
    let (after, due) = made(&second, &data, at(2));
    assert_eq!(roles(&after)["app"].verifier, verifiers(&[&second]));
    assert_eq!(due, None);
}

#[test]
fn the_uri_takes_any_password() {
    let password = Password::from_bytes("p@ss:wörd/%".as_bytes()).unwrap();
    let secret = application_secret(&cache(), &password, "PEM");
    let data = secret.data.unwrap();
    let text = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
    assert_eq!(
        text("uri"),
        "rediss://app:p%40ss%3Aw%C3%B6rd%2F%25@cache-rw.shop.svc:6379"
    );
    assert_eq!(text("replica-host"), "cache-ro.shop.svc");
    assert_eq!(
        (text("port"), text("type")),
        ("6379".into(), "redis".into())
    );
}

#[test]
fn how_a_sentinel_is_asked_stands_in_the_secret_while_there_is_one() {
    let password = Password::from_entropy(&[1; ENTROPY_BYTES]);
    let mut v = cache();
    v.sentinel = true;
    let with = application_secret(&v, &password, "PEM").data.unwrap();
    let text = |key: &str| String::from_utf8(with[key].0.clone()).unwrap();
    assert_eq!(text("sentinel-host"), "cache-sentinel.shop.svc");
    assert_eq!(text("sentinel-port"), "26379");
    assert_eq!(text("sentinel-master"), "cache");
    // The rest stays: whoever does not know of it notices nothing.
    assert_eq!(text("host"), "cache-rw.shop.svc");
    let without = Object::of(&application_secret(&cache(), &password, "PEM")).unwrap();
    assert_eq!(stale_keys(&without, &with, &PASSING), sentinel::KEYS);
}

/// What becomes of the application's role: from this password, and with that one coming.
fn next_role(
    present: &Password,
    coming: Option<&Password>,
    before: Option<&Role>,
    now: Timestamp,
) -> Role {
    role(USER, present, coming, "~*".to_owned(), before, now)
}

fn checks(role: &Role) -> Vec<&str> {
    role.verifier.split(' ').collect()
}

#[test]
fn a_password_that_was_told_before_it_stands_leaves_former_ones_their_time() {
    let all: Vec<Password> = (1..=5)
        .map(|n| Password::from_entropy(&[n; ENTROPY_BYTES]))
        .collect();
    let check: Vec<String> = all.iter().map(verifier).collect();
    let first = next_role(&all[0], None, None, at(0));
    let told = next_role(&all[0], Some(&all[1]), Some(&first), at(0));
    assert_eq!(checks(&told), [&check[0], &check[1]]);
    assert_eq!(next_role(&all[0], Some(&all[1]), Some(&told), at(9)), told);
    assert_eq!(formers(&told), []);
    // Nothing comes of it: nothing is left.
    assert_eq!(next_role(&all[0], None, Some(&told), at(0)), first);
    // It stands in the Secret: the other one has its hour, whether or not it is still said to come.
    let stands = next_role(&all[1], Some(&all[1]), Some(&told), at(0));
    assert_eq!(checks(&stands), [&check[1], &check[0]]);
    assert_eq!(next_role(&all[1], None, Some(&told), at(0)), stands);
    let half = at(0) + OVERLAP / 2;
    // Another one within the hour: who has not read the Secret meanwhile is still let in, until the hour is over.
    let told = next_role(&all[1], Some(&all[2]), Some(&stands), half);
    assert_eq!(checks(&told), [&check[1], &check[2], &check[0]]);
    let stands = next_role(&all[2], Some(&all[2]), Some(&told), half);
    assert_eq!(checks(&stands), [&check[2], &check[1], &check[0]]);
    assert_eq!(
        formers(&stands).iter().map(|f| f.1).collect::<Vec<_>>(),
        [half + OVERLAP, at(1)]
    );
    let later = next_role(&all[2], None, Some(&stands), at(1));
    assert_eq!(checks(&later), [&check[2], &check[1]]);
    // Who writes one by hand is rid of all but the one before.
    let edited = next_role(&all[3], None, Some(&stands), half);
    assert_eq!(checks(&edited), [&check[3], &check[2]]);
    // Also while another one is told: that one is still to come.
    let told = next_role(&all[2], Some(&all[4]), Some(&later), at(1));
    let edited = next_role(&all[3], Some(&all[4]), Some(&told), at(1));
    assert_eq!(checks(&edited), [&check[3], &check[4], &check[2]]);
}

#[test]
fn instances_are_told_first_and_the_secret_changes_when_it_is_said_to() {
    let [first, second] = [1, 2].map(|n| Password::from_entropy(&[n; ENTROPY_BYTES]));
    let roles = BTreeMap::new();
    let mut given = Given {
        password: &first,
        ca: "PEM",
        roles: &roles,
        internal: None,
        logins: &[],
        coming: Some(Coming {
            access: None,
            password: &second,
            publish: false,
        }),
        now: at(0),
    };
    let app = |made: &Credentials| {
        let data = made.secrets[0].data.clone().unwrap();
        data["password"].0.clone()
    };
    let of = |made: &Credentials| {
        let mut all = made.secrets.iter();
        let agents = all.find(|s| s.metadata.name.as_deref() == Some("cache-access"));
        existing_roles(agents.unwrap().data.as_ref().unwrap())
    };
    let told = credentials(&cache(), &given).unwrap();
    assert!(told.announced);
    assert_eq!(app(&told), first.expose().as_bytes());
    let both = format!("{} {}", verifier(&first), verifier(&second));
    assert_eq!(of(&told)["app"].verifier, both);
    assert_eq!(
        rules(&of(&told)["app"]),
        format!("on {both} {APPLICATION_RULES}")
    );
    // What agents are told changes only when the other one is seen to stand.
    given.coming.as_mut().unwrap().publish = true;
    let published = credentials(&cache(), &given).unwrap();
    assert_eq!(app(&published), second.expose().as_bytes());
    assert_eq!(of(&published)["app"], of(&told)["app"]);
    // Of a login that is not there nobody is told.
    given.coming.as_mut().unwrap().access = Some("orders");
    let nobody = credentials(&cache(), &given).unwrap();
    assert!(!nobody.announced);
    assert_eq!(app(&nobody), first.expose().as_bytes());
}

proptest! {
    /// Whatever becomes of a password: the present one and the next one check first, former ones for an hour at most, and
    /// one that stood in the Secret until it was changed by an operation is taken for an hour (of the last three).
    #[test]
    fn no_password_is_let_go_before_its_time(
        steps in prop::collection::vec((0_u8..4, 1_i64..40), 1..40),
    ) {
        let mut now = at(0);
        let mut made = 1_u8;
        let mut new = || {
            made += 1;
            // Five bits of each byte count.
            let mut entropy = [made; ENTROPY_BYTES];
            entropy[0] = made >> 5;
            Password::from_entropy(&entropy)
        };
        let mut present = new();
        let mut coming: Option<Password> = None;
        let mut before = next_role(&present, None, None, now);
        // What stood there since the last edit by hand, and until when.
        let mut stood: Vec<(String, Timestamp)> = vec![];
        for (what, minutes) in steps {
            now += SignedDuration::from_mins(minutes);
            match what {
                0 => coming = coming.or_else(|| Some(new())),
                1 => coming = None,
                2 => if let Some(next) = coming.take() {
                    stood.insert(0, (verifier(&present), now));
                    present = next;
                },
                _ => {
                    stood = vec![(verifier(&present), now)];
                    present = new();
                }
            }
            let after = next_role(&present, coming.as_ref(), Some(&before), now);
            prop_assert_eq!(&next_role(&present, coming.as_ref(), Some(&after), now), &after);
            let all = checks(&after);
            prop_assert_eq!(all[0], &verifier(&present));
            if let Some(next) = &coming {
                prop_assert_eq!(all[1], &verifier(next));
            }
            let valid: Vec<&(String, Timestamp)> =
                stood.iter().take(FORMER).filter(|(_, until)| *until + OVERLAP > now).collect();
            for (check, _) in &valid {
                prop_assert!(all.contains(&check.as_str()));
            }
            let others = usize::from(coming.is_some()) + 1;
            prop_assert_eq!(all.len(), others + valid.len());
            before = after;
        }
    }
}

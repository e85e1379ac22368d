//! Passwords that are changed by an operation: who reads the Secret anew is let in by every instance, at any time.

use mainstay_crds::operation::{Operation, OperationPhase};
use mainstay_shared::names;

use super::*;

fn ask(world: &World, name: &str, more: &serde_json::Value) {
    let mut operation = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Operation",
        "metadata": {"namespace": "shop", "name": name, "generation": 1},
        "spec": {"target": {"kind": "Redis", "name": "db"}, "action": "RotatePassword"},
    });
    for (key, value) in more.as_object().unwrap() {
        operation["spec"][key] = value.clone();
    }
    let operation: Operation = serde_json::from_value(operation).unwrap();
    world.api.put(&operation);
}

fn phase_of(world: &World, name: &str) -> (OperationPhase, String) {
    let operation: Operation = world.api.get(SHOP, name).unwrap();
    let status = operation.status.unwrap_or_default();
    (
        status.phase.unwrap_or_default(),
        status.message.unwrap_or_default(),
    )
}

fn says(world: &World, name: &str, words: &str) -> bool {
    phase_of(world, name).1.contains(words)
}

/// The password that an application finds in its Secret.
fn password(world: &World, secret: &str) -> String {
    String::from_utf8(data(world, secret)["password"].0.clone()).unwrap()
}

/// Whether every instance takes what an application finds in its Secret now.
fn lets_in(world: &World, secret: &str, login: &str) -> bool {
    let Some(found) = world.api.get::<Secret>(SHOP, secret) else {
        return true;
    };
    let found = String::from_utf8(found.data.unwrap()["password"].0.clone()).unwrap();
    ["db-1", "db-2", "db-3"].iter().all(|instance| {
        let known = world.cluster.logins("shop", instance);
        let mut role = known.iter().filter(|role| role.name == login);
        role.any(|role| role.verifier.split(' ').any(|word| word == check(&found)))
    })
}

/// Turns until something holds, and at no time is anybody refused.
async fn until_served(
    world: &mut World,
    what: &str,
    (secret, login): (&str, &str),
    done: impl Fn(&World) -> bool,
) {
    world
        .until(what, |w| {
            assert!(lets_in(w, secret, login), "{what}");
            done(w)
        })
        .await;
}

fn next(world: &World) -> Option<Secret> {
    world.api.get(SHOP, &names::coming_secret("db"))
}

#[tokio::test]
async fn every_instance_knows_the_password_before_the_application_reads_it() {
    let mut world = World::new();
    start(&mut world);
    create(&world, 3);
    world.settled().await;
    let (pods, first) = (world.pod_uids(), password(&world, "db-app"));
    let app = ("db-app", "app");
    world.cluster.hold_mounts("db-3", true);
    world.api.forget_requests();
    ask(&world, "first", &json!({}));
    ask(&world, "second", &json!({}));
    let waits = "db-3 does not know the new password yet";
    until_served(&mut world, "the third to be waited for", app, |w| {
        says(w, "first", waits)
    })
    .await;
    world.quiet().await;
    assert_eq!(phase_of(&world, "first").0, OperationPhase::Running);
    assert_eq!(
        phase_of(&world, "second"),
        (
            OperationPhase::Pending,
            "operation first comes first".into()
        )
    );
    assert_eq!(password(&world, "db-app"), first);
    let coming = password(&world, "db.next");
    let both = format!("{} {}", check(&first), check(&coming));
    assert_eq!(roles(&world)["app"].verifier, both);
    // The kubelets were told to look.
    let told = world.api.get::<Pod>(SHOP, "db-3").unwrap();
    let known = mainstay_shared::agent::config::users_hash(
        &roles(&world).into_values().collect::<Vec<_>>(),
    );
    assert_eq!(told.annotations().get(names::USERS_HASH), known.as_ref());
    // Another operator goes on where that one was.
    start(&mut world);
    world.quiet().await;
    assert_eq!(password(&world, "db.next"), coming);
    world.cluster.hold_mounts("db-3", false);
    until_served(&mut world, "the first to be done", app, |w| {
        phase_of(w, "first").0 == OperationPhase::Succeeded
    })
    .await;
    // The next one follows; former passwords have their hour.
    until_served(&mut world, "the second to be done", app, |w| {
        phase_of(w, "second").0 == OperationPhase::Succeeded
    })
    .await;
    world.quiet().await;
    assert!(next(&world).is_none());
    let last = password(&world, "db-app");
    assert!(last != coming && last != first);
    let all = [&last, &coming, &first].map(|p| check(p)).join(" ");
    assert_eq!(roles(&world)["app"].verifier, all);
    let uri = String::from_utf8(data(&world, "db-app")["uri"].0.clone()).unwrap();
    assert_eq!(uri, format!("rediss://app:{last}@db-rw.shop.svc:6379"));
    assert_eq!(world.pod_uids(), pods);
    world.rests().await;
}

#[tokio::test]
async fn a_crash_at_any_write_refuses_nobody() {
    for strides in STRIDES {
        let mut world = World::new();
        start(&mut world);
        create(&world, 3);
        has_orders(&mut world, &json!({"keys": ["orders:*"]})).await;
        world.settled().await;
        for (secret, login, what) in [
            ("db-app", "app", json!({})),
            (
                "orders",
                "orders",
                json!({"rotatePassword": {"access": "orders"}}),
            ),
        ] {
            let others = |w: &World| {
                let mut all = roles(w);
                all.remove(login);
                all
            };
            let (before, first) = (others(&world), password(&world, secret));
            let name = format!("rotate-{login}");
            world.crash_after_each(strides);
            ask(&world, &name, &what);
            until_served(&mut world, "it to be done", (secret, login), |w| {
                let (phase, message) = phase_of(w, &name);
                assert_ne!(phase, OperationPhase::Failed, "{message}");
                phase == OperationPhase::Succeeded
                    && next(w).is_none()
                    && !roles(w)[login].attributes.contains_key("coming")
                    && !w.api.has_crashed()
            })
            .await;
            world.crash_no_more();
            world.settled().await;
            let last = password(&world, secret);
            assert_ne!(last, first);
            let both = format!("{} {}", check(&last), check(&first));
            assert_eq!(roles(&world)[login].verifier, both, "{strides:?}");
            assert_eq!(others(&world), before);
            assert!(lets_in(&world, secret, login));
        }
        world.crashed_enough(12, strides);
    }
}

#[tokio::test]
async fn what_is_given_up_leaves_nothing() {
    let mut world = World::new();
    start(&mut world);
    create(&world, 3);
    world.settled().await;
    let before = roles(&world);
    let first = password(&world, "db-app");
    ask(
        &world,
        "nobody",
        &json!({"rotatePassword": {"access": "nobody"}, "timeoutSeconds": 10}),
    );
    world
        .until("the login to be waited for", |w| {
            says(w, "nobody", "there is no Access called nobody")
        })
        .await;
    world
        .api
        .edit::<Operation>(SHOP, "nobody", |o| o.spec.cancel = Some(true));
    world.cluster.hold_mounts("db-2", true);
    ask(&world, "late", &json!({"timeoutSeconds": 10}));
    world
        .until("the second to be waited for", |w| {
            says(w, "late", "db-2 does not know")
        })
        .await;
    assert_eq!(phase_of(&world, "nobody").0, OperationPhase::Cancelled);
    world
        .until("it to be given up", |w| {
            phase_of(w, "late").0 == OperationPhase::Failed
        })
        .await;
    assert!(says(
        &world,
        "late",
        "given up after 10 s: db-2 does not know"
    ));
    world.cluster.hold_mounts("db-2", false);
    world.quiet().await;
    assert_eq!(password(&world, "db-app"), first);
    assert_eq!(roles(&world), before);
    assert!(next(&world).is_none());
    // A person may still change it, as before; kubelets are told to look for that as well.
    world.api.edit::<Secret>(SHOP, "db-app", |secret| {
        let data = secret.data.as_mut().unwrap();
        data.insert("password".into(), ByteString(b"by-hand".to_vec()));
    });
    world
        .until("pods to be told to look", |w| {
            let known = mainstay_shared::agent::config::users_hash(
                &roles(w).into_values().collect::<Vec<_>>(),
            );
            let pods: Vec<Pod> = w.api.list();
            let told = |pod: &Pod| pod.annotations().get(names::USERS_HASH).cloned() == known;
            roles(w) != before && pods.iter().all(told)
        })
        .await;
}

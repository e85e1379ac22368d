//! What makes an object be applied, and what does not.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::ApiResource;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn config_map(value: Value) -> Object {
    Object {
        resource: ApiResource::erase::<ConfigMap>(&()),
        value,
    }
}

fn wanted() -> Object {
    config_map(
        json!({"metadata": {"name": "db-config", "namespace": "shop", "labels": {"a": "b"}},
        "data": {"set.json": "{}"}}),
    )
}

/// As an API server would store it: with its own fields, without kind, as lists return items.
fn stored(object: &Object) -> Object {
    let mut value = object.sealed().value;
    value["metadata"]["uid"] = "u".into();
    value["metadata"]["resourceVersion"] = "5".into();
    value["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    value["metadata"]["managedFields"] = json!([{"manager": "mainstay"}]);
    let map = value.as_object_mut().unwrap();
    map.remove("kind");
    map.remove("apiVersion");
    config_map(value)
}

#[test]
fn an_absent_object_is_applied() {
    assert_eq!(needs_apply(&wanted(), None), Some(Why::Absent));
}

#[test]
fn a_settled_object_is_left_alone() {
    assert_eq!(needs_apply(&wanted(), Some(&stored(&wanted()))), None);
}

#[test]
fn a_field_that_is_not_wanted_any_more_makes_it_applied() {
    let live = stored(&wanted());
    let mut less = wanted();
    less.value["metadata"]["labels"] = json!({});
    assert_eq!(needs_apply(&less, Some(&live)), Some(Why::Changed));
}

#[test]
fn a_field_that_someone_else_changed_is_repaired() {
    let mut live = stored(&wanted());
    live.value["data"]["set.json"] = "{\"x\":1}".into();
    assert_eq!(
        needs_apply(&wanted(), Some(&live)),
        Some(Why::Drifted("data.set.json".into()))
    );
    live.value.as_object_mut().unwrap().remove("data");
    assert_eq!(
        needs_apply(&wanted(), Some(&live)),
        Some(Why::Drifted("data.set.json".into()))
    );
}

#[test]
fn an_object_that_is_going_is_not_applied_to() {
    let mut live = stored(&wanted());
    live.value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    live.value["data"] = json!({});
    assert_eq!(needs_apply(&wanted(), Some(&live)), None);
}

#[test]
fn what_was_read_can_be_applied_again_without_the_api_servers_own_fields() {
    let again = stored(&wanted());
    let sealed = again.sealed();
    assert_eq!(sealed.value, wanted().sealed().value);
}

#[test]
fn text_of_a_secret_is_compared_as_data() {
    let resource = ApiResource::erase::<Secret>(&());
    let text = Object {
        resource: resource.clone(),
        value: json!({"metadata": {"name": "s"}, "stringData": {"user": "app"}}),
    };
    let data = Object {
        resource,
        value: json!({"metadata": {"name": "s"}, "data": {"user": "YXBw"}}),
    };
    assert_eq!(text.sealed(), data.sealed());
    assert_eq!(needs_apply(&text, Some(&data.sealed())), None);
}

#[test]
fn a_plan_keeps_the_order_and_leaves_out_what_stands() {
    let named = |name: &str| {
        let mut object = wanted();
        object.value["metadata"]["name"] = name.into();
        object
    };
    let desired = [named("a"), named("b"), named("c")];
    let found = plan(&desired, &[stored(&named("b"))]);
    let order: Vec<_> = found.iter().map(|(object, _)| object.key().name).collect();
    assert_eq!(order, ["a", "c"]);
}

#[test]
fn typed_objects_know_their_kind() {
    let object = Object::of(&Secret::default()).unwrap();
    let sealed = object.sealed();
    assert_eq!(sealed.value["kind"], "Secret");
    assert_eq!(sealed.value["apiVersion"], "v1");
}

/// Any JSON with the kinds of values that objects are made of.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z]{1,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,5}", inner, 1..4)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Every path to a scalar.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.iter()
                .for_each(|(key, value)| leaves(value, &format!("{path}/{key}"), found));
        }
        Value::Array(list) => {
            let each = list.iter().enumerate();
            each.for_each(|(index, value)| leaves(value, &format!("{path}/{index}"), found));
        }
        _ => found.push(path.to_owned()),
    }
}

proptest! {
    #[test]
    fn applying_what_is_applied_is_never_needed(spec in json_value()) {
        let mut desired = wanted();
        desired.value["spec"] = spec;
        prop_assert_eq!(needs_apply(&desired, Some(&stored(&desired))), None);
    }

    #[test]
    fn any_changed_field_is_noticed(spec in json_value(), which in any::<prop::sample::Index>()) {
        let mut desired = wanted();
        desired.value["spec"] = spec;
        let mut live = stored(&desired);
        let mut paths = vec![];
        leaves(&desired.value["spec"], "/spec", &mut paths);
        let path = which.get(&paths);
        *live.value.pointer_mut(path).unwrap() = "changed-by-hand".into();
        prop_assert!(matches!(needs_apply(&desired, Some(&live)), Some(Why::Drifted(_))));
    }

    #[test]
    fn any_other_wish_is_a_change(a in json_value(), b in json_value()) {
        prop_assume!(a != b);
        let with = |spec: Value| {
            let mut object = wanted();
            object.value["spec"] = spec;
            object
        };
        prop_assert_eq!(needs_apply(&with(b), Some(&stored(&with(a)))), Some(Why::Changed));
    }
}

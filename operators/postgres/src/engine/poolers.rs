//! The pooler as it runs: values only.

use mainstay_crds::postgres::pooler::PoolerStatus;
use mainstay_shared::apply::Object;
use mainstay_shared::outcome::Wait;

use super::DEPLOYMENT;
use crate::desired::pooler::{name, ready, sides};
use crate::pooler::config::Side;
use crate::settings::PORT;
use crate::validate::Validated;

/// Ready pods of a side.
fn pods(validated: &Validated, live: &[Object], side: Side) -> i64 {
    let name = name(&validated.common.set.name, side);
    let found = live
        .iter()
        .find(|o| o.resource.kind == DEPLOYMENT && o.meta("name") == Some(&name));
    found.map_or(0, ready)
}

/// What the status says of it.
pub(super) fn status(validated: &Validated, live: &[Object]) -> Option<PoolerStatus> {
    let pooler = validated.pooler.as_ref()?;
    let set = &validated.common.set;
    let endpoint = |side| format!("{}.{}.svc:{PORT}", name(&set.name, side), set.namespace);
    let count = |side| format!("{}/{}", pods(validated, live, side), pooler.instances);
    let replicas = pooler.replicas.then_some(Side::Replicas);
    Some(PoolerStatus {
        primary: endpoint(Side::Primary),
        primary_ready: count(Side::Primary),
        replicas: replicas.map(endpoint),
        replicas_ready: replicas.map(count),
    })
}

/// Sides of which pods are missing. The set itself serves without them.
pub(super) fn waits(validated: &Validated, live: &[Object]) -> Vec<Wait> {
    let Some(pooler) = &validated.pooler else {
        return Vec::new();
    };
    let missing = sides(pooler).filter_map(|side| {
        let (ready, wanted) = (pods(validated, live, side), i64::from(pooler.instances));
        let name = name(&validated.common.set.name, side);
        (ready < wanted).then(|| Wait {
            step: format!("start the pooler {name}"),
            predicate: "wait_until_its_pods_are_ready",
            reason: format!(
                "{ready} of {wanted} pods of the Deployment {name} are ready; kubectl describe tells why"
            ),
            after: None,
        })
    });
    missing.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::tests::{db, pooled};
    use k8s_openapi::api::apps::v1::Deployment;
    use serde_json::json;

    fn live(name: &str, ready: i64, observed: i64) -> Object {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "shop", "generation": 2},
            "status": {"observedGeneration": observed, "readyReplicas": ready, "updatedReplicas": 2, "replicas": 3},
        }))
        .unwrap();
        Object::of(&deployment).unwrap()
    }

    #[test]
    fn a_set_without_a_pooler_says_nothing_of_one() {
        assert_eq!(status(&db(), &[]), None);
        assert_eq!(waits(&db(), &[]), []);
    }

    #[test]
    fn missing_pods_are_told_by_side_and_in_words() {
        let v = pooled();
        let all = [live("db-pooler-rw", 2, 2), live("db-pooler-ro", 1, 2)];
        let seen = status(&v, &all).unwrap();
        assert_eq!(seen.primary, "db-pooler-rw.shop.svc:5432");
        assert_eq!(seen.primary_ready, "2/2");
        assert_eq!(seen.replicas_ready.as_deref(), Some("1/2"));
        let [wait] = waits(&v, &all).try_into().unwrap();
        assert_eq!(wait.step, "start the pooler db-pooler-ro");
        assert!(wait.reason.starts_with("1 of 2 pods"), "{}", wait.reason);
    }

    #[test]
    fn pods_of_a_template_before_do_not_count() {
        // The Deployment was changed, and nobody has looked at it since; or more are ready than new.
        let seen = status(&pooled(), &[live("db-pooler-rw", 2, 1)]).unwrap();
        assert_eq!(seen.primary_ready, "0/2");
        let seen = status(&pooled(), &[live("db-pooler-rw", 3, 2)]).unwrap();
        assert_eq!(seen.primary_ready, "2/2");
    }
}

//! The metadata of every derived object: labels, owner, name.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, ObjectMeta, OwnerReference, Time,
};

use crate::names;

/// As the API keeps times.
pub fn whole(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// Identity of a set: of the custom resource that its objects are derived from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetId {
    /// API version of the resource, for example `mainstay.dev/v1alpha1`.
    pub api_version: String,
    /// Its kind, for example `Postgres`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl SetId {
    /// The add-on's name in labels and derived names, for example `postgres`.
    pub fn app(&self) -> String {
        self.kind.to_lowercase()
    }

    /// Labels that select the set's pods. They do not change with version or role.
    pub fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (names::APP_NAME.to_owned(), self.app()),
            (names::APP_INSTANCE.to_owned(), self.name.clone()),
            (names::MANAGED_BY.to_owned(), names::MANAGER.to_owned()),
        ])
    }

    /// Labels that select the pods of the set's poolers. They are not among the set's own pods.
    pub fn pooler_selector(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        let name = format!("{}-pooler", self.app());
        labels.insert(names::APP_NAME.to_owned(), name);
        labels
    }

    /// Labels that select the pods of the set's drills. They are not among the set's own pods: no Service, policy,
    /// budget or affinity of the set means them.
    pub fn drill_selector(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.insert(names::APP_NAME.to_owned(), drill_app(&self.app()));
        labels
    }

    /// [`SetId::selector`] in the form that most objects want.
    pub fn label_selector(&self) -> LabelSelector {
        LabelSelector {
            match_labels: Some(self.selector()),
            ..LabelSelector::default()
        }
    }

    /// Labels that every derived object carries.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.insert(names::SET_UID.to_owned(), self.uid.clone());
        labels
    }

    /// Metadata of an object that goes with the resource: Kubernetes deletes it after its owner.
    pub fn owned(&self, name: impl Into<String>) -> ObjectMeta {
        ObjectMeta {
            owner_references: Some(vec![OwnerReference {
                api_version: self.api_version.clone(),
                kind: self.kind.clone(),
                name: self.name.clone(),
                uid: self.uid.clone(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..self.free(name)
        }
    }

    /// Metadata of an object that may outlive the resource, so that a new one adopts it. `part`
    /// says what it is: `data`, `ca`, `credentials`, `certificate`, `lease`.
    pub fn kept(&self, name: impl Into<String>, part: &str) -> ObjectMeta {
        let mut metadata = self.free(name);
        if let Some(labels) = &mut metadata.labels {
            labels.insert(names::PART.to_owned(), part.to_owned());
        }
        metadata
    }

    fn free(&self, name: impl Into<String>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        }
    }
}

/// Value of [`names::APP_NAME`] on pods of drills of an add-on.
pub fn drill_app(app: &str) -> String {
    format!("{app}-{}", names::DRILL)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A set called `db` in namespace `shop`.
    pub(crate) fn db() -> SetId {
        SetId {
            api_version: "mainstay.dev/v1alpha1".into(),
            kind: "Postgres".into(),
            namespace: "shop".into(),
            name: "db".into(),
            uid: "7d".into(),
        }
    }

    #[test]
    fn what_outlives_the_resource_has_no_owner_and_says_what_it_is() {
        let kept = db().kept("db-1-data", "data");
        assert_eq!(kept.owner_references, None);
        let labels = kept.labels.unwrap();
        assert_eq!(labels[names::PART], "data");
        assert_eq!(labels[names::SET_UID], "7d");
        assert_eq!(db().owned("db").owner_references.unwrap()[0].uid, "7d");
        assert!(!db().selector().contains_key(names::SET_UID));
    }
}

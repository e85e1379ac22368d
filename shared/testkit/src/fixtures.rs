//! Resources that tests begin with.

use mainstay_crds::postgres::Postgres;
use serde_json::json;

/// A good `Postgres` 17 with this many instances of 1 GiB; nothing optional is set.
///
/// # Panics
/// When the type does not take it any more.
pub fn postgres(namespace: &str, name: &str, instances: i32) -> Postgres {
    let value = json!({
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "Postgres",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"version": "17", "instances": instances, "storage": {"size": "1Gi"}},
    });
    serde_json::from_value(value).expect("a good Postgres")
}

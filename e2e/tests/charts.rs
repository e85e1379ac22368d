//! The charts as helm renders them: what is refused, and what every rendering must hold.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests say what they expect by unwrapping it"
)]

use std::path::{Path, PathBuf};

use mainstay_e2e::process::{command, run};
use mainstay_e2e::tools;
use serde_json::Value;

/// The oldest Kubernetes that is supported.
const KUBERNETES: &str = "1.33.0";

fn chart(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../helm")
        .join(name)
}

/// Renders a chart with `--set` values; the error is what helm said.
async fn render(name: &str, set: &[&str]) -> Result<Vec<Value>, String> {
    let helm = tools::helm().await.unwrap();
    let mut template = command(helm);
    template
        .args(["template", "release"])
        .arg(chart(name))
        .args([
            "--namespace",
            "mainstay-system",
            "--kube-version",
            KUBERNETES,
        ]);
    for value in set {
        template.args(["--set", value]);
    }
    let text = run(&mut template).await.map_err(|e| e.to_string())?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|e| e.to_string())?;
    Ok(objects.into_iter().filter(|o| !o.is_null()).collect())
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|o| o["kind"] == kind).collect()
}

#[tokio::test]
async fn definitions_are_kept_and_are_what_the_types_say() {
    let rendered = render("mainstay-crds", &[]).await.unwrap();
    let wanted = mainstay_crds::definitions::definitions().unwrap();
    assert_eq!(rendered.len(), wanted.len());
    for (rendered, wanted) in rendered.iter().zip(&wanted) {
        assert_eq!(
            rendered["metadata"]["annotations"]["helm.sh/resource-policy"],
            "keep"
        );
        assert_eq!(
            rendered["metadata"]["name"],
            *wanted.metadata.name.as_ref().unwrap()
        );
        assert_eq!(
            rendered["spec"],
            serde_json::to_value(&wanted.spec).unwrap()
        );
    }
}

#[tokio::test]
async fn the_operator_is_restricted_and_names_its_image_twice() {
    let objects = render("mainstay", &["postgres.image=example/operator:1"])
        .await
        .unwrap();
    let deployments = of_kind(&objects, "Deployment");
    let [deployment] = deployments.as_slice() else {
        panic!("one Deployment is expected");
    };
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    for container in pod["containers"].as_array().unwrap() {
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["capabilities"]["drop"][0], "ALL");
        assert!(container["resources"]["requests"]["memory"].is_string());
        assert_eq!(container["image"], "example/operator:1");
        let env = container["env"].as_array().unwrap();
        let image = env.iter().find(|e| e["name"] == "MAINSTAY_IMAGE").unwrap();
        assert_eq!(image["value"], "example/operator:1");
    }
}

#[tokio::test]
async fn no_right_of_the_operator_is_a_wildcard() {
    let objects = render("mainstay", &["aggregateRoles=false"]).await.unwrap();
    let roles = [of_kind(&objects, "ClusterRole"), of_kind(&objects, "Role")].concat();
    assert_eq!(roles.len(), 2);
    for role in roles {
        for rule in role["rules"].as_array().unwrap() {
            assert!(!rule.to_string().contains('*'), "{rule}");
        }
    }
}

#[tokio::test]
async fn the_operator_of_redis_comes_when_it_is_asked_for() {
    let none = render("mainstay", &[]).await.unwrap();
    assert!(
        !none
            .iter()
            .any(|o| o["metadata"]["name"] == "mainstay-redis")
    );
    let set = ["redis.enabled=true", "redis.image=example/redis-operator:1"];
    let objects = render("mainstay", &set).await.unwrap();
    let own: Vec<&Value> = objects
        .iter()
        .filter(|o| o["metadata"]["name"] == "mainstay-redis")
        .collect();
    let find = |kind: &str| own.iter().find(|o| o["kind"] == kind).unwrap();
    let container = &find("Deployment")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "example/redis-operator:1");
    let selector = &find("Deployment")["spec"]["selector"]["matchLabels"];
    assert_eq!(selector["app.kubernetes.io/name"], "mainstay-redis");
    let rules = find("ClusterRole")["rules"].to_string();
    assert!(rules.contains("redises/status"), "{rules}");
    for none_of_its in ["postgreses", "deployments", "*"] {
        assert!(!rules.contains(none_of_its), "{none_of_its}: {rules}");
    }
    let egress = find("NetworkPolicy")["spec"]["egress"].to_string();
    assert!(
        egress.contains("6379") && !egress.contains("5432"),
        "{egress}"
    );
    for kind in [
        "Lease",
        "ServiceAccount",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
    ] {
        find(kind);
    }
    // Without PostgreSQL's there is nothing of that one.
    let alone = ["redis.enabled=true", "postgres.enabled=false"];
    let objects = render("mainstay", &alone).await.unwrap();
    let deployments = of_kind(&objects, "Deployment");
    assert_eq!(deployments.len(), 1);
    assert_eq!(deployments[0]["metadata"]["name"], "mainstay-redis");
}

#[tokio::test]
async fn the_catalogue_reaches_the_operator() {
    let set = [
        "catalogue.postgres.17=example/postgres:17.1",
        "postgres.image=example/o:1",
    ];
    let objects = render("mainstay", &set).await.unwrap();
    let map = of_kind(&objects, "ConfigMap")[0];
    let text = map["data"]["catalogue.json"].as_str().unwrap();
    let catalogue: Value = serde_json::from_str(text).unwrap();
    assert_eq!(catalogue["postgres"]["17"], "example/postgres:17.1");
}

#[tokio::test]
async fn switches_take_objects_away() {
    let set = [
        "networkPolicy.enabled=false",
        "deletionProtection.enabled=false",
    ];
    let objects = render("mainstay", &set).await.unwrap();
    assert!(of_kind(&objects, "NetworkPolicy").is_empty());
    assert!(of_kind(&objects, "ValidatingAdmissionPolicy").is_empty());
    assert!(of_kind(&objects, "ValidatingAdmissionPolicyBinding").is_empty());
}

#[tokio::test]
async fn values_that_cannot_be_meant_are_refused() {
    let refused = [
        "postgres.image=example/operator:latest",
        "postgres.image=example/operator",
        "catalogue.postgres.17=postgres:latest",
        "catalogue.postgres.seventeen=postgres:17.1",
        "postgres.replicas=-1",
        "redis.image=example/operator:latest",
        "catalogue.redis.8=redis:8.0.2",
        "catalogue.valkey.x=valkey:8.1.1",
        "networkPolicy.apiServerPorts[0]=70000",
        "unknown=1",
    ];
    for value in refused {
        let error = render("mainstay", &[value]).await.unwrap_err();
        assert!(error.contains("schema"), "{value}: {error}");
    }
}

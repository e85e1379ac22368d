//! Logins that `Access` asks for: what each may do in words of the ACL, and the Secret that it connects with.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use mainstay_crds::access::{
    Access, CATEGORIES, CATEGORY, GRANTS, PATTERN, RedisGrants, is_pattern,
};
use mainstay_shared::access::Password;
use mainstay_shared::names;
use mainstay_shared::operator::logins::{self, Login};

use super::credentials::binding;
use crate::validate::Validated;

/// What connecting needs, without what concerns the server or all data of it, and then what only tells. Functions are the set's,
/// and one library of them is the mark by which agents know how far a dataset goes: they can be called, and not changed. Each
/// word counts after those before it.
const OF_ALL: &str = "+@connection -@admin -@dangerous -function +info +role +wait";
/// By which clients of a cluster find who has which slots.
const OF_CLUSTER: &str =
    "+cluster|slots +cluster|shards +cluster|nodes +cluster|info +cluster|myid +cluster|keyslot";

/// What is wrong with it, in sentences that say what to write instead.
pub fn problems(access: &Access) -> Vec<String> {
    let mut problems = logins::problems(access);
    let mut say = |field: &str, sentence: &str| problems.push(format!("{field}: {sentence}"));
    let Some(grants) = &access.spec.redis else {
        say("spec.redis", GRANTS);
        return problems;
    };
    let lists = [
        ("keys", &grants.keys),
        ("readOnlyKeys", &grants.read_only_keys),
        ("channels", &grants.channels),
    ];
    if lists.iter().all(|(_, patterns)| patterns.is_empty()) {
        say("spec.redis", GRANTS);
    }
    for (field, patterns) in lists {
        if !patterns.iter().all(|p| is_pattern(p)) {
            say(&format!("spec.redis.{field}"), PATTERN);
        }
    }
    let known = |c: &String| CATEGORIES.contains(&c.as_str());
    if !grants.categories.iter().all(known) {
        say("spec.redis.categories", CATEGORY);
    }
    problems
}

/// Its rules, as `ACL SETUSER` takes them after a reset.
pub fn rules(grants: &RedisGrants) -> String {
    let mut words = vec!["resetchannels".to_owned()];
    // Redis takes no pattern beside the one that is all of them.
    let all = |patterns: &[String]| patterns.iter().any(|p| p == "*");
    if all(&grants.keys) {
        words.push("~*".to_owned());
    } else {
        words.extend(grants.keys.iter().map(|p| format!("~{p}")));
        words.extend(grants.read_only_keys.iter().map(|p| format!("%R~{p}")));
    }
    if all(&grants.channels) {
        words.push("&*".to_owned());
    } else {
        words.extend(grants.channels.iter().map(|p| format!("&{p}")));
    }
    if grants.categories.is_empty() {
        words.push("+@all".to_owned());
    } else {
        words.push("-@all".to_owned());
        words.extend(grants.categories.iter().map(|c| format!("+@{c}")));
    }
    words.push(OF_ALL.to_owned());
    // With all commands those of a cluster are among them: no category has them alone.
    let besides = if grants.categories.is_empty() {
        "+sort +sort_ro"
    } else {
        OF_CLUSTER
    };
    words.push(besides.to_owned());
    words.join(" ")
}

/// Its Secret, which goes with what asks for it.
pub fn secret(v: &Validated, login: &Login, password: &Password, ca: &str) -> Secret {
    let set = &v.common.set;
    let name = login.name();
    let uid = login.access.uid().unwrap_or_default();
    let mut metadata = set.kept(&name, "credentials");
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(names::ACCESS_UID.to_owned(), uid.clone());
    metadata.owner_references = Some(vec![OwnerReference {
        api_version: Access::api_version(&()).into_owned(),
        kind: Access::kind(&()).into_owned(),
        name: name.clone(),
        uid,
        controller: None,
        block_owner_deletion: None,
    }]);
    binding(v, &name, password, ca).to_secret(metadata)
}

/// Facts of a role that are no rules.
pub fn attributes(login: &Login) -> BTreeMap<String, String> {
    let uid = login.access.uid().unwrap_or_default();
    BTreeMap::from([(ACCESS.to_owned(), uid)])
}

/// Attribute of a role: the uid of what asked for it. Another one of the same name has none of its passwords.
pub const ACCESS: &str = "access";

#[cfg(test)]
mod tests {
    use mainstay_crds::access::{AccessSpec, NAME};

    use super::*;

    fn access(name: &str, redis: Option<RedisGrants>) -> Access {
        let spec = AccessSpec {
            redis,
            ..AccessSpec::default()
        };
        Access::new(name, spec)
    }

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|i| (*i).to_owned()).collect()
    }

    #[test]
    fn it_may_do_what_is_asked_for_and_nothing_with_the_server() {
        let grants = RedisGrants {
            keys: list(&["orders:*", "carts:*"]),
            read_only_keys: list(&["prices:*"]),
            channels: list(&["orders"]),
            categories: list(&["read", "write"]),
        };
        assert_eq!(
            rules(&grants),
            "resetchannels ~orders:* ~carts:* %R~prices:* &orders -@all +@read +@write +@connection -@admin \
             -@dangerous -function +info +role +wait +cluster|slots +cluster|shards +cluster|nodes +cluster|info \
             +cluster|myid +cluster|keyslot"
        );
        let all = RedisGrants {
            keys: list(&["*", "orders:*"]),
            read_only_keys: list(&["prices:*"]),
            channels: list(&["orders", "*"]),
            categories: vec![],
        };
        let rules = rules(&all);
        assert!(rules.starts_with("resetchannels ~* &* +@all +@connection -@admin -@dangerous "));
        assert!(!rules.contains("prices") && !rules.contains("orders"));
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        let with = |grants: RedisGrants| problems(&access("orders", Some(grants)));
        let of = |field: &str, sentence: &str| vec![format!("{field}: {sentence}")];
        assert_eq!(problems(&access("orders", None)), of("spec.redis", GRANTS));
        assert_eq!(with(RedisGrants::default()), of("spec.redis", GRANTS));
        let long = "k".repeat(257);
        for pattern in ["", "a b", "a\n+@all", "ü*", &long] {
            let found = with(RedisGrants {
                channels: list(&[pattern]),
                ..RedisGrants::default()
            });
            assert_eq!(found, of("spec.redis.channels", PATTERN), "{pattern:?}");
        }
        for category in ["admin", "dangerous", "all", "@read", "read +@all"] {
            let found = with(RedisGrants {
                keys: list(&["*"]),
                categories: list(&[category]),
                ..RedisGrants::default()
            });
            assert_eq!(found, of("spec.redis.categories", CATEGORY), "{category}");
        }
        let good = RedisGrants {
            keys: list(&["orders:*"]),
            ..RedisGrants::default()
        };
        assert!(with(good.clone()).is_empty());
        assert_eq!(problems(&access("cache-app", Some(good))), [NAME]);
    }
}

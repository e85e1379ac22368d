//! Directives of an engine in cluster mode, besides those of every engine. Pure.

/// Milliseconds after which a member that does not answer is suspected; of a primary, a majority elects another then. It
/// is also how long a primary that is cut off goes on taking writes.
pub const NODE_TIMEOUT: u32 = 5_000;

/// What makes a member of a cluster of an engine that is `name` and has this address.
///
/// Replicas stay with their primary, and a primary that has given its last slot away stays one, for the planner decides who
/// follows whom. Shards that are there serve while another is not.
pub fn directives(name: &str, address: &str) -> Vec<(&'static str, String)> {
    [
        ("cluster-enabled", "yes"),
        ("cluster-config-file", "nodes.conf"),
        ("tls-cluster", "yes"),
        ("cluster-announce-ip", address),
        ("cluster-announce-hostname", name),
        ("cluster-node-timeout", &NODE_TIMEOUT.to_string()),
        ("cluster-allow-replica-migration", "no"),
        ("cluster-require-full-coverage", "no"),
    ]
    .map(|(directive, value)| (directive, value.to_owned()))
    .into()
}

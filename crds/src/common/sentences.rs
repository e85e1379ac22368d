//! What a user is told who wrote something that cannot be: what to write instead.
//!
//! The API server says them (rules in the definitions), and the operators say the same of what
//! reaches them all the same, for example written before an upgrade of the definitions.

/// Of `metadata.name`.
pub const NAME: &str = "metadata.name becomes part of DNS names: write at most 50 lower-case letters, digits and '-', \
     beginning with a letter and ending with a letter or digit";
/// Of `resources.cpu`.
pub const CPU: &str = "write processor time between 10m and 1024, for example 500m or 2";
/// Of `resources.memory`.
pub const MEMORY: &str = "write an amount of memory between 256Mi and 16Ti, for example 2Gi";
/// Of `storage.size`.
pub const STORAGE_SIZE: &str = "write a size between 1Gi and 256Ti, for example 20Gi";
/// Of a smaller `storage.size`.
pub const STORAGE_SHRINKS: &str = "volumes can grow and never shrink: write the former size or a larger one; for less \
     storage make a new resource and move the data";
/// Of the syntax of `storage.class`.
pub const STORAGE_CLASS: &str = "write the name of a StorageClass (kubectl get storageclass lists them), or leave class \
     out for the cluster's default";
/// Of another `storage.class`.
pub const STORAGE_CLASS_CHANGES: &str = "storage.class cannot be changed: volumes stay in the class they were made in. Write \
     the former class, or make a new resource and move the data";
/// Of `tls.certificateHours`.
pub const CERTIFICATE_HOURS: &str =
    "write hours between 1 and 8760 (a year), or leave it out for 2160 (90 days)";
/// Of `maintenance.windows[].start`.
pub const WINDOW_START: &str =
    "write hour and minute in UTC with two digits each and in quotes, for example \"02:30\"";
/// Of `maintenance.windows[].hours`.
pub const WINDOW_HOURS: &str = "write whole hours between 1 and 24";
/// Of a client that selects nothing.
pub const CLIENT_SELECTS: &str = "a client needs at least one label in podLabels or namespaceLabels; for every pod of a \
     namespace write namespaceLabels: {kubernetes.io/metadata.name: <namespace>}";
/// Of label keys and values.
pub const LABELS: &str = "write labels as Kubernetes allows them: a key such as example.com/tier (after the '/' at \
     most 63 letters, digits, '-', '_' and '.') and a value of at most 63 such characters";
/// Of `placement.dedicatedNodes.key`.
pub const DEDICATED_KEY: &str = "write the key that nodes carry as label and taint, for example example.com/node-type: at \
     most 63 letters, digits, '-', '_' and '.' after an optional DNS name and '/'";
/// Of `placement.dedicatedNodes.value`.
pub const DEDICATED_VALUE: &str = "write the value of the nodes' label and taint, for example database: at most 63 letters, \
     digits, '-', '_' and '.', or \"\"";
/// Of `placement.priorityClass`.
pub const PRIORITY_CLASS: &str =
    "write the name of a PriorityClass (kubectl get priorityclass lists them), or leave it out";
/// Of `durability: quorum` with too few instances.
pub const QUORUM: &str = "durability quorum needs at least 3 instances, so that losing one does not stop writes: \
     write instances: 3, or durability: async; with quorum: {enforcement: preferred} it needs 2";
/// Of `quorum.enforcement` where commits wait for nobody.
pub const ENFORCEMENT: &str =
    "quorum says how durability quorum is kept: write durability: quorum as well, or remove quorum";
/// Of `async.maxLagBytes`.
pub const MAX_LAG: &str = "write bytes between 1048576 (1 MiB) and 1099511627776 (1 TiB), for example 67108864 for 64 MiB";
/// Of `async` where commits wait for replicas anyway, or there is none.
pub const ASYNCHRONOUS: &str = "async says how far replicas may be behind where commits do not wait for them: write \
     durability: async and at least 2 instances as well, or remove async";
/// Of `imagePullSecrets`.
pub const PULL_SECRETS: &str =
    "write names of Secrets in the same namespace, for example registry-login";
/// Of an image without a tag, or called latest.
pub const IMAGE: &str = "write an image with a fixed tag or digest, for example postgres:17.6 or \
     postgres@sha256:…; never latest, which changes without notice";
/// Of `to` in an `Operation`.
pub const INSTANCE: &str =
    "write the name of an instance as the status of the resource lists it, for example db-2";
/// Of `to` in an `Operation` that is no switchover.
pub const NOBODY_TAKES_OVER: &str = "only in a Switchover an instance takes over: remove to";
/// Of a `DestroyKeys` without its block, or the block in another operation.
pub const KEYS_ARE_NAMED: &str = "a DestroyKeys says in destroyKeys whose keys it destroys, and where the backups are; no other operation \
     has it: write destroyKeys, or remove it";
/// Of `destroyKeys.confirm`.
pub const CONFIRM: &str =
    "this makes backups unreadable for good: write the name of the target once more";
/// Of `rotatePassword` in another operation.
pub const NO_PASSWORD: &str = "only a RotatePassword changes a password: remove rotatePassword, or write action: RotatePassword";
/// Of a `RotatePassword` of a `Postgres`.
pub const ONE_PASSWORD: &str = "a role of PostgreSQL has one password at a time, so none can be changed without a moment in which one \
     of two is refused: edit password in the Secret <name>-app instead; connections that are open stay, and whoever comes \
     with a password that the primary does not know has to try again for a minute";
/// Of `target.kind` in an `Operation`.
pub const TARGET_KIND: &str =
    "write the kind of the resource that it is done to: Postgres or Redis";
/// Of `timeoutSeconds` in an `Operation`.
pub const TIMEOUT: &str = "write seconds between 10 and 86400 (a day), or leave it out for 300";
/// Of a changed `Operation`.
pub const OPERATION_CHANGES: &str = "an operation does what it said when it was made, once: make another one under another name \
     (or cancel this one with cancel: true)";
/// Of an `Operation` that shall not be cancelled any more.
pub const CANCELLED: &str =
    "it is cancelled, which cannot be taken back: make another one under another name";
/// Of `timeoutSeconds` in a `Restore`.
pub const RESTORE_TIMEOUT: &str =
    "write seconds between 10 and 86400 (a day), or leave it out for 600";
/// Of a changed `Restore`.
pub const RESTORE_CHANGES: &str = "a restore goes to the moment that it said when it was made, once: cancel it with cancel: true or \
     go back with revert: true, and make another one under another name";
/// Of a `Restore` from which `cancel`, `confirm` or `revert` is taken back.
pub const RESTORE_SAID: &str =
    "what was said once cannot be taken back: make another one under another name";

//! What is PostgreSQL's own in tests of going back in place.

use serde_json::{Value, json};

use super::Begin as _;
pub use super::backups::backed_up_of;
pub use super::world::World;

/// The kind of sets, and their plural in rights.
pub const KIND: &str = "Postgres";
pub const PLURAL: &str = "postgreses";
/// What the chart's role says of objects that this operator alone makes.
pub const CREATES: &str = "create, ";
/// What is written is in the repository as it comes.
pub const LOGGED: bool = true;

pub fn start(world: &mut World) {
    world.start();
}

/// A moment that can be recovered.
#[allow(clippy::unused_async, reason = "another engine's takes a while")]
pub async fn moment(_: &World) -> Value {
    json!({"lsn": "0/3000148"})
}

/// The container that restores is told of that moment.
pub fn is_told(told: &Value, moment: &Value) {
    assert_eq!(told["target"], *moment);
}

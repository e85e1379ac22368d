//! What is Redis' own in tests of going back in place.

use std::time::Duration;

use serde_json::{Value, json};

pub use super::backups::{World, backed_up_of};

/// The kind of sets, and their plural in rights.
pub const KIND: &str = "Redis";
pub const PLURAL: &str = "redises";
/// What the chart's role says of objects that another operator alone makes.
pub const CREATES: &str = "";
/// There is nothing between two backups.
pub const LOGGED: bool = false;

pub fn start(world: &mut World) {
    super::start_with(world, "8.0.2");
}

/// A moment that can be recovered: a second after the first backup, which has to be past.
pub async fn moment(world: &World) -> Value {
    let earliest = world.status().recovery.unwrap().earliest.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    json!({"time": (earliest.0 + Duration::from_secs(1)).to_string()})
}

/// The container that restores is told of that moment.
pub fn is_told(told: &Value, moment: &Value) {
    assert_eq!(told["moment"], moment["time"]);
    assert!(told["epoch"].as_u64() > Some(0), "{told}");
}

//! What the watches have shown: one small cache for every kind of child.
//!
//! Every child is kept as compact JSON text, without what nobody reads, filed under the set it
//! belongs to. A pass parses the few objects of its own set. This costs a fraction of the memory of
//! typed objects, and one code path serves all kinds.

pub mod cache;
pub mod feed;
pub mod nodes;
pub mod trim;

pub use cache::{Cache, SetKey};
pub use feed::{Kind, events, feed};
pub use nodes::Nodes;

//! The model of the election. It runs the machine itself: the very source files of
//! `shared/src/election`, compiled here once more, alone and optimised.

#[allow(dead_code, reason = "what only agents use")]
#[path = "../../src/election/mod.rs"]
mod election;

#[cfg(test)]
mod cached;
#[cfg(test)]
mod config;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod explore;
#[cfg(test)]
mod fair;
#[cfg(test)]
mod liveness;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

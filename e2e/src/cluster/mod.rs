//! Kubernetes clusters to test and to demonstrate on.

pub mod context;
pub mod controllers;

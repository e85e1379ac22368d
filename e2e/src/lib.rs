//! Clusters, images, faults and scenarios: the project run against real Kubernetes.

pub mod apiserver;
pub mod cargo;
pub mod chaos;
pub mod charts;
pub mod cluster;
pub mod faults;
pub mod figures;
pub mod images;
pub mod object_store;
pub mod process;
pub mod scenarios;
pub mod stage;
pub mod tools;

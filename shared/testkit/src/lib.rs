//! For tests only: a fake API server with faults, fake agents, tables of cases.

pub mod postgres_cases;

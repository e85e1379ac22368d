//! `mainstay-workload`: the client in test pods.

use std::process::ExitCode;

use clap::Parser;
use mainstay_e2e::workload;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    workload::main(workload::Args::parse()).await
}

//! `mainstay-workload`: the client in test pods.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    mainstay_workload::main(mainstay_workload::Args::parse()).await
}

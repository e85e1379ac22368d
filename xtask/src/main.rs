//! The project's commands. `cargo xtask help` lists them.

mod bench;
mod chaos;
mod cluster;
mod crds;
mod demo;
mod images;
mod install;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    about = "The project's commands.",
    disable_help_subcommand = false
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

/// One variant per file of this folder, in alphabetical order.
#[derive(Subcommand)]
enum Command {
    /// The figures of docs/benchmarks.md.
    Bench(bench::Args),
    /// Faults against a set under load: write gaps, lost writes, time to be whole again.
    Chaos(chaos::Args),
    /// Clusters to work on by hand.
    Cluster(cluster::Args),
    #[command(hide = true)]
    ClusterHelper(cluster::HelperArgs),
    /// Writes the definitions of the resources into their chart.
    Crds(crds::Args),
    /// A cluster, the operators, a PostgreSQL and an application that uses it: from nothing.
    Demo(demo::Args),
    /// Images for clusters without a registry.
    Images(images::Args),
    /// Installs the charts on a cluster, with images built here.
    Install(install::Args),
    /// Runs everything that must hold.
    Test(test::Args),
}

/// The runtime of commands that wait for clusters.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::Chaos(args) => chaos::run(&args),
        Command::Cluster(args) => cluster::run(&args),
        Command::ClusterHelper(args) => cluster::run_helper(&args),
        Command::Crds(args) => crds::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Images(args) => images::run(&args),
        Command::Install(args) => install::run(&args),
        Command::Test(args) => test::run(&args).map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

//! `cargo xtask cluster`: clusters to work on by hand.

use clap::Subcommand;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a cluster, or says that it runs.
    Up {
        /// The cluster's name.
        #[arg(long, default_value = "mainstay")]
        name: String,
    },
}

/// Runs one of the commands.
pub fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    match args.command {
        Command::Up { name } => Err(format!("cluster {name} cannot be started yet").into()),
    }
}

//! `cargo xtask images`: builds them, and loads them onto a cluster.

use std::error::Error;
use std::time::Instant;

use clap::Subcommand;
use mainstay_e2e::images::{self, Built, Image};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds what the cache lacks, and lists names, sizes and archives.
    Build,
}

/// Runs one of the commands.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    match args.command {
        Command::Build => {
            let wanted = [
                Image::PostgresOperator { revision: 1 },
                Image::Postgres { revision: 1 },
                Image::Postgres { revision: 2 },
            ];
            print(&build(&wanted)?);
        }
    }
    Ok(())
}

/// Builds images and says on standard error what takes time.
pub fn build(wanted: &[Image]) -> Result<Vec<Built>, images::Error> {
    let start = Instant::now();
    images::build(wanted, &|step| {
        eprintln!("{:>5.1} s  {step}", start.elapsed().as_secs_f32());
    })
}

fn print(built: &[Built]) {
    for image in built {
        let megabytes = image.size.div_ceil(1_000_000);
        let state = if image.fresh { "built" } else { "cached" };
        println!(
            "{}\t{megabytes} MB\t{state}\t{}",
            image.name,
            image.archive.display()
        );
    }
}

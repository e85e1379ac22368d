//! `kubectl mainstay`: what people ask of add-ons, in one command each.
//!
//! Nothing is done here that a custom resource could not do: each command makes one, or reads some. What is made
//! can be printed instead (`--dry-run`), to be committed where Argo CD applies it.

mod backup;
mod backups;
mod drill;
mod drills;
mod follow;
mod operations;
mod restore;
mod rotate;
mod sets;
mod status;
mod words;

use std::io::Write;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;

use follow::{Look, follow};

/// Backups, restores, drills and passwords of Mainstay's add-ons.
#[derive(Debug, Parser)]
#[command(name = "kubectl-mainstay", bin_name = "kubectl mainstay", version)]
pub struct Arguments {
    /// Namespace; that of the kubeconfig's context unless said.
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// How results are printed.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    #[command(subcommand)]
    command: Command,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What serves, what is waited for, what can be recovered
    Status(status::Options),
    /// Make a backup now, and follow it
    Backup(backup::Options),
    /// List backups
    Backups(backups::Options),
    /// Make a new set from the backups of another one, as it was at some moment
    Restore(restore::Options),
    /// Prove the backups now: restore them where nobody uses them, and check what is there
    Drill(drill::Options),
    /// List drills: what was restored where nobody uses it, and what was found there
    Drills(drills::Options),
    /// Give an application another password; nobody who connects is refused for it
    RotatePassword(rotate::Options),
}

/// Where commands act.
pub struct Scene {
    /// The cluster.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    /// Whether progress is drawn as bars.
    pub bars: bool,
}

impl Scene {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// Does what is asked for; results go to `out`, progress to the standard error.
///
/// # Errors
/// A sentence for whoever asked.
pub async fn run(arguments: &Arguments, scene: &Scene, out: &mut dyn Write) -> Result<()> {
    let asked = Asked {
        scene,
        output: arguments.output,
        out,
    };
    match &arguments.command {
        Command::Status(options) => status::run(options, asked).await,
        Command::Backup(options) => backup::run(options, asked).await,
        Command::Backups(options) => backups::run(options, asked).await,
        Command::Restore(options) => restore::run(options, asked).await,
        Command::Drill(options) => drill::run(options, asked).await,
        Command::Drills(options) => drills::run(options, asked).await,
        Command::RotatePassword(options) => rotate::run(options, asked).await,
    }
}

/// A command: where it acts, and where its result goes.
struct Asked<'a> {
    scene: &'a Scene,
    output: Output,
    out: &'a mut dyn Write,
}

impl Asked<'_> {
    /// Follow what was made until it is over, unless nobody waits for it, and print what came of it.
    async fn conclude<K>(
        &mut self,
        made: K,
        told: &str,
        no_wait: bool,
        look: impl Fn(&K) -> Look,
    ) -> Result<()>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + Serialize + DeserializeOwned + Send + 'static,
        K::DynamicType: Default,
    {
        let name = made.meta().name.clone().unwrap_or_default();
        let (made, message) = if no_wait {
            (made, "asked for".to_owned())
        } else {
            eprintln!("{told}; it goes on if you stop watching");
            follow(self.scene.api(), &name, self.scene.bars, look).await?
        };
        match self.output {
            Output::Json => json(self.out, &made),
            Output::Text => Ok(writeln!(self.out, "{name}: {message}")?),
        }
    }
}

fn json(out: &mut dyn Write, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}

/// A table as `kubectl get` prints it.
fn table(out: &mut dyn Write, head: &[&str], rows: &[Vec<String>]) -> Result<()> {
    let mut table = tabwriter::TabWriter::new(out).padding(3);
    writeln!(table, "{}", head.join("\t"))?;
    for row in rows {
        writeln!(table, "{}", row.join("\t"))?;
    }
    table.flush()?;
    Ok(())
}

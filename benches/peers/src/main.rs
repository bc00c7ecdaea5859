//! wsloop beside other WebSocket libraries and beside the least that is possible, in one run.
//!
//! ```text
//! cargo run --release -p peers
//! cargo run --release -p peers -- --measure messages --size 20,512 --connections 64 --in-flight 1 --repeats 9
//! ```
//!
//! `benches/README.md` says how each figure is taken, and what would make it unfair.

mod frames;
mod handshakes;
mod load;
mod pace;
mod plan;
mod poller;
mod process;
mod report;
mod results;
mod run;
mod scenario;
mod servers;
mod slices;
mod upgrade;
mod watch;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{
    load::Outcome,
    plan::Selection,
    results::{Machine, Results},
};

/// Measures wsloop, other WebSocket libraries and the least that is possible, all in turn.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    serve: Option<Serve>,
    #[command(flatten)]
    selection: Selection,
    /// Where tables, plots and figures are written to
    #[arg(long, value_name = "FOLDER", default_value = "target/peers")]
    out: PathBuf,
}

#[derive(Subcommand)]
enum Serve {
    /// One of the peers, which is what is measured
    #[command(hide = true)]
    Serve(servers::Options),
}

fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    if let Some(Serve::Serve(options)) = arguments.serve {
        return servers::serve(&options);
    }
    // Before this process is confined to one core.
    let machine = Machine::this();
    if let Some(warning) = machine.warning() {
        eprintln!("{warning}");
    }
    process::pin(process::LOAD_CORE)?;
    process::allow_descriptors()?;
    let save = |results: &Results| report::save(results, &arguments.out);
    let results = arguments.selection.run(machine, save)?;
    report::show(&results, &arguments.out)
}

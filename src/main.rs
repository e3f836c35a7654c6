//! The program: the node's own children first, then logging and the command line. Nodes are composed in `node.rs`.

use clap::Parser;
use skep::actors::{node::probe, task::keeper};
use std::process::ExitCode;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

fn main() -> ExitCode {
    // Before anything is set up: these are children of a node, and stay as small as they can.
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_ref().and_then(|word| word.to_str()) {
        Some(probe::SUBCOMMAND) => return probe::print().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        Some(keeper::SUBCOMMAND) => return keeper::main(),
        _ => {}
    }
    let cli = skep::cli::Cli::parse();
    let level = LevelFilter::WARN.into();
    let filter = EnvFilter::builder().with_default_directive(level).with_env_var("SKEP_LOG").from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    skep::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("the system has threads and sockets").block_on(skep::cli::main(cli))
}

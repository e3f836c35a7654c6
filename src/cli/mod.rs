//! The command line: one subcommand a file. Each asks the running node over its HTTP API and shows the answer.
//!
//! Exit codes: 0 well; 1 it failed; 2 the command line is wrong; 3 no node is running; 4 no such thing; 5 refused.
//! `skep run` exits as its command did, and 124 if that ran out of time. `skep audit verify` exits with 1 if a log is not
//! whole, and with 6 if none is found that isn't, but not all machines could be looked at.

mod agent;
mod agents;
mod approvals;
mod approve;
mod ask;
mod audit;
mod budget;
mod cancel;
mod chat;
mod completions;
mod cron;
mod demo;
mod doctor;
mod drain;
mod events;
mod evict;
mod fetch;
mod files;
mod goal;
mod invite;
mod join;
mod label;
mod leave;
mod logs;
mod models;
mod nodes;
mod open;
mod organism;
mod policy;
mod pull;
mod run;
mod screen;
mod spawn;
mod status;
mod tasks;
mod threads;
mod token;
mod up;
mod workers;

use crate::{
    client::{self, Client},
    config::Mistakes,
    home::Home,
};
use clap::{Parser, Subcommand};
use std::{
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Turns the machines on a LAN into one: commands, agents and language models on all of them.
#[derive(Parser)]
#[command(name = "skep", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// Print the API's answer as JSON.
    #[arg(long, global = true)]
    json: bool,

    /// The node's folder.
    #[arg(long, global = true, env = "SKEP_HOME", value_name = "DIR")]
    home: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start this machine's node; it stays in the foreground until Ctrl-C.
    Up(Box<up::Up>),
    /// Three nodes on this machine: form a swarm, split a model over them, finish a goal.
    Demo(demo::Demo),
    /// Print an invite: one line for the other machine, valid for 10 minutes and once.
    Invite(invite::Invite),
    /// Join the swarm that an invite opens.
    Join(join::Join),
    /// Show the machines that wait, or let in the one whose screen shows the code.
    Approve(approve::Approve),
    /// Say goodbye to the swarm; with --forget, leave it for good.
    Leave(leave::Leave),
    /// Take a machine out of the swarm for good.
    Evict(evict::Evict),
    /// The swarm in a few lines.
    Status(status::Status),
    /// The machines of the swarm.
    Nodes(nodes::Nodes),
    /// Have a machine take no new work; what runs there goes on.
    Cordon(drain::Cordon),
    /// Empty a machine: it takes no new work, and what still runs there after a while runs elsewhere.
    Drain(drain::Drain),
    /// Show, give or take away what `skep run --where` asks about.
    Label(label::Label),
    /// Run a command where there is room, and follow its output.
    Run(Box<run::Run>),
    /// Goals: graphs of commands, from a file, and how far they are.
    Goal(goal::Goal),
    /// The commands of the swarm.
    Tasks(tasks::Tasks),
    /// The output of a command.
    Logs(logs::Logs),
    /// The files that a command left.
    Fetch(fetch::Fetch),
    /// End a command and all that it started.
    Cancel(cancel::Cancel),
    /// Commands that run at times.
    Cron(cron::Cron),
    /// Say something to an agent and see its answer.
    Ask(ask::Ask),
    /// What was said to agents, thread by thread.
    Threads(threads::Threads),
    /// The agents that the swarm has defined.
    Organism(organism::Organism),
    /// Give a goal to an agent and follow it.
    Agent(agent::Agent),
    /// The agents of the swarm.
    Agents(agents::Agents),
    /// Start a sub-agent of one that is at work.
    Spawn(spawn::Spawn),
    /// Calls of agents that wait for your word: list, allow and deny them.
    Approvals(approvals::Approvals),
    /// The rules about what agents may do without asking.
    Policy(policy::Policy),
    /// What agents wanted, who decided, what was done; and whether that record is whole.
    Audit(audit::Audit),
    /// Talk to a model that the swarm serves.
    Chat(chat::Chat),
    /// The models on this node.
    Models(models::Models),
    /// Fetch a model.
    Pull(pull::Pull),
    /// What happens in the swarm, as it happens.
    Events(events::Events),
    /// Token budgets of threads, or one of them.
    Budget(budget::Budget),
    /// The external workers that take tasks from the swarm.
    Workers(workers::Workers),
    /// Print the API's bearer token.
    Token(token::Token),
    /// Print a link that signs one browser in to the dashboard.
    Open(open::Open),
    /// Why don't I see my peers?
    Doctor(doctor::Doctor),
    /// Completions for your shell.
    Completions(completions::Completions),
}

/// What every subcommand is given.
pub(crate) struct Here {
    home: Home,
    json: bool,
}

impl Here {
    /// The running node.
    fn client(&self) -> Result<Client, client::Error> {
        Client::of(&self.home)
    }
}

/// Runs the command line and says how it went.
pub async fn main(cli: Cli) -> ExitCode {
    let here = Here { home: cli.home.map_or_else(Home::of_user, Home::at), json: cli.json };
    let done = match cli.command {
        Command::Up(c) => c.run(&here).await,
        Command::Demo(c) => c.run(&here).await,
        Command::Invite(c) => c.run(&here).await,
        Command::Join(c) => c.run(&here).await,
        Command::Approve(c) => c.run(&here).await,
        Command::Leave(c) => c.run(&here).await,
        Command::Evict(c) => c.run(&here).await,
        Command::Status(c) => c.run(&here).await,
        Command::Nodes(c) => c.run(&here).await,
        Command::Goal(c) => return c.run(&here).await.unwrap_or_else(failed),
        Command::Cordon(c) => c.run(&here).await,
        Command::Drain(c) => c.run(&here).await,
        Command::Label(c) => c.run(&here).await,
        Command::Run(c) => return c.run(&here).await.unwrap_or_else(failed),
        Command::Tasks(c) => c.run(&here).await,
        Command::Logs(c) => c.run(&here).await,
        Command::Fetch(c) => c.run(&here).await,
        Command::Cancel(c) => c.run(&here).await,
        Command::Cron(c) => c.run(&here).await,
        Command::Ask(c) => c.run(&here).await,
        Command::Threads(c) => c.run(&here).await,
        Command::Organism(c) => c.run(&here).await,
        Command::Agent(c) => c.run(&here).await,
        Command::Agents(c) => c.run(&here).await,
        Command::Spawn(c) => c.run(&here).await,
        Command::Approvals(c) => c.run(&here).await,
        Command::Policy(c) => c.run(&here).await,
        Command::Audit(c) => return c.run(&here).await.unwrap_or_else(failed),
        Command::Chat(c) => c.run(&here).await,
        Command::Models(c) => c.run(&here).await,
        Command::Pull(c) => c.run(&here).await,
        Command::Events(c) => c.run(&here).await,
        Command::Budget(c) => c.run(&here).await,
        Command::Workers(c) => c.run(&here).await,
        Command::Token(c) => c.run(&here),
        Command::Open(c) => c.run(&here).await,
        Command::Doctor(c) => c.run(&here).await,
        Command::Completions(c) => c.run(),
    };
    done.map_or_else(failed, |()| ExitCode::SUCCESS)
}

/// The text of a file of at most so many bytes; of standard input, if it is called `-`.
fn read(file: &Path, bytes_max: u64) -> anyhow::Result<String> {
    let mut text = String::new();
    // One byte more than may be, so that it is known to be too long without being read to its end.
    match file == Path::new("-") {
        true => std::io::stdin().take(bytes_max + 1).read_to_string(&mut text)?,
        false => std::fs::File::open(file)?.take(bytes_max + 1).read_to_string(&mut text)?,
    };
    anyhow::ensure!(text.len() as u64 <= bytes_max, "is larger than {}", screen::bytes(bytes_max));
    Ok(text)
}

/// Who decides here, as far as that is known.
fn who() -> String {
    std::env::var("USER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "cli".into())
}

/// A piece of a URL's path: whatever the user typed is one segment, and can't become another route.
fn path_part(text: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|b| if keep(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Says why, and picks the exit code.
fn failed(error: anyhow::Error) -> ExitCode {
    use owo_colors::OwoColorize;
    screen::note!("{} {error:#}", "error:".red().bold());
    if error.is::<Mistakes>() {
        return ExitCode::from(2);
    }
    ExitCode::from(match error.downcast_ref::<client::Error>() {
        Some(client::Error::Home(crate::home::Error::NotRunning(_))) => 3,
        Some(client::Error::Refused { status: 404, .. }) => 4,
        Some(client::Error::Refused { .. }) => 5,
        _ => 1,
    })
}

//! A node that is killed without a chance takes its commands with it, and keepers take one command after the other
//! without anything of the last one. Without libtest's harness, because this program is
//! also the node that is killed and the keeper of its command, by its first argument.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends at the first surprise, and reports by its output"
)]

use skep_actors::{
    Context, ledger,
    node::{self, probe},
    runtime::{Handle, Wire},
    scheduler::{self, Message, Spec, State},
    task::{Fences, Level, Mark, family::Family, keeper},
    testing::Swarm,
};
use std::{
    io::{BufRead, BufReader},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// Descendants in the group, out of it, without the mark, and orphaned; then the sign that they all run.
const COMMAND: &str = "sleep 300 & setsid sleep 300 & (env -i setsid sleep 300 &); sleep 0.1; touch ready; sleep 300";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().and_then(|a| a.into_string().ok()).as_deref() {
        Some(keeper::SUBCOMMAND) => keeper::main(),
        Some("node") => node_to_be_killed(),
        // Never the test itself: a node that looks for graphics processors would start it, and it a node.
        Some(probe::SUBCOMMAND) => ExitCode::FAILURE,
        // What libtest would be asked: `--list` and filters of other tests.
        Some("--list") => ExitCode::SUCCESS,
        _ => {
            killed_node_leaves_nothing();
            println!("test a_node_that_is_killed_takes_its_commands_with_it ... ok");
            tokio::runtime::Runtime::new().unwrap().block_on(keepers_are_used_again());
            println!("test a_keeper_takes_the_next_command_and_nothing_of_the_last_one ... ok");
            ExitCode::SUCCESS
        }
    }
}

fn killed_node_leaves_nothing() {
    let exe = std::env::current_exe().unwrap();
    let mut node = Command::new(exe).arg("node").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
    let mark: Mark = lines.next().unwrap().unwrap().parse().unwrap();
    let keeper: u32 = lines.next().unwrap().unwrap().parse().unwrap();
    let folder = lines.next().unwrap().unwrap();
    let family = Family::of_keeper(mark, keeper);
    assert!(!family.is_gone());
    node.kill().unwrap();
    node.wait().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let gone = async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while !family.is_gone() || std::path::Path::new(&format!("/proc/{keeper}")).exists() {
            look.tick().await;
        }
    };
    runtime.block_on(async { tokio::time::timeout(DEADLINE, gone).await }).expect("nothing is left of the command");
    // What the killed node could not remove itself.
    std::fs::remove_dir_all(folder).unwrap();
}

async fn keepers_are_used_again() {
    let swarm = Swarm::of_machine(1).await;
    // At this level a command sees its keeper, and none starts another program in between.
    let fences = Fences::at_most(Level::Landlock);
    let context = Context { exe: std::env::current_exe().ok(), fences, ..swarm.context(0).clone() };
    ledger::start(&context, swarm.root(0)).await.unwrap();
    node::start(&context, swarm.root(0)).await.unwrap();
    scheduler::start(&context, swarm.root(0)).await.unwrap();
    let scheduler: Handle<Message> = context.directory.here(scheduler::NAME);
    let run_as = async |mut spec: Spec, env: &[(&str, &str)]| {
        spec.env = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let record = scheduler.ask(DEADLINE, |reply| Message::Submit(Wire(spec), reply)).await.unwrap().unwrap();
        let mut look = tokio::time::interval(Duration::from_millis(5));
        loop {
            let record = scheduler.ask(DEADLINE, |reply| Message::Get(Wire(record.id), reply)).await.unwrap().unwrap();
            if record.state.ended() {
                return record;
            }
            look.tick().await;
        }
    };
    let run = async |command: &str, env: &[(&str, &str)]| run_as(Spec::new(command), env).await;
    let first = run("echo $PPID a=$A", &[("A", "secret")]).await.output;
    let (keeper, said) = first.trim().split_once(' ').unwrap();
    assert_eq!(said, "a=secret");
    assert_eq!(keeper, keeper_here().to_string());
    // What it leaves, in or out of the group, is gone before the next one comes.
    let left = run("sleep 300 & setsid sleep 300 & echo $!", &[]).await;
    assert!(left.state == State::Completed, "{left:?}");
    assert!(!std::path::Path::new(&format!("/proc/{}", left.output.trim())).exists());
    assert_eq!(run("echo $PPID a=$A", &[]).await.output, format!("{keeper} a=\n"));
    assert_eq!(run("exit 7", &[]).await.exit_code, Some(7));
    assert_eq!(run("no-such-program-here", &[]).await.exit_code, Some(127));
    assert_eq!(run("kill -9 $$", &[]).await.error.unwrap(), "it ended with status 137: signal 9");
    // From behind a fence it can't be ended.
    let fenced = context.fences.found(&context).await.best > Level::None;
    assert!(!fenced || run("kill -9 $PPID || echo refused", &[]).await.output.ends_with("refused\n"));
    // A command that ends its keeper fails, and the next one gets another keeper.
    let traitor = run_as(Spec::new("kill -9 $PPID; sleep 300").unfenced(), &[]).await;
    assert_eq!(traitor.state, State::Failed, "{traitor:?}");
    let after = run("echo $PPID", &[]).await.output;
    assert!(!after.trim().is_empty() && after.trim() != keeper);
    // More at once than keepers that wait afterwards.
    let many = (0..40).map(|n| format!("echo {n}"));
    let many = futures::future::join_all(many.map(async |command| run(&command, &[]).await.output)).await;
    assert_eq!(many, (0..40).map(|n| format!("{n}\n")).collect::<Vec<_>>());
}

fn node_to_be_killed() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let swarm = Swarm::of_machine(1).await;
        let context = Context { exe: std::env::current_exe().ok(), ..swarm.context(0).clone() };
        ledger::start(&context, swarm.root(0)).await.unwrap();
        node::start(&context, swarm.root(0)).await.unwrap();
        scheduler::start(&context, swarm.root(0)).await.unwrap();
        let scheduler: Handle<Message> = context.directory.here(scheduler::NAME);
        let spec = Spec::new(COMMAND);
        let record = scheduler.ask(DEADLINE, |reply| Message::Submit(Wire(spec), reply)).await.unwrap().unwrap();
        let scratch = context.home.join("scratch");
        let ready = || {
            let mut folders = std::fs::read_dir(&scratch).into_iter().flatten().flatten();
            folders.any(|folder| folder.path().join("work/ready").exists())
        };
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while !ready() {
            look.tick().await;
        }
        let folder = context.home.parent().unwrap().display();
        let mark = Mark { node: record.owner, task: record.id, attempt: 1 };
        println!("{mark}\n{}\n{folder}", keeper_here());
        std::future::pending::<()>().await;
    });
    ExitCode::FAILURE
}

/// This process's child that keeps the command.
fn keeper_here() -> u32 {
    let me = std::process::id().to_string();
    let found = std::fs::read_dir("/proc").unwrap().flatten().find(|entry| {
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let parent = read("stat").rsplit(')').next().and_then(|s| s.split_whitespace().nth(1).map(String::from));
        parent.as_ref() == Some(&me) && read("cmdline").contains(keeper::SUBCOMMAND)
    });
    found.expect("the command has a keeper").file_name().to_str().unwrap().parse().unwrap()
}

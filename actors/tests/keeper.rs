//! A node that is killed without a chance takes its commands with it. Without libtest's harness, because this program is
//! also the node that is killed and the keeper of its command, by its first argument.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends at the first surprise, and reports by its output"
)]

use skep_actors::{
    Context, ledger,
    node::probe,
    runtime::{Handle, Wire},
    scheduler::{self, Message, Spec},
    task::{Mark, family::Family, keeper},
    testing::Swarm,
};
use std::{
    io::{BufRead, BufReader},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(30);

/// Descendants in the group, out of it, without the mark, and orphaned; then the sign that they all run.
const COMMAND: &str = "sleep 300 & setsid sleep 300 & (env -i setsid sleep 300 &); sleep 0.1; touch ready; sleep 300";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().and_then(|a| a.into_string().ok()).as_deref() {
        Some(keeper::SUBCOMMAND) => keeper::main(arguments),
        Some("node") => node_to_be_killed(),
        // Never the test itself: a node that looks for graphics processors would start it, and it a node.
        Some(probe::SUBCOMMAND) => ExitCode::FAILURE,
        // What libtest would be asked: `--list` and filters of other tests.
        Some("--list") => ExitCode::SUCCESS,
        _ => {
            killed_node_leaves_nothing();
            println!("test a_node_that_is_killed_takes_its_commands_with_it ... ok");
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

fn node_to_be_killed() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let swarm = Swarm::of_machine(1).await;
        let context = Context { exe: std::env::current_exe().ok(), ..swarm.context(0).clone() };
        ledger::start(&context, swarm.root(0)).await.unwrap();
        scheduler::start(&context, swarm.root(0)).await.unwrap();
        let scheduler: Handle<Message> = context.directory.here(scheduler::NAME);
        let spec = Spec::new(COMMAND);
        let record = scheduler.ask(DEADLINE, |reply| Message::Submit(Wire(spec), reply)).await.unwrap().unwrap();
        let ready = context.home.join("tasks").join(record.id.to_string()).join("work/ready");
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while !ready.exists() {
            look.tick().await;
        }
        let folder = context.home.parent().unwrap().display();
        let mark = Mark { node: record.owner, task: record.id, attempt: 1 };
        println!("{mark}\n{}\n{folder}", keeper_of(record.id));
        std::future::pending::<()>().await;
    });
    ExitCode::FAILURE
}

/// This process's child that keeps the command.
fn keeper_of(task: Uuid) -> u32 {
    let me = std::process::id().to_string();
    let found = std::fs::read_dir("/proc").unwrap().flatten().find(|entry| {
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let parent = read("stat").rsplit(')').next().and_then(|s| s.split_whitespace().nth(1).map(String::from));
        parent.as_ref() == Some(&me) && read("environ").contains(&task.to_string())
    });
    found.expect("the command has a keeper").file_name().to_str().unwrap().parse().unwrap()
}

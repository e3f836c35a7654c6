//! Commands behind each fence that this machine has: what they can't reach, what they still can, and that each limit ends
//! what breaks it while the node goes on. Without libtest's harness, because this program is also the keeper that fences,
//! and the client that tries to get out, by its first argument.
//!
//! Each attempt is made without a fence too, where it has to succeed: or a check could not fail. Bombs are bounded by
//! themselves, should the limit that ends them not work.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends at the first surprise, and reports by its output"
)]

#[cfg(target_os = "linux")]
mod linux {
    use skep_actors::{
        Context, ledger,
        node::{self, card, probe},
        runtime::{Handle, Wire, frames},
        scheduler::{self, Demand, Message, Record, ScheduleError, Spec, State, messages::Output},
        task::{Fences, Level, Mark, family::Family, keeper},
        testing::Swarm,
    };
    use std::{
        net::TcpListener,
        os::unix::net::UnixListener,
        path::{Path, PathBuf},
        process::ExitCode,
        sync::Arc,
        time::Duration,
    };

    const DEADLINE: Duration = Duration::from_secs(60);

    pub(crate) fn main() -> ExitCode {
        let mut arguments = std::env::args_os().skip(1);
        match arguments.next().and_then(|a| a.into_string().ok()).as_deref() {
            Some(keeper::SUBCOMMAND) => keeper::main(),
            Some("connect") => connect(&arguments.next().unwrap().into_string().unwrap()),
            // Never the test itself: a node that looks for graphics processors would start it, and it a node.
            Some(probe::SUBCOMMAND) => ExitCode::FAILURE,
            Some("--list") => ExitCode::SUCCESS,
            filter => {
                let filter = filter.filter(|word| !word.starts_with('-')).unwrap_or_default().to_owned();
                tokio::runtime::Runtime::new().unwrap().block_on(all(&filter));
                ExitCode::SUCCESS
            }
        }
    }

    /// The client that tries to get out: to an address, or to a socket's path.
    fn connect(to: &str) -> ExitCode {
        let reached = match to.starts_with('/') {
            true => std::os::unix::net::UnixStream::connect(to).is_ok(),
            false => std::net::TcpStream::connect(to).is_ok(),
        };
        println!("{}", if reached { "reached" } else { "refused" });
        ExitCode::SUCCESS
    }

    async fn all(filter: &str) {
        for level in [Level::Landlock, Level::Bubblewrap] {
            let here = Here::new(level).await;
            let found = here.context.fences.found(&here.context).await;
            if found.best < level {
                println!("NOT RUN: {level}: {}", found.why_not[&level]);
                continue;
            }
            macro_rules! check {
                ($($test:ident)*) => { $(
                    if format!("{level}::{}", stringify!($test)).contains(filter) {
                        let start = tokio::time::Instant::now();
                        Box::pin($test(&here)).await;
                        println!("test {level}::{} ... ok ({} ms)", stringify!($test), start.elapsed().as_millis());
                    }
                )* };
            }
            check! {
                its_own_folder_is_all_that_it_can_change
                the_nodes_folder_is_out_of_reach
                there_is_no_network_unless_asked_for
                sockets_of_this_machine_are_out_of_reach
                links_lead_nowhere
                links_that_change_while_they_are_followed_lead_nowhere
                a_folder_that_is_named_can_be_read_and_a_writable_one_changed
                folders_that_are_not_there_or_the_nodes_are_refused
                a_program_that_does_not_exist_is_told
                other_processes_are_out_of_reach
                no_new_namespace_is_made
                its_environment_is_its_own
                ordinary_programs_work
                a_bomb_of_processes_is_ended
                a_bomb_of_processes_that_leave_their_group_is_ended
                a_bomb_of_memory_is_ended
                what_fills_the_disk_is_ended
                empty_files_fill_the_disk_too
                a_cancelled_command_is_asked_first_and_leaves_nothing
                what_no_fence_here_is_strong_enough_for_is_refused
                a_card_that_promises_too_much_is_no_way_round
            }
        }
    }

    /// A node whose strongest fence is this one.
    struct Here {
        level: Level,
        swarm: Swarm,
        context: Context,
        scheduler: Handle<Message>,
    }

    impl Here {
        async fn new(level: Level) -> Here {
            let swarm = Swarm::of_machine(1).await;
            let (exe, fences) = (std::env::current_exe().ok(), Fences::at_most(level));
            let context = Context { exe, fences, ..swarm.context(0).clone() };
            ledger::start(&context, swarm.root(0)).await.unwrap();
            node::start(&context, swarm.root(0)).await.unwrap();
            scheduler::start(&context, swarm.root(0)).await.unwrap();
            let scheduler = context.directory.here(scheduler::NAME);
            std::fs::write(context.home.join("key"), "secret\n").unwrap();
            Here { level, swarm, context, scheduler }
        }

        async fn submit(&self, spec: Spec) -> Result<Record, ScheduleError> {
            self.scheduler.ask(DEADLINE, |reply| Message::Submit(Wire(spec), reply)).await.unwrap()
        }

        async fn get(&self, id: uuid::Uuid) -> Record {
            self.scheduler.ask(DEADLINE, |reply| Message::Get(Wire(id), reply)).await.unwrap().unwrap()
        }

        /// Follows it to its end, or to `marker`.
        async fn follow(&self, record: &Record, marker: &str) {
            let expected = self.context.directory.expect(self.swarm.id(0), self.context.env.ticket()).unwrap();
            let follow = (record.id, self.swarm.id(0), expected.ticket());
            self.scheduler.ask(DEADLINE, |reply| Message::Follow(Wire(follow), reply)).await.unwrap().unwrap();
            let mut stream = expected.opened().await.unwrap();
            let mut text = Vec::new();
            let followed = async {
                while let Some(frame) = frames::read::<Output>(&mut stream.reader).await.unwrap() {
                    match frame {
                        Output::Bytes(bytes) => text.extend(bytes),
                        Output::Skipped(_) => {}
                        Output::Ended(_) => break,
                    }
                    if !marker.is_empty() && String::from_utf8_lossy(&text).contains(marker) {
                        break;
                    }
                }
            };
            tokio::time::timeout(DEADLINE, followed).await.expect("it ends in time");
        }

        async fn run(&self, spec: Spec) -> Record {
            let (required, record) = (spec.demand.sandbox, self.submit(spec).await.unwrap());
            self.follow(&record, "").await;
            let record = self.get(record.id).await;
            assert!(record.state.ended(), "{record:?}");
            let level = if required == Some(Level::None) { Level::None } else { self.level };
            assert_eq!(record.sandbox, Some(level), "{record:?}");
            record
        }

        /// What a line says from behind the fence, and without it.
        async fn both(&self, line: &str) -> [String; 2] {
            let fenced = self.run(Spec::new(line)).await.output;
            [fenced, self.run(Spec::new(line).unfenced()).await.output]
        }

        /// The node still does its work.
        async fn is_well(&self) {
            let record = self.run(Spec::new("echo well")).await;
            assert_eq!((record.state, record.output.as_str()), (State::Completed, "well\n"), "{record:?}");
        }

        /// It is ended by this limit, and nothing of it is left.
        async fn is_ended(&self, spec: Spec, limit: &str) {
            let record = self.run(spec).await;
            let why = record.error.clone().unwrap_or_default();
            assert!(record.state == State::Failed && why.contains("it was ended") && why.contains(limit), "{record:?}");
            assert!(!left(&record), "{record:?}");
            self.is_well().await;
        }
    }

    fn left(record: &Record) -> bool {
        let mark = Mark { node: record.owner, task: record.id, attempt: record.attempts };
        !Family::of_mark(mark).is_gone()
    }

    /// A folder that is neither the node's nor the system's.
    fn elsewhere() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        (folder, path)
    }

    fn entries(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    fn text(path: &Path) -> String {
        path.to_str().unwrap().to_owned()
    }

    fn demand(sandbox: Level) -> Demand {
        Demand { sandbox: Some(sandbox), ..Demand::default() }
    }

    async fn its_own_folder_is_all_that_it_can_change(here: &Here) {
        let (_folder, outside) = elsewhere();
        let known = outside.join("known");
        std::fs::write(&known, "before").unwrap();
        let (outside, known) = (outside.display(), known.display());
        let line = format!(
            "echo mine > own && cat own; echo x > $TMPDIR/own && cat $TMPDIR/own
             echo x > {outside}/new || echo refused; echo x > {known} || echo refused; rm {known} || echo refused
             echo x > /usr/skep-test || echo refused; echo x > /skep-test || echo refused; rm -f /usr/skep-test /skep-test"
        );
        let fenced = here.run(Spec::new(line.clone())).await;
        assert!(fenced.output.starts_with("mine\nx\n"), "{}", fenced.output);
        assert_eq!(fenced.output.matches("refused\n").count(), 5, "{}", fenced.output);
        assert_eq!(std::fs::read_to_string(known.to_string()).unwrap(), "before");
        let free = here.run(Spec::new(line).unfenced()).await;
        assert!(free.output.starts_with("mine\nx\n") && !Path::new(&known.to_string()).exists(), "{}", free.output);
    }

    async fn the_nodes_folder_is_out_of_reach(here: &Here) {
        let home = here.context.home.canonicalize().unwrap();
        let home = home.display();
        let by_name =
            format!("cat {home}/key; ls {home}; cat ../../../key; ls ..; cat /proc/self/root{home}/key; true");
        let [fenced, free] = here.both(&by_name).await;
        assert!(!fenced.contains("secret\n") && !fenced.contains("models\n"), "{fenced}");
        assert!(!fenced.contains("output\n"), "{fenced}");
        assert_eq!(free.matches("secret\n").count(), 3, "{free}");
        // Nor through the node's own eyes.
        let node = std::process::id();
        let line =
            format!("cat /proc/{node}/root{home}/key; tr '\\0' '\\n' < /proc/{node}/environ | grep -c ^PATH=; true");
        let [fenced, free] = here.both(&line).await;
        assert!(!fenced.contains("secret\n") && fenced.ends_with("0\n"), "{fenced}");
        assert_eq!(free, "secret\n1\n");
    }

    /// This program as a client behind the fence.
    fn client(to: &str) -> Spec {
        let exe = text(&std::env::current_exe().unwrap());
        Spec { args: vec!["connect".into(), to.into()], readable: vec![exe.clone()], ..Spec::new(exe) }
    }

    async fn there_is_no_network_unless_asked_for(here: &Here) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let at = listener.local_addr().unwrap().to_string();
        assert_eq!(here.run(client(&at)).await.output, "refused\n");
        assert_eq!(here.run(Spec { network: true, ..client(&at) }).await.output, "reached\n");
        assert_eq!(here.run(client(&at).unfenced()).await.output, "reached\n");
    }

    async fn sockets_of_this_machine_are_out_of_reach(here: &Here) {
        let (_folder, outside) = elsewhere();
        let _daemon = UnixListener::bind(outside.join("daemon")).unwrap();
        let at = text(&outside.join("daemon"));
        // Even where the folder is given.
        for (readable, writable) in [(false, false), (true, false), (false, true)] {
            let mut spec = client(&at);
            spec.readable.extend(readable.then(|| text(&outside)));
            spec.writable.extend(writable.then(|| text(&outside)));
            assert_eq!(here.run(spec).await.output, "refused\n", "{readable} {writable}");
        }
        assert_eq!(here.run(client(&at).unfenced()).await.output, "reached\n");
    }

    async fn links_lead_nowhere(here: &Here) {
        let (_folder, outside) = elsewhere();
        let home = here.context.home.canonicalize().unwrap();
        let line = format!(
            "ln -s {} out; echo x > out/file; ln -s {}/key key; cat key; ln {}/key hard; cat hard; true",
            outside.display(),
            home.display(),
            home.display()
        );
        let fenced = here.run(Spec::new(line.clone())).await.output;
        assert!(!fenced.contains("secret\n") && entries(&outside) == 0, "{fenced}");
        let free = here.run(Spec::new(line).unfenced()).await.output;
        assert!(free.matches("secret\n").count() == 2 && entries(&outside) == 1, "{free}");
    }

    async fn links_that_change_while_they_are_followed_lead_nowhere(here: &Here) {
        let (_folder, outside) = elsewhere();
        let line = format!(
            "mkdir in; ln -s in way
             (while :; do ln -sfn {0} way; ln -sfn in way; done) & swapper=$!
             i=0; while [ $i -lt 400 ]; do echo x > way/$i; i=$((i+1)); done 2>/dev/null; kill $swapper; ls in | wc -l",
            outside.display()
        );
        let record = here.run(Spec::new(line.clone())).await;
        assert_eq!(entries(&outside), 0, "{record:?}");
        assert!(record.output.trim().parse::<u32>().unwrap() > 0, "some went where they may: {record:?}");
        here.run(Spec::new(line).unfenced()).await;
        assert!(entries(&outside) > 0);
    }

    async fn a_folder_that_is_named_can_be_read_and_a_writable_one_changed(here: &Here) {
        let (_folder, outside) = elsewhere();
        std::fs::write(outside.join("data"), "data\n").unwrap();
        let line = format!("pwd; cat {0}/data; echo x > {0}/new || echo refused", outside.display());
        let spec = |line: &str| Spec { dir: Some(text(&outside)), ..Spec::new(line) };
        let read = here.run(spec(&line)).await.output;
        assert!(read.starts_with(&format!("{}\ndata\n", outside.display())) && read.ends_with("refused\n"), "{read}");
        assert_eq!(entries(&outside), 1);
        let readable = here.run(Spec { readable: vec![text(&outside)], ..Spec::new(line.clone()) }).await.output;
        assert!(readable.contains("data\n") && readable.ends_with("refused\n"), "{readable}");
        let changed = here.run(Spec { writable: vec![text(&outside)], ..Spec::new(line.clone()) }).await.output;
        assert!(changed.contains("data\n") && !changed.contains("refused"), "{changed}");
        assert_eq!(entries(&outside), 2);
        let neither = here.run(Spec::new(line)).await.output;
        assert!(!neither.contains("data\n"), "{neither}");
    }

    async fn folders_that_are_not_there_or_the_nodes_are_refused(here: &Here) {
        let (_folder, outside) = elsewhere();
        std::os::unix::fs::symlink(&here.context.home, outside.join("link")).unwrap();
        let home = text(&here.context.home.canonicalize().unwrap());
        let dirs = [
            ("/no/such", "is no folder"),
            ("no-such", "is no folder"),
            ("/dev/null", "is no folder"),
            ("../..", "belongs to the node"),
            (home.as_str(), "belongs to the node"),
            (&text(&outside.join("link")), "belongs to the node"),
            ("/", "holds the node's own folder"),
        ];
        for (dir, why) in dirs {
            for spec in [Spec::new("cat key"), Spec::new("cat key").unfenced()] {
                let record = here.run(Spec { dir: Some(dir.into()), ..spec }).await;
                let error = record.error.clone().unwrap_or_default();
                assert!(record.state == State::Failed && error.contains("dir: ") && error.contains(why), "{record:?}");
                assert!(record.output.is_empty(), "nothing ran: {record:?}");
            }
        }
        let writable = here.run(Spec { writable: vec![home], ..Spec::new("true") }).await;
        assert!(writable.error.unwrap().contains("writable: "), "{:?}", writable.output);
    }

    async fn a_program_that_does_not_exist_is_told(here: &Here) {
        let line = here.run(Spec::new("no-such-program-here")).await;
        assert!(line.exit_code == Some(127) && line.error.unwrap().contains("no such program"));
        let program = here.run(Spec { args: vec!["x".into()], ..Spec::new("/no/such/program") }).await;
        assert!(program.exit_code == Some(127) && program.output.contains("/no/such/program"), "{program:?}");
    }

    async fn other_processes_are_out_of_reach(here: &Here) {
        let mut other = std::process::Command::new("sleep").arg("300").spawn().unwrap();
        let [fenced, free] = here.both(&format!("kill -0 {} && echo reached; true", other.id())).await;
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!fenced.contains("reached") && free == "reached\n", "{fenced} {free}");
    }

    async fn no_new_namespace_is_made(here: &Here) {
        let [fenced, _] = here.both("unshare --user --map-root-user echo made; unshare --mount echo made; true").await;
        assert!(!fenced.contains("made\n"), "{fenced}");
    }

    async fn its_environment_is_its_own(here: &Here) {
        let known = ["PATH", "HOME", "TMPDIR", "LANG", "SKEP_TASK", "PWD", "OLDPWD", "SHLVL", "_"];
        let names = here.run(Spec::new("env | cut -d= -f1")).await.output;
        assert!(names.lines().all(|name| known.contains(&name)), "{names}");
        assert!(std::env::vars().any(|(name, _)| !known.contains(&name.as_str())), "the node's has more");
    }

    async fn ordinary_programs_work(here: &Here) {
        let check = async |needs: &str, line: &str, said: &str| {
            if !Path::new(needs).exists() {
                return println!("NOT RUN: {line}: no {needs} here");
            }
            let record = here.run(Spec::new(line)).await;
            assert_eq!((record.output.as_str(), record.state), (said, State::Completed), "{line}: {record:?}");
        };
        check("/usr/bin/awk", "printf '1\\n2\\n' | awk '{s+=$1} END {print s}'", "3\n").await;
        check("/bin/sh", "seq 3000 | sort -rn | head -n 1; cat <<X\nhere\nX", "3000\nhere\n").await;
        check("/bin/bash", "bash -c 'cat < <(echo a); echo \"$(mktemp | wc -l)\"'", "a\n1\n").await;
        let c = "printf 'int puts(const char*); int main(void) { return puts(\"compiled\") < 0; }' > a.c && cc a.c && ./a.out";
        check("/usr/bin/cc", c, "compiled\n").await;
        let git =
            "git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m m && git log --format=%s";
        check("/usr/bin/git", git, "m\n").await;
        let python = "/usr/bin/python3 -c 'import subprocess, tempfile, threading
t = threading.Thread(target=print, args=(1,)); t.start(); t.join()
print(subprocess.run([\"echo\", \"child\"], capture_output=True, text=True).stdout, end=\"\", file=open(\"f\", \"w\"))
print(open(\"f\").read(), end=\"\"); tempfile.TemporaryFile()'";
        check("/usr/bin/python3", python, "1\nchild\n").await;
    }

    async fn a_bomb_of_processes_is_ended(here: &Here) {
        // Doubles eleven times: 4095 processes, if nobody ends it.
        let line =
            "bomb() { if [ $1 -gt 0 ]; then bomb $(($1-1)) & bomb $(($1-1)) & wait; else sleep 60; fi; }; bomb 11";
        here.is_ended(Spec::new(line), "(limit processes)").await;
    }

    async fn a_bomb_of_processes_that_leave_their_group_is_ended(here: &Here) {
        let bomb = "#!/bin/sh
            [ $1 -gt 0 ] || exec sleep 60
            setsid env -i PATH=$PATH sh $0 $(($1-1)) & setsid env -i PATH=$PATH sh $0 $(($1-1)) & wait";
        let line = format!("cat > bomb <<'END'\n{bomb}\nEND\nsh ./bomb 10");
        here.is_ended(Spec::new(line), "(limit processes)").await;
    }

    async fn a_bomb_of_memory_is_ended(here: &Here) {
        // Doubles up to 512 MiB, if nobody ends it, and stays.
        let line = "awk 'BEGIN { s = \"x\"; while (length(s) < 512*1024*1024) s = s s; system(\"sleep 60\") }'";
        here.is_ended(Spec { memory_bytes: 100 << 20, ..Spec::new(line) }, "(limit memory)").await;
    }

    async fn what_fills_the_disk_is_ended(here: &Here) {
        for folder in [".", "$TMPDIR"] {
            let line = format!("head -c 64M /dev/zero > {folder}/big; sleep 60");
            let demand = Demand { disk_bytes: 8 << 20, ..Demand::default() };
            here.is_ended(Spec { demand, ..Spec::new(line) }, "(limit disk)").await;
        }
        let scratch = std::fs::read_dir(here.context.home.join("scratch")).unwrap().flatten();
        let big = scratch.flat_map(|both| ["work/big", "tmp/big"].map(|big| both.path().join(big)));
        let left: Vec<PathBuf> = big.filter(|big| big.exists()).collect();
        assert!(left.is_empty(), "what it wrote is gone: {left:?}");
    }

    async fn empty_files_fill_the_disk_too(here: &Here) {
        let line = "i=0; while [ $i -lt 5000 ]; do : > $i; i=$((i+1)); done; sleep 60";
        let demand = Demand { disk_bytes: 1 << 20, ..Demand::default() };
        here.is_ended(Spec { demand, ..Spec::new(line) }, "(limit disk)").await;
    }

    async fn a_cancelled_command_is_asked_first_and_leaves_nothing(here: &Here) {
        let line = "setsid sleep 300 & (env -i setsid sleep 300 &); trap 'echo asked; exit 0' TERM
            echo ready; while :; do sleep 0.05; done";
        let record = here.submit(Spec::new(line)).await.unwrap();
        here.follow(&record, "ready").await;
        let record = here.get(record.id).await;
        assert!(left(&record), "{record:?}");
        let cancel = here.scheduler.ask(DEADLINE, |reply| Message::Cancel(Wire(record.id), reply));
        let record = cancel.await.unwrap().unwrap();
        assert!(record.state == State::Cancelled && record.output.ends_with("asked\n"), "{record:?}");
        assert!(!left(&record), "{record:?}");
    }

    async fn what_no_fence_here_is_strong_enough_for_is_refused(here: &Here) {
        if here.level == Level::Bubblewrap {
            return;
        }
        let refused = here.submit(Spec { demand: demand(Level::Bubblewrap), ..Spec::new("true") }).await.unwrap_err();
        assert!(refused.to_string().contains("has sandbox landlock, not bubblewrap"), "{refused}");
        let weaker = here.run(Spec { demand: demand(Level::Landlock), ..Spec::new("true") }).await;
        assert_eq!(weaker.state, State::Completed);
    }

    async fn a_card_that_promises_too_much_is_no_way_round(here: &Here) {
        if here.level == Level::Bubblewrap {
            return;
        }
        here.swarm.show(0, |member| {
            let card = card::decode(&member.card).unwrap();
            member.card = Arc::new(card::encode(&node::Card { sandbox: Level::Bubblewrap, ..card }));
        });
        let spec = Spec { demand: demand(Level::Bubblewrap), ..Spec::new("echo it ran") };
        let mut look = tokio::time::interval(Duration::from_millis(20));
        let record = loop {
            // The scheduler may not have seen the card yet.
            match here.submit(spec.clone()).await {
                Ok(record) => break record,
                Err(_) => drop(look.tick().await),
            }
        };
        let ended = async {
            loop {
                let record = here.get(record.id).await;
                if record.state.ended() {
                    return record;
                }
                look.tick().await;
            }
        };
        let record = tokio::time::timeout(DEADLINE, ended).await.unwrap();
        let why = record.error.clone().unwrap_or_default();
        assert!(record.state == State::Failed && why.contains("it has sandbox landlock, not bubblewrap"), "{record:?}");
        assert_eq!((record.sandbox, record.output.as_str()), (None, ""));
    }
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}

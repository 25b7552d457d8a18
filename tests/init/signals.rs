//! Signals and exit codes.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{Namespace, Setup, eventually, executable, lives, start};

pub fn forwards_a_stop_and_leaves_with_the_agents_code() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut world = start(Namespace::Own, &["tree"]);
        world.agent_start(1);
        if signal == Signal::SIGINT {
            world.signal(signal);
            eventually("the signal", || (world.read("signals") == "2\n").then_some(()));
        }
        world.signal(Signal::SIGTERM);
        assert_eq!(world.end().code(), Some(0));
        assert_eq!(world.read("stops"), "fast\n");
    }
    for code in [0, 1, 64] {
        let mut world = start(Namespace::Own, &[&format!("bye={code}")]);
        assert_eq!(world.end().code(), Some(code));
    }
}

pub fn forwards_the_other_signals() {
    let world = start(Namespace::Own, &[]);
    world.agent_start(1);
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGQUIT] {
        world.signal(signal);
        let line = format!("{}\n", signal as i32);
        eventually("the signal", || world.read("signals").ends_with(&line).then_some(()));
    }
    assert!(lives(world.init));
}

pub fn stops_postgresql_itself_when_the_agent_is_frozen() {
    let mut world = start(Namespace::Own, &["tree"]);
    let agent = world.outside(world.agent_start(1).pid());
    kill(Pid::from_raw(agent), Signal::SIGSTOP).expect("it runs");
    let begin = Instant::now();
    world.signal(Signal::SIGTERM);
    assert_eq!(world.end().code(), Some(1));
    assert_eq!(world.read("stops"), "fast\n");
    assert!(begin.elapsed() < Duration::from_secs(6), "a container has ten seconds to stop: {:?}", begin.elapsed());
}

pub fn a_second_request_cuts_the_wait_for_a_frozen_agent_short() {
    let mut world = start(Namespace::Own, &["tree"]);
    let agent = world.outside(world.agent_start(1).pid());
    kill(Pid::from_raw(agent), Signal::SIGSTOP).expect("it runs");
    let begin = Instant::now();
    world.signal(Signal::SIGTERM);
    eventually("a moment", || (begin.elapsed() > Duration::from_millis(100)).then_some(()));
    world.signal(Signal::SIGTERM);
    assert_eq!(world.end().code(), Some(1));
    assert_eq!(world.read("stops"), "fast\n");
    assert!(begin.elapsed() < Duration::from_millis(2500), "{:?}", begin.elapsed());
}

pub fn stops_a_postmaster_that_was_left_behind() {
    let mut world = start(Namespace::Own, &["tree", "bye=1"]);
    assert_eq!(world.end().code(), Some(1));
    assert_eq!(world.read("stops"), "fast\n");
}

pub fn signals_no_process_of_another_user() {
    // What the agent knows of its postmaster comes from a file that PostgreSQL's user can write.
    let program = executable().display();
    let script = format!(r#"{program} postmaster "$TAMADA_TEST_FOLDER" & exec "$@""#);
    let claimed = |setup: Setup| {
        let mut world = setup.through(&["sh", "-c", &script, "sh"]).start(&["claim", "bye=3"]);
        assert_eq!(world.end().code(), Some(3));
        world.read("stops")
    };
    assert_eq!(claimed(Setup::new(Namespace::Own)), "", "root's");
    let user = ["setpriv", "--reuid", "54322", "--regid", "54322", "--clear-groups"];
    assert_eq!(claimed(Setup::new(Namespace::Own).through(&user)), "fast\n", "its own user's");
}

pub fn gives_up_with_the_code_of_an_agent_that_never_comes_up() {
    let mut world = start(Namespace::Own, &["always", "exit=126"]);
    assert_eq!(world.end().code(), Some(126));
    let mut world = start(Namespace::Own, &["always", "exit=0"]);
    let status = world.end();
    assert_eq!((status.code(), status.signal()), (Some(1), None), "a crash is never a success");
}

pub fn waits_for_a_process_to_be_had() {
    // A user of whom no other process is there, so that the limit is ours alone.
    let alone = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", "prlimit", "--nproc=1:100"];
    let (reader, writer) = std::io::pipe().expect("a descriptor");
    let world = Setup::new(Namespace::Own).through(&alone).stderr(writer).start(&[]);
    let mut log = std::io::BufReader::new(reader);
    let mut line = String::new();
    while !line.contains("cannot start the agent, retrying") {
        line.clear();
        assert_ne!(std::io::BufRead::read_line(&mut log, &mut line).expect("a pipe"), 0);
    }
    assert_eq!(world.read("starts"), "");
    raise_process_limit(world.init, 100);
    assert_eq!(world.agent_start(1).field("uid"), "54321");
}

/// As the same user: root in a container lacks the capability to do it to another.
fn raise_process_limit(pid: i32, limit: u32) {
    let (pid, limit) = (pid.to_string(), format!("--nproc={limit}"));
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups", "prlimit", "--pid", &pid, &limit]);
    assert!(command.status().expect("util-linux is there").success());
}

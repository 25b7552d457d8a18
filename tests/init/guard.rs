//! The deadline: past it nothing lives, before it nobody is harmed.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cast::boot_nanos;
use crate::world::{Namespace, Setup, World, eventually, lives, start};

/// Between the deadline and the last backend's end, on a machine that does other things too.
const LATE_MAX: Duration = Duration::from_millis(500);

fn deadline(world: &World) -> u64 {
    world.read("deadline").lines().last().and_then(|line| line.parse().ok()).expect("the agent wrote it")
}

/// Follows the tree to its end and returns how long after the deadline that was; fails when it came before it.
fn watch_the_end(world: &World, tree: &[i32]) -> Duration {
    let deadline = deadline(world);
    assert!(boot_nanos() < deadline, "the test is too slow for its deadline");
    assert!(tree.iter().all(|pid| lives(*pid)));
    eventually("everything to be killed", || {
        let living = tree.iter().filter(|pid| lives(**pid)).count();
        // Read after the look: when it has not come even now, it had not come then.
        assert!(living == tree.len() || boot_nanos() >= deadline, "killed before the deadline");
        (living == 0).then_some(())
    });
    let late = Duration::from_nanos(boot_nanos() - deadline);
    println!("    killed {:.1} ms after the deadline", late.as_secs_f64() * 1e3);
    assert!(late < LATE_MAX, "{late:?}");
    late
}

fn freeze(world: &World, inside: i32) {
    let agent = world.outside(inside);
    kill(Pid::from_raw(agent), Signal::SIGSTOP).expect("it runs");
}

pub fn kills_everything_at_the_deadline_when_the_agent_is_frozen() {
    let world = start(Namespace::Own, &["tree", "lease=42", "guard=1500"]);
    let first = world.agent_start(1);
    freeze(&world, first.pid());
    let tree = world.tree();
    watch_the_end(&world, &tree);
    let second = world.agent_start(2);
    assert_eq!((second.field("guard"), second.field("lease")), ("none", "Some(42)"));
    assert!(lives(world.init));
    assert_eq!(world.read("stops"), "", "a fence is no shutdown");
}

pub fn kills_only_its_own_descendants_when_not_pid_1() {
    let mut stranger = std::process::Command::new("sleep").arg("600").spawn().expect("there");
    let world = start(Namespace::Shared, &["tree", "guard=1500"]);
    freeze(&world, world.agent_start(1).pid());
    let tree = world.tree();
    watch_the_end(&world, &tree);
    world.agent_start(2);
    assert!(lives(stranger.id().cast_signed()));
    stranger.kill().and_then(|()| stranger.wait()).expect("our child");
}

pub fn kills_other_users_processes_without_the_capability() {
    let few = ["setpriv", "--bounding-set", "-all,+chown,+dac_override,+fowner,+setgid,+setuid"];
    let world = Setup::new(Namespace::Own).through(&few).start(&["tree", "guard=1500"]);
    let agent = world.agent_start(1);
    assert_ne!(agent.field("uid"), "0");
    freeze(&world, agent.pid());
    let tree = world.tree();
    watch_the_end(&world, &tree);
    world.agent_start(2);
}

pub fn kills_although_nobody_reads_the_log() {
    let (_reader, mut writer) = std::io::pipe().expect("a descriptor");
    let stderr = writer.try_clone().expect("a descriptor");
    let flags = fcntl(writer.as_fd(), FcntlArg::F_GETFL).map(OFlag::from_bits_truncate).expect("ours");
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).expect("ours");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(flags)).expect("ours");
    let world = Setup::new(Namespace::Own).stderr(stderr).start(&["tree", "guard=1500"]);
    freeze(&world, world.agent_start(1).pid());
    let tree = world.tree();
    watch_the_end(&world, &tree);
    world.agent_start(2);
}

/// How often a process has waited for something and was woken.
fn wake_ups(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).expect("Linux");
    line.trim().parse().expect("a number")
}

pub fn a_renewal_does_not_wake_pid_1() {
    let world = start(Namespace::Own, &["tree", "renew=400"]);
    world.agent_start(1);
    let before = wake_ups(world.init);
    let end = boot_nanos() + 2_000_000_000;
    eventually("twenty renewals", || (boot_nanos() > end).then_some(()));
    let count = wake_ups(world.init) - before;
    assert!(count <= 3, "PID 1 was woken {count} times");
    assert!(world.tree().iter().all(|pid| lives(*pid)));
}

pub fn spares_postgresql_while_renewals_come() {
    let world = start(Namespace::Own, &["tree", "renew=400"]);
    let agent = world.agent_start(1);
    let tree = world.tree();
    let end = boot_nanos() + 2_000_000_000;
    eventually("two seconds", || {
        assert!(tree.iter().all(|pid| lives(*pid)));
        (boot_nanos() > end).then_some(())
    });
    freeze(&world, agent.pid());
    eventually("everything to be killed", || tree.iter().all(|pid| !lives(*pid)).then_some(()));
}

pub fn a_deadline_that_is_brought_forward_holds() {
    let world = start(Namespace::Own, &["tree", "guard=60000", "guard=1500"]);
    freeze(&world, world.agent_start(1).pid());
    let tree = world.tree();
    watch_the_end(&world, &tree);
}

pub fn a_deadline_that_is_lifted_kills_nobody() {
    let world = start(Namespace::Own, &["tree", "guard=400", "guard=none"]);
    let first = world.agent_start(1);
    let tree = world.tree();
    kill(Pid::from_raw(world.outside(first.pid())), Signal::SIGKILL).expect("it runs");
    let second = world.agent_start(2);
    assert_eq!(second.field("guard"), "none");
    let end = deadline(&world) + 300_000_000;
    eventually("the deadline to be over", || (boot_nanos() > end).then_some(()));
    assert!(tree.iter().all(|pid| lives(*pid)));
}

pub fn a_former_agents_timer_moves_nothing() {
    let world = start(Namespace::Own, &["tree", "guard=3000", "hold"]);
    let first = world.agent_start(1);
    let tree = world.tree();
    kill(Pid::from_raw(world.outside(first.pid())), Signal::SIGKILL).expect("it runs");
    world.agent_start(2);
    eventually("the deadline to be lifted", || (!world.read("held").is_empty()).then_some(()));
    watch_the_end(&world, &tree);
}

pub fn an_agent_that_ends_at_its_deadline_leaves_it_in_force() {
    for micros in ["0", "50", "500"] {
        let world = start(Namespace::Own, &["tree", "guard=700", &format!("last={micros}")]);
        let tree = world.tree();
        eventually("everything to be killed", || tree.iter().all(|pid| !lives(*pid)).then_some(()));
        assert_eq!(world.agent_start(1).field("guard"), "none", "the first that comes to write its line");
    }
}

pub fn nothing_that_the_agent_starts_has_the_deadline() {
    let setup = Setup::new(Namespace::Own);
    let script = setup.folder().join("look");
    std::fs::write(&script, "#!/bin/sh\nls -l /proc/self/fd/\n").expect("ours");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("ours");
    let world = setup.start(&["guard=60000", "run=look"]);
    world.agent_start(1);
    let files = world.read("run.out");
    assert!(files.contains("/proc/") && !files.contains("timerfd"), "{files}");
}

pub fn a_killed_agent_is_restarted_with_lease_and_deadline() {
    let world = start(Namespace::Own, &["tree", "lease=7587854321987", "guard=3000"]);
    let first = world.agent_start(1);
    let tree = world.tree();
    let until = deadline(&world);
    kill(Pid::from_raw(world.outside(first.pid())), Signal::SIGKILL).expect("it runs");
    let second = world.agent_start(2);
    assert_eq!(second.field("lease"), "Some(7587854321987)");
    let left: u64 = second.field("guard").parse().expect("a deadline");
    assert!(left <= until && until - left < 100_000_000, "{left} is not {until}");
    assert!(tree.iter().all(|pid| lives(*pid)), "PostgreSQL is not disturbed");
    assert_eq!(world.processes().values().filter(|process| process.state == 'Z').count(), 0);
    watch_the_end(&world, &tree);
}

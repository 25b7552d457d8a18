//! The deadline: past it nothing lives, before it nobody is harmed.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cast::boot_nanos;
use crate::world::{Namespace, Setup, World, eventually, lives, start};

/// Between the deadline and the last backend's end, on a machine that does other things too.
const LATE_MAX: Duration = Duration::from_millis(500);

fn deadline(world: &World) -> u64 {
    world.read("deadline").trim().parse().expect("the agent wrote it")
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

pub fn a_killed_agent_is_restarted_with_lease_and_deadline() {
    let world = start(Namespace::Own, &["tree", "lease=7587854321987", "guard=3000"]);
    let first = world.agent_start(1);
    let tree = world.tree();
    let until = deadline(&world).to_string();
    kill(Pid::from_raw(world.outside(first.pid())), Signal::SIGKILL).expect("it runs");
    let second = world.agent_start(2);
    assert_eq!((second.field("guard"), second.field("lease")), (until.as_str(), "Some(7587854321987)"));
    assert!(tree.iter().all(|pid| lives(*pid)), "PostgreSQL is not disturbed");
    assert_eq!(world.processes().values().filter(|process| process.state == 'Z').count(), 0);
    watch_the_end(&world, &tree);
}

//! Orphans come to PID 1, and to nobody else.

use crate::world::{Namespace, eventually, lives, start};

pub fn reaps_ten_thousand_orphans_and_disturbs_nobody() {
    let world = start(Namespace::Own, &["tree", "orphans"]);
    let agent = world.agent_start(1);
    let tree = world.tree();
    eventually("the last orphan to be reaped", || {
        let left = world.processes().values().filter(|process| process.parent == world.init).count();
        (left == 1).then_some(())
    });
    assert!(world.processes().values().all(|process| process.state != 'Z'), "{:?}", world.processes());
    assert!(tree.iter().all(|pid| lives(*pid)), "an orphan's status 2 must not reach the postmaster");
    assert!(lives(world.outside(agent.pid())));
    assert_eq!(world.read("starts").lines().count(), 1);
}

pub fn takes_orphans_in_when_not_pid_1() {
    let world = start(Namespace::Shared, &["tree", "orphans"]);
    world.agent_start(1);
    let tree = world.tree();
    eventually("the last orphan to be reaped", || {
        let left = world.processes().values().filter(|process| process.parent == world.init).count();
        (left == 1).then_some(())
    });
    // The postmaster's parent dies, and it comes to us rather than to the machine's PID 1.
    let agent = world.agent_start(1).pid();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(agent), nix::sys::signal::Signal::SIGKILL).expect("it runs");
    world.agent_start(2);
    let parent = world.processes().get(&tree[0]).map(|process| process.parent);
    assert_eq!(parent, Some(world.init));
}

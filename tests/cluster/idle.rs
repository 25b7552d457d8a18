//! How often an idle member wakes up, with the default timers.

use std::fs;
use std::time::Duration;

use crate::member::Member;
use crate::wait::seconds;
use crate::world::Cluster;

const WINDOW: Duration = seconds(60);
/// What follows a start (a checkpoint, slots, positions) is over after a few cycles.
const WINDOWS: usize = 4;
/// More than members show whom nothing keeps waiting (`tests/idle`: 26 on a leader, 18 on replicas), since one cycle more may fall into
/// a window; less than there were before (38, 25). The aim is 20.
const LEADER_MAX: u64 = 34;
const REPLICA_MAX: u64 = 24;
/// Of six cycles one at least wakes up five times: one that does nothing would be no member.
const MIN: u64 = 5;

/// How often the threads of a member's processes, PostgreSQL's not counted, have waited for something.
fn waits(member: &mut Member) -> u64 {
    let ours = member.processes().into_iter().filter(|process| process.program == "tamada");
    let tasks = ours.flat_map(|process| fs::read_dir(format!("/proc/{}/task", process.pid)).into_iter().flatten());
    let count = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    tasks.flatten().filter_map(count).sum()
}

#[test]
fn an_idle_member_wakes_up_rarely() {
    let mut cluster = Cluster::prepare(2);
    cluster.set("PATRONI_TTL", "30").set("PATRONI_LOOP_WAIT", "10").set("PATRONI_RETRY_TIMEOUT", "10");
    cluster.start_all();
    let (leader, _) = cluster.whole(seconds(40));
    let replica = 1 - leader;
    let mut counts = Vec::new();
    for _ in 0..WINDOWS {
        let mut count = || [leader, replica].map(|at| waits(&mut cluster.members[at]));
        let before = count();
        std::thread::sleep(WINDOW);
        let after = count();
        let [led, followed] = [after[0] - before[0], after[1] - before[1]];
        println!("the leader woke up {led} times in {WINDOW:?}, the replica {followed} times");
        counts.push((led, followed));
        if led <= LEADER_MAX && followed <= REPLICA_MAX {
            assert!(led >= MIN && followed >= MIN, "{counts:?}");
            return;
        }
    }
    panic!("at most {LEADER_MAX} and {REPLICA_MAX} were expected: {counts:?}");
}

//! etcd is out of space for a while.

use nix::sys::signal::Signal;

use crate::etcd::Etcd;
use crate::member::Member;
use crate::processes;
use crate::wait::{always, seconds, until};
use crate::world::{Cluster, SOON, folder, join};

const QUOTA: u64 = 4 * 1024 * 1024;
const TTL: u64 = 5;

#[test]
fn a_full_etcd_costs_a_leader_nothing_and_is_not_flooded_by_those_who_would_become_one() {
    let (etcd, folder) = (Etcd::with_quota(QUOTA), folder());
    let members = (1..=3).map(|at| join(Member::new(folder.path(), &format!("m{at}")), &etcd)).collect();
    let mut cluster = Cluster { members, store: etcd, folder };
    cluster.start_all();
    let (leader, _) = cluster.whole(seconds(40));
    cluster.store.fill();
    // Its position moves far enough to be published.
    cluster.members[leader].must("CREATE TABLE much AS SELECT generate_series(1, 10000)");
    cluster.members[leader].wait_log(SOON, "NOSPACE");
    always(seconds(2 * TTL), "the leader leads", || {
        cluster.members[leader].get("/primary").is_ok_and(|reply| reply.code == 200)
    });

    // A new agent cannot confirm the lock, so that it ends.
    let agent = cluster.members[leader].agent().expect("it runs");
    processes::signal(agent, Signal::SIGKILL);
    let writable = |member: &Member| member.value("SELECT pg_is_in_recovery()").is_ok_and(|value| value == "f");
    until(seconds(4 * TTL), "nobody is writable", || !cluster.members.iter().any(writable));
    until(SOON, "everybody knows", || cluster.members.iter().all(|member| member.log().contains("NOSPACE")));
    let said: Vec<usize> = cluster.members.iter().map(|member| member.log().len()).collect();
    let refused = cluster.store.refusals();
    const DURING: u64 = 10;
    std::thread::sleep(seconds(DURING));
    let refused = cluster.store.refusals() - refused;
    println!("{refused} writes of three members were refused in {DURING} s");
    assert!(refused <= 3 * DURING, "{refused} writes were refused in {DURING} s");
    for (member, said) in cluster.members.iter().zip(said) {
        let lines = member.said_since(said);
        // One each loop_wait says that there was nothing to do.
        let (heartbeats, others): (Vec<&str>, Vec<&str>) =
            lines.lines().partition(|line| line.contains(" INFO: no action"));
        assert!(others.len() <= 20 && heartbeats.len() <= 12, "{}:\n{lines}", member.name);
        let alarms = member.log().lines().filter(|line| line.contains("NOSPACE")).count();
        let agents = member.log().lines().filter(|line| line.contains("watching the cluster in etcd")).count();
        assert!((1..=agents).contains(&alarms), "{} and its {agents} agents tell it {alarms} times", member.name);
    }

    cluster.store.make_room();
    cluster.whole(seconds(40));
}

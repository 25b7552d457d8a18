//! The agent's process ends or freezes while PostgreSQL goes on: clients must not notice.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::certs::Authority;
use crate::load::{Readers, TABLE};
use crate::member::give;
use crate::processes;
use crate::wait::{always, eventually, seconds, until};
use crate::world::{Cluster, SOON};

const KILLS: u32 = 20;

/// The phases of the kills; the seed is printed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var("TAMADA_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()) << 20 | 1);
        println!("TAMADA_TEST_SEED={seed}");
        Random(seed)
    }

    fn below(&mut self, limit: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let millis = u64::try_from(limit.as_millis()).expect("short");
        Duration::from_millis(self.0 % millis)
    }
}

#[test]
fn killed_agents_disturb_no_query() {
    let mut random = Random::new();
    let mut cluster = Cluster::prepare(2);
    cluster.set("PATRONI_LOG_LEVEL", "DEBUG").start_all();
    let (leader, _) = cluster.whole(seconds(40));
    let postmaster = cluster.members[leader].postmaster().expect("it runs");
    let readers = Readers::start(&cluster.members[leader], 200);
    for _ in 0..KILLS {
        // Longer than a cycle, and sometimes so short that the new agent has not finished its start.
        std::thread::sleep(random.below(Duration::from_millis(1500)));
        kill_agent(&mut cluster, leader);
    }
    kill_in_renewal(&mut cluster, leader);
    assert_eq!(cluster.whole(SOON).0, leader, "it leads as before");
    let reading = readers.stop();
    println!("{} queries, the slowest took {:?}", reading.queries, reading.slowest);
    assert_eq!(reading.failures, [""; 0]);
    assert!(reading.queries > 500, "{} queries", reading.queries);
    assert_eq!(cluster.members[leader].postmaster(), Some(postmaster));
    assert_eq!(cluster.seen(leader, &cluster.members[leader].name)["timeline"], 1);
}

#[test]
fn an_agent_that_finds_its_certificate_broken_keeps_the_primary() {
    let mut cluster = Cluster::prepare(1);
    let folder = cluster.folder.path().to_owned();
    let leaf = Authority::new("authority").issue(&folder, "node", crate::etcd::own_host());
    let file = |name: &str| folder.join(name).display().to_string();
    let both = [&leaf.cert, &leaf.key].map(|file| fs::read_to_string(file).expect("just written")).concat();
    fs::write(file("both.pem"), &both).expect("writable");
    give(Path::new(&file("both.pem")));
    cluster.set("PATRONI_RESTAPI_CERTFILE", &file("both.pem")).start_all();
    cluster.members[0].wait_log(seconds(30), "the leader with the lock");
    let postmaster = cluster.members[0].postmaster();

    fs::write(file("both.pem"), "broken").expect("writable");
    kill_agent(&mut cluster, 0);
    let member = &mut cluster.members[0];
    member.wait_log(SOON, "there is no REST API until this is repaired: cannot use restapi.certfile");
    // Longer than the lease would last.
    always(seconds(7), "it stays the primary", || member.value("SELECT pg_is_in_recovery()").is_ok_and(|is| is == "f"));
    assert_eq!(member.postmaster(), postmaster);
    assert!(!member.exec(&["health"]).status.success(), "nobody answers");
    fs::write(file("both.pem"), &both).expect("writable");
    until(SOON, "the API is back", || member.exec(&["health"]).status.success());
    assert_eq!(member.stop(), 0);
}

/// Kills the agent and waits for its successor's process.
fn kill_agent(cluster: &mut Cluster, at: usize) -> i32 {
    let member = &mut cluster.members[at];
    let agent = || member.agent().ok_or("there is no agent".to_owned());
    let (agent, _) = eventually(SOON, "an agent", agent);
    processes::signal(agent, Signal::SIGKILL);
    let other = || member.agent().filter(|new| *new != agent).ok_or("there is no new agent".to_owned());
    eventually(SOON, "a new agent", other).0
}

/// Kills it while its renewal waits for an etcd that does not answer.
fn kill_in_renewal(cluster: &mut Cluster, at: usize) {
    let renewals = |cluster: &Cluster| cluster.members[at].log().matches("lease: Renew").count();
    let before = renewals(cluster);
    until(SOON, "a renewal", || renewals(cluster) > before + 1);
    cluster.store.freeze(0);
    let before = renewals(cluster);
    until(SOON, "a renewal", || renewals(cluster) > before);
    kill_agent(cluster, at);
    cluster.store.thaw(0);
}

#[test]
fn a_frozen_agent_of_a_leader_is_fenced_before_another_leads() {
    use crate::load::{Habit, Writer};
    let mut cluster = Cluster::start(3);
    let (old, _) = cluster.whole(SOON);
    cluster.members[old].must(TABLE);
    let writer = Writer::start(&[&cluster.members[old]], Habit::Stays, 1);
    until(SOON, "writes", || cluster.members[old].value("SELECT count(*) > 20 FROM writes").is_ok_and(|t| t == "t"));
    let agent = cluster.members[old].agent().expect("it runs");
    let began = Instant::now();
    processes::signal(agent, Signal::SIGSTOP);
    // An agent that PID 1 starts right after it has fenced may be in time to renew: it is frozen too.
    let mut frozen = vec![agent];
    let others: Vec<usize> = (0..3).filter(|at| *at != old).collect();
    let sessions: Vec<_> = others.iter().map(|at| cluster.members[*at].connect().expect("it answers")).collect();
    let promoted = || {
        if let Some(agent) = cluster.members[old].agent().filter(|agent| !frozen.contains(agent)) {
            processes::signal(agent, Signal::SIGSTOP);
            frozen.push(agent);
        }
        let of = |sql: &crate::sql::Sql| sql.value("SELECT pg_is_in_recovery()").is_ok_and(|value| value == "f");
        sessions.iter().position(of).ok_or("none is promoted".to_owned())
    };
    let (new, _) = eventually(seconds(12), "another primary", promoted);
    let promoted = Instant::now();
    println!("promoted after {:?}", promoted - began);
    assert!(!processes::lives(agent), "PID 1 ended the frozen agent too");
    assert!(cluster.members[old].log().contains("lease not renewed before the deadline"));
    frozen.iter().for_each(|agent| processes::signal(*agent, Signal::SIGCONT));
    // PID 1 has started the old one's agent anew, and it rejoins by itself.
    assert_eq!(cluster.whole(SOON).0, others[new]);
    let acks = writer.stop();
    let last = acks.last().expect("there were writes").at;
    println!("the old one's last acknowledgement came {:?} before the promotion", promoted.duration_since(last));
    assert!(last < promoted);
}

#[test]
fn a_frozen_agent_delays_no_query_while_much_is_logged() {
    // Of a standby and of a paused primary: neither has a deadline.
    const FROZEN: Duration = seconds(60);
    const LINES: u32 = 10;
    let mut cluster = Cluster::start(2);
    let (leader, _) = cluster.whole(SOON);
    let reply = cluster.members[leader].send("PATCH", "/config", &serde_json::json!({"pause": true}));
    assert_eq!(reply.expect("an answer").code, 200);
    cluster.members[leader].wait_log(SOON, "PAUSE: no action.");
    let mut agents = Vec::new();
    let mut sessions = Vec::new();
    for member in &mut cluster.members {
        agents.push(member.agent().expect("it runs"));
        sessions.push((member.log().len(), member.postmaster(), Readers::start(member, 50)));
    }
    agents.iter().for_each(|agent| processes::signal(*agent, Signal::SIGSTOP));
    let began = Instant::now();
    // 1 MB each, in lines of 1 kB.
    let much = "DO $$ BEGIN FOR i IN 1..1024 LOOP RAISE LOG '%', repeat('x', 1024); END LOOP; END $$";
    let mut slowest = Duration::ZERO;
    for _ in 0..LINES {
        for member in &cluster.members {
            let asked = Instant::now();
            member.must(much);
            slowest = slowest.max(asked.elapsed());
        }
    }
    println!("10 MB each logged after {:?}, the slowest megabyte took {slowest:?}", began.elapsed());
    std::thread::sleep(FROZEN.saturating_sub(began.elapsed()));
    for (member, (length, postmaster, readers)) in cluster.members.iter_mut().zip(sessions) {
        let reading = readers.stop();
        println!("{}: {} queries, the slowest took {:?}", member.name, reading.queries, reading.slowest);
        assert_eq!(reading.failures, [""; 0]);
        assert!(reading.slowest < seconds(1));
        assert_eq!(member.postmaster(), postmaster);
        assert!(member.log().len() - length > 10 << 20, "it was logged");
    }
    agents.iter().for_each(|agent| processes::signal(*agent, Signal::SIGCONT));
    assert!(agents.iter().all(|agent| processes::lives(*agent)));
    assert_eq!(cluster.whole(SOON).0, leader);
}

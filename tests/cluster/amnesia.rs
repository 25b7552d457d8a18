//! etcd is wiped, or restored from a snapshot of before a switchover, under a cluster that takes writes; with the leader
//! connected to it, and with the leader cut off.

use std::net::SocketAddr;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::load::{Ack, Habit, TABLE, Writer, lost};
use crate::member::Member;
use crate::processes;
use crate::proxy::Proxy;
use crate::wait::{seconds, until};
use crate::world::{Cluster, SOON};

const TTL: u64 = 5;

struct Scene {
    cluster: Cluster,
    /// Each member's way to etcd.
    ways: Vec<Proxy>,
    leader: usize,
}

impl Scene {
    fn start(members: usize) -> Self {
        let mut cluster = Cluster::prepare(members);
        let etcd: SocketAddr = cluster.store.endpoints().remove(0).to_string().parse().expect("an address");
        let ways: Vec<Proxy> = (0..members).map(|_| Proxy::to(etcd)).collect();
        for (member, way) in cluster.members.iter_mut().zip(&ways) {
            member.set("PATRONI_ETCD3_HOSTS", &way.address.to_string()).set("PATRONI_ETCD3_USE_PROXIES", "on");
        }
        cluster.start_all();
        let (leader, _) = cluster.whole(seconds(40));
        cluster.members[leader].must(TABLE);
        Scene { cluster, ways, leader }
    }

    /// A snapshot of etcd, taken before another member became the leader.
    fn switch_over(&mut self) -> PathBuf {
        let snapshot = self.cluster.store.save();
        let old = &self.cluster.members[self.leader];
        let output = old.ctl(&["switchover", "--leader", &old.name, "--force"]);
        assert!(output.status.success(), "{output:?}");
        let (new, _) = self.cluster.whole(SOON);
        assert_ne!(new, self.leader);
        self.leader = new;
        snapshot
    }

    /// One for each member, so that it shows when two are writable at the same time; the leader's is the first.
    fn writers(&self) -> Vec<Writer> {
        let members = &self.cluster.members;
        let order = (0..members.len()).map(|at| (self.leader + at) % members.len());
        let own = |(nth, at): (usize, usize)| {
            Writer::start(&[&members[at]], Habit::Stays, 1 + 1_000_000 * i64::try_from(nth).expect("small"))
        };
        let writers = order.enumerate().map(own).collect();
        let leader = &members[self.leader];
        until(SOON, "writes", || leader.value("SELECT count(*) > 20 FROM writes").is_ok_and(|t| t == "t"));
        writers
    }

    fn wipe(&mut self) {
        self.cluster.store.kill(0);
        self.cluster.store.lose_data(0);
        self.cluster.store.restart(0);
    }

    fn restore(&mut self, snapshot: &std::path::Path) {
        self.cluster.store.kill(0);
        self.cluster.store.restore(snapshot);
        self.cluster.store.restart(0);
    }

    /// The leader took its lock again: no promotion, no acknowledged write is lost.
    fn goes_on(mut self, writers: Vec<Writer>) {
        let leader = &self.cluster.members[self.leader];
        let timeline = leader.must("SELECT timeline_id FROM pg_control_checkpoint()");
        leader.wait_log(SOON, "taking the leader lock again");
        until(seconds(2 * TTL), "it leads", || leader.get("/primary").is_ok_and(|reply| reply.code == 200));
        std::thread::sleep(seconds(2 * TTL));
        let (whole, _) = self.cluster.whole(SOON);
        assert_eq!(whole, self.leader);
        let leader = &self.cluster.members[self.leader];
        assert_eq!(leader.must("SELECT timeline_id FROM pg_control_checkpoint()"), timeline);
        let [acks, others @ ..] = &writers.into_iter().map(Writer::stop).collect::<Vec<_>>()[..] else {
            panic!("none")
        };
        assert!(acks.len() > 50, "{} writes", acks.len());
        assert!(others.iter().all(Vec::is_empty), "nobody else was writable");
        assert_eq!(lost(acks, leader), [0; 0]);
    }

    /// Another member leads once the leader, cut off, has stopped; what that one acknowledged is kept.
    fn expect_successor(mut self, writers: Vec<Writer>) {
        let old = self.leader;
        let writable = |member: &Member| member.value("SELECT pg_is_in_recovery()").is_ok_and(|value| value == "f");
        let members = &self.cluster.members;
        let others = || (0..members.len()).filter(|at| *at != old).find(|at| writable(&members[*at]));
        let took = until(seconds(4 * TTL), "another member leads", || others().is_some());
        let new = others().expect("it leads");
        println!("{} leads after {took:?}", members[new].name);
        self.ways[old].mend();
        assert_eq!(self.cluster.whole(seconds(40)).0, new);
        let [of_old, others @ ..] = &writers.into_iter().map(Writer::stop).collect::<Vec<_>>()[..] else {
            panic!("none")
        };
        let of_new: Vec<Ack> = others.iter().flatten().copied().collect();
        let (last, first) = (of_old.last().expect("it wrote"), of_new.first().expect("writes go on"));
        println!("{:?} between the last write of one and the first of the other", first.at.duration_since(last.at));
        assert!(last.at < first.at, "two were writable for {:?}", last.at.duration_since(first.at));
        assert_eq!(lost(&of_new, &self.cluster.members[new]), [0; 0]);
    }
}

#[test]
fn a_leader_goes_on_when_etcd_is_wiped() {
    let mut scene = Scene::start(3);
    let writers = scene.writers();
    scene.wipe();
    scene.goes_on(writers);
}

#[test]
fn a_leader_goes_on_when_etcd_is_restored_from_before_its_time() {
    let mut scene = Scene::start(3);
    let snapshot = scene.switch_over();
    let writers = scene.writers();
    scene.restore(&snapshot);
    scene.goes_on(writers);
}

#[test]
fn a_leader_that_is_cut_off_from_a_wiped_etcd_expect_successor_when_it_has_stopped() {
    let mut scene = Scene::start(3);
    let writers = scene.writers();
    scene.ways[scene.leader].cut();
    scene.wipe();
    scene.expect_successor(writers);
}

#[test]
fn a_leader_that_is_cut_off_from_a_restored_etcd_expect_successor_when_it_has_stopped() {
    let mut scene = Scene::start(3);
    let snapshot = scene.switch_over();
    let writers = scene.writers();
    scene.ways[scene.leader].cut();
    scene.restore(&snapshot);
    scene.expect_successor(writers);
}

/// Whoever noticed the loss is gone before the wait is over.
#[test]
fn agents_that_are_started_anew_wait_on_for_a_leader_that_is_cut_off_from_a_wiped_etcd() {
    let mut scene = Scene::start(3);
    let writers = scene.writers();
    scene.ways[scene.leader].cut();
    scene.wipe();
    let others = (0..3).filter(|at| *at != scene.leader);
    for member in others.clone() {
        scene.cluster.members[member].wait_log(SOON, "the DCS has lost its data");
    }
    for member in others {
        let agent = scene.cluster.members[member].agent().expect("it runs");
        processes::signal(agent, Signal::SIGKILL);
    }
    scene.expect_successor(writers);
}

/// A member that has not been able to clone anything yet.
fn with_an_empty_member(scene: &mut Scene) -> usize {
    let member = crate::member::Member::new(scene.cluster.folder.path(), "empty");
    let mut member = crate::world::join(member, &scene.cluster.store);
    member.set("PATRONI_REPLICATION_PASSWORD", "wrong").start();
    member.wait_log(SOON, "waiting");
    scene.cluster.members.push(member);
    scene.cluster.members.len() - 1
}

fn made_no_cluster(scene: &mut Scene, empty: usize) {
    let mut member = scene.cluster.members.remove(empty);
    assert!(!member.data().join("PG_VERSION").exists());
    assert!(!member.log().contains("bootstrap a new cluster"), "{}", member.log());
    member.kill();
}

#[test]
fn an_empty_member_makes_no_second_cluster_of_a_wiped_etcd() {
    let mut scene = Scene::start(2);
    let empty = with_an_empty_member(&mut scene);
    let writers = scene.writers();
    scene.wipe();
    let leader = &scene.cluster.members[scene.leader];
    leader.wait_log(SOON, "taking the leader lock again");
    std::thread::sleep(seconds(TTL));
    made_no_cluster(&mut scene, empty);
    scene.goes_on(writers);
}

#[test]
fn an_empty_member_makes_no_second_cluster_while_the_leader_is_cut_off_from_a_wiped_etcd() {
    let mut scene = Scene::start(2);
    let empty = with_an_empty_member(&mut scene);
    let writers = scene.writers();
    scene.ways[scene.leader].cut();
    scene.wipe();
    std::thread::sleep(seconds(2 * TTL));
    made_no_cluster(&mut scene, empty);
    scene.expect_successor(writers);
}

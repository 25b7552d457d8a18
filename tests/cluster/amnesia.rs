//! etcd is wiped, or restored from a snapshot of before a switchover, under a cluster that takes writes; with the leader
//! connected to it, and with the leader cut off.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::load::{Ack, Habit, TABLE, Writer, lost};
use crate::member::Member;
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
        let etcd: SocketAddr = cluster.etcd.endpoints().remove(0).to_string().parse().expect("an address");
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
        let snapshot = self.cluster.etcd.save();
        let old = &self.cluster.members[self.leader];
        let output = old.ctl(&["switchover", "--leader", &old.name, "--force"]);
        assert!(output.status.success(), "{output:?}");
        let (new, _) = self.cluster.whole(SOON);
        assert_ne!(new, self.leader);
        self.leader = new;
        snapshot
    }

    fn writer(&self) -> Writer {
        let order = (0..self.cluster.members.len()).map(|at| (self.leader + at) % self.cluster.members.len());
        let targets: Vec<&Member> = order.map(|at| &self.cluster.members[at]).collect();
        let writer = Writer::start(&targets, Habit::Roams, 1);
        let leader = &self.cluster.members[self.leader];
        until(SOON, "writes", || leader.value("SELECT count(*) > 20 FROM writes").is_ok_and(|t| t == "t"));
        writer
    }

    fn wipe(&mut self) {
        self.cluster.etcd.kill(0);
        self.cluster.etcd.lose_data(0);
        self.cluster.etcd.restart(0);
    }

    fn restore(&mut self, snapshot: &std::path::Path) {
        self.cluster.etcd.kill(0);
        self.cluster.etcd.restore(snapshot);
        self.cluster.etcd.restart(0);
    }

    /// The leader took its lock again: no promotion, no acknowledged write is lost.
    fn goes_on(mut self, writer: Writer) {
        let leader = &self.cluster.members[self.leader];
        let timeline = leader.must("SELECT timeline_id FROM pg_control_checkpoint()");
        leader.wait_log(SOON, "taking the leader lock again");
        until(seconds(2 * TTL), "it leads", || leader.get("/primary").is_ok_and(|reply| reply.code == 200));
        std::thread::sleep(seconds(2 * TTL));
        let (whole, _) = self.cluster.whole(SOON);
        assert_eq!(whole, self.leader);
        let leader = &self.cluster.members[self.leader];
        assert_eq!(leader.must("SELECT timeline_id FROM pg_control_checkpoint()"), timeline);
        let acks = writer.stop();
        assert!(acks.len() > 50, "{} writes", acks.len());
        assert_eq!(lost(&acks, leader), [0; 0]);
    }

    /// Another member leads once the leader, cut off, has stopped; what that one acknowledged is kept.
    fn is_replaced(mut self, writer: Writer) {
        let old = self.leader;
        let writable = |member: &Member| member.value("SELECT pg_is_in_recovery()").is_ok_and(|value| value == "f");
        let members = &self.cluster.members;
        let others = || (0..members.len()).filter(|at| *at != old).find(|at| writable(&members[*at]));
        let took = until(seconds(4 * TTL), "another member leads", || others().is_some());
        let new = others().expect("it leads");
        println!("{} leads after {took:?}", members[new].name);
        self.ways[old].mend();
        assert_eq!(self.cluster.whole(seconds(40)).0, new);
        let acks = writer.stop();
        one_after_the_other(&acks);
        let kept: Vec<Ack> = acks.iter().filter(|ack| ack.by != 0).copied().collect();
        assert!(!kept.is_empty(), "writes go on");
        assert_eq!(lost(&kept, &self.cluster.members[new]), [0; 0]);
    }
}

/// Writes that one member acknowledged and then another; never the first again.
fn one_after_the_other(acks: &[Ack]) {
    let mut order: Vec<usize> = acks.iter().map(|ack| ack.by).collect();
    order.dedup();
    assert!(order.len() <= 2, "writes were acknowledged by {order:?} in turn");
}

#[test]
fn a_leader_goes_on_when_etcd_is_wiped() {
    let mut scene = Scene::start(3);
    let writer = scene.writer();
    scene.wipe();
    scene.goes_on(writer);
}

#[test]
fn a_leader_goes_on_when_etcd_is_restored_from_before_its_time() {
    let mut scene = Scene::start(3);
    let snapshot = scene.switch_over();
    let writer = scene.writer();
    scene.restore(&snapshot);
    scene.goes_on(writer);
}

#[test]
fn a_leader_that_is_cut_off_from_a_wiped_etcd_is_replaced_when_it_has_stopped() {
    let mut scene = Scene::start(3);
    let writer = scene.writer();
    scene.ways[scene.leader].cut();
    scene.wipe();
    scene.is_replaced(writer);
}

#[test]
fn a_leader_that_is_cut_off_from_a_restored_etcd_is_replaced_when_it_has_stopped() {
    let mut scene = Scene::start(3);
    let snapshot = scene.switch_over();
    let writer = scene.writer();
    scene.ways[scene.leader].cut();
    scene.restore(&snapshot);
    scene.is_replaced(writer);
}

/// A member that has not been able to clone anything yet.
fn with_an_empty_member(scene: &mut Scene) -> usize {
    let member = crate::member::Member::new(scene.cluster.folder.path(), "empty");
    let mut member = crate::world::join(member, &scene.cluster.etcd);
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
    let writer = scene.writer();
    scene.wipe();
    let leader = &scene.cluster.members[scene.leader];
    leader.wait_log(SOON, "taking the leader lock again");
    std::thread::sleep(seconds(TTL));
    made_no_cluster(&mut scene, empty);
    scene.goes_on(writer);
}

#[test]
fn an_empty_member_makes_no_second_cluster_while_the_leader_is_cut_off_from_a_wiped_etcd() {
    let mut scene = Scene::start(2);
    let empty = with_an_empty_member(&mut scene);
    let writer = scene.writer();
    scene.ways[scene.leader].cut();
    scene.wipe();
    std::thread::sleep(seconds(2 * TTL));
    made_no_cluster(&mut scene, empty);
    scene.is_replaced(writer);
}

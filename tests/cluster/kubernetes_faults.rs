//! What happens to a cluster on Kubernetes: an API server that is away, a node that is cut off, objects and tokens that go.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::kube_api::{Ending, KubeApi, Rule};
use crate::kubernetes::{Kubernetes, NAMESPACE, Objects};
use crate::load::{Ack, Habit, TABLE, Writer, longest_gap, lost};
use crate::member::Member;
use crate::outage;
use crate::wait::{always, eventually, seconds, until};
use crate::world::{Cluster, SOON, Store};

const TTL: Duration = seconds(5);
/// Of a machine that does other work too.
const SLACK: Duration = seconds(1);

fn all(cluster: &Cluster<Kubernetes>) -> Vec<&Member> {
    cluster.members.iter().collect()
}

fn writer_through_the_service(cluster: &Cluster<Kubernetes>, leader: usize) -> Writer {
    cluster.members[leader].must(TABLE);
    let writer = Writer::through(cluster.store.service(), &all(cluster), 1);
    until(SOON, "writes", || {
        cluster.members[leader].value("SELECT count(*) > 20 FROM writes").is_ok_and(|enough| enough == "t")
    });
    writer
}

fn timeline(member: &Member) -> String {
    member.must("SELECT timeline_id FROM pg_control_checkpoint()")
}

#[test]
fn a_primary_without_the_api_server_stops_writing_in_time_and_goes_on_afterwards() {
    let cluster = Cluster::start_on(Kubernetes::start(Objects::Leases), 3);
    outage::a_primary_without_its_store_stops_writing_in_time_and_goes_on_afterwards(cluster);
}

/// Neither the API server nor any member is reached: the guard ends the primary, another is made, and never two write.
#[test]
fn a_primary_that_is_cut_off_is_fenced_before_another_leads() {
    let mut cluster = Cluster::start_on(Kubernetes::start(Objects::Endpoints), 3);
    let (old, _) = cluster.whole(SOON);
    let outside = writer_through_the_service(&cluster, old);
    let place = cluster.members[old].place.expect("it has a pod");
    let inside = place.inside(|| Writer::start(&[&cluster.members[old]], Habit::Stays, 1_000_000));
    until(SOON, "the client beside it writes", || {
        cluster.members[old].value("SELECT max(seq) > 1000020 FROM writes").is_ok_and(|enough| enough == "t")
    });

    cluster.store.pods.cut_off(place);
    let cut = Instant::now();
    let others: Vec<usize> = (0..3).filter(|at| *at != old).collect();
    let is_writable = |at: &usize| cluster.members[*at].value("SELECT pg_is_in_recovery()").is_ok_and(|it| it == "f");
    let (new, took) = eventually(seconds(20), "another primary", || {
        others.iter().copied().find(|at| is_writable(at)).ok_or_else(|| "none is writable".to_owned())
    });
    println!("another primary {took:?} after the cut");
    until(SOON, "writes go on", || {
        cluster.members[new].value("SELECT max(seq) FROM writes WHERE seq < 1000000").is_ok_and(|last| !last.is_empty())
    });
    let promoted = cut + took;
    // Whoever connects inside the pod finds it alive and not the primary.
    let (code, liveness) = place.inside(|| {
        let code = |path: &str| cluster.members[old].get(path).map(|reply| reply.code);
        (code("/primary"), code("/liveness"))
    });
    assert!(code.is_ok_and(|code| code != 200));
    assert_eq!(liveness, Ok(200));
    cluster.store.pods.join_again(place);
    assert_eq!(cluster.whole(seconds(40)).0, new);
    let (inside, outside) = (inside.stop(), outside.stop());
    let last_inside = inside.last().expect("it wrote").at;
    println!("the last write of the old primary came {:?} after the cut", last_inside.saturating_duration_since(cut));
    assert!(last_inside <= cut + TTL + SLACK && last_inside < promoted, "{:?}", last_inside - cut);
    // What was written before the cut is there; what only the cut-off side had acknowledged is what an
    // asynchronous cluster loses.
    let before = |ack: &Ack| ack.at + Duration::from_millis(500) < cut;
    let acks: Vec<Ack> = inside.into_iter().chain(outside).filter(before).collect();
    assert_eq!(lost(&acks, &cluster.members[new]), [0; 0]);
}

/// A pod object says nothing about its PostgreSQL: that it is gone frees no lock.
#[test]
fn a_leader_whose_pod_object_is_deleted_leads_on() {
    let mut cluster = Cluster::start_on(Kubernetes::start(Objects::Endpoints), 2);
    let (leader, _) = cluster.whole(SOON);
    let (name, before) = (cluster.members[leader].name.clone(), timeline(&cluster.members[leader]));
    let writer = writer_through_the_service(&cluster, leader);
    assert!(cluster.store.api.delete("pods", NAMESPACE, &name));
    let leads = || cluster.store.holder().as_deref() == Some(&*name);
    always(TTL + seconds(2), "it holds the lock", leads);
    let acks = writer.stop();
    println!("{} writes, longest gap {:?}", acks.len(), longest_gap(&acks));
    assert!(longest_gap(&acks) < seconds(1), "{:?}", longest_gap(&acks));
    assert!(acks.last().expect("writes").at.elapsed() < seconds(1));
    assert_eq!(timeline(&cluster.members[leader]), before);
    // A new pod of that name is its own again.
    cluster.store.put_pod(&cluster.members[leader]);
    let role = || cluster.store.label(&name, "role").as_deref() == Some("primary");
    until(SOON, "the pod has its label", role);
    assert_eq!(cluster.whole(SOON).0, leader);
}

/// 410: the versions that watches go on from are no longer kept.
#[test]
fn watches_that_have_expired_begin_anew() {
    let mut store = Kubernetes::start(Objects::ConfigMaps);
    // A real server starts anew for it.
    store.ttl = Some(30);
    let mut cluster = Cluster::start_on(store, 2);
    let (leader, _) = cluster.whole(SOON);
    let before = timeline(&cluster.members[leader]);
    let writer = writer_through_the_service(&cluster, leader);
    type End = fn(&KubeApi);
    let ends: [End; 3] =
        [KubeApi::expire_watches, |api| api.drop_watches(Ending::Clean), |api| api.drop_watches(Ending::Broken)];
    for end in ends {
        end(&cluster.store.api);
        always(seconds(2), "the leader leads on", || {
            cluster.members[leader].get("/primary").is_ok_and(|it| it.code == 200)
        });
    }
    let acks = writer.stop();
    assert!(longest_gap(&acks) < seconds(1), "{:?}", longest_gap(&acks));
    assert_eq!(timeline(&cluster.members[leader]), before);
    let (from, to) = (cluster.members[leader].name.clone(), cluster.members[1 - leader].name.clone());
    let reply = cluster.members[leader].send("POST", "/switchover", &json!({"leader": from, "candidate": to}));
    assert_eq!(reply.expect("an answer").code, 200, "what others write is seen again");
    assert_eq!(cluster.whole(SOON).0, 1 - leader);
}

/// The token expires and is replaced, as a service account's each hour, and once with nothing in its place for a while.
#[test]
fn a_token_that_expires_ends_nothing_before_the_lease_does() {
    let store = Kubernetes::start(Objects::Leases);
    let rules = || {
        let all = ["create", "get", "list", "patch", "watch"];
        vec![
            Rule::new(&["configmaps", "pods"], &all).in_namespace(NAMESPACE),
            Rule::new(&["leases"], &all).of_group("coordination.k8s.io").in_namespace(NAMESPACE),
            Rule::new(&["endpointslices"], &all).of_group("discovery.k8s.io").in_namespace(NAMESPACE),
        ]
    };
    let token = store.api.service_account(NAMESPACE, "members", rules());
    store.write_token(&token);
    let mut cluster = Cluster::start_on(store, 2);
    let (leader, _) = cluster.whole(SOON);
    let before = timeline(&cluster.members[leader]);
    let writer = writer_through_the_service(&cluster, leader);

    let next = cluster.store.api.service_account(NAMESPACE, "members", rules());
    cluster.store.write_token(&next);
    cluster.store.api.expire(&token, Instant::now());
    always(TTL + seconds(1), "it leads on", || cluster.members[leader].get("/primary").is_ok_and(|it| it.code == 200));
    let acks = writer.stop();
    assert!(longest_gap(&acks) < seconds(1), "{:?}", longest_gap(&acks));
    assert_eq!(timeline(&cluster.members[leader]), before);

    // Without one the primary ends with its lease, and goes on with the next token.
    let log = cluster.members[leader].log().len();
    cluster.store.api.expire(&next, Instant::now());
    let expired = Instant::now();
    let is_writable = |member: &Member| member.value("SELECT pg_is_in_recovery()").is_ok_and(|it| it == "f");
    until(TTL + SLACK, "the primary gives up", || !is_writable(&cluster.members[leader]));
    println!("no longer writable {:?} after the token was refused", expired.elapsed());
    assert!(cluster.members[leader].said_since(log).contains("Unauthorized"), "the log has the server's word");
    let last = cluster.store.api.service_account(NAMESPACE, "members", rules());
    cluster.store.write_token(&last);
    cluster.primary(seconds(15));
    cluster.whole(SOON);
}

#[test]
fn a_paused_cluster_is_left_alone() {
    let mut cluster = Cluster::start_on(Kubernetes::start(Objects::Leases), 2);
    let (leader, _) = cluster.whole(SOON);
    let reply = cluster.members[leader].send("PATCH", "/config", &json!({"pause": true})).expect("an answer");
    assert_eq!(reply.code, 200);
    let paused = |member: &Member| member.get("/patroni").is_ok_and(|it| it.json()["pause"] == true);
    until(SOON, "all know", || cluster.members.iter().all(paused));
    let name = cluster.members[leader].name.clone();
    cluster.store.freeze();
    always(TTL + seconds(2), "the primary stays", || {
        cluster.members[leader].value("SELECT pg_is_in_recovery()").is_ok_and(|it| it == "f")
    });
    cluster.store.thaw();
    let resumed =
        || cluster.members[leader].send("PATCH", "/config", &json!({"pause": null})).is_ok_and(|it| it.code == 200);
    until(SOON, "it is resumed", resumed);
    assert_eq!(cluster.whole(SOON).0, leader);
    assert_eq!(cluster.store.holder(), Some(name));
}

/// A liveness probe ends no PostgreSQL because the API server is away.
#[test]
#[ignore = "takes ten minutes; make e2e"]
fn ten_minutes_without_the_api_server_end_no_server() {
    let mut cluster = Cluster::start_on(Kubernetes::start(Objects::Endpoints), 3);
    let (leader, _) = cluster.whole(SOON);
    cluster.members[leader].must("CREATE TABLE rows AS SELECT 1");
    cluster.replayed(leader, (leader + 1) % 3);
    cluster.replayed(leader, (leader + 2) % 3);
    cluster.store.freeze();
    let frozen = Instant::now();
    let readable = |member: &Member| member.value("SELECT count(*) FROM rows").is_ok_and(|count| count == "1");
    until(TTL + seconds(20), "all are standbys that answer", || {
        let standby = |member: &Member| member.value("SELECT pg_is_in_recovery()").is_ok_and(|it| it == "t");
        cluster.members.iter().all(standby)
    });
    let postmasters: Vec<_> = cluster.members.iter_mut().map(Member::postmaster).collect();
    while frozen.elapsed() < seconds(600) {
        always(seconds(5), "all are alive and answer", || {
            let alive = |member: &Member| member.get("/liveness").is_ok_and(|it| it.code == 200);
            cluster.members.iter().all(|member| alive(member) && readable(member))
        });
    }
    assert_eq!(cluster.members.iter_mut().map(Member::postmaster).collect::<Vec<_>>(), postmasters);
    cluster.store.thaw();
    let (_, took) = cluster.primary(seconds(20));
    println!("a primary {took:?} after the API server came back");
    cluster.whole(SOON);
}

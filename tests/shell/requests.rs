//! What the API asks of the loop, and that none of it waits for a cycle.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tamada::agent::mailbox::{
    ConfigChange, ConfigResult, ReinitializeBody, Request, RestartBody, RestartResult, SwitchoverDocument, WriteResult,
};
use tamada::core::local::Guard;
use tamada::core::observation::RestartConditions;
use tamada::core::units::{MemberName, WallTime};
use tamada::core::view::MemberRole;
use tamada::dcs::memory::Fault;
use tokio::time::sleep;

use crate::failover::leader_of;
use crate::start::three;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

fn fields(document: Value) -> Map<String, Value> {
    let Value::Object(fields) = document else { panic!("a document is an object") };
    fields
}

#[tokio::test(start_paused = true)]
async fn a_position_is_newer_than_its_request_also_while_the_store_hangs() {
    let world = World::new();
    let nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    sleep(SECOND * 9).await;
    nodes[leader].fault(Fault::Hang);
    // The next cycle is now stuck in the store.
    sleep(SECOND * 3).await;
    let first = nodes[leader].ask(Request::Positions, SECOND / 10).await.unwrap();
    sleep(SECOND).await;
    let second = nodes[leader].ask(Request::Positions, SECOND / 10).await.unwrap();
    assert!(second.location.unwrap().0 >= first.location.unwrap().0 + 10_000);
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_answered_when_it_is_over_and_keeps_the_lock() {
    let world = World::new();
    let nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    let name = nodes[leader].name;
    let answer = nodes[leader].ask(|answer| Request::Restart(RestartBody::default(), answer), SECOND * 10).await;
    assert_eq!(answer, RestartResult::Restarted);
    assert!(world.when(name, "start primary").is_some());
    assert_eq!((world.leader().as_deref(), world.count("promote")), (Some(name), 0));

    let conditions = RestartConditions { role: Some(MemberRole::Replica), ..RestartConditions::default() };
    let other = RestartBody { conditions, ..RestartBody::default() };
    let answer = nodes[leader].ask(|answer| Request::Restart(other, answer), SECOND).await;
    assert_eq!(answer, RestartResult::ConditionsNotSatisfied);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_a_stop_ends_is_answered_as_failed() {
    let world = World::new();
    let nodes = three(&world).await;
    let replica = &nodes[(leader_of(&world, &nodes) + 1) % 3];
    let terminates = async {
        world.until("the restart has begun", SECOND, || world.when(replica.name, "stop").is_some()).await;
        replica.terminate();
    };
    let asked = replica.ask(|answer| Request::Restart(RestartBody::default(), answer), SECOND * 10);
    let (answer, ()) = tokio::join!(asked, terminates);
    assert_eq!(answer, RestartResult::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_restart_beside_another_one_is_told_which_work_it_would_disturb() {
    let world = World::new();
    let nodes = three(&world).await;
    let node = &nodes[leader_of(&world, &nodes)];
    let restart = || node.ask(|answer| Request::Restart(RestartBody::default(), answer), SECOND * 10);
    let (first, second) = tokio::join!(restart(), restart());
    assert_eq!(first, RestartResult::Restarted);
    assert_eq!(second, RestartResult::Busy("restart already in progress".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_document_that_members_would_reject_is_not_written() {
    let world = World::new();
    let nodes = three(&world).await;
    let change = |change| nodes[0].ask(|answer| Request::Config(change, answer), SECOND * 10);
    let nothing = || fields(json!({"ttl": null}));
    assert!(matches!(change(ConfigChange::Replace(nothing())).await, ConfigResult::Refused(_)));
    assert!(matches!(change(ConfigChange::Merge(nothing())).await, ConfigResult::Done(_)));
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_restart_happens_at_its_time() {
    let world = World::new();
    let nodes = three(&world).await;
    let replica = (leader_of(&world, &nodes) + 1) % 3;
    let name = nodes[replica].name;
    let schedule = {
        use tamada::agent::clock::Clock;
        WallTime(world.clock.wall().0 + 25_000)
    };
    let body = RestartBody { schedule: Some(schedule), ..RestartBody::default() };
    let again = body.clone();
    let began = world.now();
    let answer = nodes[replica].ask(|answer| Request::Restart(body, answer), SECOND).await;
    assert_eq!(answer, RestartResult::Scheduled);
    let answer = nodes[replica].ask(|answer| Request::Restart(again, answer), SECOND).await;
    assert_eq!(answer, RestartResult::AlreadyScheduled);
    let stopped = || world.when(name, "stop").is_some();
    world.until("the restart", SECOND * 30, stopped).await;
    let after = world.when(name, "stop").unwrap().since(began);
    assert!(after >= SECOND * 25 && after < SECOND * 26, "{after:?}");
    assert!(!nodes[replica].ask(Request::CancelRestart, SECOND).await, "there is none left to cancel");
}

#[tokio::test(start_paused = true)]
async fn the_configuration_is_merged_refused_or_found_changed() {
    let world = World::new();
    let nodes = three(&world).await;
    let merge = |change: Value| ConfigChange::Merge(fields(change));
    let ask = |change| nodes[0].ask(|answer| Request::Config(change, answer), SECOND);
    let ConfigResult::Done(document) = ask(merge(json!({"loop_wait": 5}))).await else { panic!("not merged") };
    assert_eq!(document["loop_wait"], json!(5));
    assert_eq!(document["ttl"], json!(30));
    let in_force = || nodes.iter().all(|node| node.status().timing.loop_wait == SECOND * 5);
    world.until("the new timers everywhere", SECOND, in_force).await;

    let ConfigResult::Refused(why) = ask(merge(json!({"synchronous_mode": "maybe"}))).await else { panic!("taken") };
    assert!(why[0].contains("synchronous_mode"));

    nodes[0].fault(Fault::Unreachable);
    assert!(matches!(ask(merge(json!({"ttl": 40}))).await, ConfigResult::Unreachable(_)));
}

#[tokio::test(start_paused = true)]
async fn a_broken_configuration_leaves_the_last_good_one_in_force() {
    let world = World::new();
    let nodes = three(&world).await;
    world.store.put_raw("config", r#"{"ttl": "soon"}"#);
    sleep(SECOND * 12).await;
    assert!(nodes.iter().all(|node| node.status().timing.ttl == SECOND * 30));
    assert!(world.primary().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_switchover_is_cleared_once() {
    let world = World::new();
    let nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    let document = SwitchoverDocument {
        leader: Some(nodes[leader].name.to_owned()),
        scheduled_at: Some("2030-01-01T00:00:00+00:00".to_owned()),
        candidate: None,
    };
    nodes[leader].ask(|answer| Request::Switchover(document, answer), SECOND).await.unwrap();
    assert_eq!(nodes[leader].ask(Request::ClearSwitchover, SECOND).await, WriteResult::Done);
    assert_eq!(nodes[leader].ask(Request::ClearSwitchover, SECOND).await, WriteResult::NothingThere);
}

#[tokio::test(start_paused = true)]
async fn a_replica_is_made_anew_on_request_and_the_leader_is_not() {
    let world = World::new();
    let nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    let replica = (leader + 1) % 3;
    let body = ReinitializeBody { force: false, from_leader: false };
    let refused = nodes[leader].ask(|answer| Request::Reinitialize(body, answer), SECOND).await;
    assert_eq!(refused, Err("I am the leader, can not reinitialize".to_owned()));
    let clones = world.count("clone");
    assert_eq!(nodes[replica].ask(|answer| Request::Reinitialize(body, answer), SECOND).await, Ok(()));
    world.until("a new clone", SECOND * 10, || world.count("clone") == clones + 1).await;
    world.settled(&nodes.each_ref(), SECOND * 10).await;
}

#[tokio::test(start_paused = true)]
async fn only_members_that_answer_are_eligible() {
    let world = World::new();
    let nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    let [one, two] = [(leader + 1) % 3, (leader + 2) % 3].map(|at| nodes[at].name);
    world.inner().silent.insert(two);
    let names = vec![MemberName::from(one), MemberName::from(two)];
    let eligible = nodes[leader].ask(|answer| Request::Eligible(names, answer), SECOND * 3).await;
    assert_eq!(eligible, [MemberName::from(one)]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_rewrites_the_servers_files() {
    let world = World::new();
    let nodes = three(&world).await;
    nodes[0].reload();
    world.until("the first reload", SECOND, || world.count("reload") == 1).await;
    nodes[0].tell(Request::Reload).await;
    world.until("the second reload", SECOND, || world.count("reload") == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_setting_that_waits_for_a_restart_shows_as_soon_as_it_is_written() {
    let world = World::new();
    let nodes = three(&world).await;
    let merge = |connections: u32| {
        ConfigChange::Merge(fields(json!({"postgresql": {"parameters": {"max_connections": connections}}})))
    };
    nodes[0].ask(|answer| Request::Config(merge(90), answer), SECOND).await;
    let shown = || nodes.iter().all(|node| node.status().pending_restart.contains_key("max_connections"));
    world.until("the pending restart on every member", SECOND, shown).await;
    // One that fails is tried again with the next cycle and makes none begin.
    nodes[0].server(|server| server.configure_fails = true);
    let before = nodes[0].server(|server| server.configured);
    nodes[0].ask(|answer| Request::Config(merge(91), answer), SECOND).await;
    sleep(SECOND * 5).await;
    let tried = nodes[0].server(|server| server.configured) - before;
    assert!((1..=3).contains(&tried), "{tried} times in 5 s");
}

#[tokio::test(start_paused = true)]
async fn the_cluster_is_read_anew_for_the_api() {
    let world = World::new();
    let nodes = three(&world).await;
    let seen = nodes[0].ask(Request::Cluster, SECOND).await.unwrap();
    assert_eq!(seen.view.members.len(), 3);
    nodes[0].fault(Fault::Unreachable);
    assert!(nodes[0].ask(Request::Cluster, SECOND).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_shorter_ttl_counts_from_the_moment_that_it_is_known() {
    let world = World::new();
    let nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    let merge = ConfigChange::Merge(fields(json!({"ttl": 5, "loop_wait": 1, "retry_timeout": 1})));
    nodes[leader].ask(|answer| Request::Config(merge, answer), SECOND).await;
    let short = || nodes[leader].status().timing.ttl == SECOND * 5;
    world.until("the new timers", SECOND, short).await;
    let deadline = nodes[leader].init.guard_now();
    let Guard::Until(deadline) = deadline else { panic!("PID 1 has a deadline") };
    assert!(deadline < world.now() + SECOND * 5);
    for _ in 0..100 {
        sleep(SECOND / 5).await;
        assert_eq!(world.leader().as_deref(), Some(nodes[leader].name));
    }
    let merge = ConfigChange::Merge(fields(json!({"ttl": 60, "loop_wait": 20, "retry_timeout": 20})));
    nodes[leader].ask(|answer| Request::Config(merge, answer), SECOND).await;
    for _ in 0..100 {
        sleep(SECOND).await;
        assert_eq!(world.leader().as_deref(), Some(nodes[leader].name));
    }
}

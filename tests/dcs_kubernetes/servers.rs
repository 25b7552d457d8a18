//! `bypass_api_service`: the requests go to the API servers' own addresses, past a Service that leads nowhere and a server
//! that is dead. On the server of the tests: a real one takes no loopback addresses for its own Endpoints.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tamada::config::StateObjects;
use tamada::core::lock_seen::LockSeen;
use tamada::core::policy::Switch;
use tamada::dcs::Dcs;
use tamada::dcs::kubernetes::KubernetesDcs;

use super::kube_api::{Fault, KubeApi, Options, Proxy, Rule, When};
use super::{NAMESPACE, SOON, Through, World, eventually, in_time, kubernetes_config, member_rules, record, timing};

/// One attempt of three within this.
const DEADLINE: Duration = Duration::from_secs(4);

fn world() -> World {
    World::around(KubeApi::stand_in(Options::loopback()))
}

/// Another way to the server, which looks like another server.
fn beside(world: &World) -> Proxy {
    let api = &world.api;
    Proxy::start(SocketAddr::new(api.address().ip(), 0), api.authority(), api.address(), &api.authority().cert)
}

fn put_servers(world: &World, servers: &[SocketAddr]) {
    let subsets: Vec<_> = servers
        .iter()
        .map(|server| {
            let ports =
                json!([{"name": "other", "port": 1}, {"name": "https", "port": server.port(), "protocol": "TCP"}]);
            json!({"addresses": [{"ip": server.ip()}], "ports": ports})
        })
        .collect();
    world.api.put("endpoints", "default", json!({"metadata": {"name": "kubernetes"}, "subsets": subsets}));
}

/// The proxy is the Service.
fn member(world: &World, name: &str, token: &str) -> KubernetesDcs {
    let path = world.kubeconfig(name, token, Through::Proxy);
    let mut config = kubernetes_config::by_default(StateObjects::ConfigMaps, path);
    config.bypass_api_service = Switch::On;
    KubernetesDcs::member(&config, "demo", name.into(), timing(30), None)
}

#[tokio::test]
async fn a_service_that_leads_nowhere_is_passed_by() {
    let world = world();
    put_servers(&world, &[world.api.address()]);
    let member = member(&world, "n1", world.api.admin());
    let asked = || world.proxy.requests();
    eventually("the watches run at the server's own address", async || {
        let before = asked();
        member.publish(&record("running"), SOON).await.expect("the server answers");
        member.read(SOON).await.expect("the server answers");
        asked() == before
    })
    .await;
    world.proxy.freeze();
    in_time(DEADLINE, member.publish(&record("stopping"), DEADLINE)).await.expect("the server answers");
    in_time(DEADLINE, member.acquire(LockSeen::default(), DEADLINE)).await.expect("the server answers");
    assert_eq!(world.leader().as_deref(), Some("n1"));
}

#[tokio::test]
async fn the_next_server_is_asked_in_place_of_a_dead_one() {
    let world = world();
    let (first, second) = (beside(&world), beside(&world));
    put_servers(&world, &[first.address(), second.address()]);
    let member = member(&world, "n1", world.api.admin());
    eventually("the first server is asked", async || {
        member.publish(&record("running"), SOON).await.expect("the server answers");
        member.read(SOON).await.expect("the server answers");
        first.requests() > 0
    })
    .await;
    first.freeze();
    in_time(DEADLINE, member.publish(&record("stopping"), DEADLINE)).await.expect("the next server answers");
    in_time(DEADLINE, member.acquire(LockSeen::default(), DEADLINE)).await.expect("the next server answers");
    // One without a store behind it says so; those that have come are found by the watches afterwards.
    let third = beside(&world);
    put_servers(&world, &[first.address(), second.address(), third.address()]);
    second.add(When::any(), Fault::Answer(503, None));
    in_time(DEADLINE, member.renew(None, None, DEADLINE)).await.expect("the Service answers");
    eventually("the new server is asked", async || {
        member.publish(&record("running"), SOON).await.ok();
        third.requests() > 0
    })
    .await;
}

#[tokio::test]
async fn without_the_right_the_service_is_used() {
    let world = world();
    put_servers(&world, &[world.api.address()]);
    let user = world.api.service_account(NAMESPACE, "members", member_rules());
    let member = member(&world, "n1", &user);
    member.publish(&record("running"), SOON).await.expect("the Service answers");
    let refused = || {
        let records = world.api.records();
        records.iter().filter(|record| record.code == 403 && record.asked.name == "kubernetes").count()
    };
    eventually("it has asked", async || refused() > 0).await;
    let before = world.proxy.requests();
    member.acquire(LockSeen::default(), SOON).await.expect("the Service answers");
    assert!(world.proxy.requests() > before);
    // The server may have refused it because it had just started: it is asked again when a watch begins anew.
    let right = Rule::new(&["endpoints"], &["get"]).in_namespace("default").only(&["kubernetes"]);
    let rules = member_rules().into_iter().chain([right]).collect();
    world.api.allow("system:serviceaccount:demo:members", rules);
    world.proxy.restart();
    eventually("the Service is not asked any more", async || {
        let before = world.proxy.requests();
        member.read(SOON).await.is_ok() && world.proxy.requests() == before
    })
    .await;
}

/// The right that the documentation names is enough.
#[tokio::test]
async fn one_right_in_one_other_namespace_is_needed() {
    let world = world();
    put_servers(&world, &[world.api.address()]);
    let right = Rule::new(&["endpoints"], &["get"]).in_namespace("default").only(&["kubernetes"]);
    let rules = member_rules().into_iter().chain([right]).collect();
    let member = member(&world, "n1", &world.api.service_account(NAMESPACE, "members", rules));
    eventually("the Service is not asked", async || {
        let before = world.proxy.requests();
        member.publish(&record("running"), SOON).await.expect("the server answers");
        member.read(SOON).await.expect("the server answers");
        world.proxy.requests() == before
    })
    .await;
}

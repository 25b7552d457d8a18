//! The proxy, and what it does wrong.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::json;

use crate::client::{Client, LIMIT, STRATEGIC, core, stand_in};
use crate::kube_api::{Fault, KubeApi, Loss, Proxy, When};

/// So long nothing may come.
const BRIEF: Duration = Duration::from_millis(150);

struct World {
    api: KubeApi,
    proxy: Proxy,
    client: Client,
}

fn world() -> World {
    let api = stand_in();
    api.put("configmaps", "demo", json!({"metadata": {"name": "a"}}));
    let proxy = proxy(&api);
    let mut client = Client::at(proxy.address(), api.authority());
    client.token = Some(api.admin().to_owned());
    World { api, proxy, client }
}

fn proxy(api: &KubeApi) -> Proxy {
    api.proxy(SocketAddr::new(api.address().ip(), 0))
}

impl World {
    fn leader(&self) -> Option<String> {
        let map = self.api.get("configmaps", "demo", "a")?;
        map["metadata"]["annotations"]["leader"].as_str().map(str::to_owned)
    }

    async fn lead(&self, name: &str) -> std::io::Result<u16> {
        let body = json!({"metadata": {"annotations": {"leader": name}}}).to_string().into_bytes();
        let headers = [("content-type", STRATEGIC)];
        let response = self.client.send(Method::PATCH, &core("configmaps/a"), &headers, Some(body)).await?;
        Ok(response.status().as_u16())
    }
}

fn patches() -> When {
    When::any().method(Method::PATCH).path("/configmaps/")
}

#[tokio::test]
async fn it_passes_everything_on() {
    let world = world();
    assert_eq!(world.lead("x").await.expect("an answer"), 200);
    let maps = world.client.get(&core("configmaps")).await.ok();
    assert_eq!(maps["items"][0]["metadata"]["annotations"]["leader"], "x");
    let mut watch =
        world.client.watch(&format!("{}?watch=1&resourceVersion={}", core("configmaps"), world.api.revision())).await;
    world.api.put("configmaps", "demo", json!({"metadata": {"name": "b"}}));
    assert_eq!(watch.event().await.1, "b");
    let nobody = Client::at(world.proxy.address(), world.api.authority());
    nobody.get(&core("pods")).await.refusal(403, "Forbidden");
}

#[tokio::test]
async fn a_write_is_done_and_its_answer_is_lost() {
    let world = world();
    world.proxy.add(patches().once(), Fault::LoseAnswer(Loss::Reset));
    world.lead("x").await.expect_err("the connection is reset");
    assert_eq!(world.leader().as_deref(), Some("x"));
    let rule = world.proxy.add(patches().once(), Fault::LoseAnswer(Loss::Hang));
    assert!(tokio::time::timeout(BRIEF, world.lead("y")).await.is_err(), "an answer");
    world.proxy.wait_for_hits(LIMIT, rule, 1);
    assert_eq!(world.leader().as_deref(), Some("y"));
    assert_eq!(world.lead("z").await.expect("an answer"), 200);
}

#[tokio::test]
async fn a_write_never_arrives() {
    let world = world();
    world.proxy.add(patches().once(), Fault::LoseRequest(Loss::Hang));
    assert!(tokio::time::timeout(BRIEF, world.lead("x")).await.is_err(), "an answer");
    world.proxy.add(patches().once(), Fault::LoseRequest(Loss::Reset));
    world.lead("x").await.expect_err("the connection is reset");
    assert_eq!(world.leader(), None);
}

#[tokio::test]
async fn a_write_arrives_after_its_sender_has_given_up() {
    let world = world();
    world.proxy.add(patches().once(), Fault::Delay(BRIEF * 2));
    let began = Instant::now();
    assert!(tokio::time::timeout(BRIEF / 3, world.lead("late")).await.is_err(), "an answer");
    assert_eq!(world.leader(), None);
    let has_leader =
        |map: Option<&serde_json::Value>| map.is_some_and(|map| map["metadata"]["annotations"]["leader"] == "late");
    world.api.wait_for(LIMIT, ("configmaps", "demo", "a"), has_leader);
    assert!(began.elapsed() >= BRIEF * 2);
}

#[tokio::test]
async fn it_answers_in_the_servers_place() {
    let world = world();
    let rule = world.proxy.add(patches().after(1).times(2), Fault::Answer(429, Some(7)));
    let mut codes = Vec::new();
    for _ in 0..4 {
        codes.push(world.lead("x").await.expect("an answer"));
    }
    assert_eq!((codes, world.proxy.hits(rule)), (vec![200, 429, 429, 200], 2));
    world.proxy.clear();
    for code in [401, 500, 503] {
        world.proxy.add(When::any().once(), Fault::Answer(code, Some(1)));
        let answer = world.client.get(&core("pods")).await;
        assert_eq!((answer.code, answer.json()["code"].clone()), (code, json!(code)));
        assert_eq!(answer.headers["retry-after"], "1");
    }
}

#[tokio::test]
async fn an_answer_breaks_off() {
    use http_body_util::BodyExt;
    let world = world();
    world.proxy.add(When::any().once(), Fault::Truncate(10));
    let response = world.client.send(Method::GET, &core("configmaps"), &[], None).await.expect("a head");
    let mut body = response.into_body();
    let first = body.frame().await.expect("a part").expect("unbroken").into_data().expect("bytes");
    assert_eq!(first.len(), 10);
    assert!(body.frame().await.expect("more").is_err(), "it goes on");
}

#[tokio::test]
async fn a_watch_falls_silent_and_stays_open() {
    let world = world();
    let path = format!("{}?watch=1&resourceVersion={}", core("configmaps"), world.api.revision());
    let mut watch = world.client.watch(&path).await;
    let put = |name: &str| world.api.put("configmaps", "demo", json!({"metadata": {"name": name}}));
    put("b");
    assert_eq!(watch.event().await.1, "b");
    let rule = world.proxy.add(When::any().path("watch="), Fault::Silence);
    put("c");
    world.proxy.wait_for_hits(LIMIT, rule, 1);
    assert!(tokio::time::timeout(BRIEF, watch.next()).await.is_err(), "an event");
    world.proxy.clear();
    put("d");
    assert!(tokio::time::timeout(BRIEF, watch.next()).await.is_err(), "an event");
    // Other requests, and a new watch, are answered.
    world.client.get(&core("pods")).await.ok();
    let mut new = world.client.watch(&path).await;
    assert_eq!(new.event().await.1, "b");
}

#[tokio::test]
async fn events_come_late_and_in_order() {
    let world = world();
    let path = format!("{}?watch=1&resourceVersion={}", core("configmaps"), world.api.revision());
    let mut watch = world.client.watch(&path).await;
    world.proxy.add(When::any().path("watch="), Fault::DelayEvents(BRIEF * 2));
    let began = Instant::now();
    for name in ["b", "c", "d"] {
        world.api.put("configmaps", "demo", json!({"metadata": {"name": name}}));
    }
    for name in ["b", "c", "d"] {
        assert_eq!(watch.event().await.1, name);
        assert!(began.elapsed() >= BRIEF * 2);
    }
}

#[tokio::test]
async fn two_proxies_stand_before_one_server() {
    let world = world();
    let other = proxy(&world.api);
    let mut second = Client::at(other.address(), world.api.authority());
    second.token = Some(world.api.admin().to_owned());
    world.proxy.add(When::any(), Fault::Answer(503, None));
    assert_eq!(world.client.get(&core("pods")).await.code, 503);
    second.get(&core("pods")).await.ok();
    other.freeze();
    let asked = tokio::time::timeout(BRIEF, second.send(Method::GET, "/livez", &[], None)).await;
    assert!(asked.is_err(), "an answer");
    other.thaw();
    second.get("/livez").await;
    world.proxy.stop();
    world.client.send(Method::GET, "/livez", &[], None).await.expect_err("nobody listens");
    world.proxy.restart();
    world.proxy.clear();
    world.client.get(&core("pods")).await.ok();
    // Where the server is away, the proxy seems to be away too.
    world.api.stop();
    world.client.send(Method::GET, "/livez", &[], None).await.expect_err("the connection is reset");
}

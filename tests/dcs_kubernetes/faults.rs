//! Documents and records under errors.

use std::time::Duration;

use hyper::Method;
use serde_json::json;
use tamada::dcs::{Content, Dcs, DcsError, Expect, Key, Seen};

use super::kube_api::{Fault, Loss, When};
use super::{NAMESPACE, SOON, Through, World, eventually, in_time, record, unreachable};

#[tokio::test]
async fn the_servers_pause_is_kept() {
    let world = World::open();
    let member = world.member("n1");
    member.snapshot(SOON).await.expect("the server answers");
    let busy = world.proxy.add(When::any().method(Method::PATCH).path("/pods/").once(), Fault::Answer(429, Some(1)));
    let began = std::time::Instant::now();
    member.publish(&record("running"), SOON).await.expect("the server answers then");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(world.proxy.hits(busy), 1);
    // Longer than there is time: it is not waited for.
    world.proxy.add(When::any().method(Method::PATCH), Fault::Answer(503, Some(1_000)));
    let began = std::time::Instant::now();
    unreachable(member.publish(&record("stopped"), Duration::from_secs(5)).await);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_record_is_written_although_the_kubelet_writes_into_the_pod() {
    let world = World::open();
    let member = world.member("n1");
    member.snapshot(SOON).await.expect("the server answers");
    for round in 0..20 {
        world.api.patch("pods", NAMESPACE, "n1", &json!({"metadata": {"annotations": {"kubelet": round.to_string()}}}));
        let state = if round % 2 == 0 { "running" } else { "stopping" };
        member.publish(&record(state), SOON).await.expect("the server answers");
        let written = world.annotation("pods", "n1", "status").expect("it is written");
        assert!(written.contains(state), "{written}");
    }
}

#[tokio::test]
async fn a_document_whose_answer_is_lost_is_no_conflict() {
    let world = World::open();
    let member = world.member("n1");
    let config = |ttl: u32| Content::Json(json!({ "ttl": ttl }));
    for method in [Method::POST, Method::PATCH] {
        world.proxy.add(When::any().method(method.clone()).once(), Fault::LoseAnswer(Loss::Reset));
        let seen = member.read(SOON).await.expect("the server answers");
        let expect = seen.expect(seen.documents.config.as_ref().map(|config| config.revision));
        let ttl = if method == Method::POST { 20 } else { 30 };
        member.replace(Key::Config, config(ttl), expect, SOON).await.expect("it is written");
        assert_eq!(world.annotation("configmaps", "demo-config", "config"), Some(format!("{{\"ttl\":{ttl}}}")));
    }
}

/// Each annotation of an object has a version of its own.
#[tokio::test]
async fn another_annotation_of_the_same_object_is_no_conflict() {
    let world = World::open();
    let (member, other) = (world.member("n1"), world.other("n2", 30));
    member
        .replace(Key::Config, Content::Json(json!({"ttl": 30})), Expect::AsSeen(Seen::default()), SOON)
        .await
        .expect("written");
    let seen = member.read(SOON).await.expect("the server answers");
    let id = Content::Text("7710921647475908793".to_owned());
    other.replace(Key::Initialize, id, Expect::AsSeen(Seen::default()), SOON).await.expect("written");
    let expect = seen.expect(seen.documents.config.as_ref().map(|config| config.revision));
    member.replace(Key::Config, Content::Json(json!({"ttl": 40})), expect, SOON).await.expect("nobody changed it");
    let again = other.replace(Key::Config, Content::Json(json!({"ttl": 50})), expect, SOON).await;
    assert!(matches!(again, Err(DcsError::Conflict { key: Key::Config })), "{again:?}");
}

#[tokio::test]
async fn a_claim_ends_with_its_claimer_and_not_before() {
    let world = World::open();
    let (first, second) = (world.other("n1", 2), world.other("n2", 2));
    first.replace(Key::Initialize, Content::Claim, Expect::AsSeen(Seen::default()), SOON).await.expect("there is none");
    let claim = async |expect| second.replace(Key::Initialize, Content::Claim, expect, SOON).await;
    for _ in 0..3 {
        first.publish(&record("initializing new cluster"), SOON).await.expect("the server answers");
        let seen = second.snapshot(SOON).await.expect("the server answers");
        let taken = claim(seen.expect(None)).await;
        assert!(matches!(taken, Err(DcsError::Conflict { key: Key::Initialize })), "{taken:?}");
        // The half of a ttl, after which it is renewed, is over once in a while.
        let renewed = || world.annotation("configmaps", "demo-config", "tamada_claim");
        let before = renewed();
        eventually("the claim is renewed", async || {
            first.publish(&record("initializing new cluster"), SOON).await.expect("the server answers");
            renewed() != before
        })
        .await;
    }
    drop(first);
    eventually("the claim is free", async || {
        let seen = second.snapshot(SOON).await.expect("the server answers");
        claim(seen.expect(None)).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_token_that_was_replaced_is_read_at_once() {
    let world = World::open();
    let (token, _) = super::service_account(&world);
    let member = world.limited("renewed", &token, "n1");
    member.publish(&record("running"), SOON).await.expect("the server answers");
    let (new, _) = super::service_account(&world);
    world.kubeconfig("renewed", &new, Through::Nothing);
    world.api.expire(&token, std::time::Instant::now());
    let deadline = Duration::from_secs(3);
    in_time(deadline, member.publish(&record("stopped"), deadline)).await.expect("the new token is used");
}

#[tokio::test]
async fn whatever_somebody_has_written_by_hand_is_read() {
    let world = World::open();
    let labels = json!({"application": "patroni", "cluster-name": "demo"});
    let nonsense = json!({"leader": "", "ttl": "soon", "optime": "x", "slots": "{", "initialize": "me", "config": "[",
        "history": "{}", "failsafe": "1", "status": "[]", "tamada_holder": " "});
    for name in ["demo-leader", "demo-config", "demo-failover", "demo-sync", "demo-other"] {
        let metadata = json!({"name": name, "labels": labels, "annotations": nonsense});
        world.api.put("configmaps", NAMESPACE, json!({ "metadata": metadata }));
    }
    for pod in ["n1", "n2"] {
        world.api.patch("pods", NAMESPACE, pod, &json!({"metadata": {"annotations": {"status": "]"}}}));
    }
    let member = world.member("n3");
    let view = member.snapshot(SOON).await.expect("the server answers").view.clone();
    assert_eq!(view.leader, None);
    assert_eq!(view.members.len(), 2);
    assert!(member.acquire(view.lock_and_status_seen(), SOON).await.expect("the server answers").is_held());
}

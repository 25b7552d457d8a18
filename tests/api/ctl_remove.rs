//! `tamada remove` on etcd: patronictl's questions, and what becomes of the keys.

use std::ffi::OsString;

use etcd_client::{Client, DeleteOptions, GetOptions};
use serde_json::json;
use tokio::task::JoinHandle;

use super::command::{self, Ended};
use super::etcd::Etcd;
use super::fixture;
use super::server::Harness;

const AWARE: &str = "Yes I am aware";

struct World {
    etcd: Etcd,
    client: Client,
}

impl World {
    async fn open() -> Self {
        let etcd = Etcd::start();
        let client = etcd.client().await;
        World { etcd, client }
    }

    /// A cluster whose leader's API is there.
    async fn fill(&mut self, api_url: &str) {
        let member = json!({"conn_url": "postgres://h:5432/postgres", "api_url": api_url, "state": "running"});
        let keys = [
            ("demo/leader", "n0".to_owned()),
            ("demo/initialize", "7710921647475908793".to_owned()),
            ("demo/config", json!({"loop_wait": 1}).to_string()),
            ("demo/members/n0", member.to_string()),
            ("demo2/leader", "x".to_owned()),
        ];
        self.client.delete("/", Some(DeleteOptions::new().with_prefix())).await.expect("etcd answers");
        for (key, value) in keys {
            self.client.put(format!("/service/{key}"), value, None).await.expect("etcd answers");
        }
    }

    async fn keys(&mut self) -> Vec<String> {
        let all = GetOptions::new().with_prefix().with_keys_only();
        let answer = self.client.get("/service/", Some(all)).await.expect("etcd answers");
        answer.kvs().iter().map(|kv| kv.key_str().expect("the keys are text").to_owned()).collect()
    }

    fn remove(&self, arguments: &str, input: &str) -> JoinHandle<Ended> {
        let hosts: Vec<String> = self.etcd.endpoints().iter().map(ToString::to_string).collect();
        let environment = vec![("PATRONI_ETCD3_HOSTS".into(), hosts.join(",").into())];
        let words = ["remove"].into_iter().chain(arguments.split_whitespace());
        command::run(words.map(OsString::from).collect(), environment, input)
    }
}

/// Where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:1/patroni";

#[tokio::test]
async fn each_question_must_be_answered() {
    let mut world = World::open().await;
    world.fill(NOWHERE).await;
    for (input, told) in [
        ("", "Aborted!"),
        ("other\n", "Cluster names specified do not match"),
        ("demo\nyes\n", "You did not exactly type \"Yes I am aware\""),
        ("demo\nYes I am aware\nn1\n", "You did not specify the current leader of the cluster"),
        ("demo\n\nYes I am aware\n", "Aborted!"),
    ] {
        let ended = world.remove("demo", input).await.expect("joined");
        assert_eq!(ended.code, 1, "{input:?}");
        assert!(ended.err.contains(&format!("Error: {told}")), "{input:?}");
        assert_eq!(world.keys().await.len(), 5, "{input:?}");
    }
}

#[tokio::test]
async fn the_cluster_goes_and_its_neighbour_stays() {
    let mut world = World::open().await;
    world.fill(NOWHERE).await;
    let ended = world.remove("demo", &format!("demo\n{AWARE}\nn0\n")).await.expect("joined");
    assert_eq!(ended.code, 0);
    let questions = [
        "Please confirm the cluster name to remove: ",
        "You are about to remove all information in DCS for demo, please type: \"Yes I am aware\": ",
        "This cluster currently is healthy. Please specify the leader name to continue: ",
        "Success: cluster demo is removed",
    ];
    let places: Vec<Option<usize>> = questions.iter().map(|question| ended.out.find(question)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{}", ended.out);
    assert!(ended.err.contains("n0 holds the leader lock"), "{}", ended.err);
    assert_eq!(world.keys().await, ["/service/demo2/leader"]);
    let again = world.remove("demo", "").await.expect("joined");
    assert_eq!(again.code, 1);
    assert!(again.err.contains("the DCS holds nothing of cluster demo"));
}

#[tokio::test]
async fn a_cluster_without_a_leader_has_two_questions() {
    let mut world = World::open().await;
    world.fill(NOWHERE).await;
    world.client.delete("/service/demo/leader", None).await.expect("etcd answers");
    let ended = world.remove("demo -f json", &format!("demo\n{AWARE}\n")).await.expect("joined");
    assert_eq!(ended.code, 0);
    assert!(ended.out.starts_with("[{\"Cluster\": \"demo\""), "{}", ended.out);
    assert_eq!(world.keys().await, ["/service/demo2/leader"]);
}

#[tokio::test]
async fn nothing_goes_while_the_leader_runs() {
    let mut world = World::open().await;
    let harness = Harness::open(fixture::primary());
    world.fill(&harness.url("/patroni")).await;
    let ended = world.remove("demo", &format!("demo\n{AWARE}\nn0\n")).await.expect("joined");
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("stop all members first"), "{}", ended.err);
    assert_eq!(world.keys().await.len(), 5);
}

#[tokio::test]
async fn a_leader_that_comes_back_is_told() {
    let mut world = World::open().await;
    world.fill(NOWHERE).await;
    let mut client = world.client.clone();
    let leader = tokio::spawn(async move {
        while client.get("/service/demo/leader", None).await.expect("etcd answers").count() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        client.put("/service/demo/leader", "n0", None).await.expect("etcd answers");
    });
    let ended = world.remove("demo", &format!("demo\n{AWARE}\nn0\n")).await.expect("joined");
    leader.await.expect("joined");
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("n0 runs and has written them again"), "{}", ended.err);
}

#[tokio::test]
async fn one_cluster_is_named() {
    let world = World::open().await;
    for (arguments, code) in [("", 2), ("demo --scope other", 1), ("demo --force", 2)] {
        assert_eq!(world.remove(arguments, "").await.expect("joined").code, code, "{arguments}");
    }
}

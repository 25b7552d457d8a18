//! The Roles of the manifests: each right in them is used, none is missing, and one that is taken away is told by name.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tamada::config::StateObjects;
use tamada::core::lock_seen::LockSeen;
use tamada::dcs::kubernetes::{KubernetesDcs, find};
use tamada::dcs::{Content, Dcs, DcsError, Expect, Key};

use super::kube_api::Rule;
use super::{NAMESPACE, Through, World, eventually, kubernetes_config, record, status, timing};

/// Verb, group, resource.
type Right = (String, String, String);

const MODES: [(&str, StateObjects); 3] = [
    ("configmaps", StateObjects::ConfigMaps),
    ("endpoints", StateObjects::Endpoints),
    ("leases", StateObjects::Leases),
];

/// What the members' Role of an overlay gives.
fn role(overlay: &str) -> BTreeSet<Right> {
    role_in(overlay, "role.yaml")
}

fn role_in(overlay: &str, file: &str) -> BTreeSet<Right> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/kubernetes/overlays").join(overlay).join(file);
    let text = std::fs::read_to_string(path).expect("it is there");
    let documents = serde_norway::Deserializer::from_str(&text);
    let documents: Vec<Value> = documents.map(|document| Value::deserialize(document).expect("YAML")).collect();
    let role = documents.iter().find(|document| document["kind"] == "Role").expect("there is a Role");
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().expect("it has rules") {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    rights.insert((verb, group.clone(), resource.clone()));
                }
            }
        }
    }
    rights
}

fn rules(rights: &BTreeSet<Right>) -> Vec<Rule> {
    let rule =
        |(verb, group, resource): &Right| Rule::new(&[resource], &[verb]).of_group(group).in_namespace(NAMESPACE);
    rights.iter().map(rule).collect()
}

fn member(world: &World, state: StateObjects, name: &str, rights: &BTreeSet<Right>) -> KubernetesDcs {
    let token = world.api.service_account(NAMESPACE, name, rules(rights));
    let path = world.kubeconfig(name, &token, Through::Nothing);
    let config = kubernetes_config::by_default(state, path);
    KubernetesDcs::member(&config, "demo", name.into(), timing(30), None)
}

/// Everything that members do.
async fn live(world: &World, state: StateObjects, rights: &BTreeSet<Right>) -> Result<(), DcsError> {
    let limit = Duration::from_secs(2);
    world.api.patch("pods", NAMESPACE, "n3", &json!({"metadata": {"labels": {"role": "primary"}}}));
    let first = member(world, state, "n1", rights);
    first.snapshot(limit).await?;
    first.replace(Key::Initialize, Content::Claim, Expect::Anything, limit).await?;
    first.replace(Key::Config, Content::Json(json!({"ttl": 30})), Expect::Anything, limit).await?;
    first.publish(&record("running"), limit).await?;
    first.acquire(LockSeen::default(), limit).await?;
    first.renew(Some(&status(7)), Some(&record("stopping")), limit).await?;
    first.replace(Key::Failover, Content::Json(json!({"leader": "n1"})), Expect::Anything, limit).await?;
    first.read(limit).await?;
    eventually("the dead leader's label goes", async || {
        let pod = world.api.get("pods", NAMESPACE, "n3").expect("it is there");
        pod["metadata"]["labels"].get("role").is_none()
    })
    .await;
    // The kubelet has written into it.
    world.api.patch("pods", NAMESPACE, "n1", &json!({"metadata": {"annotations": {"kubelet": "1"}}}));
    first.publish(&record("running"), limit).await?;
    first.release(Some(&status(8)), None, limit).await?;
    let second = member(world, state, "n2", rights);
    let seen = second.snapshot(limit).await?;
    second.acquire(seen.view.lock_and_status_seen(), limit).await?;
    Ok(())
}

fn used(world: &World) -> BTreeSet<Right> {
    let records = world.api.records();
    let of_members = records.iter().filter(|record| record.user.contains("system:serviceaccount"));
    of_members
        .map(|record| (record.asked.verb.clone(), record.asked.group.clone(), record.asked.resource.clone()))
        .collect()
}

#[tokio::test]
async fn a_role_has_what_members_use_and_no_more() {
    for (overlay, state) in MODES {
        let (world, rights) = (World::open(), role(overlay));
        if state == StateObjects::Leases && world.api.lacks("endpointslices") {
            continue;
        }
        live(&world, state, &rights).await.unwrap_or_else(|error| panic!("{overlay}: {error}"));
        eventually("the Service is looked at", async || {
            state != StateObjects::Endpoints || used(&world).contains(&("get".into(), String::new(), "services".into()))
        })
        .await;
        eventually("nothing is superfluous", async || rights.is_subset(&used(&world))).await;
        let denied: BTreeSet<String> = world
            .api
            .records()
            .iter()
            .filter(|record| record.code == 403)
            .map(|record| format!("{} {}", record.asked.verb, record.asked.resource))
            .collect();
        // Locks of other modes are looked at where that is allowed.
        let others = ["get endpoints", "get configmaps", "get leases"].map(str::to_owned);
        assert!(denied.iter().all(|denied| others.contains(denied)), "{overlay}: {denied:?}");
    }
}

/// What `tamada remove` does, as somebody who has these rights alone.
async fn remove(world: &World, state: StateObjects, rights: &BTreeSet<Right>) -> Result<(), String> {
    let limit = Duration::from_secs(2);
    let token = world.api.service_account(NAMESPACE, "operator", rules(rights));
    let path = world.kubeconfig("operator", &token, Through::Nothing);
    let config = kubernetes_config::by_default(state, path);
    let found = find(&config, Some("demo"), limit).await.map_err(|error| error.to_string())?;
    let [cluster] = &found[..] else { panic!("{found:?}") };
    assert_eq!(cluster.objects.clone()?, state);
    let operator = KubernetesDcs::observer(&config, "demo", timing(30));
    operator.read(limit).await.map_err(|error| error.to_string())?;
    operator.remove_cluster(limit).await.map_err(|error| error.to_string())
}

/// A cluster with all its objects; `None`: the server lacks a kind of them.
async fn furnished(overlay: &str, state: StateObjects) -> Option<World> {
    let world = World::open();
    if state == StateObjects::Leases && world.api.lacks("endpointslices") {
        return None;
    }
    live(&world, state, &role(overlay)).await.unwrap_or_else(|error| panic!("{overlay}: {error}"));
    if state == StateObjects::Leases {
        let slice = ("endpointslices", NAMESPACE, "demo-primary");
        world.api.wait_until(Duration::from_secs(5), slice, |slice| slice.is_some()).await;
    }
    Some(world)
}

#[tokio::test]
async fn the_role_for_a_removal_has_what_that_uses_and_no_more() {
    for (overlay, state) in MODES {
        let (Some(world), rights) = (furnished(overlay, state).await, role_in(overlay, "remove.yaml")) else {
            continue;
        };
        world.api.clear_records();
        remove(&world, state, &rights).await.unwrap_or_else(|error| panic!("{overlay}: {error}"));
        let done = world.api.used("system:serviceaccount:demo:operator");
        let done: BTreeSet<Right> = done.into_iter().map(|(group, resource, verb)| (verb, group, resource)).collect();
        assert_eq!(done, rights, "{overlay}");
    }
}

#[tokio::test]
async fn a_right_that_a_removal_lacks_is_told_by_verb_and_resource() {
    for (overlay, state) in MODES {
        let all = role_in(overlay, "remove.yaml");
        for missing in &all {
            let Some(world) = furnished(overlay, state).await else { break };
            let rights = all.iter().filter(|right| *right != missing).cloned().collect();
            let error = remove(&world, state, &rights).await.expect_err("a right is missing");
            let (verb, _, resource) = missing;
            assert!(
                error.contains(&format!("cannot {verb} resource \"{resource}\"")),
                "{overlay} {missing:?}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn a_right_that_is_missing_is_told_by_verb_and_resource() {
    for (overlay, state) in MODES {
        let all = role(overlay);
        // What only the log tells of: checks that are left out, a watch in whose place members read.
        let essential = all.iter().filter(|(verb, _, resource)| {
            verb != "watch" && verb != "get" && resource != "services" && resource != "endpointslices"
        });
        for missing in essential {
            let world = World::open();
            let rights = all.iter().filter(|right| *right != missing).cloned().collect();
            let error = live(&world, state, &rights).await.expect_err("a right is missing").to_string();
            let (verb, _, resource) = missing;
            assert!(
                error.contains(&format!("cannot {verb} resource \"{resource}\"")),
                "{overlay} {missing:?}: {error}"
            );
        }
    }
}

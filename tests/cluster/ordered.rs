//! Parameters that a standby needs at least as large as its primary has them.

use serde_json::{Value, json};

use crate::wait::{eventually, seconds};
use crate::world::{Cluster, SOON};

const PARAMETERS: [&str; 5] = [
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
];

fn configure(cluster: &Cluster, value: u32) {
    let parameters: serde_json::Map<String, Value> =
        PARAMETERS.iter().map(|name| ((*name).to_owned(), Value::from(value))).collect();
    let change = json!({"postgresql": {"parameters": parameters}});
    let reply = cluster.members[0].send("PATCH", "/config", &change).expect("an answer");
    assert_eq!(reply.code, 200, "{reply:?}");
    let pending = || {
        let document = cluster.cluster_document(0);
        let members = document["members"].as_array().ok_or("no members")?.clone();
        match members.iter().all(|member| PARAMETERS.iter().all(|name| is_new(member, name, value))) {
            true => Ok(()),
            false => Err(document.to_string()),
        }
    };
    eventually(SOON, "all wait for a restart", pending);
}

fn is_new(member: &Value, name: &str, value: u32) -> bool {
    member["pending_restart_reason"][name]["new_value"].as_str() == Some(&*value.to_string())
}

/// Every member runs with this, and waits for nothing.
fn all_have(cluster: &Cluster, value: u32) {
    for member in &cluster.members {
        for name in PARAMETERS {
            eventually(SOON, "the new value", || match member.value(&format!("SHOW {name}"))? {
                shown if shown == value.to_string() => Ok(()),
                shown => Err(format!("{name} is {shown} on {}", member.name)),
            });
        }
    }
    eventually(SOON, "nothing is pending", || {
        let document = cluster.cluster_document(0).to_string();
        if document.contains("pending_restart") { Err(document) } else { Ok(()) }
    });
}

/// The members in the order in which they were restarted.
fn restart_all(cluster: &Cluster) -> Vec<String> {
    let output = cluster.members[0].ctl(&["restart", "--force"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    text.lines().filter_map(|line| line.strip_prefix("Success: restart on member ")).map(str::to_owned).collect()
}

#[test]
fn they_are_raised_on_standbys_first_and_lowered_there_last() {
    let mut cluster = Cluster::start(3);
    let (leader, _) = cluster.whole(SOON);
    let name = cluster.members[leader].name.clone();

    configure(&cluster, 70);
    assert_eq!(restart_all(&cluster).last(), Some(&name), "raised: the leader is the last");
    cluster.whole(SOON);
    all_have(&cluster, 70);

    configure(&cluster, 66);
    assert_eq!(restart_all(&cluster).first(), Some(&name), "lowered: the leader is the first");
    cluster.whole(SOON);
    all_have(&cluster, 66);

    // Somebody restarts them the wrong way round: nothing is lost but a moment of the standbys.
    configure(&cluster, 80);
    let reply = cluster.members[leader].send("POST", "/restart", &json!({})).expect("an answer");
    assert_eq!(reply.code, 200, "{reply:?}");
    cluster.members[leader].must("CREATE TABLE after_the_raise ()");
    assert_eq!(cluster.whole(seconds(40)).0, leader);
    all_have(&cluster, 80);

    configure(&cluster, 66);
    for at in (0..3).filter(|at| *at != leader) {
        let reply = cluster.members[at].send("POST", "/restart", &json!({})).expect("an answer");
        assert_eq!(reply.code, 200, "{reply:?}");
        assert_eq!(cluster.members[at].must("SHOW max_connections"), "80", "as the primary has it");
    }
    let reply = cluster.members[leader].send("POST", "/restart", &json!({})).expect("an answer");
    assert_eq!(reply.code, 200, "{reply:?}");
    assert_eq!(cluster.whole(seconds(40)).0, leader);
    assert_eq!(cluster.members[leader].must("SHOW max_connections"), "66");
    restart_all(&cluster);
    cluster.whole(SOON);
    all_have(&cluster, 66);
}

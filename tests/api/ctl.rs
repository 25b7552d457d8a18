//! The command line against a member's API: where its requests go and how it ends.

use std::ffi::OsString;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tamada::agent::mailbox::{ConfigChange, ConfigResult, Request, RestartResult};
use tamada::agent::status::{ClusterStatusDocuments, Status};
use tamada::core::policy::Timing;
use tamada::core::view::{Holder, Leader, MemberState};
use tamada::dcs::codec::base_path;
use tamada::dcs::etcd::EtcdDcs;
use tamada::dcs::{Content, Dcs, Expect, Key};
use tokio::task::JoinHandle;

use super::etcd::Etcd;
use super::server::{Harness, LIMIT};
use super::{command, fixture};

fn environment(address: SocketAddr, etcd: &str) -> Vec<(OsString, OsString)> {
    let listen = address.to_string();
    let variables = [
        ("PATRONI_SCOPE", "demo"),
        ("PATRONI_NAME", "n0"),
        ("PATRONI_ETCD3_HOSTS", etcd),
        ("PATRONI_SUPERUSER_PASSWORD", "super"),
        ("PATRONI_REPLICATION_PASSWORD", "replication"),
        ("PATRONI_RESTAPI_LISTEN", &listen),
        ("PGDATA", "/nonexistent/data"),
    ];
    variables.map(|(name, value)| (name.into(), value.into())).to_vec()
}

/// Runs `tamada …` beside the member that listens there; etcd does not answer.
fn tamada(address: SocketAddr, arguments: &str) -> JoinHandle<u8> {
    tamada_with_etcd(address, "127.0.0.1:1", arguments)
}

fn tamada_with_etcd(address: SocketAddr, etcd: &str, arguments: &str) -> JoinHandle<u8> {
    run(arguments.split_whitespace().map(OsString::from).collect(), environment(address, etcd))
}

fn run(arguments: Vec<OsString>, environment: Vec<(OsString, OsString)>) -> JoinHandle<u8> {
    let ended = command::run(arguments, environment, "");
    tokio::spawn(async { ended.await.expect("joined").code })
}

/// The cluster with all members behind this API.
fn cluster_at(address: SocketAddr) -> ClusterStatusDocuments {
    let mut cluster = fixture::cluster();
    for member in cluster.view.members.values_mut() {
        member.api_url = Some(format!("http://{address}/patroni"));
    }
    cluster
}

async fn describe(harness: &mut Harness, cluster: &ClusterStatusDocuments) {
    let Request::Cluster(answer) = harness.asked().await else { panic!("a reading expected") };
    assert!(answer.send(Some(cluster.clone())).is_ok());
}

/// An address where nobody listens.
fn nowhere() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

fn led_by(name: &str, address: SocketAddr) -> Status {
    let mut status = fixture::primary();
    fixture::change_cluster(&mut status, |cluster| {
        *cluster = cluster_at(address);
        cluster.view.leader = Some(Leader { name: name.into(), holder: Holder::Other });
    });
    status
}

#[tokio::test]
async fn usage_configuration_and_reachability_have_their_own_codes() {
    let address = nowhere();
    let cases = [
        ("version", 0),
        ("--help", 0),
        ("config check", 0),
        ("topology", 2),
        ("list nonsense", 2),
        ("list --format xml", 2),
        ("failover", 2),
        ("list", 69),
        ("switchover --force", 69),
        ("health", 1),
    ];
    let running = cases.map(|(arguments, code)| (arguments, code, tamada(address, arguments)));
    for (arguments, code, ended) in running {
        assert_eq!(ended.await.expect("joined"), code, "{arguments}");
    }
    let wrong = vec![("PATRONI_TTL".into(), "soon".into())];
    let check = vec!["config".into(), "check".into()];
    assert_eq!(run(check, wrong).await.expect("joined"), 64);
    let unusable = ["PATRONI_POSTGRESQL_BIN_DIR", "PATRONI_RESTAPI_CERTFILE", "PATRONI_CTL_CACERT"];
    for name in unusable {
        let mut environment = environment(address, "127.0.0.1:1");
        environment.push((name.into(), "/nonexistent".into()));
        let check = vec!["config".into(), "check".into()];
        assert_eq!(run(check, environment).await.expect("joined"), 64, "{name}");
    }
}

#[tokio::test]
async fn a_file_is_named_by_the_option_or_by_the_variable() {
    let folder = tempfile::tempdir().expect("a folder");
    let (good, bad) = (folder.path().join("good.yml"), folder.path().join("bad.yml"));
    std::fs::write(&good, "tags: {zone: north}").expect("writable");
    std::fs::write(&bad, "tags: [").expect("writable");
    for (option, variable, code) in
        [(None, &good, 0), (None, &bad, 64), (Some(&good), &bad, 0), (Some(&bad), &good, 64)]
    {
        let mut environment = environment(nowhere(), "127.0.0.1:1");
        environment.push(("PATRONICTL_CONFIG_FILE".into(), variable.into()));
        let option = option.map(|file| [OsString::from("-c"), file.into()]);
        let arguments =
            ["config", "check"].map(OsString::from).into_iter().chain(option.into_iter().flatten()).collect();
        assert_eq!(run(arguments, environment).await.expect("joined"), code);
    }
}

#[tokio::test]
async fn health_is_that_of_the_server() {
    let mut harness = Harness::open(fixture::replica());
    // A name that no member on this machine has, which might say on /run how it is reached.
    let health = |address| {
        let name = ("PATRONI_NAME".into(), format!("test-{}", std::process::id()).into());
        let mut environment = environment(address, "127.0.0.1:1");
        environment.retain(|(other, _)| *other != name.0);
        environment.push(name);
        run(vec!["health".into()], environment)
    };
    assert_eq!(health(harness.address).await.expect("joined"), 0);
    let mut status = fixture::replica();
    status.state = MemberState::CreatingReplica;
    harness.publish(status);
    assert_eq!(health(harness.address).await.expect("joined"), 1);
    assert!(harness.requests.try_recv().is_err(), "the loop was asked");
}

#[tokio::test]
async fn list_works_in_every_format() {
    let mut harness = Harness::open(fixture::primary());
    for format in ["pretty", "json", "tsv", "yaml", "yml"] {
        let listing = tamada(harness.address, &format!("list --format {format}"));
        describe(&mut harness, &fixture::cluster()).await;
        assert_eq!(listing.await.expect("joined"), 0, "{format}");
    }
    let listing = tamada(harness.address, "list");
    let Request::Cluster(answer) = harness.asked().await else { panic!("a reading expected") };
    assert!(answer.send(None).is_ok());
    assert_eq!(listing.await.expect("joined"), 69, "the DCS does not answer");
}

#[tokio::test]
async fn without_a_member_beside_it_the_store_is_asked() {
    let etcd = Etcd::start();
    let endpoint = etcd.endpoints().remove(0);
    let store = EtcdDcs::observer(&etcd.config(), &base_path("service", "demo"), Timing::default()).expect("a store");
    let request = Content::Json(json!({"leader": "n0", "scheduled_at": "2130-01-01T00:00:00+02:00"}));
    store.replace(Key::Failover, request, Expect::Anything, LIMIT).await.expect("written");
    let hosts = format!("{}:{}", endpoint.host, endpoint.port);
    for (arguments, code) in [("list", 0), ("switchover --force", 1)] {
        let ended = tamada_with_etcd(nowhere(), &hosts, arguments);
        assert_eq!(ended.await.expect("joined"), code, "{arguments}");
    }
}

#[tokio::test]
async fn a_switchover_ends_with_the_new_leader() {
    let mut harness = Harness::open(fixture::primary());
    let cluster = cluster_at(harness.address);
    let switching = tamada(harness.address, "switchover --candidate n1 --force");
    describe(&mut harness, &cluster).await;
    describe(&mut harness, &cluster).await;
    let Request::Eligible(names, answer) = harness.asked().await else { panic!("candidates expected") };
    answer.send(names).expect("somebody waits");
    let Request::Switchover(document, answer) = harness.asked().await else { panic!("a write expected") };
    assert_eq!((document.leader.as_deref(), document.candidate.as_deref()), (Some("n0"), Some("n1")));
    answer.send(Ok(())).expect("somebody waits");
    harness.publish(led_by("n1", harness.address));
    describe(&mut harness, &cluster).await;
    assert_eq!(switching.await.expect("joined"), 0);
}

#[tokio::test]
async fn refused_and_unknown_outcomes_are_told_apart() {
    let mut harness = Harness::open(fixture::primary());
    let cluster = cluster_at(harness.address);
    for (arguments, code) in [
        ("switchover --leader n1 --force", 1),
        ("switchover --candidate zz --force", 1),
        ("switchover --candidate n0 --force", 1),
        ("failover --candidate n0 --force", 1),
        ("restart zz --force", 1),
        ("reinit n0 --force", 1),
        ("resume", 1),
    ] {
        let acting = tamada(harness.address, arguments);
        describe(&mut harness, &cluster).await;
        assert_eq!(acting.await.expect("joined"), code, "{arguments}");
    }
    // The member takes the request and closes the connection: nobody knows what became of it.
    let failing = tamada(harness.address, "failover --candidate n1 --force");
    describe(&mut harness, &cluster).await;
    let Request::Cluster(answer) = harness.asked().await else { panic!("a reading expected") };
    assert!(answer.send(None).is_ok());
    assert_eq!(failing.await.expect("joined"), 3);
}

#[tokio::test]
async fn a_dead_leader_does_not_keep_a_failover_from_its_candidate() {
    let mut harness = Harness::open(fixture::replica());
    let mut cluster = cluster_at(harness.address);
    cluster.view.members.get_mut(&"n0".into()).expect("a member").api_url = Some(format!("http://{}", nowhere()));
    let failing = tamada(harness.address, "failover --candidate n1 --force");
    describe(&mut harness, &cluster).await;
    describe(&mut harness, &cluster).await;
    let Request::Eligible(names, answer) = harness.asked().await else { panic!("candidates expected") };
    answer.send(names).expect("somebody waits");
    let Request::Switchover(document, answer) = harness.asked().await else { panic!("a write expected") };
    assert_eq!((document.leader, document.candidate.as_deref()), (None, Some("n1")));
    answer.send(Err("no".into())).expect("somebody waits");
    assert_eq!(failing.await.expect("joined"), 1);
}

#[tokio::test]
async fn pause_and_config_set_patch_the_configuration() {
    let mut harness = Harness::open(fixture::primary());
    let cluster = cluster_at(harness.address);
    for (arguments, expected) in [
        ("pause", json!({"pause": true})),
        (
            "config set ttl=20 postgresql.parameters.work_mem=8MB",
            json!({"ttl": 20, "postgresql": {"parameters": {"work_mem": "8MB"}}}),
        ),
    ] {
        let acting = tamada(harness.address, arguments);
        describe(&mut harness, &cluster).await;
        let Request::Config(ConfigChange::Merge(change), answer) = harness.asked().await else {
            panic!("a merge expected")
        };
        assert_eq!(Value::Object(change), expected);
        answer.send(ConfigResult::Done(json!({}))).expect("somebody waits");
        assert_eq!(acting.await.expect("joined"), 0, "{arguments}");
    }
    let acting = tamada(harness.address, "config set synchronous_mode=true");
    describe(&mut harness, &cluster).await;
    let Request::Config(_, answer) = harness.asked().await else { panic!("a change expected") };
    answer.send(ConfigResult::Refused(vec!["synchronous_mode".into()])).expect("somebody waits");
    assert_eq!(acting.await.expect("joined"), 1);
}

#[tokio::test]
async fn actions_on_members_reach_each_of_them() {
    let mut harness = Harness::open(fixture::primary());
    let cluster = cluster_at(harness.address);
    let acting = tamada(harness.address, "restart n1 n2 --timeout 1min --force");
    describe(&mut harness, &cluster).await;
    for result in [RestartResult::Restarted, RestartResult::Failed] {
        let Request::Restart(body, answer) = harness.asked().await else { panic!("a restart expected") };
        assert_eq!(body.document.get("timeout"), Some(&json!("1min")));
        answer.send(result).expect("somebody waits");
    }
    assert_eq!(acting.await.expect("joined"), 1, "one has failed");

    let acting = tamada(harness.address, "reload --force");
    describe(&mut harness, &cluster).await;
    for _ in 0..3 {
        assert!(matches!(harness.asked().await, Request::Reload));
    }
    assert_eq!(acting.await.expect("joined"), 0);

    let acting = tamada(harness.address, "reinit n1 --from-leader --force");
    describe(&mut harness, &cluster).await;
    let Request::Reinitialize(body, answer) = harness.asked().await else { panic!("a request expected") };
    assert!(body.force && body.from_leader);
    answer.send(Ok(())).expect("somebody waits");
    assert_eq!(acting.await.expect("joined"), 0);
}

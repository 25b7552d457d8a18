use std::collections::BTreeSet;

use serde_json::{Map, json};

use super::*;
use crate::core::policy::Pause;
use crate::core::units::{Lsn, SystemId, Timeline, WallTime};
use crate::core::view::*;

fn entries(keys: &[(&str, &str)]) -> Entries {
    let entry = |value: &str| Entry { value: value.as_bytes().to_vec(), revision: 7, lease: 5 };
    keys.iter().map(|(path, value)| ((*path).to_owned(), entry(value))).collect()
}

fn view(keys: &[(&str, &str)]) -> ClusterView {
    assemble(&entries(keys), &Own { name: "n1".into(), lease: Some(5) }).0
}

fn address(host: &str, port: u16, database: &str) -> Address {
    Address { host: host.to_owned(), port, database: database.to_owned() }
}

#[test]
fn runs_of_slashes_in_the_base_path_count_as_one() {
    let cases = [
        ("service", "demo", "/service/demo"),
        ("/service/", "demo", "/service/demo"),
        ("a/b", "demo", "/a/b/demo"),
        ("//a///b", "demo", "/a/b/demo"),
    ];
    for (namespace, scope, path) in cases {
        assert_eq!(base_path(namespace, scope), path);
    }
}

#[test]
fn a_whole_record_is_written_in_patronis_order() {
    let mut record = MemberRecord::new(
        address("10.0.0.1", 5432, "postgres"),
        "http://10.0.0.1:8008/patroni".to_owned(),
        MemberState::Running,
        MemberRole::Primary,
    );
    record.proxy = Some(address("fd00::1", 6432, "postgres"));
    record.checkpoint = AfterPromote::Pending;
    record.tags = Map::from_iter([("clonefrom".to_owned(), json!(true)), ("foo".to_owned(), json!("Bar"))]);
    let pending = json!({"old_value": "100", "new_value": "200"});
    record.pending_restart = Map::from_iter([("max_connections".to_owned(), pending)]);
    record.position = Some(Lsn(67_108_960));
    record.replayed = Some(Lsn(2));
    record.received = Some(Lsn(3));
    record.replication = Some(ReplicationState::InArchiveRecovery);
    record.timeline = Some(Timeline(2));
    record.scheduled_restart = Some(Map::from_iter([("schedule".to_owned(), json!("2030-01-01T00:00:00+01:00"))]));
    record.pause = Pause::Paused;
    let expected = concat!(
        r#"{"conn_url":"postgres://10.0.0.1:5432/postgres","api_url":"http://10.0.0.1:8008/patroni","#,
        r#""state":"running","role":"primary","version":"4.1.5","#,
        r#""proxy_url":"postgres://[fd00::1]:6432/postgres","checkpoint_after_promote":false,"#,
        r#""tags":{"clonefrom":true,"foo":"Bar"},"pending_restart":true,"#,
        r#""pending_restart_reason":{"max_connections":{"old_value":"100","new_value":"200"}},"#,
        r#""xlog_location":67108960,"replay_lsn":2,"receive_lsn":3,"replication_state":"in archive recovery","#,
        r#""timeline":2,"scheduled_restart":{"schedule":"2030-01-01T00:00:00+01:00"},"pause":true,"#,
        r#""tamada":"VERSION"}"#,
    );
    assert_eq!(member_record(&record).to_string(), expected.replace("VERSION", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_bare_record_has_only_what_every_record_has_and_reads_back() {
    let record = MemberRecord::new(
        address("db1", 5433, "app"),
        "https://db1:8008/patroni".to_owned(),
        MemberState::Stopping,
        MemberRole::Demoted,
    );
    let document = member_record(&record);
    let fields: Vec<_> = document.as_object().expect("a record is an object").keys().cloned().collect();
    assert_eq!(fields, ["conn_url", "api_url", "state", "role", "version", "tamada"]);
    let expected = Member {
        kind: MemberKind::Ours,
        address: Some(address("db1", 5433, "app")),
        api_url: Some("https://db1:8008/patroni".to_owned()),
        state: MemberState::Stopping,
        role: MemberRole::Demoted,
        ..Member::empty("n2".into())
    };
    assert_eq!(member_of("n2".into(), &document), expected);
}

#[test]
fn a_record_of_patroni_is_read() {
    let record = concat!(
        r#"{"conn_url":"postgres://10.0.0.1:5432/postgres","api_url":"http://10.0.0.1:8008/patroni","#,
        r#""state":"running","role":"master","version":"4.1.4","checkpoint_after_promote":false,"#,
        r#""tags":{"clonefrom":true,"nosync":true},"xlog_location":67108960,"replay_lsn":67108960,"#,
        r#""receive_lsn":67108960,"replication_state":"streaming","timeline":1}"#,
    );
    let view = view(&[("members/n0", record), ("members/n0/extra", "{}"), ("unknown", "x")]);
    let expected = Member {
        name: "n0".into(),
        kind: MemberKind::Patroni,
        address: Some(address("10.0.0.1", 5432, "postgres")),
        api_url: Some("http://10.0.0.1:8008/patroni".to_owned()),
        state: MemberState::Running,
        role: MemberRole::Primary,
        timeline: Some(Timeline(1)),
        position: Some(Lsn(67_108_960)),
        replication: Some(ReplicationState::Streaming),
        checkpoint: AfterPromote::Pending,
        tags: Tags { clonefrom: true, sync_priority: 0, ..Tags::default() },
    };
    assert_eq!(view.members.into_values().collect::<Vec<_>>(), [expected]);
}

#[test]
fn connection_urls_are_read_leniently() {
    let cases = [
        ("postgres://h:5433/db", Some(address("h", 5433, "db"))),
        ("postgresql://u:p%40@h/db?sslmode=off", Some(address("h", 5432, "db"))),
        ("postgres://[fd00::1]:5433/", Some(address("fd00::1", 5433, "postgres"))),
        ("postgres://h", Some(address("h", 5432, "postgres"))),
        ("postgres://h:port/db", None),
        ("postgres://[fd00::1/db", None),
        ("postgres://", None),
        ("http://h:1/", None),
    ];
    for (url, expected) in cases {
        assert_eq!(address_of(url), expected, "{url}");
    }
}

#[test]
fn tags_are_interpreted_as_patroni_does() {
    let tags =
        |tags: serde_json::Value| member_of("n".into(), &json!({"conn_url": "postgres://h:1/db", "tags": tags})).tags;
    let priority = |given| tags(given).failover_priority;
    assert_eq!(priority(json!({})), 1);
    assert_eq!(priority(json!({"failover_priority": "2"})), 2);
    assert_eq!(priority(json!({"failover_priority": -1})), 0);
    assert_eq!(priority(json!({"failover_priority": "x"})), 1);
    assert_eq!(priority(json!({"failover_priority": 5, "nofailover": true})), 0);
    assert_eq!(priority(json!({"failover_priority": 0, "nofailover": false})), 1);
    assert!(tags(json!({"sync_priority": 0})).is_nosync());
    assert!(!tags(json!({"sync_priority": 0, "nosync": false})).is_nosync());
    assert!(tags(json!({"nostream": "on"})).nostream);
    assert!(!tags(json!({"nostream": "off"})).nostream);
    assert!(!member_of("n".into(), &json!({"tags": {"clonefrom": true}})).tags.clonefrom);
}

#[test]
fn our_name_on_another_lease_is_another_holder() {
    let holder = |lease| {
        let own = Own { name: "n1".into(), lease };
        assemble(&entries(&[("leader", "n1")]), &own).0.leader.map(|leader| leader.holder)
    };
    assert_eq!(holder(Some(5)), Some(Holder::Us));
    assert_eq!(holder(Some(6)), Some(Holder::Other));
    assert_eq!(holder(None), Some(Holder::Other));
    assert_eq!(view(&[("leader", "")]).leader, None);
}

#[test]
fn the_initialize_key_has_four_meanings_and_a_claim_has_a_holder() {
    let initialize = |text| view(&[("initialize", text)]).initialize;
    assert_eq!(view(&[]).initialize, Initialize::Absent);
    assert_eq!(initialize(""), Initialize::InProgress(Holder::Us));
    let other = Own { name: "n1".into(), lease: Some(6) };
    let by_another = assemble(&entries(&[("initialize", "")]), &other).0.initialize;
    assert_eq!(by_another, Initialize::InProgress(Holder::Other));
    assert_eq!(initialize("7710921647475908793"), Initialize::Done(SystemId(7_710_921_647_475_908_793)));
    for invalid in ["123", "abc", "+7710921647", "99999999999999999999999"] {
        assert_eq!(initialize(invalid), Initialize::Invalid(invalid.to_owned()));
    }
}

#[test]
fn the_config_key_is_valid_only_as_an_object_with_something_in_it() {
    let config = |text| view(&[("config", text)]).config;
    assert_eq!(view(&[]).config, ConfigKey::Missing);
    assert_eq!(config(r#"{"ttl":30}"#), ConfigKey::Valid);
    for invalid in ["{}", "[]", "nonsense", "", "null"] {
        assert_eq!(config(invalid), ConfigKey::Invalid);
    }
}

#[test]
fn a_status_is_written_as_patroni_does_and_reads_back() {
    let slots = [("n0", 5), ("n2", 67_108_960)];
    let status = ClusterStatus {
        optime: Some(Lsn(67_108_960)),
        slots: slots.iter().map(|(name, at)| ((*name).to_owned(), Lsn(*at))).collect(),
        retain_slots: BTreeSet::from(["n0".to_owned(), "n2".to_owned()]),
        released_by: Some("n2".into()),
        gave_way: None,
    };
    let text = status_document(&status).to_string();
    let expected = concat!(
        r#"{"optime":67108960,"slots":{"n0":5,"n2":67108960},"retain_slots":["n0","n2"],"#,
        r#""tamada_released_by":"n2"}"#,
    );
    assert_eq!(text, expected);
    assert_eq!(view(&[("status", &text)]).status, status);
    assert_eq!(status_document(&ClusterStatus::default()).to_string(), r#"{"optime":0}"#);
}

#[test]
fn odd_status_documents_are_read_as_far_as_they_go() {
    let status = |text| view(&[("status", text)]).status;
    let optime = |at| ClusterStatus { optime: Some(Lsn(at)), ..ClusterStatus::default() };
    assert_eq!(status("77"), optime(77));
    assert_eq!(status("nonsense"), ClusterStatus::default());
    assert_eq!(status(r#"{"optime":"x","slots":[1],"retain_slots":{}}"#), ClusterStatus::default());
    assert_eq!(view(&[("optime/leader", "77")]).status, optime(77));
    assert_eq!(view(&[("optime/leader", "77"), ("status", r#"{"optime":78}"#)]).status, optime(78));
    let inside_strings = status(r#"{"optime":"1","slots":"{\"a\":2}","retain_slots":"[\"a\"]"}"#);
    assert_eq!(inside_strings.slots, [("a".to_owned(), Lsn(2))].into());
    assert_eq!(inside_strings.retain_slots, ["a".to_owned()].into());
}

#[test]
fn a_request_is_a_switchover_with_a_leader_and_a_failover_without() {
    let request = |text| view(&[("failover", text)]).switchover;
    for none in ["{}", "null", "[]", "7", r#"{"leader":""}"#, r#"{"leader":null,"member":null}"#, "", ":"] {
        assert_eq!(request(none), None, "{none}");
    }
    let expected = SwitchoverRequest {
        leader: Some("n0".into()),
        candidate: Some("n2".into()),
        scheduled_at: Schedule::At(WallTime(1_893_448_800_000)),
        revision: Revision(7),
    };
    let text = switchover_document(Some("n0"), Some("n2"), Some("2030-01-01T00:00:00+02:00")).to_string();
    assert_eq!(text, r#"{"leader":"n0","member":"n2","scheduled_at":"2030-01-01T00:00:00+02:00"}"#);
    assert_eq!(request(&text), Some(expected.clone()));
    let unscheduled = SwitchoverRequest { scheduled_at: Schedule::Now, ..expected };
    assert_eq!(request("n0 : n2"), Some(unscheduled.clone()));
    let failover = SwitchoverRequest { leader: None, ..unscheduled };
    assert_eq!(request(r#"{"member":"n2"}"#), Some(failover));
    assert_eq!(switchover_document(None, None, None).to_string(), "{}");
}

#[test]
fn the_sync_key_without_a_leader_is_empty() {
    let sync = |text| view(&[("sync", text)]).sync;
    let expected = SyncState {
        leader: Some("n2".into()),
        quorum: 1,
        standbys: ["n0".into(), "n1".into()].into(),
        revision: Some(Revision(7)),
    };
    assert_eq!(sync(r#"{"leader":"n2","quorum":1,"sync_standby":"n0, n1"}"#), expected);
    let empty = SyncState { revision: Some(Revision(7)), ..SyncState::default() };
    assert_eq!(sync(r#"{"leader":null,"quorum":1,"sync_standby":"n0"}"#), empty);
    assert_eq!(sync("nonsense"), empty);
    assert_eq!(view(&[]).sync, SyncState::default());
}

#[test]
fn the_history_tells_the_clusters_timeline() {
    let history = |text| view(&[("history", text)]).history;
    let text = r#"[[1,100663688,"no recovery target specified","2026-11-22T09:17:41.277376+00:00","n2"],[2,5,"x"]]"#;
    let known = history(text);
    assert_eq!(known.timeline(), Some(Timeline(3)));
    let History::Known(entries) = known else { panic!("the history is readable") };
    assert_eq!(history_document(&entries).to_string(), text);
    assert_eq!(history("[]").timeline(), Some(Timeline(1)));
    for broken in ["{}", "nonsense", "[[1,5]", "[[]]", "[[4294967295,1,\"x\"]]"] {
        assert_eq!(history(broken), History::Unknown, "{broken}");
    }
}

#[test]
fn garbage_in_every_key_is_survived() {
    let garbage: [&[u8]; 7] =
        [b"", b"\xff\xfe", b"{", b"[[[[", b"\"", b"-1", b"{\"leader\":{},\"tags\":7,\"timeline\":-4}"];
    let keys = ["leader", "initialize", "config", "status", "failover", "sync", "history", "failsafe", "members/x"];
    for value in garbage {
        let entry = Entry { value: value.to_vec(), revision: 1, lease: 0 };
        let entries: Entries = keys.iter().map(|key| ((*key).to_owned(), entry.clone())).collect();
        let (view, documents) = assemble(&entries, &Own { name: "n1".into(), lease: None });
        assert_eq!(view.members.len(), 1);
        assert!(documents.config.is_some());
    }
}

#[test]
fn a_record_that_is_a_bare_url_is_read() {
    let member = &view(&[("members/x", "postgres://h:1/db?application_name=http://h:2/patroni")]).members[&"x".into()];
    assert_eq!(member.address, Some(address("h", 1, "db")));
    assert_eq!(member.api_url.as_deref(), Some("http://h:2/patroni"));
}

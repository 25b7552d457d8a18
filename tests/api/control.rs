//! What is passed on to the loop, and the words of its answers.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tamada::agent::mailbox::{ConfigChange, ConfigResult, ReinitializeBody, Request, RestartResult};
use tamada::core::policy::{Mode, Pause};
use tamada::core::view::MemberRole;

use super::fixture;
use super::server::{Harness, open_settings, raw, send, sending};

async fn raw_post(harness: &Harness, path: &str, headers: &str, body: &str) -> String {
    let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n{body}");
    let answer = raw(harness.address, &request).await;
    answer.lines().next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn bodies_are_checked_before_anything_happens() {
    let mut harness = Harness::open(fixture::primary());
    let length = |length: usize| format!("Content-Length: {length}\r\n");
    for path in ["/switchover", "/failover", "/citus", "/mpp"] {
        assert_eq!(raw_post(&harness, path, "", "").await, "411", "{path}");
        assert_eq!(raw_post(&harness, path, &length(2), "{}").await, "400", "{path}");
        assert_eq!(raw_post(&harness, path, &length(0), "").await, "400", "{path}");
    }
    for path in ["/switchover", "/restart", "/reinitialize"] {
        for body in ["{", "[]", "\"x\"", "nonsense"] {
            assert_eq!(raw_post(&harness, path, &length(body.len()), body).await, "400", "{path} {body}");
        }
        assert_eq!(raw_post(&harness, path, &length(10_000_000), "{").await, "413", "{path}");
    }
    assert!(harness.requests.try_recv().is_err(), "the loop was asked");
}

#[tokio::test]
async fn configuration_is_merged_or_replaced_by_the_loop() {
    let mut harness = Harness::open(fixture::primary());
    let reasons = vec!["synchronous_mode: not built".to_owned(), "failsafe_mode: not built".to_owned()];
    let cases = [
        (ConfigResult::Done(json!({"ttl": 20})), 200, 200, "{\"ttl\": 20}"),
        (ConfigResult::Refused(reasons), 422, 422, "synchronous_mode: not built\nfailsafe_mode: not built"),
        (ConfigResult::Conflict, 409, 409, "the configuration was changed by somebody else meanwhile"),
        (ConfigResult::Missing, 503, 503, "the cluster has no valid configuration"),
        (ConfigResult::Unreachable("x".into()), 503, 502, "the DCS does not answer: x"),
    ];
    for (result, patched, put, text) in cases {
        for (method, code) in [(Method::PATCH, patched), (Method::PUT, put)] {
            let asking = sending(&harness, method.clone(), "/config", json!({"ttl": 20, "pause": null}));
            let Request::Config(change, answer) = harness.asked().await else { panic!("a change expected") };
            let given = match (change, &method) {
                (ConfigChange::Merge(given), &Method::PATCH) | (ConfigChange::Replace(given), &Method::PUT) => given,
                (change, _) => panic!("{method} became {change:?}"),
            };
            assert_eq!(Value::Object(given), json!({"ttl": 20, "pause": null}));
            answer.send(result.clone()).expect("somebody waits");
            let answer = asking.await.expect("joined");
            assert_eq!((answer.code, answer.text().as_str()), (code, text), "{method}");
        }
    }
}

#[tokio::test]
async fn a_change_without_effect_is_made_and_the_answer_says_so() {
    let mut harness = Harness::open(fixture::primary());
    let methods =
        "postgresql.create_replica_methods has no effect in the cluster's configuration; set it in each node's own";
    let many: Value = (0..30).map(|at| (format!("x{at}"), json!(1))).collect::<serde_json::Map<_, _>>().into();
    for (body, told) in [
        (json!({"ttl": 20}), vec![]),
        (json!({"postgresql": {"create_replica_methods": null}, "gone": null}), vec![]),
        (json!({"postgresql": {"callbacks": {"on_start": "x"}, "basebackup": ["verbose"]}}), vec![]),
        (json!({"postgresql": {"create_replica_methods": ["basebackup"]}}), vec![methods]),
        (
            json!({"postgresql": {"pg_hba_replica": []}, "tt\"l": 1}),
            vec![
                "postgresql.pg_hba_replica is not implemented and has no effect",
                "tt\"l is not a known setting and has no effect",
            ],
        ),
    ] {
        for method in [Method::PATCH, Method::PUT] {
            let asking = sending(&harness, method.clone(), "/config", body.clone());
            let Request::Config(_, answer) = harness.asked().await else { panic!("a change expected") };
            answer.send(ConfigResult::Done(json!({"ttl": 20}))).expect("somebody waits");
            let answer = asking.await.expect("joined");
            assert_eq!((answer.code, answer.warnings), (200, told.iter().map(|text| (*text).to_owned()).collect()));
        }
    }
    let asking = sending(&harness, Method::PATCH, "/config", many);
    let Request::Config(_, answer) = harness.asked().await else { panic!("a change expected") };
    answer.send(ConfigResult::Done(json!({}))).expect("somebody waits");
    let warnings = asking.await.expect("joined").warnings;
    assert_eq!((warnings.len(), warnings.last().map(String::as_str)), (21, Some("10 more")));
}

#[tokio::test]
async fn a_single_server_has_no_cluster_configuration_to_change() {
    let mut harness = Harness::start(open_settings(), Mode::Single, fixture::primary());
    for method in [Method::PATCH, Method::PUT] {
        let answer = send(harness.url("/config"), method, Some(json!({"ttl": 20}))).await;
        assert_eq!(answer.code, 409);
        assert!(answer.text().contains("single server without a DCS"), "{}", answer.text());
    }
    assert!(harness.requests.try_recv().is_err());
}

#[tokio::test]
async fn restarts_end_with_the_words_of_the_table() {
    let mut harness = Harness::open(fixture::primary());
    let cases = [
        (RestartResult::Restarted, 200, "restarted successfully"),
        (RestartResult::Scheduled, 202, "Restart scheduled"),
        (RestartResult::AlreadyScheduled, 409, "Another restart is already scheduled"),
        (RestartResult::ConditionsNotSatisfied, 503, "restart conditions are not satisfied"),
        (RestartResult::Busy("reinitialize already in progress".into()), 503, "reinitialize already in progress"),
        (RestartResult::StillStarting, 503, "postgres is still starting"),
        (RestartResult::Failed, 503, "restart failed"),
    ];
    for (result, code, text) in cases {
        let body = json!({"schedule": "2130-01-01T00:00+01:00", "role": "replica", "timeout": 5});
        let asking = sending(&harness, Method::POST, "/restart", body);
        let Request::Restart(body, answer) = harness.asked().await else { panic!("a restart expected") };
        assert_eq!(body.conditions.role, Some(MemberRole::Replica));
        assert_eq!(body.timeout, Some(Duration::from_secs(5)));
        assert_eq!(body.document["schedule"], "2130-01-01T00:00:00+01:00");
        answer.send(result).expect("somebody waits");
        let answer = asking.await.expect("joined");
        assert_eq!((answer.code, answer.text().as_str()), (code, text));
    }
}

#[tokio::test]
async fn restarts_need_no_body_and_are_not_scheduled_in_pause() {
    let mut status = fixture::primary();
    status.pause = Pause::Paused;
    let mut harness = Harness::open(status);
    let answer = send(harness.url("/restart"), Method::POST, Some(json!({"schedule": "x"}))).await;
    assert_eq!((answer.code, answer.text()), (500, "Can't schedule restart in the paused state".into()));
    let asking = tokio::spawn(send(harness.url("/restart"), Method::POST, None));
    let Request::Restart(body, answer) = harness.asked().await else { panic!("a restart expected") };
    assert!(body.document.is_empty());
    answer.send(RestartResult::Restarted).expect("somebody waits");
    assert_eq!(asking.await.expect("joined").code, 200);
}

#[tokio::test]
async fn scheduled_restarts_can_be_taken_back() {
    let mut harness = Harness::open(fixture::primary());
    for (was_there, code, text) in [(true, 200, "scheduled restart deleted"), (false, 404, "no restarts are scheduled")]
    {
        let asking = tokio::spawn(send(harness.url("/restart"), Method::DELETE, None));
        let Request::CancelRestart(answer) = harness.asked().await else { panic!("a cancellation expected") };
        answer.send(was_there).expect("somebody waits");
        let answer = asking.await.expect("joined");
        assert_eq!((answer.code, answer.text().as_str()), (code, text));
    }
}

#[tokio::test]
async fn reload_and_reinitialize_are_passed_on() {
    let mut harness = Harness::open(fixture::primary());
    let answer = send(harness.url("/reload"), Method::POST, None).await;
    assert_eq!((answer.code, answer.text()), (202, "reload scheduled".into()));
    assert!(matches!(harness.asked().await, Request::Reload));

    let asking = sending(&harness, Method::POST, "/reinitialize", json!({"force": "yes", "from_leader": true}));
    let Request::Reinitialize(body, answer) = harness.asked().await else { panic!("a request expected") };
    assert_eq!(body, ReinitializeBody { force: true, from_leader: true });
    answer.send(Ok(())).expect("somebody waits");
    assert_eq!(asking.await.expect("joined").text(), "reinitialize started");

    let asking = tokio::spawn(send(harness.url("/reinitialize"), Method::POST, None));
    let Request::Reinitialize(body, answer) = harness.asked().await else { panic!("a request expected") };
    assert_eq!(body, ReinitializeBody { force: false, from_leader: false });
    answer.send(Err("I am the leader, can not reinitialize".into())).expect("somebody waits");
    let answer = asking.await.expect("joined");
    assert_eq!((answer.code, answer.text()), (503, "I am the leader, can not reinitialize".into()));
}

#[tokio::test]
async fn endpoints_for_others_answer_as_expected() {
    let harness = Harness::open(fixture::primary());
    let answer = send(harness.url("/citus"), Method::POST, Some(json!({"type": "before_demote"}))).await;
    assert_eq!((answer.code, answer.text()), (200, "OK".into()));
    let answer = send(harness.url("/failsafe"), Method::POST, Some(json!({"name": "n1"}))).await;
    assert_eq!(answer.code, 502);
}

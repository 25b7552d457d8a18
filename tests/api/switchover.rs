//! A switchover as its client sees it, from the request to the new leader's name.

use hyper::Method;
use serde_json::{Value, json};
use tamada::agent::mailbox::{Request, SwitchoverDocument, WriteResult};
use tamada::agent::status::{ClusterStatusDocuments, Status};
use tamada::core::view::{Holder, Leader};
use tamada::http::{Answer, HttpError};
use tokio::task::JoinHandle;

use super::fixture;
use super::server::{Harness, LIMIT, client, send, sending};

async fn answer_cluster(harness: &mut Harness, cluster: ClusterStatusDocuments) {
    let Request::Cluster(answer) = harness.asked().await else { panic!("a reading expected") };
    assert!(answer.send(Some(cluster)).is_ok());
}

/// Plays the loop up to the written request.
async fn write(harness: &mut Harness, path: &str, body: Value) -> (JoinHandle<Answer>, SwitchoverDocument) {
    let asking = sending(harness, Method::POST, path, body);
    answer_cluster(harness, fixture::cluster()).await;
    let Request::Eligible(names, answer) = harness.asked().await else { panic!("candidates expected") };
    answer.send(names).expect("somebody waits");
    let Request::Switchover(document, answer) = harness.asked().await else { panic!("a write expected") };
    answer.send(Ok(())).expect("somebody waits");
    (asking, document)
}

fn led_by(name: Option<&str>) -> Status {
    let mut status = fixture::with_request();
    fixture::change_cluster(&mut status, |cluster| {
        cluster.view.leader = name.map(|name| Leader { name: name.into(), holder: Holder::Other });
    });
    status
}

#[tokio::test]
async fn tells_the_new_leader_as_soon_as_it_is_known() {
    let cases = [
        ("/switchover", json!({"leader": "n0"}), "n2", "Successfully switched over to \"n2\""),
        ("/switchover", json!({"leader": "n0", "candidate": "n1"}), "n1", "Successfully switched over to \"n1\""),
        ("/switchover", json!({"leader": "n0", "candidate": "n1"}), "n2", "Switched over to \"n2\" instead of \"n1\""),
        ("/failover", json!({"candidate": "n1"}), "n1", "Successfully failed over to \"n1\""),
        ("/failover", json!({"member": "n1"}), "n2", "Failed over to \"n2\" instead of \"n1\""),
    ];
    for (path, body, new, text) in cases {
        let mut harness = Harness::open(fixture::primary());
        let (asking, document) = write(&mut harness, path, body.clone()).await;
        let name = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        assert_eq!(document.leader, name("leader"));
        assert_eq!(document.candidate, name("candidate").or(name("member")));
        assert_eq!(document.scheduled_at, None);
        harness.publish(fixture::with_request());
        harness.publish(led_by(None));
        let mut outage = fixture::primary();
        outage.cluster = None;
        harness.publish(outage);
        harness.publish(led_by(Some(new)));
        let answer = asking.await.expect("joined");
        assert_eq!((answer.code, answer.text().as_str()), (200, text));
    }
}

#[tokio::test]
async fn a_request_that_the_leader_took_away_has_failed() {
    let mut harness = Harness::open(fixture::primary());
    let (asking, _) = write(&mut harness, "/switchover", json!({"leader": "n0"})).await;
    // This status may be older than the request, so the DCS is asked: it is still there.
    harness.publish(fixture::primary());
    let still_there = fixture::with_request().cluster.expect("a view");
    answer_cluster(&mut harness, (*still_there).clone()).await;
    harness.publish(fixture::with_request());
    harness.publish(fixture::primary());
    answer_cluster(&mut harness, fixture::cluster()).await;
    let answer = asking.await.expect("joined");
    assert_eq!((answer.code, answer.text().as_str()), (503, "Switchover failed"));
}

#[tokio::test]
async fn a_scheduled_one_is_only_written() {
    let mut harness = Harness::open(fixture::primary());
    let body = json!({"leader": "n0", "candidate": "zz", "scheduled_at": "2130-01-01T00:00+02:00"});
    let asking = sending(&harness, Method::POST, "/switchover", body);
    answer_cluster(&mut harness, fixture::cluster()).await;
    let Request::Switchover(document, answer) = harness.asked().await else { panic!("a write expected") };
    assert_eq!(document.scheduled_at.as_deref(), Some("2130-01-01T00:00:00+02:00"));
    answer.send(Ok(())).expect("somebody waits");
    let answer = asking.await.expect("joined");
    assert_eq!((answer.code, answer.text()), (202, "Switchover scheduled".into()));
}

#[tokio::test]
async fn candidates_must_be_eligible_and_the_request_written() {
    let mut harness = Harness::open(fixture::primary());
    let asking = sending(&harness, Method::POST, "/failover", json!({"candidate": "n1"}));
    answer_cluster(&mut harness, fixture::cluster()).await;
    let Request::Eligible(names, answer) = harness.asked().await else { panic!("candidates expected") };
    assert_eq!(names, ["n1".into()]);
    answer.send(Vec::new()).expect("somebody waits");
    let answer = asking.await.expect("joined");
    let text = "failover is not possible: no good candidates have been found";
    assert_eq!((answer.code, answer.text().as_str()), (412, text));

    let asking = sending(&harness, Method::POST, "/switchover", json!({"leader": "n0"}));
    answer_cluster(&mut harness, fixture::cluster()).await;
    let Request::Eligible(names, answer) = harness.asked().await else { panic!("candidates expected") };
    assert_eq!(names, ["n1".into(), "n2".into()]);
    answer.send(names).expect("somebody waits");
    let Request::Switchover(_, answer) = harness.asked().await else { panic!("a write expected") };
    answer.send(Err("no answer".into())).expect("somebody waits");
    let answer = asking.await.expect("joined");
    assert_eq!((answer.code, answer.text().as_str()), (503, "failed to write failover key into DCS"));
}

#[tokio::test]
async fn a_refusal_writes_nothing() {
    let mut harness = Harness::open(fixture::primary());
    let asking = sending(&harness, Method::POST, "/switchover", json!({"leader": "n1"}));
    answer_cluster(&mut harness, fixture::cluster()).await;
    let answer = asking.await.expect("joined");
    assert_eq!((answer.code, answer.text().as_str()), (412, "leader name does not match"));
    assert!(harness.requests.try_recv().is_err());
}

#[tokio::test]
async fn without_the_dcs_the_connection_is_closed_without_an_answer() {
    let mut harness = Harness::open(fixture::primary());
    for path in ["/switchover", "/failover"] {
        let url = harness.url(path);
        let asking = tokio::spawn(async move {
            client().send(Method::POST, &url, Some(&json!({"leader": "n0", "candidate": "n1"})), LIMIT).await
        });
        let Request::Cluster(answer) = harness.asked().await else { panic!("a reading expected") };
        assert!(answer.send(None).is_ok());
        let error = asking.await.expect("joined").expect_err("no answer");
        assert!(matches!(error, HttpError::Broken { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_scheduled_switchover_can_be_taken_back() {
    let mut harness = Harness::open(fixture::primary());
    let cases = [
        (WriteResult::Done, 200, "scheduled switchover deleted"),
        (WriteResult::NothingThere, 404, "no switchover is scheduled"),
        (WriteResult::Conflict, 409, "the request was changed by somebody else meanwhile"),
    ];
    for (result, code, text) in cases {
        let asking = tokio::spawn(send(harness.url("/switchover"), Method::DELETE, None));
        let Request::ClearSwitchover(answer) = harness.asked().await else { panic!("a write expected") };
        answer.send(result).expect("somebody waits");
        let answer = asking.await.expect("joined");
        assert_eq!((answer.code, answer.text().as_str()), (code, text));
    }
}

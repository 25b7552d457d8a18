//! Who is refused, in which order, with which words.

use hyper::Method;
use serde_json::json;
use tamada::config::{BasicAuth, CtlConfig, RestConfig, Secret};
use tamada::core::policy::{Mode, Switch};
use tamada::http::{Caller, Client};

use super::fixture;
use super::server::{Harness, LIMIT, get, open_settings, raw, send};

const UNSAFE: [(Method, &str); 12] = [
    (Method::PATCH, "/config"),
    (Method::PUT, "/config"),
    (Method::POST, "/reload"),
    (Method::POST, "/restart"),
    (Method::POST, "/reinitialize"),
    (Method::POST, "/switchover"),
    (Method::POST, "/failover"),
    (Method::POST, "/citus"),
    (Method::POST, "/failsafe"),
    (Method::POST, "/sigterm"),
    (Method::DELETE, "/restart"),
    (Method::DELETE, "/switchover"),
];

fn with_password(mut settings: RestConfig) -> RestConfig {
    settings.auth = Some(BasicAuth { username: "admin".into(), password: Secret::new("pa:ss wörd") });
    settings
}

#[tokio::test]
async fn control_endpoints_want_the_password_and_checks_do_not() {
    let mut harness = Harness::start(with_password(open_settings()), Mode::Cluster, fixture::primary());
    for (method, path) in UNSAFE {
        let answer = send(harness.url(path), method.clone(), Some(json!({"a": 1}))).await;
        assert_eq!((answer.code, answer.text()), (401, "no auth header received".into()), "{method} {path}");
    }
    assert!(harness.requests.try_recv().is_err(), "the loop was asked");
    for path in ["/primary", "/history", "/config", "/liveness"] {
        assert_eq!(get(&harness, path).await.code, 200, "{path}");
    }
}

#[tokio::test]
async fn only_the_exact_password_counts() {
    let settings = with_password(open_settings());
    let harness = Harness::start(settings.clone(), Mode::Cluster, fixture::primary());
    let sigterm = |header: &str| {
        let request = format!(
            "POST /sigterm HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {header}\r\nContent-Length: 0\r\n\r\n"
        );
        let address = harness.address;
        async move { raw(address, &request).await }
    };
    // admin:pa:ss wörd
    let right = "Basic YWRtaW46cGE6c3Mgd8O2cmQ=";
    assert!(sigterm(right).await.starts_with("HTTP/1.0 202"), "the right one");
    for wrong in ["Basic YWRtaW46cGE6c3Mgd8O2cmQ", "basic YWRtaW46cGE6c3Mgd8O2cmQ=", "Basic YWRtaW46", "Basic", "x"] {
        let answer = sigterm(wrong).await;
        assert!(answer.starts_with("HTTP/1.0 401"), "{wrong}: {answer}");
        assert!(answer.to_lowercase().contains("www-authenticate: basic realm=\"patroni\""), "{answer}");
        assert!(answer.ends_with("not authenticated"), "{answer}");
    }
    let client = Client::new(Caller::Member, &CtlConfig::default(), &settings).expect("a client");
    let answer = client.send(Method::POST, &harness.url("/sigterm"), None, LIMIT).await.expect("an answer");
    assert_eq!(answer.code, 202, "our own client sends the same header");
}

#[tokio::test]
async fn the_network_is_checked_before_the_password() {
    let mut settings = with_password(open_settings());
    settings.allowlist = vec!["192.0.2.0/24".into(), "no-such-host.invalid".into()];
    let harness = Harness::start(settings, Mode::Cluster, fixture::primary());
    let answer = send(harness.url("/sigterm"), Method::POST, None).await;
    assert_eq!((answer.code, answer.text()), (403, "Access is denied".into()));
    assert_eq!(get(&harness, "/primary").await.code, 200);
}

#[tokio::test]
async fn a_name_in_the_allowlist_is_resolved() {
    let mut settings = open_settings();
    settings.allowlist = vec!["localhost".into()];
    let harness = Harness::start(settings, Mode::Cluster, fixture::primary());
    assert_eq!(send(harness.url("/sigterm"), Method::POST, None).await.code, 202);
}

#[tokio::test]
async fn members_are_admitted_while_they_are_known() {
    let mut settings = open_settings();
    settings.allowlist_include_members = Switch::On;
    let mut status = fixture::primary();
    let harness = Harness::start(settings, Mode::Cluster, status.clone());
    let code = || async { send(harness.url("/sigterm"), Method::POST, None).await.code };
    assert_eq!(code().await, 403, "no member has this address");
    fixture::change_cluster(&mut status, |cluster| {
        let member = cluster.view.members.values_mut().next().expect("a member");
        member.api_url = Some("http://localhost:8008/patroni".into());
    });
    harness.publish(status.clone());
    assert_eq!(code().await, 202);
    status.cluster = None;
    harness.publish(status);
    assert_eq!(code().await, 403, "without a view nobody is a member");
}

#[tokio::test]
async fn members_send_credentials_with_changes_alone() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/patroni", listener.local_addr().expect("an address"));
    let settings = with_password(open_settings());
    for (caller, method, expected) in [
        (Caller::Member, Method::GET, false),
        (Caller::Member, Method::POST, true),
        (Caller::Operator, Method::GET, true),
    ] {
        let client = Client::new(caller, &CtlConfig::default(), &settings).expect("a client");
        let hearing = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("more"));
            }
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await.expect("sent");
            String::from_utf8(head).expect("text").to_lowercase()
        };
        let (answer, head) = tokio::join!(client.send(method.clone(), &url, None, LIMIT), hearing);
        assert_eq!(answer.expect("an answer").code, 200);
        assert_eq!(head.contains("authorization:"), expected, "{caller:?} {method}: {head}");
    }
}

#[tokio::test]
async fn who_may_change_the_configuration_reads_it_whole_and_others_without_secrets() {
    let config = json!({"ttl": 30, "postgresql": {"parameters": {
        "archive_command": "AWS_SECRET_ACCESS_KEY=s3cret push %p", "work_mem": "4MB",
        "restore_command": "curl https://user:s3cret@store/%f",
    }}, "standby_cluster": {"primary_conninfo": "host=a password=s3cret"}});
    let mut status = fixture::primary();
    fixture::change_cluster(&mut status, |cluster| cluster.config = Some(config.clone()));
    let settings = with_password(open_settings());
    let mut harness = Harness::start(settings.clone(), Mode::Cluster, status);
    let answer = get(&harness, "/config").await;
    assert!(answer.code == 200 && !answer.text().contains("s3cret"), "{}", answer.text());
    let shown = answer.json().expect("a document");
    assert_eq!((&shown["ttl"], &shown["postgresql"]["parameters"]["work_mem"]), (&json!(30), &json!("4MB")));
    let admitted = Client::new(Caller::Operator, &CtlConfig::default(), &settings).expect("a client");
    let answer = admitted.send(Method::GET, &harness.url("/config"), None, LIMIT).await.expect("an answer");
    assert_eq!(answer.json(), Some(config));
    // What was read without them must not be written back.
    for method in [Method::PUT, Method::PATCH] {
        let answer = admitted.send(method, &harness.url("/config"), Some(&shown), LIMIT).await.expect("an answer");
        assert!(answer.code == 422 && answer.text().contains("without credentials"), "{}", answer.text());
    }
    assert!(harness.requests.try_recv().is_err(), "the loop was asked");
}

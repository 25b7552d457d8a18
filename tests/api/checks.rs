//! Health checks and documents as clients see them.

use std::io::{Read, Write};
use std::sync::Arc;

use hyper::Method;
use serde_json::json;
use tamada::agent::mailbox::Request;
use tamada::agent::status::PostgresStatus;
use tamada::api::{LogGauge, Options, start};
use tamada::config::{RestConfig, ServerTokens};
use tamada::core::policy::Mode;
use tamada::core::units::Lsn;
use tamada::http::local_api::OwnApi;
use tokio::sync::{mpsc, watch};

use super::fixture;
use super::server::{Harness, LIMIT, get, open_settings, raw, send};

#[tokio::test]
async fn health_checks_answer_all_three_methods_without_asking_the_loop() {
    let mut harness = Harness::open(fixture::primary());
    for (path, code) in
        [("/primary", 200), ("/leader", 200), ("/replica", 503), ("/read-only", 200), ("/health", 200), ("/xyz", 503)]
    {
        let answer = get(&harness, path).await;
        assert_eq!(answer.code, code, "{path}");
        assert_eq!(answer.json().expect("a document")["role"], "primary", "{path}");
        for method in [Method::HEAD, Method::OPTIONS] {
            let answer = send(harness.url(path), method, None).await;
            assert_eq!((answer.code, answer.body.len()), (code, 0), "{path}");
        }
    }
    for path in ["/liveness", "/readiness", "//liveness/x"] {
        let answer = get(&harness, path).await;
        assert_eq!((answer.code, answer.body.len()), (200, 0), "{path}");
    }
    // HEAD and OPTIONS exist only as health checks.
    for path in ["/liveness", "/readiness", "/config", "/metrics", "/patroni", "/cluster"] {
        for method in [Method::HEAD, Method::OPTIONS] {
            assert_eq!(send(harness.url(path), method, None).await.code, 503, "{path}");
        }
    }
    assert_eq!(send(harness.url("/"), Method::OPTIONS, None).await.code, 200);
    assert!(harness.requests.try_recv().is_err(), "the loop was asked");
}

#[tokio::test]
async fn what_has_no_handler_is_not_implemented() {
    let harness = Harness::open(fixture::primary());
    let cases = [
        (Method::DELETE, "/failover"),
        (Method::POST, "/nothing"),
        (Method::PUT, "/switchover"),
        (Method::POST, "/"),
        (Method::DELETE, "/primary"),
    ];
    for (method, path) in cases {
        let answer = send(harness.url(path), method.clone(), Some(json!({"a": 1}))).await;
        assert_eq!(answer.code, 501, "{method} {path}");
    }
}

#[tokio::test]
async fn a_new_status_shows_at_once() {
    let harness = Harness::open(fixture::primary());
    assert_eq!(get(&harness, "/primary").await.code, 200);
    let mut demoted = fixture::replica();
    demoted.dcs_last_seen = 7;
    harness.publish(demoted);
    let answer = get(&harness, "/primary").await;
    assert_eq!(answer.code, 503);
    assert_eq!(answer.json().expect("a document")["dcs_last_seen"], 7);
}

#[tokio::test]
async fn positions_are_probed_for_whoever_may_elect_by_them() {
    let mut harness = Harness::open(fixture::replica());
    for (path, code) in [("/patroni", 200), ("/patroni/x?y", 200), ("/", 503), ("/replica?lag=100", 200)] {
        let asking = tokio::spawn(send(harness.url(path), Method::GET, None));
        let Request::Positions(answer) = harness.asked().await else { panic!("positions expected") };
        let fresh = PostgresStatus { received: Some(Lsn(fixture::END + 50)), ..fixture::replica().postgres };
        answer.send(Some(fresh)).expect("somebody waits");
        let answer = asking.await.expect("joined");
        assert_eq!(answer.code, code, "{path}");
        let document = answer.json().expect("a document");
        assert_eq!(document["xlog"]["received_location"], fixture::END + 50, "{path}");
    }
}

#[tokio::test]
async fn without_a_probe_in_time_there_are_no_positions() {
    let mut harness = Harness::open(fixture::replica());
    let asking = tokio::spawn(send(harness.url("/patroni"), Method::GET, None));
    let request = harness.asked().await;
    let answer = asking.await.expect("joined");
    drop(request);
    assert_eq!(answer.code, 200);
    let document = answer.json().expect("a document");
    assert_eq!(document.get("xlog"), None);
    assert_eq!(document["state"], "unknown");
}

#[tokio::test]
async fn a_server_that_is_down_is_not_probed() {
    let mut status = fixture::replica();
    status.state = tamada::core::view::MemberState::CreatingReplica;
    let mut harness = Harness::open(status);
    assert_eq!(get(&harness, "/patroni").await.json().expect("a document")["state"], "creating replica");
    assert!(harness.requests.try_recv().is_err());
}

#[tokio::test]
async fn the_cluster_is_read_freshly() {
    let mut harness = Harness::open(fixture::primary());
    let asking = tokio::spawn(send(harness.url("/cluster"), Method::GET, None));
    let Request::Cluster(answer) = harness.asked().await else { panic!("a reading expected") };
    assert!(answer.send(Some(fixture::cluster())).is_ok());
    let document = asking.await.expect("joined").json().expect("a document");
    let names: Vec<_> = document["members"].as_array().expect("members").iter().map(|m| m["name"].clone()).collect();
    assert_eq!(names, ["n0", "n1", "n2"]);

    let asking = tokio::spawn(send(harness.url("/cluster"), Method::GET, None));
    let Request::Cluster(answer) = harness.asked().await else { panic!("a reading expected") };
    assert!(answer.send(None).is_ok());
    assert_eq!(asking.await.expect("joined").code, 503);
}

#[tokio::test]
async fn history_and_config_come_from_the_last_view() {
    let mut status = fixture::primary();
    let harness = Harness::open(status.clone());
    assert_eq!(get(&harness, "/history").await.json(), Some(json!([])));
    assert_eq!(get(&harness, "/config").await.json().expect("a document")["ttl"], 30);
    assert_eq!(get(&harness, "/failsafe").await.code, 502);
    fixture::change_cluster(&mut status, |cluster| {
        cluster.history = Some(json!([[1, 100, "no recovery target specified"]]));
        cluster.config = None;
        cluster.failsafe = Some(json!({"n0": "http://n0"}));
    });
    harness.publish(status);
    assert_eq!(get(&harness, "/history").await.json(), Some(json!([[1, 100, "no recovery target specified"]])));
    assert_eq!(get(&harness, "/config").await.code, 502);
    assert_eq!(get(&harness, "/failsafe").await.json(), Some(json!({"n0": "http://n0"})));
}

#[tokio::test]
async fn without_a_view_the_configuration_is_read_freshly() {
    let mut status = fixture::primary();
    status.cluster = None;
    let mut harness = Harness::open(status);
    let asking = tokio::spawn(send(harness.url("/config"), Method::GET, None));
    let Request::Cluster(answer) = harness.asked().await else { panic!("a reading expected") };
    assert!(answer.send(Some(fixture::cluster())).is_ok());
    assert_eq!(asking.await.expect("joined").code, 200);
}

#[tokio::test]
async fn clients_that_ask_for_it_keep_their_connection() {
    let harness = Harness::open(fixture::primary());
    let address = harness.address;
    let exchange = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        for version in ["1.0", "1.1", "1.0"] {
            let request = format!("OPTIONS /primary HTTP/{version}\r\nHost: x\r\nConnection: Keep-Alive\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("sent");
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("more");
                answer.push(byte[0]);
            }
            let answer = String::from_utf8(answer).expect("text").to_lowercase();
            assert!(answer.starts_with("http/1.0 200 ok\r\n"), "{answer}");
            assert!(answer.contains("connection: keep-alive"), "{answer}");
        }
    });
    exchange.await.expect("three answers on one connection");
}

#[tokio::test]
async fn answers_are_http_1_0_and_end_the_connection_as_patronis() {
    let harness = Harness::open(fixture::primary());
    for version in ["1.0", "1.1"] {
        for request in ["GET /primary", "OPTIONS /primary", "HEAD /", "GET /liveness", "GET /history", "POST /sigterm"]
        {
            // Read to its end: the server closes it.
            let answer = raw(harness.address, &format!("{request} HTTP/{version}\r\nHost: x\r\n\r\n")).await;
            assert!(answer.starts_with("HTTP/1.0 20"), "{request} HTTP/{version}: {answer}");
        }
    }
}

#[tokio::test]
async fn documents_are_spaced_for_scripts_that_search_them() {
    let mut harness = Harness::open(fixture::primary());
    let text = get(&harness, "/primary").await.text();
    assert!(text.contains(r#""role": "primary", "#), "{text}");
    let asking = tokio::spawn(send(harness.url("/cluster"), Method::GET, None));
    let Request::Cluster(answer) = harness.asked().await else { panic!("a reading expected") };
    assert!(answer.send(Some(fixture::cluster())).is_ok());
    let text = asking.await.expect("joined").text();
    assert!(text.contains(r#"{"members": [{"name": "n0", "role": "leader", "#), "{text}");
}

#[tokio::test]
async fn metrics_come_with_fresh_positions() {
    let mut harness = Harness::open(fixture::replica());
    let asking = tokio::spawn(send(harness.url("/metrics"), Method::GET, None));
    let Request::Positions(answer) = harness.asked().await else { panic!("positions expected") };
    let fresh = PostgresStatus { replayed: Some(Lsn(fixture::END + 50)), ..fixture::replica().postgres };
    answer.send(Some(fresh)).expect("somebody waits");
    let answer = asking.await.expect("joined");
    let line = format!("patroni_xlog_replayed_location{{scope=\"demo\",name=\"n1\"}} {}\n", fixture::END + 50);
    assert!(answer.code == 200 && answer.text().contains(&line), "{}", answer.text());
    // As Prometheus takes it.
    let (address, request) = (harness.address, "GET /metrics HTTP/1.0\r\n\r\n");
    let asking = tokio::spawn(async move { raw(address, request).await });
    let Request::Positions(answer) = harness.asked().await else { panic!("positions expected") };
    answer.send(None).expect("somebody waits");
    let answer = asking.await.expect("joined").to_lowercase();
    assert!(answer.starts_with("http/1.0 200") && answer.contains("\r\ncontent-type: text/plain\r\n"), "{answer}");
}

#[tokio::test]
async fn answers_carry_the_configured_headers() {
    let mut settings = open_settings();
    settings.http_extra_headers.insert("X-Frame-Options".into(), "DENY".into());
    let harness = Harness::start(settings, Mode::Cluster, fixture::primary());
    for path in ["/primary", "/history"] {
        let answer =
            raw(harness.address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        let answer = answer.to_lowercase();
        for header in ["x-frame-options: deny", "server: tamada/", "date: ", "content-type: application/json"] {
            assert!(answer.contains(header), "{header} in {answer}");
        }
    }
}

#[tokio::test]
async fn the_server_header_tells_what_was_asked_for() {
    for (tokens, expected) in [
        (ServerTokens::Original, concat!("server: tamada/", env!("CARGO_PKG_VERSION"), "\r\n")),
        (ServerTokens::Minimal, "server: patroni/4.1.5\r\n"),
        (ServerTokens::ProductOnly, "server: patroni\r\n"),
    ] {
        let settings = RestConfig { server_tokens: tokens, ..open_settings() };
        let harness = Harness::start(settings, Mode::Cluster, fixture::primary());
        let answer = raw(harness.address, "GET /primary HTTP/1.0\r\n\r\n").await.to_lowercase();
        assert!(answer.contains(expected), "{answer}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut settings = open_settings();
    settings.listen.port = taken.local_addr().expect("an address").port();
    let (_rest, rest) = watch::channel(Arc::new(settings.clone()));
    let (_status, status) = watch::channel(Arc::new(fixture::primary()));
    let (mailbox, _requests) = mpsc::channel(1);
    let error = start(Options { rest, mode: Mode::Cluster, status, mailbox, log: LogGauge::default(), announce: None })
        .expect_err("taken")
        .to_string();
    assert!(error.contains(&format!("127.0.0.1:{}", settings.listen.port)), "{error}");
}

#[tokio::test]
async fn stopping_finishes_what_was_asked_and_refuses_what_is_new() {
    let mut harness = Harness::open(fixture::primary());
    let address = harness.address;
    let asking = tokio::spawn(send(harness.url("/cluster"), Method::GET, None));
    let Request::Cluster(answer) = harness.asked().await else { panic!("a reading expected") };
    let stopping = tokio::task::spawn_blocking(move || harness.stop());
    while std::net::TcpStream::connect(address).is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(answer.send(Some(fixture::cluster())).is_ok());
    assert_eq!(asking.await.expect("joined").code, 200);
    stopping.await.expect("stopped");
}

#[tokio::test]
async fn a_reload_may_move_the_listener() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("run/tamada.api");
    let harness = Harness::announced(&file, fixture::primary());
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let mut settings = open_settings();
    settings.listen.port = free.port();
    harness.rest.send_replace(Arc::new(settings));
    while std::net::TcpStream::connect(free).is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(send(format!("http://{free}/primary"), Method::GET, None).await.code, 200);
    assert_eq!(OwnApi::read(&file).expect("announced").url, format!("http://{free}"));
}

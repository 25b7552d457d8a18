//! What a test does to its server: stop, freeze, set back, empty.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, LIMIT, STRATEGIC, core, stand_in, version};
use crate::kube_api::{KubeApi, Options};

#[tokio::test]
async fn it_stops_and_comes_back_on_its_address() {
    let api = stand_in();
    let client = Client::admin(&api);
    let made = client.create(&core("configmaps"), &json!({"metadata": {"name": "a"}})).await.ok();
    let mut watch = client.watch(&format!("{}?watch=1&resourceVersion=0", core("configmaps"))).await;
    watch.event().await;
    api.stop();
    assert!(watch.next().await.is_err(), "the connection is gone");
    client.send(hyper::Method::GET, "/livez", &[], None).await.expect_err("nobody listens");
    api.restart();
    assert_eq!(client.get(&core("configmaps/a")).await.ok(), made);
}

#[tokio::test]
async fn frozen_it_accepts_and_answers_nothing() {
    let api = stand_in();
    let client = Client::admin(&api);
    let mut watch = client.watch(&format!("{}?watch=1&resourceVersion=0", core("configmaps"))).await;
    api.freeze();
    tokio::net::TcpStream::connect(api.address()).await.expect("it is accepted");
    let path = core("configmaps");
    let asked = client.get(&path);
    tokio::pin!(asked);
    let brief = Duration::from_millis(100);
    assert!(tokio::time::timeout(brief, &mut asked).await.is_err(), "it answers");
    api.put("configmaps", "demo", json!({"metadata": {"name": "a"}}));
    assert!(tokio::time::timeout(brief, watch.next()).await.is_err(), "the watch goes on");
    api.thaw();
    assert_eq!(watch.event().await.0, "ADDED");
    asked.await.ok();
}

#[tokio::test]
async fn set_back_it_gives_versions_out_again() {
    let api = stand_in();
    let client = Client::admin(&api);
    let patch = |value: &str| json!({"metadata": {"annotations": {"k": value}}});
    let made = client.create(&core("configmaps"), &json!({"metadata": {"name": "a"}})).await.ok();
    let snapshot = api.snapshot();
    let once = client.patch(&core("configmaps/a"), STRATEGIC, &patch("1")).await.ok();
    api.put("configmaps", "demo", json!({"metadata": {"name": "b"}}));
    let mut watch = client.watch(&format!("{}?watch=1&resourceVersion={}", core("configmaps"), api.revision())).await;
    api.restore(&snapshot);
    assert!(watch.next().await.is_err(), "the connection is gone");
    assert_eq!(client.get(&core("configmaps/a")).await.ok(), made);
    client.get(&core("configmaps/b")).await.refusal(404, "NotFound");
    let again = client.patch(&core("configmaps/a"), STRATEGIC, &patch("2")).await.ok();
    assert_eq!(version(&again), version(&once));
}

#[tokio::test]
async fn emptied_it_is_another_cluster() {
    let api = stand_in();
    let client = Client::admin(&api);
    let fresh = api.revision();
    client.create(&core("configmaps"), &json!({"metadata": {"name": "a"}})).await.ok();
    api.wipe();
    client.get(&core("configmaps/a")).await.refusal(404, "NotFound");
    assert_eq!(api.revision(), fresh);
    client.create(&core("configmaps"), &json!({"metadata": {"name": "a"}})).await.ok();
}

#[tokio::test]
async fn a_test_reaches_into_it_and_waits() {
    let api = stand_in();
    api.put_pod("demo", "demo-0", "10.0.0.1", &json!({"application": "patroni"}));
    assert_eq!(api.get("pods", "demo", "demo-0").map(|pod| pod["status"]["podIP"].clone()), Some(json!("10.0.0.1")));
    let client = Client::admin(&api);
    let patch = json!({"metadata": {"labels": {"role": "primary"}}});
    let has_role = |pod: Option<&Value>| pod.is_some_and(|pod| pod["metadata"]["labels"]["role"] == "primary");
    let found = std::thread::scope(|scope| {
        let wait = scope.spawn(|| api.wait_for(LIMIT, ("pods", "demo", "demo-0"), has_role));
        api.patch("pods", "demo", "demo-0", &patch);
        wait.join().expect("it is found")
    });
    client.get(&core("pods")).await.ok();
    assert_eq!(found.map(|pod| pod["metadata"]["labels"]["application"].clone()), Some(json!("patroni")));
    api.wait_for_request(LIMIT, "the list", |record| record.asked.verb == "list");
    assert!(api.delete("pods", "demo", "demo-0"));
    api.wait_for(LIMIT, ("pods", "demo", "demo-0"), |pod| pod.is_none());
}

#[tokio::test]
async fn a_stalled_runtime_does_not_stall_it() {
    let api = stand_in();
    // This thread is the test's whole runtime, and it does nothing but wait here.
    let client = Client::admin(&api);
    let there = std::thread::scope(|scope| {
        let ask = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(client.get("/livez")).code
        };
        scope.spawn(ask).join().expect("an answer")
    });
    assert_eq!(there, 200);
}

#[tokio::test]
async fn http_2_is_spoken_to_whoever_wants_it() {
    use openssl::ssl::{SslConnector, SslMethod};
    let api = stand_in();
    let mut builder = SslConnector::builder(SslMethod::tls()).expect("OpenSSL knows TLS");
    builder.cert_store_mut().add_cert(api.authority().cert.clone()).expect("a certificate");
    builder.set_alpn_protos(b"\x02h2\x08http/1.1").expect("two protocols");
    let connector = builder.build();
    let stream = tokio::net::TcpStream::connect(api.address()).await.expect("it listens");
    let ssl =
        connector.configure().expect("a connector").into_ssl(&api.address().ip().to_string()).expect("an address");
    let mut stream = tokio_openssl::SslStream::new(ssl, stream).expect("a stream");
    std::pin::Pin::new(&mut stream).connect().await.expect("a handshake");
    assert_eq!(stream.ssl().selected_alpn_protocol(), Some(&b"h2"[..]));
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = hyper::Request::builder().uri(format!("{}/livez", api.url()));
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).expect("a request");
    assert_eq!(sender.send_request(request).await.expect("an answer").status(), 200);
}

/// Its network namespace is that of the thread that starts it, also when another one starts it again.
#[test]
fn it_lives_in_a_network_namespace() {
    use nix::sched::{CloneFlags, unshare};
    if !nix::unistd::Uid::effective().is_root() {
        return println!("only root makes network namespaces");
    }
    let (sender, started) = std::sync::mpsc::channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may");
            for words in [&["link", "set", "lo", "up"][..], &["address", "add", "10.9.9.1/32", "dev", "lo"]] {
                let status = std::process::Command::new("ip").args(words).status().expect("iproute2 is installed");
                assert!(status.success(), "ip {words:?}");
            }
            let address = "10.9.9.1:0".parse().expect("an address");
            let api = std::sync::Arc::new(KubeApi::stand_in(Options::at(address)));
            let client = Client::admin(&api);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            assert_eq!(runtime.block_on(client.get("/livez")).code, 200);
            sender.send(std::sync::Arc::clone(&api)).expect("the other thread waits");
            wait.recv_timeout(LIMIT).expect("it was started again");
            assert_eq!(runtime.block_on(client.get("/livez")).code, 200);
        });
        let api = started.recv_timeout(LIMIT).expect("it was started");
        api.restart();
        go_on.send(()).expect("the other thread waits");
    });
}

//! Clients that say nothing, or not enough, beside a load balancer's checks from another address.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hyper::Method;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tamada::agent::mailbox::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::fixture;
use super::server::{Harness, LIMIT, send};
use super::tls::{Files, Version, stranger};
use tamada::config::VerifyClient;
use tamada::core::policy::Mode;
use tamada::http::Caller;

/// How long a load balancer waits.
const PATIENCE: Duration = Duration::from_secs(1);

const CROWD: &str = "127.0.0.66:0";

/// What they send of a request.
const PARTS: [&[u8]; 3] = [b"", b"G", b"GET /primary HTTP/1.1\r\nHost: x\r\n"];

fn many_descriptors() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("both ends of all connections are in this process");
}

async fn connect(from: &str, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(from.parse().expect("an address"))?;
    timeout(LIMIT, socket.connect(to)).await?
}

/// Such clients, which stay until they are closed.
async fn join(crowd: &mut Vec<TcpStream>, count: usize, to: SocketAddr) {
    for number in 0..count {
        let Ok(mut client) = connect(CROWD, to).await else { continue };
        // It may be closed by now, as it should.
        let _ = client.write_all(PARTS[number % PARTS.len()]).await;
        crowd.push(client);
    }
}

async fn is_up(address: SocketAddr) -> bool {
    let check = async {
        let mut client = connect("127.0.0.1:0", address).await?;
        client.write_all(b"OPTIONS /primary HTTP/1.0\r\n\r\n").await?;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.starts_with(b"HTTP/1.0 200"))
    };
    timeout(PATIENCE, check).await.is_ok_and(|answer| answer.unwrap_or(false))
}

#[tokio::test]
async fn two_thousand_slow_clients_and_fifty_a_second_keep_no_check_waiting() {
    many_descriptors();
    let harness = Harness::open(fixture::primary());
    let address = harness.address;
    let mut crowd = Vec::new();
    join(&mut crowd, 2000, address).await;
    let mut answered = 0;
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..60 {
        ticks.tick().await;
        let (up, ()) = tokio::join!(is_up(address), join(&mut crowd, 50, address));
        answered += usize::from(up);
    }
    assert_eq!(answered, 60);
}

#[tokio::test]
async fn six_hundred_silent_tls_clients_keep_no_check_waiting() {
    many_descriptors();
    let files = Files::new(Version::V3);
    let harness = Harness::start(files.server(VerifyClient::None), Mode::Cluster, fixture::primary());
    let mut crowd = Vec::new();
    for _ in 0..600 {
        crowd.push(connect(CROWD, harness.address).await.expect("a connection"));
    }
    let client = stranger(Caller::Member, None);
    let url = format!("https://{}/primary", harness.address);
    for _ in 0..10 {
        let answer = client.send(Method::GET, &url, None, PATIENCE).await.expect("an answer in time");
        assert_eq!(answer.code, 200);
        crowd.push(connect(CROWD, harness.address).await.expect("a connection"));
    }
}

#[tokio::test]
async fn silent_connections_of_the_same_address_do_not_keep_checks_out() {
    many_descriptors();
    let harness = Harness::open(fixture::primary());
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(TcpStream::connect(harness.address).await.expect("a connection"));
    }
    assert!(is_up(harness.address).await);
}

#[tokio::test]
async fn the_end_waits_for_answers_and_not_for_half_a_request() {
    let mut harness = Harness::open(fixture::primary());
    let address = harness.address;
    let mut half = connect(CROWD, address).await.expect("a connection");
    half.write_all(PARTS[2]).await.expect("sent");
    let asking = tokio::spawn(send(harness.url("/cluster"), Method::GET, None));
    let Request::Cluster(answer) = harness.asked().await else { panic!("a reading expected") };
    let began = Instant::now();
    let stopping = tokio::task::spawn_blocking(move || harness.stop());
    let mut rest = Vec::new();
    let read = timeout(LIMIT, half.read_to_end(&mut rest)).await.expect("it is closed");
    assert!(began.elapsed() < Duration::from_secs(3), "{read:?} after {:?}", began.elapsed());
    assert!(answer.send(Some(fixture::cluster())).is_ok());
    assert_eq!(asking.await.expect("joined").code, 200);
    stopping.await.expect("stopped");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_client_that_was_closed_is_told_so() {
    many_descriptors();
    let harness = Harness::open(fixture::primary());
    let mut first = connect(CROWD, harness.address).await.expect("a connection");
    let mut crowd = Vec::new();
    join(&mut crowd, 250, harness.address).await;
    let read = timeout(Duration::from_secs(5), first.read(&mut [0])).await.expect("before its own limit");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert!(is_up(harness.address).await);
}

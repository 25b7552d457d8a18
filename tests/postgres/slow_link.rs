//! A standby behind a slow link: a stop of its primary waits for it as long as bytes flow, and no longer than it may.

use std::time::{Duration, Instant};

use tamada::core::local::{CloneFrom, CloneSource, StartAs, StopMode, Upstream};
use tamada::core::view::Address;
use tamada::postgres::Instance;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::sleep;

use crate::support::{LIMIT, Node, eventually, free_port, on_every_version, progress, slots_for};

/// Forwards to a server, from it at this rate in bytes a second and with small buffers.
async fn slow_link(to: u16, rate: u64) -> u16 {
    let port = free_port();
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("set");
    socket.bind(([127, 0, 0, 1], port).into()).expect("free");
    let listener: TcpListener = socket.listen(8).expect("listens");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(forward(client, to, rate));
        }
    });
    port
}

async fn forward(client: TcpStream, to: u16, rate: u64) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("set");
    let Ok(server) = socket.connect(([127, 0, 0, 1], to).into()).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut buffer = [0; 2048];
    while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
        if to_client.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        // What takes time is the link.
        sleep(Duration::from_micros(length as u64 * 1_000_000 / rate)).await;
    }
}

/// A primary with a replica that has everything and then hangs on a link of so many bytes a second.
async fn pair(bin: &std::path::Path, rate: u64) -> (Node, Node) {
    let (primary, replica) = (Node::new("n1", bin), Node::new("n2", bin));
    primary.bootstrap().await;
    primary.postgres.sync_slots(&slots_for(&["n2"])).await.expect("slots");
    primary.sql("CREATE TABLE t (a int, b text)");
    replica.configure().await;
    let source = CloneSource { name: "n1".into(), address: primary.address(), kind: CloneFrom::Leader };
    replica.postgres.clone_from(&source, progress()).await.expect("cloned");
    let port = slow_link(primary.address().port, rate).await;
    let link = Upstream::Member { name: "n1".into(), address: Address { port, ..primary.address() } };
    replica.postgres.start(&StartAs::Standby(link), LIMIT).await.expect("started");
    eventually("the replica streams", async || replica.standby_facts().await.replication.is_some()).await;
    (primary, replica)
}

const ROWS: &str = "INSERT INTO t SELECT n, (SELECT string_agg(md5((n * 20 + i)::text), '') FROM generate_series(1, 20) i) \
    FROM generate_series(1, 700) n";

#[test]
fn a_stop_waits_for_a_standby_as_long_as_bytes_flow() {
    on_every_version(|bin| async move {
        let (primary, replica) = pair(&bin, 80_000).await;
        primary.sql(ROWS);
        let began = Instant::now();
        let end = primary.postgres.stop(StopMode::CheckpointThenFast, LIMIT).await.expect("stopped").expect("clean");
        eprintln!("the stop took {:?}", began.elapsed());
        let has = replica.standby_facts().await.position();
        assert!(has >= end, "the replica has {has}, the primary ended at {end}");
        replica.postgres.promote(LIMIT).await.expect("promoted");
        assert_eq!(replica.sql("SELECT count(*) FROM t"), "700");
    });
}

#[test]
fn a_stop_with_a_limit_does_not_wait_beyond_it() {
    on_every_version(|bin| async move {
        let (primary, _replica) = pair(&bin, 10_000).await;
        primary.sql(ROWS);
        let began = Instant::now();
        primary.postgres.stop(StopMode::CheckpointThenFast, Duration::from_secs(6)).await.expect("stopped");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(9), "{took:?}");
    });
}

//! Whatever the API has to do, the lease is renewed in time.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::proxy::Proxy;
use crate::wait::{seconds, until};
use crate::world::{Cluster, SOON};

const LOOP_WAIT: Duration = seconds(1);
const DELAY_MAX: Duration = Duration::from_millis(100);

#[test]
fn a_flood_of_requests_delays_no_renewal() {
    let mut cluster = Cluster::prepare(1);
    let etcd = cluster.store.endpoints().remove(0).to_string().parse().expect("an address");
    let proxy = Proxy::to(etcd);
    cluster.set("PATRONI_ETCD3_HOSTS", &proxy.address.to_string());
    // Or else etcd would name its own address.
    cluster.set("PATRONI_ETCD3_USE_PROXIES", "on");
    cluster.start_all();
    cluster.members[0].wait_writable(seconds(30));
    let flood = |path: &str, keep_alive: &[&str], time: Duration| {
        let url = format!("http://{}{path}", cluster.members[0].rest);
        let limit = time.as_secs().to_string();
        let mut ab = Command::new("ab");
        // The number stands after the time, which sets one of its own: 50,000, over in a few seconds.
        ab.args(["-q", "-l", "-c", "64", "-t", &limit, "-n", "10000000"]).args(keep_alive).arg(url);
        ab.stdout(Stdio::piped()).stderr(Stdio::null());
        let began = Instant::now();
        let output = ab.output().expect("ab is installed (apache2-utils)");
        assert!(began.elapsed() >= time, "the flood was over after {:?}", began.elapsed());
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        let requests = report.lines().find(|line| line.starts_with("Requests per second")).unwrap_or_default();
        let failed = report.lines().find(|line| line.starts_with("Failed requests")).unwrap_or_default();
        println!("{path}: {requests}; {failed}");
        assert!(failed.ends_with(" 0"), "{report}");
        let sent = proxy.sent();
        let during: Vec<_> = sent.into_iter().filter(|at| *at > began && *at < began + time).collect();
        assert!(during.len() > 10, "{} renewals", during.len());
        let longest = during.windows(2).map(|pair| pair[1] - pair[0]).max().expect("several");
        println!("{path}: at most {longest:?} between two renewals");
        assert!(longest < LOOP_WAIT + DELAY_MAX, "{longest:?}");
    };
    flood("/primary", &[], seconds(60));
    flood("/patroni", &["-k"], seconds(15));
}

/// `/cluster` is read from etcd and made into a document on the loop's thread.
#[test]
fn a_flood_of_readings_of_the_cluster_delays_no_renewal() {
    let mut cluster = Cluster::prepare(1);
    cluster.set("PATRONI_LOG_LEVEL", "DEBUG").start_all();
    cluster.members[0].wait_writable(seconds(30));
    let member = &cluster.members[0];
    let said = member.log().len();
    let mut ab = Command::new("ab");
    ab.args(["-q", "-l", "-k", "-c", "64", "-t", "20", "-n", "10000000"]);
    ab.arg(format!("http://{}/cluster", member.rest)).stdout(Stdio::piped()).stderr(Stdio::null());
    let output = ab.output().expect("ab is installed (apache2-utils)");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let requests = report.lines().find(|line| line.starts_with("Requests per second")).unwrap_or_default();
    let said = member.said_since(said);
    let renewals: Vec<Duration> = said.lines().filter(|line| line.contains("lease: Renew")).filter_map(clock).collect();
    let longest = renewals.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().expect("several");
    println!("{requests}; {} renewals, at most {longest:?} apart", renewals.len());
    assert!(renewals.len() >= 15, "{} renewals", renewals.len());
    assert!(longest < LOOP_WAIT + DELAY_MAX, "{longest:?}");
}

/// What the agent writes reaches the disk after 6 s, longer than a ttl.
#[test]
fn a_slow_disk_delays_no_renewal() {
    const SLOW: Duration = seconds(6);
    let mut cluster = Cluster::prepare(2);
    cluster.set("PATRONI_LOG_LEVEL", "DEBUG").start_all();
    let (leader, _) = cluster.whole(seconds(40));
    let agent = cluster.members[leader].agent().expect("it runs");
    let calls = "fsync,fdatasync,syncfs";
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-p", &agent.to_string(), "-e", &format!("trace={calls}")]);
    strace.args(["-e", &format!("inject={calls}:delay_enter={}", SLOW.as_micros())]);
    let mut strace = strace.spawn().expect("strace is installed");
    let status = || std::fs::read_to_string(format!("/proc/{agent}/status")).unwrap_or_default();
    until(SOON, "it is traced", || status().lines().any(|line| line == format!("TracerPid:\t{}", strace.id())));

    let member = &cluster.members[leader];
    let said = member.log().len();
    let change = json!({"postgresql": {"parameters": {"work_mem": "5MB"}}});
    assert_eq!(member.send("PATCH", "/config", &change).expect("an answer").code, 200);
    let kept = || std::fs::read_to_string(member.data().join("patroni.dynamic.json")).unwrap_or_default();
    let took = until(SLOW * 5, "it is kept beside the data", || kept().contains("work_mem"));
    let loaded = || member.value("SHOW work_mem").is_ok_and(|value| value == "5MB");
    let loaded = until(SLOW * 5, "PostgreSQL goes by it", loaded);
    nix::sys::signal::kill(pid(&strace), nix::sys::signal::Signal::SIGTERM).expect("it runs");
    strace.wait().expect("our own child");
    println!("kept after {took:?}, in force {loaded:?} later");
    assert!(took >= SLOW, "{took:?}: nothing was slow");

    let said = member.said_since(said);
    let renewals: Vec<Duration> = said.lines().filter(|line| line.contains("lease: Renew")).filter_map(clock).collect();
    let longest = renewals.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().expect("several");
    println!("{} renewals, at most {longest:?} apart", renewals.len());
    assert!(longest < LOOP_WAIT * 2, "{longest:?}");
    assert!(!said.contains("demot"), "{said}");
    assert_eq!(cluster.whole(SOON).0, leader);
}

fn pid(child: &std::process::Child) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process number"))
}

/// The time of day of a line, `2026-11-28 06:33:39,602 ...`.
fn clock(line: &str) -> Option<Duration> {
    let (time, millis) = line.split(' ').nth(1)?.split_once(',')?;
    let seconds = time.split(':').try_fold(0, |sum, part| Some(sum * 60 + part.parse::<u64>().ok()?))?;
    Some(Duration::from_secs(seconds) + Duration::from_millis(millis.parse().ok()?))
}

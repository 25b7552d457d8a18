//! Whatever the API has to do, the lease is renewed in time.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::proxy::Proxy;
use crate::wait::seconds;
use crate::world::Cluster;

const LOOP_WAIT: Duration = seconds(1);
const DELAY_MAX: Duration = Duration::from_millis(100);

#[test]
fn a_flood_of_requests_delays_no_renewal() {
    let mut cluster = Cluster::prepare(1);
    let etcd = cluster.etcd.endpoints().remove(0).to_string().parse().expect("an address");
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

/// The time of day of a line, `2026-11-28 06:33:39,602 ...`.
fn clock(line: &str) -> Option<Duration> {
    let (time, millis) = line.split(' ').nth(1)?.split_once(',')?;
    let seconds = time.split(':').try_fold(0, |sum, part| Some(sum * 60 + part.parse::<u64>().ok()?))?;
    Some(Duration::from_secs(seconds) + Duration::from_millis(millis.parse().ok()?))
}

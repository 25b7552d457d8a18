//! Faults of more than the primary: the network, etcd, all members at once.

use std::thread::{scope, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use crate::Scenario;
use crate::clock::{self, Moment};
use crate::cluster::{Cluster, MEMBERS};
use crate::docker::docker;
use crate::faults::{HEALED, Losses, WRITABLE, frozen, gap, losses, rejoined, settled_writer};
use crate::figures::{Figure, count};
use crate::inside::InsideWriter;
use crate::writer::{Ack, Habit, Writer};

pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { name: "cut-off", what: "the primary is cut off the network, a writer inside it", run: cut_off },
        Scenario { name: "all-stopped", what: "all three stopped, the former primary started last", run: all_stopped },
        Scenario { name: "project", what: "docker compose stop of everything, then start", run: project },
        Scenario { name: "etcd", what: "two of three etcd frozen for 60 s", run: etcd },
    ]
}

fn others(member: &str) -> impl Iterator<Item = &'static str> + use<'_> {
    MEMBERS.into_iter().filter(move |other| *other != member)
}

/// Never two that acknowledge writes: clients of each member say when.
fn cut_off(cluster: &Cluster) -> Result<Vec<Figure>> {
    let primary = cluster.whole(HEALED)?;
    let writer = settled_writer(cluster)?;
    let candidates = others(&primary)
        .map(|other| Ok(Writer::start(cluster.direct(other)?, Habit::Stays)))
        .collect::<Result<Vec<_>>>()?;
    let inside = InsideWriter::start(cluster, &primary)?;
    ensure!(inside.is_on_a_primary()?, "{primary} does not say of itself that it is the primary");
    let (network, container) = (cluster.network(), cluster.container(&primary));
    let at = clock::now();
    docker(&["network", "disconnect", "--force", &network, &container])?;
    let struck = clock::now();
    let went_on = writer.steady(Duration::from_secs(2), WRITABLE);
    // Whatever happened, the old primary had time to see its lease run out more than once.
    sleep((at + Duration::from_secs(20)).saturating_sub(clock::now()));
    let still_primary = inside.is_on_a_primary();
    docker(&["network", "connect", "--alias", &primary, &network, &container])?;
    went_on?;
    ensure!(!still_primary?, "{primary} was still a primary after its lease");
    let healed = rejoined(cluster, at)?;
    let gap = gap(&writer, at, 15.0)?.aiming_at(8.0);
    let promoted = candidates.iter().filter_map(|one| one.first_after(at)).map(|ack| ack.at).min();
    let promoted = promoted.context("no other member took a write")?;
    let old = inside.stop()?;
    drop(candidates);
    let mut figures = vec![gap, healed];
    figures.extend(two_primaries(&old, promoted)?);
    figures.push(losses(cluster, writer, at..struck, Losses::OfTheLastSecond)?);
    Ok(figures)
}

fn two_primaries(old: &[Ack], promoted: Moment) -> Result<[Figure; 2]> {
    // It writes again as soon as it is primary once more, which nobody asks of it here: it came back as a replica.
    let after = old.iter().filter(|ack| ack.at > promoted).count();
    let last = old.last().context("the writer inside was never answered")?.at;
    let after = Figure::at_most("old_acks_after_promotion", count(after), 0.0);
    let seconds = Figure::at_most("two_primaries_s", clock::seconds(promoted, last), 0.0);
    Ok([seconds.aiming_at(0.0), after.aiming_at(0.0)])
}

fn all_stopped(cluster: &Cluster) -> Result<Vec<Figure>> {
    let former = cluster.whole(HEALED)?;
    let writer = settled_writer(cluster)?;
    let at = clock::now();
    cluster.compose(&["stop", "--timeout", "60", MEMBERS[0], MEMBERS[1], MEMBERS[2]])?;
    let started = clock::now();
    for member in others(&former) {
        docker(&["start", &cluster.container(member)])?;
    }
    docker(&["start", &cluster.container(&former)])?;
    let first = cluster
        .eventually(WRITABLE, "write again", || writer.first_after(started).context("no write is acknowledged"))?;
    let healed = rejoined(cluster, started)?;
    let first = Figure::at_most("first_write_s", clock::seconds(started, first.at), 15.0).aiming_at(5.0);
    Ok(vec![first, healed, losses(cluster, writer, at..at, Losses::None)?])
}

/// Members go first and etcd last, so that a primary can take its time over its last checkpoint. The client writes to the
/// primary itself, since HAProxy goes first of all.
fn project(cluster: &Cluster) -> Result<Vec<Figure>> {
    let primary = cluster.whole(HEALED)?;
    let writer = Writer::start(cluster.direct(&primary)?, Habit::Roams);
    writer.steady(Duration::from_secs(1), WRITABLE)?;
    let at = clock::now();
    cluster.compose(&["stop"])?;
    let mut stopped = Vec::new();
    for member in MEMBERS {
        let (status, moment) = end(cluster, member)?;
        ensure!(status == "0", "the exit status of {member} is {status}");
        stopped.push(moment);
    }
    for node in ["etcd1", "etcd2", "etcd3"] {
        let (_, moment) = end(cluster, node)?;
        ensure!(stopped.iter().all(|member| *member < moment), "{node} was gone before the members were");
    }
    let started = clock::now();
    cluster.compose(&["start"])?;
    settled_writer(cluster)?;
    Ok(vec![rejoined(cluster, started)?, losses(cluster, writer, at..at, Losses::None)?])
}

/// How and when a stopped service's container ended.
fn end(cluster: &Cluster, service: &str) -> Result<(String, Timestamp)> {
    let format = "{{.State.ExitCode}} {{.State.FinishedAt}}";
    let state = docker(&["inspect", "--format", format, &cluster.container(service)])?;
    let (status, moment) = state.split_once(' ').context("not an exit status and a moment")?;
    Ok((status.to_owned(), moment.parse()?))
}

/// Without a majority of etcd nobody may be primary for longer than a lease; afterwards all is there and goes on.
fn etcd(cluster: &Cluster) -> Result<Vec<Figure>> {
    let outage = Duration::from_secs(60);
    cluster.whole(HEALED)?;
    let lease = cluster.ttl()?;
    let processes = processes(cluster)?;
    let writer = settled_writer(cluster)?;
    let at = clock::now();
    frozen(cluster, "etcd1")?;
    frozen(cluster, "etcd2")?;
    let struck = clock::now();
    let back = scope(|threads| {
        // Begun before the thaw, so that the start of a process in a container is not taken for etcd's time.
        sleep((at + outage).saturating_sub(clock::now() + Duration::from_secs(3)));
        let back = threads.spawn(|| first_write_of_etcd(cluster));
        sleep((at + outage).saturating_sub(clock::now()));
        let thawed = clock::now();
        docker(&["unpause", &cluster.container("etcd1"), &cluster.container("etcd2")])?;
        let back = back.join().expect("it returns its errors")?;
        anyhow::Ok((thawed, back))
    });
    let (thawed, back) = back?;
    let first = cluster
        .eventually(WRITABLE, "write again", || writer.first_after(thawed).context("no write is acknowledged"))?;
    let healed = rejoined(cluster, back)?;
    let crashed = self::processes(cluster)?.iter().zip(&processes).filter(|(now, before)| now != before).count();
    let crashed = Figure::at_most("members_restarted", count(crashed), 0.0);
    let without = struck + lease + Duration::from_secs(1)..thawed;
    let without = writer.acks().iter().filter(|ack| without.contains(&ack.at)).count();
    let without = Figure::at_most("acks_without_a_lease", count(without), 0.0);
    let first = Figure::at_most("writable_after_etcd_s", clock::seconds(back, first.at), 6.0).aiming_at(2.0);
    Ok(vec![first, healed, crashed, without, losses(cluster, writer, at..at, Losses::None)?])
}

/// Writes to etcd until that succeeds, from inside one of its nodes, and returns when it did.
fn first_write_of_etcd(cluster: &Cluster) -> Result<Moment> {
    let script = "until etcdctl put --command-timeout=1s /container-test x; do :; done >/dev/null 2>&1
        echo $EPOCHREALTIME";
    let limit = WRITABLE.as_secs().to_string();
    clock::from_shell(&cluster.exec("etcd3", &["timeout", &limit, "bash", "-c", script])?)
}

fn processes(cluster: &Cluster) -> Result<Vec<String>> {
    MEMBERS.into_iter().map(|member| cluster.first_process(member)).collect()
}

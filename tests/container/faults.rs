//! Faults of the primary: it is stopped, killed, restarted, frozen, or asked to hand over. A client writes through
//! HAProxy all the while.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Scenario;
use crate::clock::{self, Moment};
use crate::cluster::{Cluster, MEMBERS};
use crate::docker::{docker, run};
use crate::figures::{Figure, count};
use crate::writer::{self, Ack, Habit, Writer};

/// Waiting for the cluster to be whole again: a clone of a small database is in it.
pub const HEALED: Duration = Duration::from_secs(90);
/// Waiting for writes to go on.
pub const WRITABLE: Duration = Duration::from_secs(60);
/// So long without a pause counts as going on.
const STEADY: Duration = Duration::from_secs(2);

pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { name: "reads", what: "the read port leads to replicas, the write port to the primary", run: reads },
        Scenario { name: "switchover", what: "`tamada switchover`", run: switchover },
        Scenario { name: "failover", what: "`tamada failover` to a replica", run: failover },
        Scenario { name: "stop", what: "docker stop of the primary, started again", run: stop },
        Scenario { name: "restart", what: "docker restart of the primary", run: restart },
        Scenario { name: "kill", what: "docker kill of the primary, started again", run: kill },
        Scenario { name: "postmaster", what: "SIGKILL to the primary's postmaster", run: postmaster },
        Scenario {
            name: "first",
            what: "SIGKILL to PID 1 of the primary; the restart policy brings it back",
            run: first,
        },
        Scenario { name: "rolling", what: "docker restart of all three, one after the other", run: rolling },
        Scenario { name: "pause", what: "docker pause of the primary for 20 s", run: pause },
    ]
}

/// How many of the acknowledged writes a fault may cost.
#[derive(Clone, Copy)]
pub enum Losses {
    None,
    /// Replication is asynchronous: what a primary acknowledged in its last second may not have left it yet.
    OfTheLastSecond,
}

/// A fault of the primary, with what is expected of a client's writes.
struct Fault {
    aim: f64,
    bound: f64,
    losses: Losses,
    strike: fn(&Cluster, &str) -> Result<()>,
    mend: fn(&Cluster, &str) -> Result<()>,
}

fn inject(cluster: &Cluster, fault: &Fault) -> Result<Vec<Figure>> {
    let primary = cluster.whole(HEALED)?;
    let writer = settled_writer(cluster)?;
    let at = clock::now();
    (fault.strike)(cluster, &primary)?;
    let struck = clock::now();
    writer.steady(STEADY, WRITABLE)?;
    (fault.mend)(cluster, &primary)?;
    let healed = rejoined(cluster, at)?;
    let mut figures = vec![gap(&writer, at, fault.bound)?.aiming_at(fault.aim), healed];
    figures.push(losses(cluster, writer, at..struck, fault.losses)?);
    Ok(figures)
}

/// A client that has written for a second, and for a random part of the loop's second one.
pub fn settled_writer(cluster: &Cluster) -> Result<Writer> {
    let writer = Writer::start(cluster.through_haproxy(), Habit::Roams);
    writer.steady(Duration::from_secs(1), WRITABLE)?;
    std::thread::sleep(Duration::from_millis(u64::from(clock::now().subsec_millis())));
    Ok(writer)
}

pub fn gap(writer: &Writer, at: Moment, bound: f64) -> Result<Figure> {
    Ok(Figure::at_most("gap_s", writer::gap(&writer.acks(), at)?, bound))
}

/// Waits until all three are one cluster again.
pub fn rejoined(cluster: &Cluster, since: Moment) -> Result<Figure> {
    cluster.whole(HEALED)?;
    Ok(Figure::told("whole_again_s", clock::seconds(since, clock::now())))
}

/// Ends the client and looks for what it was promised on the cluster's primary.
/// The fault took effect at some moment of `fault`.
pub fn losses(cluster: &Cluster, writer: Writer, fault: Range<Moment>, allowed: Losses) -> Result<Figure> {
    let key = writer.key().to_owned();
    let acks = writer.stop();
    let lost: Vec<Ack> = writer::lost(&cluster.through_haproxy(), &key, &acks)?;
    let beyond = match allowed {
        Losses::None => lost.len(),
        Losses::OfTheLastSecond => {
            lost.iter().filter(|ack| ack.at > fault.end || clock::seconds(ack.at, fault.start) > 1.0).count()
        }
    };
    if lost.len() > beyond {
        eprintln!("  {} acknowledged in the last second before the fault are gone", lost.len() - beyond);
    }
    Ok(Figure::at_most("lost", count(beyond), 0.0))
}

fn nothing(_: &Cluster, _: &str) -> Result<()> {
    Ok(())
}

fn start(cluster: &Cluster, member: &str) -> Result<()> {
    docker(&["start", &cluster.container(member)]).map(drop)
}

fn switchover(cluster: &Cluster) -> Result<Vec<Figure>> {
    let strike =
        |cluster: &Cluster, primary: &str| cluster.exec(primary, &["tamada", "switchover", "--force"]).map(drop);
    inject(cluster, &Fault { aim: 1.0, bound: 6.0, losses: Losses::None, strike, mend: moved })
}

fn failover(cluster: &Cluster) -> Result<Vec<Figure>> {
    let strike = |cluster: &Cluster, primary: &str| {
        let candidate = MEMBERS.into_iter().find(|member| *member != primary).context("there are three")?;
        cluster.exec(primary, &["tamada", "failover", "--candidate", candidate, "--force"]).map(drop)
    };
    inject(cluster, &Fault { aim: 1.0, bound: 6.0, losses: Losses::None, strike, mend: moved })
}

/// Another member is the primary now.
fn moved(cluster: &Cluster, former: &str) -> Result<()> {
    ensure!(cluster.whole(HEALED)? != former, "{former} is still the primary");
    Ok(())
}

fn stop(cluster: &Cluster) -> Result<Vec<Figure>> {
    let strike = |cluster: &Cluster, primary: &str| {
        docker(&["stop", "--time", "30", &cluster.container(primary)])?;
        let status = docker(&["inspect", "--format", "{{.State.ExitCode}}", &cluster.container(primary)])?;
        ensure!(status == "0", "the stopped primary's exit status is {status}");
        Ok(())
    };
    inject(cluster, &Fault { aim: 1.0, bound: 6.0, losses: Losses::None, strike, mend: start })
}

fn restart(cluster: &Cluster) -> Result<Vec<Figure>> {
    let strike =
        |cluster: &Cluster, primary: &str| docker(&["restart", "--time", "30", &cluster.container(primary)]).map(drop);
    inject(cluster, &Fault { aim: 1.0, bound: 6.0, losses: Losses::None, strike, mend: nothing })
}

fn kill(cluster: &Cluster) -> Result<Vec<Figure>> {
    let strike = |cluster: &Cluster, primary: &str| docker(&["kill", &cluster.container(primary)]).map(drop);
    inject(cluster, &Fault { aim: 8.0, bound: 15.0, losses: Losses::OfTheLastSecond, strike, mend: start })
}

fn postmaster(cluster: &Cluster) -> Result<Vec<Figure>> {
    let strike = |cluster: &Cluster, primary: &str| {
        cluster.exec(primary, &["sh", "-c", "kill -KILL $(head -n 1 \"$PGDATA/postmaster.pid\")"]).map(drop)
    };
    inject(cluster, &Fault { aim: 1.2, bound: 6.0, losses: Losses::OfTheLastSecond, strike, mend: nothing })
}

fn first(cluster: &Cluster) -> Result<Vec<Figure>> {
    let strike = |cluster: &Cluster, primary: &str| {
        let pid = cluster.first_process(primary)?;
        run(Duration::from_secs(5), "kill", &["-KILL", &pid], &[]).context("cannot kill PID 1 from outside").map(drop)
    };
    inject(cluster, &Fault { aim: 3.0, bound: 12.0, losses: Losses::OfTheLastSecond, strike, mend: nothing })
}

fn rolling(cluster: &Cluster) -> Result<Vec<Figure>> {
    cluster.whole(HEALED)?;
    let writer = settled_writer(cluster)?;
    let at = clock::now();
    for member in MEMBERS {
        docker(&["restart", "--time", "30", &cluster.container(member)])?;
        cluster.whole(HEALED)?;
    }
    writer.steady(STEADY, WRITABLE)?;
    Ok(vec![gap(&writer, at, 6.0)?.aiming_at(1.0), losses(cluster, writer, at..at, Losses::None)?])
}

/// Everything in the container stands still, PID 1 too. Clients of the old primary hang meanwhile and are looked at
/// after the thaw: what it still acknowledges then, after the new primary's first write, is told.
fn pause(cluster: &Cluster) -> Result<Vec<Figure>> {
    let primary = cluster.whole(HEALED)?;
    let writer = settled_writer(cluster)?;
    let old = cluster.direct(&primary)?;
    let hanging: Vec<Writer> = (0..8).map(|_| Writer::start(old.clone(), Habit::Stays)).collect();
    hanging.last().context("eight were started")?.steady(Duration::from_secs(1), WRITABLE)?;
    let patient = Writer::start(cluster.through_haproxy(), Habit::Stays);
    patient.steady(Duration::from_secs(1), WRITABLE)?;
    let at = clock::now();
    frozen(cluster, &primary)?;
    let struck = clock::now();
    let first = cluster.eventually(WRITABLE, "write again", || {
        writer.first_after(at + Duration::from_secs(2)).context("no write is acknowledged")
    })?;
    std::thread::sleep((at + Duration::from_secs(20)).saturating_sub(clock::now()));
    docker(&["unpause", &cluster.container(&primary)])?;
    let healed = rejoined(cluster, at)?;
    let strays: usize = hanging.into_iter().map(|one| one.stop().iter().filter(|ack| ack.at > first.at).count()).sum();
    let strays = Figure::told("old_acks_after_promotion", count(strays));
    let gap = gap(&writer, at, 15.0)?;
    // Nothing but HAProxy ends the session of a client that has no limit of its own. It has to do so before the next
    // primary is there, 6 to 7 s later; one that took longer kept such a client for 9.1 s.
    let patient = Figure::at_most("gap_without_own_limit_s", writer::gap(&patient.stop(), at)?, 8.5);
    Ok(vec![gap, patient, healed, strays, losses(cluster, writer, at..struck, Losses::OfTheLastSecond)?])
}

/// `docker pause`, which can fail once under the first version of cgroups.
pub fn frozen(cluster: &Cluster, service: &str) -> Result<()> {
    cluster
        .eventually(Duration::from_secs(3), "freeze a container", || docker(&["pause", &cluster.container(service)]))
        .map(drop)
}

fn reads(cluster: &Cluster) -> Result<Vec<Figure>> {
    cluster.whole(HEALED)?;
    let standby = "SELECT pg_is_in_recovery()::text";
    // HAProxy has its own interval, so it may learn of a replica a little later than we do.
    cluster.eventually(Duration::from_secs(5), "lead reads to a replica", || {
        let read = writer::ask(&cluster.through_haproxy_to_read(), standby)?;
        let write = writer::ask(&cluster.through_haproxy(), standby)?;
        ensure!(read == "true" && write == "false", "read port: standby {read}; write port: standby {write}");
        Ok(())
    })?;
    Ok(Vec::new())
}

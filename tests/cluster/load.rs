//! Clients under which the faults happen: writers that remember what was acknowledged, readers that count failures.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use crate::member::{Member, SUPERUSER, password};
use crate::sql::Sql;

const INTERVAL: Duration = Duration::from_millis(5);
/// For a statement of a client that may go elsewhere.
const PATIENCE: Duration = Duration::from_secs(2);
/// A reader's statement is not given up: its latency is what is measured.
const LONG_PATIENCE: Duration = Duration::from_secs(120);

/// What a writer does after an error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Tries the next member, as a client behind a proxy would.
    Roams,
    /// Tries the same member again.
    Stays,
}

#[derive(Clone, Copy, Debug)]
pub struct Ack {
    pub seq: i64,
    pub at: Instant,
    /// Which of the targets.
    pub by: usize,
}

/// Where a Service leads at this moment.
pub type Service = Arc<dyn Fn() -> Option<SocketAddr> + Send + Sync>;

/// Whom a writer connects to.
enum Targets {
    Members(Vec<SocketAddr>, Habit),
    /// Whoever the Service leads to, asked again for each connection.
    Service(Service, Vec<SocketAddr>),
}

pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Ack>>,
}

pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS writes (seq bigint PRIMARY KEY)";

impl Writer {
    /// Writes one number after the other into the table `writes`, beginning with `first`; a number is never used twice.
    pub fn start(targets: &[&Member], habit: Habit, first: i64) -> Self {
        Self::begin(Targets::Members(addresses(targets), habit), first)
    }

    /// The same as a client that knows the Service alone. `members` are those that it can lead to.
    pub fn through(service: Service, members: &[&Member], first: i64) -> Self {
        Self::begin(Targets::Service(service, addresses(members)), first)
    }

    fn begin(targets: Targets, first: i64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        Writer { stop, thread: spawn(move || write(&targets, first, &stopped)) }
    }

    pub fn stop(self) -> Vec<Ack> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer does not panic")
    }
}

fn addresses(members: &[&Member]) -> Vec<SocketAddr> {
    members.iter().map(|member| member.sql).collect()
}

impl Targets {
    /// The next to connect to, where the one before was lost.
    fn next(&self, before: usize) -> Option<(usize, SocketAddr)> {
        match self {
            Targets::Members(all, habit) => {
                let by = if *habit == Habit::Roams { (before + 1) % all.len() } else { before };
                Some((by, all[by]))
            }
            Targets::Service(leads_to, all) => {
                let address = leads_to()?;
                all.iter().position(|known| *known == address).map(|by| (by, address))
            }
        }
    }

    fn first(&self) -> Option<(usize, SocketAddr)> {
        match self {
            Targets::Members(all, _) => all.first().map(|address| (0, *address)),
            Targets::Service(..) => self.next(0),
        }
    }
}

fn write(targets: &Targets, first: i64, stop: &AtomicBool) -> Vec<Ack> {
    let mut acks = Vec::new();
    let mut seq = first;
    let mut target = targets.first();
    let mut client = None;
    while !stop.load(Ordering::Relaxed) {
        if let Some((by, address)) = target {
            let open = match client.take() {
                Some(open) => Ok(open),
                None => Sql::connect_within(PATIENCE, address, SUPERUSER, &password(SUPERUSER)),
            };
            match open.and_then(|open: Sql| open.rows(&format!("INSERT INTO writes VALUES ({seq})")).map(|_| open)) {
                Ok(open) => {
                    acks.push(Ack { seq, at: Instant::now(), by });
                    client = Some(open);
                }
                Err(_) => target = targets.next(by),
            }
            seq += 1;
        } else {
            target = targets.first();
        }
        sleep(INTERVAL);
    }
    acks
}

/// The longest time without an acknowledgement.
pub fn longest_gap(acks: &[Ack]) -> Duration {
    acks.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
}

/// The acknowledged numbers that the member does not have.
pub fn lost(acks: &[Ack], member: &Member) -> Vec<i64> {
    let rows = member.connect().and_then(|sql| sql.rows("SELECT seq FROM writes")).expect("the member answers");
    let there: HashSet<i64> = rows.iter().map(|row| row[0].parse().expect("a number")).collect();
    acks.iter().map(|ack| ack.seq).filter(|seq| !there.contains(seq)).collect()
}

/// Clients that query one member at this rate together.
pub struct Readers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Reading>>,
}

#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub queries: u64,
    pub failures: Vec<String>,
    pub slowest: Duration,
}

const READERS: u32 = 4;

impl Readers {
    pub fn start(member: &Member, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, interval) = (member.sql, Duration::from_secs(1) * READERS / rate);
        let read = |_| {
            let stop = stop.clone();
            spawn(move || read(address, interval, &stop))
        };
        Readers { threads: (0..READERS).map(read).collect(), stop }
    }

    pub fn stop(self) -> Reading {
        self.stop.store(true, Ordering::Relaxed);
        let all = self.threads.into_iter().map(|thread| thread.join().expect("a reader does not panic"));
        all.fold(Reading::default(), |mut sum, one| {
            sum.queries += one.queries;
            sum.failures.extend(one.failures);
            sum.slowest = sum.slowest.max(one.slowest);
            sum
        })
    }
}

fn read(address: SocketAddr, interval: Duration, stop: &AtomicBool) -> Reading {
    let mut reading = Reading::default();
    let client = match Sql::connect_within(LONG_PATIENCE, address, SUPERUSER, &password(SUPERUSER)) {
        Ok(client) => client,
        Err(error) => return Reading { failures: vec![error], ..reading },
    };
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        match client.value("SELECT 1") {
            Ok(_) => reading.queries += 1,
            Err(error) => reading.failures.push(error),
        }
        reading.slowest = reading.slowest.max(began.elapsed());
        if reading.failures.len() > 10 {
            break;
        }
        sleep(interval.saturating_sub(began.elapsed()));
    }
    reading
}

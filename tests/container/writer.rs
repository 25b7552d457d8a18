//! A writing client: one `INSERT` of the next sequence number every 5 ms, each a transaction of its own, and the moment
//! of each acknowledgement. A number is never used twice, so that an acknowledged one that is missing later was lost.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, Statement};

use crate::clock::{self, Moment};

const INTERVAL: Duration = Duration::from_millis(5);
/// After an error, before the next attempt.
const RETRY: Duration = Duration::from_millis(20);
/// What a statement or a connection may take before the client gives it up.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where to write to.
#[derive(Clone)]
pub struct Target {
    pub host: String,
    pub port: u16,
    pub password: String,
}

/// What a client does when its server only refuses to write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Connects anew, as an application behind HAProxy would.
    Roams,
    /// Stays, and waits long for an answer: it is there to see what this one server acknowledges.
    Stays,
}

impl Habit {
    fn patience(self) -> Duration {
        match self {
            Self::Roams => PATIENCE,
            Self::Stays => Duration::from_secs(120),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Ack {
    pub seq: i64,
    pub at: Moment,
}

pub struct Writer {
    key: String,
    acks: Arc<Mutex<Vec<Ack>>>,
    halt: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(target: Target, habit: Habit) -> Self {
        let key = format!("{}:{}-{}", target.host, target.port, clock::now().as_nanos());
        let acks = Arc::new(Mutex::new(Vec::new()));
        let halt = Arc::new(AtomicBool::new(false));
        let (its_key, its_acks, its_halt) = (key.clone(), Arc::clone(&acks), Arc::clone(&halt));
        let thread = spawn(move || {
            let runtime = runtime();
            runtime.block_on(write(&target, habit, &its_key, &its_acks, &its_halt));
            runtime.shutdown_timeout(Duration::from_secs(1));
        });
        Self { key, acks, halt, thread: Some(thread) }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn acks(&self) -> Vec<Ack> {
        self.acks.lock().expect("no writer panics while it holds its list").clone()
    }

    /// The first acknowledgement after a moment.
    pub fn first_after(&self, moment: Moment) -> Option<Ack> {
        self.acks().into_iter().find(|ack| ack.at > moment)
    }

    /// Waits until writes have gone on without a pause for that long, counted from this call.
    pub fn steady(&self, for_this_long: Duration, within: Duration) -> Result<()> {
        let began = clock::now();
        while clock::now().saturating_sub(began) < within {
            sleep(Duration::from_millis(100));
            let now = clock::now();
            if now.saturating_sub(began) < for_this_long {
                continue;
            }
            let mut moments: Vec<Moment> = self.acks().iter().rev().map(|ack| ack.at).collect();
            moments.insert(0, now);
            let unbroken =
                moments.windows(2).take_while(|pair| pair[0].saturating_sub(pair[1]) < Duration::from_millis(250));
            if unbroken.last().is_some_and(|pair| now.saturating_sub(pair[1]) >= for_this_long) {
                return Ok(());
            }
        }
        bail!("writes did not go on within {} s", within.as_secs())
    }

    /// Ends the client and returns what was acknowledged.
    pub fn stop(mut self) -> Vec<Ack> {
        self.end();
        self.acks()
    }

    fn end(&mut self) {
        self.halt.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has said so already, and its missing acknowledgements fail the scenario.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

/// The longest pause between two acknowledgements that reaches past the fault, in seconds.
pub fn gap(acks: &[Ack], fault: Moment) -> Result<f64> {
    let pauses = acks.windows(2).filter(|pair| pair[1].at > fault);
    let longest = pauses.map(|pair| clock::seconds(pair[0].at, pair[1].at)).reduce(f64::max);
    longest.context("nothing was acknowledged after the fault")
}

/// Acknowledged writes that the given server does not hold.
pub fn lost(target: &Target, key: &str, acks: &[Ack]) -> Result<Vec<Ack>> {
    let held: HashSet<i64> = runtime().block_on(async {
        let client = connect(target).await?;
        let rows = client.query("SELECT seq FROM writes WHERE writer = $1", &[&key]).await?;
        anyhow::Ok(rows.iter().map(|row| row.get(0)).collect())
    })?;
    Ok(acks.iter().filter(|ack| !held.contains(&ack.seq)).copied().collect())
}

/// The first column of a query's first row, as text.
pub fn ask(target: &Target, query: &str) -> Result<String> {
    runtime().block_on(async {
        let bounded = tokio::time::timeout(PATIENCE, async {
            let client = connect(target).await?;
            Ok(client.query_one(query, &[]).await?.try_get(0)?)
        });
        bounded.await.context("no answer in time")?
    })
}

pub fn execute(target: &Target, statement: &str) -> Result<()> {
    runtime().block_on(async {
        let bounded =
            tokio::time::timeout(PATIENCE, async { Ok(connect(target).await?.batch_execute(statement).await?) });
        bounded.await.context("no answer in time")?
    })
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime needs only a few file descriptors")
}

async fn connect(target: &Target) -> Result<Client> {
    let mut config = tokio_postgres::Config::new();
    config.host(&target.host).port(target.port).user("postgres").dbname("postgres").password(&target.password);
    config.connect_timeout(PATIENCE).tcp_user_timeout(PATIENCE).application_name("container test");
    let (client, connection) = tokio::time::timeout(PATIENCE, config.connect(NoTls)).await??;
    // The connection ends with an error when its server dies; the client's next statement says so.
    tokio::spawn(connection);
    Ok(client)
}

async fn write(target: &Target, habit: Habit, key: &str, acks: &Mutex<Vec<Ack>>, halt: &AtomicBool) {
    let mut session: Option<(Client, Statement)> = None;
    let mut seq = 0;
    let mut due = tokio::time::Instant::now();
    while !halt.load(Ordering::Relaxed) {
        tokio::time::sleep_until(due).await;
        due = (due + INTERVAL).max(tokio::time::Instant::now());
        seq += 1;
        let attempted = tokio::select! {
            attempted = tokio::time::timeout(habit.patience(), attempt(&mut session, target, key, seq)) => attempted,
            () = halted(halt) => return,
        };
        match attempted {
            Ok(Ok(())) => {
                acks.lock().expect("nobody panics while holding the list").push(Ack { seq, at: clock::now() });
            }
            Ok(Err(error)) if habit == Habit::Stays && refused_by_a_standby(&error) => tokio::time::sleep(RETRY).await,
            Ok(Err(_)) | Err(_) => {
                session = None;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn halted(halt: &AtomicBool) {
    while !halt.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn attempt(session: &mut Option<(Client, Statement)>, target: &Target, key: &str, seq: i64) -> Result<()> {
    if session.is_none() {
        let client = connect(target).await?;
        let statement = client.prepare("INSERT INTO writes (writer, seq) VALUES ($1, $2)").await?;
        *session = Some((client, statement));
    }
    let (client, statement) = session.as_ref().expect("it was made above");
    client.execute(statement, &[&key, &seq]).await?;
    Ok(())
}

/// The connection is good; its server is a standby for now.
fn refused_by_a_standby(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<tokio_postgres::Error>()
        .is_some_and(|error| error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION))
}

//! A server that is nothing but its state: role, timeline and a WAL that grows with time while it is a primary.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value};
use tamada::core::local::{ClusterState, LastRole, Upstream};
use tamada::core::observation::Divergence;
use tamada::core::units::{Instant, Lsn, MemberName, SystemId, Timeline};
use tamada::core::view::HistoryEntry;
use tokio::sync::watch;

/// Bytes of WAL a millisecond.
const RATE: u64 = 10;

pub struct Server {
    pub name: &'static str,
    pub files: Option<Files>,
    pub run: Run,
    /// What the test makes of it.
    pub start_takes: Duration,
    pub probe: ProbeMode,
    pub start_fails: bool,
    pub initdb_fails: bool,
    pub configure_fails: bool,
    pub pre_promote: PrePromote,
    pub slots: BTreeSet<String>,
    pub configured: u32,
    /// Settings that wait for a restart.
    pub waiting: Map<String, Value>,
    pub exits: watch::Sender<u64>,
}

#[derive(Clone)]
pub struct Files {
    pub system_id: SystemId,
    pub timeline: Timeline,
    pub history: Vec<HistoryEntry>,
    pub end: Lsn,
    pub standby: bool,
    pub state: ClusterState,
    pub dynamic: Option<Value>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Run {
    Stopped,
    Starting { since: Instant, role: LastRole },
    Primary { since: Instant, from: Lsn },
    Standby { upstream: Upstream },
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ProbeMode {
    Answers,
    Hangs,
}

/// What the user's command says to a promotion.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PrePromote {
    /// Whatever its limit.
    AgreesAfter(Duration),
    Refuses,
    Hangs,
}

impl Server {
    pub fn new(name: &'static str) -> Self {
        Server {
            name,
            files: None,
            run: Run::Stopped,
            start_takes: Duration::from_millis(200),
            probe: ProbeMode::Answers,
            start_fails: false,
            initdb_fails: false,
            configure_fails: false,
            pre_promote: PrePromote::AgreesAfter(Duration::ZERO),
            slots: BTreeSet::new(),
            configured: 0,
            waiting: Map::new(),
            exits: watch::Sender::new(0),
        }
    }

    pub fn is_primary(&self) -> bool {
        matches!(self.run, Run::Primary { .. })
    }

    pub fn is_running(&self) -> bool {
        self.run != Run::Stopped
    }

    pub fn upstream(&self) -> Option<MemberName> {
        match &self.run {
            Run::Standby { upstream: Upstream::Member { name, .. } } => Some(name.clone()),
            Run::Standby { .. } | Run::Stopped | Run::Starting { .. } | Run::Primary { .. } => None,
        }
    }

    pub fn end(&self, now: Instant) -> Lsn {
        match &self.run {
            Run::Primary { since, from } => Lsn(from.0 + RATE * u64::try_from(now.since(*since).as_millis()).unwrap()),
            Run::Stopped | Run::Starting { .. } | Run::Standby { .. } => self.files.as_ref().map_or(Lsn(0), |f| f.end),
        }
    }

    /// Ends at once, as by SIGKILL.
    pub fn kill(&mut self, now: Instant) {
        let end = self.end(now);
        if let Some(files) = &mut self.files {
            files.end = end;
        }
        self.run = Run::Stopped;
        self.exits.send_modify(|count| *count += 1);
    }
}

/// Whether `mine` holds something that `theirs` does not.
pub fn divergence(mine: &Files, theirs: &Files) -> Divergence {
    let fork = theirs.history.iter().find(|entry| entry.left == mine.timeline);
    match fork {
        _ if mine.system_id != theirs.system_id => Divergence::Diverged,
        Some(entry) if mine.end > entry.at => Divergence::Diverged,
        Some(_) => Divergence::None,
        None if mine.timeline == theirs.timeline => Divergence::None,
        None => Divergence::Diverged,
    }
}

//! What the server says of itself: one statement a cycle, and a second one for the API's fresh positions.
//!
//! The statement works on primaries and standbys alike and goes through the simple protocol, so that it costs the
//! server exactly one. What it cannot tell (no answer, starting up, shutting down) is told by the postmaster's file.

use std::time::Duration;

use tokio_postgres::SimpleQueryRow;

use super::callbacks::Callback;
use super::connect::{self, ConnectError, Session};
use super::control::ServerState;
use super::local::LocalPostgres;
use super::pidfile::ServerStatus;
use super::postmaster::{Starts, read_pid_file};
use super::process::Process;
use super::{Probe, ServerFacts};
use crate::core::local::{LastRole, Postgres, PrimaryFacts, Replay, Running, StandbyFacts};
use crate::core::units::{Lsn, Seconds, Timeline};
use crate::core::view::{MemberRole, ReplicationState};

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// The names are looked up by `row`; `pg_is_in_recovery` is asked once, since a promotion may come in between.
const STATE: &str = "SELECT r.recovery,\
 CASE WHEN NOT r.recovery THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END AS wal_timeline,\
 CASE WHEN NOT r.recovery THEN pg_current_wal_flush_lsn() END AS flushed,\
 CASE WHEN r.recovery THEN pg_last_wal_receive_lsn() END AS received,\
 CASE WHEN r.recovery THEN pg_last_wal_replay_lsn() END AS replayed,\
 CASE WHEN r.recovery THEN pg_is_wal_replay_paused() END AS paused,\
 to_char(CASE WHEN r.recovery THEN pg_last_xact_replay_timestamp() END, 'YYYY-MM-DD HH24:MI:SS.USTZH:TZM') AS replayed_at,\
 to_char(pg_postmaster_start_time(), 'YYYY-MM-DD HH24:MI:SS.USTZH:TZM') AS started_at,\
 w.status, w.written_lsn, w.latest_end_lsn,\
 CASE WHEN w.latest_end_lsn IS NOT NULL THEN w.received_tli END AS received_timeline,\
 CASE WHEN r.recovery AND w.latest_end_lsn IS NULL THEN (SELECT greatest(c.timeline_id, m.min_recovery_end_timeline)\
 FROM pg_control_checkpoint() c, pg_control_recovery() m) END AS control_timeline,\
 current_setting('primary_conninfo') AS conninfo, current_setting('primary_slot_name') AS slot,\
 current_setting('restore_command') <> '' AS restores,\
 (SELECT string_agg(s.slot_name || ' ' || coalesce(s.confirmed_flush_lsn, s.restart_lsn)::text, ',')\
 FROM pg_get_replication_slots() s WHERE NOT s.temporary) AS slots";
const FROM: &str = " FROM (SELECT pg_is_in_recovery() AS recovery) r LEFT JOIN pg_stat_get_wal_receiver() w ON true";
const WALSENDERS: &str = ", (SELECT json_agg(json_build_object('usename', usename, 'application_name', application_name,\
 'client_addr', client_addr, 'state', state, 'sync_state', sync_state, 'sync_priority', sync_priority))\
 FROM pg_stat_replication) AS replication";

/// Whether an operation on the server is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alone {
    Yes,
    No,
}

/// Why there is no answer.
enum NoAnswer {
    StartingUp,
    /// The statement was cancelled or failed, or no session could be opened.
    Silent(String),
}

impl LocalPostgres {
    pub(super) async fn probe_now(&self, deadline: Duration, alone: Alone) -> Probe {
        let process = match self.find_postmaster() {
            Ok(Some(process)) => process,
            Ok(None) => return self.probe_stopped(alone).await,
            Err(error) => return self.probe_unknown(&error).await,
        };
        let answer =
            tokio::time::timeout(deadline, self.ask(&self.heartbeat, format!("{STATE}{}{FROM}", self.sync_columns())));
        let answer =
            answer.await.unwrap_or_else(|_| Err(NoAnswer::Silent(format!("no answer within {}", Seconds(deadline)))));
        if answer.is_err() && !process.is_alive() {
            return self.probe_stopped(alone).await;
        }
        let (postgres, facts) = match answer {
            Ok((postgres, facts)) => {
                self.memory().silent_since = None;
                self.announce_found(&postgres, alone);
                (postgres, facts)
            }
            Err(why) => {
                (self.unanswered(why), ServerFacts { sync: self.sync_facts(None, None), ..ServerFacts::default() })
            }
        };
        let pending_restart = self.memory().pending_restart.clone();
        let facts = ServerFacts { postmaster_pid: Some(process.pid()), pending_restart, ..facts };
        Probe { data: self.data_state(ServerState::Running).await, postgres, facts }
    }

    /// The answer to one REST request, on a session of its own. `None`: no answer in time.
    pub(super) async fn positions_now(&self, deadline: Duration) -> Option<Probe> {
        let process = self.postmaster()?;
        let asked = self.ask(&self.rest, format!("{STATE}{WALSENDERS}{FROM}"));
        let (postgres, facts) = tokio::time::timeout(deadline, asked).await.ok()?.ok()?;
        let pending_restart = self.memory().pending_restart.clone();
        let facts = ServerFacts { postmaster_pid: Some(process.pid()), pending_restart, ..facts };
        Some(Probe { data: self.data_state(ServerState::Running).await, postgres, facts })
    }

    /// A server that was found running is told of like one that was started.
    fn announce_found(&self, postgres: &Postgres, alone: Alone) {
        let role = match postgres {
            Postgres::Running(Running::Primary(_)) => MemberRole::Primary,
            Postgres::Running(Running::Standby(facts)) => facts.upstream.role(),
            Postgres::Stopped | Postgres::Starting { .. } | Postgres::Unresponsive { .. } | Postgres::Stopping => {
                return;
            }
        };
        if alone == Alone::Yes && self.memory().told_role.is_none() {
            self.memory().told_role = Some(role);
            self.fire(Callback::Start, role);
        }
    }

    /// The server's state alone; `None`: none runs.
    pub(super) async fn answer(&self, slot: &tokio::sync::Mutex<Option<Session>>) -> Option<Postgres> {
        self.postmaster()?;
        Some(match self.ask(slot, STATE.to_owned() + FROM).await {
            Ok((postgres, _)) => postgres,
            Err(why) => self.unanswered(why),
        })
    }

    async fn probe_stopped(&self, alone: Alone) -> Probe {
        // A backend that goes on after its postmaster's crash may still acknowledge a commit.
        let gone = self.processes.kill_orphans(match alone {
            Alone::Yes => Starts::Impossible,
            Alone::No => Starts::Possible,
        });
        let gone = gone.await;
        let postgres = if gone { Postgres::Stopped } else { Postgres::Stopping };
        self.memory().silent_since = None;
        let facts = ServerFacts { sync: self.sync_facts(None, None), ..ServerFacts::default() };
        Probe { data: self.data_state(ServerState::Stopped).await, postgres, facts }
    }

    /// Whether a server runs cannot be told: it counts as one that does not answer.
    async fn probe_unknown(&self, error: &std::io::Error) -> Probe {
        tracing::warn!("cannot tell whether PostgreSQL runs: {error}");
        let now = self.now();
        let since = *self.memory().silent_since.get_or_insert(now);
        let postgres = Postgres::Unresponsive { since, role: self.last_role() };
        Probe { data: self.data_state(ServerState::Running).await, postgres, facts: ServerFacts::default() }
    }

    /// The state of a live postmaster that did not answer the query.
    fn unanswered(&self, why: NoAnswer) -> Postgres {
        let role = self.last_role();
        let now = self.now();
        let since = *self.memory().silent_since.get_or_insert(now);
        let status = read_pid_file(&self.data_dir).and_then(|file| file.status);
        match (status, why) {
            (Some(ServerStatus::Stopping), _) => Postgres::Stopping,
            (Some(ServerStatus::Starting) | None, _) | (_, NoAnswer::StartingUp) => Postgres::Starting { since, role },
            (Some(ServerStatus::Ready | ServerStatus::Standby), NoAnswer::Silent(cause)) => {
                tracing::debug!("PostgreSQL does not answer: {cause}");
                Postgres::Unresponsive { since, role }
            }
        }
    }

    /// One statement on a long-lived session, which is opened or reopened first where it has to be.
    async fn ask(
        &self,
        slot: &tokio::sync::Mutex<Option<Session>>,
        sql: String,
    ) -> Result<(Postgres, ServerFacts), NoAnswer> {
        let mut slot = slot.lock().await;
        // A session that was lost is found out by using it; a second try on a new one tells whether the server is.
        let had_session = slot.as_ref().is_some_and(|session| !session.is_closed());
        for _ in 0..=usize::from(had_session) {
            let session = match slot.take().filter(|session| !session.is_closed()) {
                Some(session) => session,
                None => self.connect("", STATEMENT_TIMEOUT).await.map_err(no_answer)?,
            };
            match session.rows(&sql).await {
                Ok(rows) => {
                    let answer = rows.first().map(|row| self.facts(row, &session));
                    *slot = Some(session);
                    return answer.ok_or_else(|| NoAnswer::Silent("an empty answer".to_owned()));
                }
                Err(error) if connect::is_statement_timeout(&error) || !had_session => {
                    if !session.is_closed() {
                        *slot = Some(session);
                    }
                    return Err(NoAnswer::Silent(connect::explain(&error)));
                }
                Err(_) => (),
            }
        }
        Err(NoAnswer::Silent("the session was lost".to_owned()))
    }

    fn facts(&self, row: &SimpleQueryRow, session: &Session) -> (Postgres, ServerFacts) {
        let text = |name: &str| row.try_get(name).ok().flatten();
        let lsn = |name: &str| text(name).and_then(|text| text.parse::<Lsn>().ok());
        let replayed = lsn("replayed");
        let received = lsn("written_lsn").max(lsn("received"));
        let slots = text("slots").unwrap_or_default().split(',').filter_map(|entry| {
            let (name, position) = entry.split_once(' ')?;
            Some((name.to_owned(), position.parse().ok()?))
        });
        let facts = ServerFacts {
            server_version: session.version.map(|version| version.0),
            postmaster_start_time: text("started_at").map(str::to_owned),
            received,
            replayed,
            latest_end: lsn("latest_end_lsn"),
            replayed_timestamp: text("replayed_at").map(str::to_owned),
            replication: text("replication").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default(),
            slots: slots.collect(),
            sync: self.sync_facts(text("standby_names"), text("senders")),
            ..ServerFacts::default()
        };
        let decimal = |name: &str| text(name).and_then(|text| text.parse().ok()).filter(|number: &u32| *number > 0);
        let running = if text("recovery") == Some("f") {
            let timeline = text("wal_timeline").and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(0);
            Running::Primary(PrimaryFacts { timeline: Timeline(timeline), flushed: lsn("flushed").unwrap_or_default() })
        } else {
            Running::Standby(StandbyFacts {
                timeline: self.standby_timeline(decimal("received_timeline"), decimal("control_timeline")),
                received: received.unwrap_or_default(),
                replayed: replayed.unwrap_or_default(),
                upstream: self.upstream_in_force(text("conninfo").unwrap_or_default()),
                replication: match text("status") {
                    Some("streaming") => Some(ReplicationState::Streaming),
                    _ if text("restores") == Some("t") => Some(ReplicationState::InArchiveRecovery),
                    _ => None,
                },
                replay: if text("paused") == Some("t") { Replay::Paused } else { Replay::Going },
            })
        };
        self.memory().role = Some(match running {
            Running::Primary(_) => LastRole::Primary,
            Running::Standby(_) => LastRole::Standby,
        });
        (Postgres::Running(running), facts)
    }

    /// What it receives from now, else the newest it was seen to receive or to have noted in its control file.
    fn standby_timeline(&self, receives: Option<u32>, noted: Option<u32>) -> Option<Timeline> {
        let mut memory = self.memory();
        memory.received_timeline = receives.map(Timeline).or(memory.received_timeline);
        match receives {
            Some(timeline) => Some(Timeline(timeline)),
            None => memory.received_timeline.max(noted.map(Timeline)),
        }
    }

    /// Returns when the postmaster that runs now has ended and nothing of it is left.
    pub(super) async fn postmaster_ended(&self) {
        let Some(process) = self.postmaster() else { return };
        // An error could only come from the reactor; the loop's timer finds the end all the same.
        let ended: &Process = &process;
        if let Err(error) = ended.ended().await {
            tracing::warn!("cannot watch the postmaster: {error}");
            std::future::pending::<()>().await;
        }
    }
}

fn no_answer(error: ConnectError) -> NoAnswer {
    if error.is_starting_up() { NoAnswer::StartingUp } else { NoAnswer::Silent(error.to_string()) }
}

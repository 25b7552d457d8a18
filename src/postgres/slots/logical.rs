//! Logical slots: created on a primary, moved on on a standby. Both may take as long as a transaction of somebody else's or the
//! decoding of what lies between.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::{FOUND, Found};
use crate::core::local::LastRole;
use crate::core::slots::{SlotsWanted, Verdict};
use crate::core::units::Lsn;
use crate::postgres::PostgresError;
use crate::postgres::conf::roles::literal;
use crate::postgres::connect::{self, Session};
use crate::postgres::local::LocalPostgres;

/// After this it is begun anew.
const LIMIT: Duration = Duration::from_secs(600);
const ADVANCES: &str = "advancing slots";

impl LocalPostgres {
    /// One that fails keeps nobody else's from being tended.
    pub(in crate::postgres) async fn tend_logical(
        &self,
        wanted: &SlotsWanted,
    ) -> Result<BTreeSet<String>, PostgresError> {
        let session = self.session("slots", Duration::from_secs(10)).await?;
        let rows = session.rows(&format!("{FOUND} WHERE NOT temporary")).await;
        let rows = rows.map_err(|cause| PostgresError::sql("list the replication slots", &cause))?;
        let is_there = |name: &str| rows.iter().any(|row| Found(row).slot().name == name);
        match wanted.role {
            LastRole::Primary => {
                // A server that is about to be promoted has no new ones to give.
                let recovers = session.value("SELECT pg_is_in_recovery()").await;
                let recovers = recovers.map_err(|cause| PostgresError::sql("ask for the role", &cause))?;
                for (name, slot) in wanted.logical.iter().filter(|(name, _)| !is_there(name)) {
                    if recovers.as_deref() == Some("f") {
                        self.create_logical(name, &slot.database, &slot.plugin).await;
                    }
                }
                Ok(BTreeSet::new())
            }
            LastRole::Standby => {
                for row in &rows {
                    let found = Found(row);
                    let slot = found.slot();
                    if let (Verdict::Advance(to), Some(logical)) =
                        (wanted.verdict(&slot), wanted.logical.get(slot.name))
                    {
                        self.advance_logical(slot.name, &logical.database, to).await;
                    }
                }
                self.copy_slots(wanted, is_there).await
            }
        }
    }

    async fn create_logical(&self, name: &str, database: &str, plugin: &str) {
        let session = match self.session_in(database, "slots", LIMIT).await {
            Ok(session) => session,
            Err(error) => return self.warn_of(format!("cannot create the logical replication slot {name}: {error}")),
        };
        let sql = format!("SELECT pg_create_logical_replication_slot({}, {})", literal(name), literal(plugin));
        match session.run(&sql).await {
            Ok(()) => tracing::info!("created the logical replication slot {name} with {plugin} in {database}"),
            Err(error) => {
                let error = connect::explain(&error);
                self.warn_of(format!("cannot create the logical replication slot {name}: {error}"));
            }
        }
    }

    /// Up to here, and no further than the server has replayed.
    async fn advance_logical(&self, name: &str, database: &str, to: Lsn) {
        let session = match self.session_in(database, ADVANCES, LIMIT).await {
            Ok(session) => session,
            Err(error) => return self.warn_of(format!("cannot advance the logical replication slot {name}: {error}")),
        };
        let target = format!("least({}::pg_lsn, pg_last_wal_replay_lsn())", literal(&to.to_string()));
        let sql = format!(
            "SELECT pg_replication_slot_advance(slot_name, {target}) FROM pg_replication_slots \
             WHERE slot_name = {} AND pg_is_in_recovery() AND NOT active AND confirmed_flush_lsn < {target}",
            literal(name)
        );
        self.memory().slots.is_advancing = true;
        let advanced = session.run(&sql).await;
        self.memory().slots.is_advancing = false;
        let Err(error) = advanced else { return };
        let is_gone = error.code() == Some(&SqlState::UNDEFINED_FILE)
            || error.code() == Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
        let text = connect::explain(&error);
        if !is_gone {
            return self.warn_of(format!("cannot advance the logical replication slot {name}: {text}"));
        }
        tracing::warn!("the logical replication slot {name} cannot be used any more and is taken over again: {text}");
        self.memory().slots.safety.remove(name);
        let dropped = session.run(&format!("SELECT pg_drop_replication_slot({})", literal(name))).await;
        if let Err(error) = dropped {
            self.warn_of(format!("cannot drop the replication slot {name}: {}", connect::explain(&error)));
        }
    }

    /// Before a promotion: a slot that is being moved on is in use, and its consumer could not begin.
    pub(super) async fn stop_advancing(&self, session: &Session) {
        if !self.memory().slots.is_advancing {
            return;
        }
        let sql = format!(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = {}",
            literal(&self.application_name(ADVANCES))
        );
        if let Err(error) = session.run(&sql).await {
            tracing::debug!("cannot cancel the advancing of slots: {}", connect::explain(&error));
        }
    }
}

//! Replication slots of the local server, brought to what the core wants (`core/slots.rs`): listed, dropped and created here.
//! What takes long is done beside: `logical` creates and moves on logical slots, `copies` takes them over from the primary,
//! with the WAL that they need (`missing_wal`), `safety` finds out from when on a copy may be used.

mod copies;
mod logical;
mod missing_wal;
mod safety;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::SimpleQueryRow;

use super::PostgresError;
use super::conf::roles::literal;
use super::connect::{self, Session};
use super::local::LocalPostgres;
use crate::core::local::LastRole;
use crate::core::slots::{Brought, SlotFound, SlotsWanted, Unwanted, Verdict, is_slot_name};
use crate::core::units::Lsn;

/// `failover` and `synced` are there from PostgreSQL 17 on.
const FOUND: &str = "SELECT slot_name, slot_type, active, temporary, wal_status, database, plugin, restart_lsn, xmin, \
    catalog_xmin, confirmed_flush_lsn, \
    to_jsonb(s) ->> 'failover' AS failover, to_jsonb(s) ->> 'synced' AS synced \
    FROM pg_replication_slots s";

struct Found<'a>(&'a SimpleQueryRow);

impl Found<'_> {
    fn text(&self, column: &str) -> Option<&str> {
        self.0.get(column)
    }

    fn is(&self, column: &str) -> bool {
        matches!(self.text(column), Some("t" | "true"))
    }

    fn slot(&self) -> SlotFound<'_> {
        SlotFound {
            name: self.text("slot_name").unwrap_or_default(),
            kind: self.text("slot_type").unwrap_or_default(),
            database: self.text("database"),
            plugin: self.text("plugin"),
            is_active: self.is("active"),
            is_temporary: self.is("temporary"),
            is_failover: self.is("failover"),
            is_synced: self.is("failover") && self.is("synced"),
            is_lost: self.text("wal_status") == Some("lost"),
            holds_rows: self.text("xmin").is_some(),
            reserved: self.text("restart_lsn").and_then(|text| text.parse().ok()),
            confirmed: self.text("confirmed_flush_lsn").and_then(|text| text.parse().ok()),
        }
    }
}

impl LocalPostgres {
    pub(super) async fn bring_slots(&self, wanted: &SlotsWanted) -> Result<Brought, PostgresError> {
        let session = self.session("slots", Duration::from_secs(10)).await?;
        if wanted.role == LastRole::Primary {
            self.stop_advancing(&session).await;
        }
        let listed = session.rows(FOUND).await;
        let rows = listed.map_err(|cause| PostgresError::sql("list the replication slots", &cause))?;
        let mut is_complete = true;
        let mut present = BTreeSet::new();
        for row in &rows {
            let found = Found(row);
            let slot = found.slot();
            let name = slot.name;
            match wanted.verdict(&slot) {
                Verdict::InUse(why) => {
                    is_complete = false;
                    self.warn_of(format!("the replication slot {name} stays as long as it is used{why}"));
                    present.insert(name.to_owned());
                }
                Verdict::Drop(why) => self.drop_slot(&session, &slot, wanted, why).await?,
                Verdict::Advance(position) => {
                    present.insert(name.to_owned());
                    // A logical one is moved on by decoding, which takes its time.
                    match wanted.keeps(name) {
                        true => self.advance(&session, name, position).await,
                        false => is_complete = false,
                    }
                }
                Verdict::Leave => {
                    present.insert(name.to_owned());
                }
            }
        }
        for name in wanted.physical.keys().filter(|name| is_slot_name(name) && !present.contains(*name)) {
            let sql = format!("SELECT pg_create_physical_replication_slot({}, true)", literal(name));
            self.on_slot(&session, &sql, &format!("create the replication slot {name}")).await?;
        }
        let missing = wanted.logical.iter().filter(|(name, _)| !present.contains(*name));
        is_complete &= match wanted.role {
            LastRole::Primary => missing.count() == 0,
            // Of those whose position is not known yet nothing can be said.
            LastRole::Standby => missing.filter(|(_, slot)| slot.confirmed.is_some()).count() == 0,
        };
        if wanted.role == LastRole::Standby && !wanted.logical.is_empty() {
            is_complete &= self.are_safe(&session, wanted, &rows).await?;
        }
        Ok(if is_complete { Brought::All } else { Brought::Partly })
    }

    async fn drop_slot(
        &self,
        session: &Session,
        slot: &SlotFound<'_>,
        wanted: &SlotsWanted,
        why: Unwanted,
    ) -> Result<(), PostgresError> {
        let name = slot.name;
        if why == Unwanted::Lost && wanted.role == LastRole::Primary && wanted.logical.contains_key(name) {
            tracing::error!(
                "the WAL that the logical replication slot {name} kept is gone (max_slot_wal_keep_size): its consumer has \
                 missed changes and has to begin anew; the slot is created again from here on"
            );
        }
        tracing::info!("dropping the replication slot {name}{why}");
        self.memory().slots.safety.remove(name);
        let sql = format!("SELECT pg_drop_replication_slot({})", literal(name));
        self.on_slot(session, &sql, &format!("drop the replication slot {name}")).await
    }

    async fn on_slot(&self, session: &Session, sql: &str, attempted: &str) -> Result<(), PostgresError> {
        session.run(sql).await.map_err(|cause| PostgresError::sql(attempted, &cause))
    }

    /// As far as the server has replayed. One that cannot be moved on only keeps more WAL than it has to.
    async fn advance(&self, session: &Session, name: &str, position: Lsn) {
        let sql = format!("SELECT pg_replication_slot_advance({}, {})", literal(name), literal(&position.to_string()));
        if let Err(error) = session.run(&sql).await {
            self.warn_of(format!("cannot advance the replication slot {name}: {}", connect::explain(&error)));
        }
    }

    /// Each once.
    fn warn_of(&self, warning: String) {
        if self.memory().warned.insert(warning.clone()) {
            tracing::warn!("{warning}");
        }
    }
}

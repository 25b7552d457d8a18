//! Replication slots of the local server, brought to what the core wants (`core/slots.rs`).

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::SimpleQueryRow;

use super::PostgresError;
use super::conf::roles::literal;
use super::connect::{self, Session};
use super::local::LocalPostgres;
use crate::core::slots::{Brought, SlotFound, SlotsWanted, Verdict};
use crate::core::units::Lsn;

/// `failover` and `synced` are there from PostgreSQL 17 on.
const FOUND: &str = "SELECT slot_name, slot_type, active, temporary, wal_status, database, plugin, restart_lsn, xmin, \
    to_jsonb(s) ->> 'failover' AS failover, to_jsonb(s) ->> 'synced' AS synced \
    FROM pg_replication_slots s";

/// What the server takes as one; retained names come from a document that others write too.
fn is_slot_name(name: &str) -> bool {
    (1..64).contains(&name.len()) && name.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

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
        }
    }
}

impl LocalPostgres {
    pub(super) async fn bring_slots(&self, wanted: &SlotsWanted) -> Result<Brought, PostgresError> {
        let session = self.session("slots", Duration::from_secs(10)).await?;
        let listed = session.rows(FOUND).await;
        let rows = listed.map_err(|cause| PostgresError::sql("list the replication slots", &cause))?;
        let mut brought = Brought::All;
        let mut present = BTreeSet::new();
        for row in &rows {
            let found = Found(row);
            let slot = found.slot();
            let name = slot.name;
            match wanted.verdict(&slot) {
                Verdict::InUse(why) => {
                    brought = Brought::AllButUsed;
                    self.warn_of(format!("the replication slot {name} stays as long as it is used{why}"));
                    present.insert(name.to_owned());
                }
                Verdict::Drop(why) => {
                    tracing::info!("dropping the replication slot {name}{why}");
                    let sql = format!("SELECT pg_drop_replication_slot({})", literal(name));
                    self.on_slot(&session, &sql, &format!("drop the replication slot {name}")).await?;
                }
                Verdict::Advance(position) => {
                    present.insert(name.to_owned());
                    self.advance(&session, name, position).await;
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
        Ok(brought)
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

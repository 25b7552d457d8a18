//! From when on a logical slot of a standby may be used after a promotion (`core::slots::is_safe_after_promotion`).

use std::collections::BTreeMap;

use tokio_postgres::SimpleQueryRow;

use super::Found;
use crate::core::slots::{SlotsWanted, is_safe_after_promotion};
use crate::postgres::connect::Session;
use crate::postgres::local::LocalPostgres;
use crate::postgres::slot_memory::Safety;
use crate::postgres::{PostgresError, conf::roles::literal};

fn xid(row: &SimpleQueryRow) -> Option<u32> {
    row.get("catalog_xmin").and_then(|text| text.parse().ok())
}

impl LocalPostgres {
    /// Whether all that are there are. `rows`: the slots of this server.
    pub(super) async fn are_safe(
        &self,
        session: &Session,
        wanted: &SlotsWanted,
        rows: &[SimpleQueryRow],
    ) -> Result<bool, PostgresError> {
        let is_safe = |name: &str| self.memory().slots.safety.get(name) == Some(&Safety::Safe);
        let mut own = BTreeMap::new();
        for row in rows {
            let found = Found(row);
            let slot = found.slot();
            if wanted.is_as_wanted(slot.name, slot.database, slot.plugin) && !slot.is_failover && !is_safe(slot.name) {
                own.insert(slot.name.to_owned(), xid(row));
            }
        }
        let (Some(source), false) = (&wanted.source, own.is_empty()) else { return Ok(own.is_empty()) };
        let names: Vec<String> = own.keys().chain([&source.slot]).map(|name| literal(name)).collect();
        let primary = self.connect_to(&source.address, Self::rewind_credentials(&self.config())).await?;
        let sql = format!(
            "SELECT slot_name, catalog_xmin FROM pg_replication_slots WHERE NOT pg_is_in_recovery() AND slot_name IN ({})",
            names.join(", ")
        );
        let asked = primary.rows(&sql).await;
        let found = asked.map_err(|cause| PostgresError::sql("ask the primary for its slots", &cause))?;
        let theirs = |name: &str| found.iter().find(|row| row.get("slot_name") == Some(name)).and_then(xid);
        let Some(reported) = theirs(&source.slot) else {
            self.check_feedback(session).await?;
            return Ok(false);
        };
        let mut are_safe = true;
        for (name, own) in own {
            let known = self.memory().slots.safety.get(&name).copied();
            let first = match known {
                Some(Safety::Waits { first }) => Some(first),
                Some(Safety::Safe) | None => theirs(&name),
            };
            match (first, own) {
                (Some(first), Some(own)) if is_safe_after_promotion(first, reported, own) => {
                    tracing::info!("the logical replication slot {name} can be used after a failover to this member");
                    self.memory().slots.safety.insert(name, Safety::Safe);
                }
                (Some(first), _) => {
                    are_safe = false;
                    self.memory().slots.safety.insert(name, Safety::Waits { first });
                }
                (None, _) => are_safe = false,
            }
        }
        Ok(are_safe)
    }

    /// It is on in our file; `ALTER SYSTEM` wins over that.
    async fn check_feedback(&self, session: &Session) -> Result<(), PostgresError> {
        let setting = session.value("SELECT current_setting('hot_standby_feedback')").await;
        let setting = setting.map_err(|cause| PostgresError::sql("ask for hot_standby_feedback", &cause))?;
        if setting.as_deref() == Some("off") {
            self.warn_of(
                "logical replication slots are not safe on this member: hot_standby_feedback is off. If ALTER SYSTEM has \
                 set it (postgresql.auto.conf), run: ALTER SYSTEM RESET hot_standby_feedback"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// At a promotion.
    pub(in crate::postgres) fn warn_of_unsafe_slots(&self) {
        let unsafe_ones: Vec<String> = {
            let memory = self.memory();
            let waits = memory.slots.safety.iter().filter(|(_, safety)| **safety != Safety::Safe);
            waits.map(|(name, _)| name.clone()).collect()
        };
        if !unsafe_ones.is_empty() {
            tracing::warn!(
                "these logical replication slots may be unsafe after this promotion: the primary may have removed what \
                 decoding needs of the catalogs: {}",
                unsafe_ones.join(", ")
            );
        }
        let missing: Vec<String> = std::mem::take(&mut self.memory().slots.missing).into_iter().collect();
        if !missing.is_empty() {
            tracing::error!(
                "these logical replication slots of the former primary are not here and are created anew after this \
                 promotion: their consumers miss what was written before that and have to begin anew: {}",
                missing.join(", ")
            );
        }
        self.memory().slots.safety.clear();
    }
}

//! Physical replication slots of the members (`replication.md` 1.1, 4): one for each other member, and for each that is
//! away and expected back, reserved at once, so that whichever of them follows us finds its WAL.
//!
//! Only slots that nobody uses and that look like a member's are ever dropped: physical, permanent, inactive. Logical
//! slots and slots in use stay, whoever made them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::PostgresError;
use super::conf::roles::literal;
use super::local::LocalPostgres;
use crate::core::units::MemberName;

/// What the slots were last brought to, for which postmaster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    members: BTreeSet<MemberName>,
    retain: BTreeSet<String>,
}

/// For what is done on the way of something more urgent.
const BRIEF: Duration = Duration::from_secs(2);

/// What the server takes as one; retained names come from a document that others write too.
fn is_slot_name(name: &str) -> bool {
    (1..64).contains(&name.len()) && name.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

impl LocalPostgres {
    /// Slots that a former primary kept for the members would hold its WAL back for ever: nobody moves them on.
    pub(super) async fn drop_former_slots(&self) {
        let has_any = self.data_dir.join("pg_replslot").read_dir().is_ok_and(|mut slots| slots.next().is_some());
        if !has_any {
            return;
        }
        let nobody = (BTreeSet::new(), BTreeSet::new());
        match tokio::time::timeout(BRIEF, self.bring_slots(&nobody.0, &nobody.1)).await {
            Ok(Ok(())) => (),
            Ok(Err(error)) => tracing::warn!("cannot drop the slots of a former primary: {error}"),
            Err(_) => tracing::warn!("dropping the slots of a former primary took longer than {BRIEF:?}"),
        }
    }

    /// No statement is sent while the wanted set is the one that was last brought about.
    pub(super) async fn bring_slots(
        &self,
        members: &BTreeSet<MemberName>,
        retain: &BTreeSet<String>,
    ) -> Result<(), PostgresError> {
        if self.is_single() {
            return Ok(());
        }
        let wanted = Wanted { members: members.clone(), retain: retain.clone() };
        if self.memory().slots.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let own = self.name().slot_name();
        let uses_slots = self.memory().desired.use_slots.is_on();
        let kept = retain.iter().filter(|name| is_slot_name(name)).cloned();
        let names = members.iter().map(MemberName::slot_name).chain(kept);
        let names: BTreeSet<String> = names.filter(|name| uses_slots && *name != own).collect();
        let session = self.session("slots", Duration::from_secs(10)).await?;
        let failed = |attempted: String| move |cause: tokio_postgres::Error| PostgresError::sql(attempted, &cause);
        let sql = "SELECT slot_name, active, slot_type, temporary, wal_status FROM pg_replication_slots";
        let rows = session.rows(sql).await.map_err(failed("list the replication slots".to_owned()))?;
        let mut left_over = false;
        let mut present = BTreeSet::new();
        for row in &rows {
            let Some(name) = row.get("slot_name") else { continue };
            let is_lost = row.get("wal_status") == Some("lost");
            let is_ours = row.get("slot_type") == Some("physical") && row.get("temporary") == Some("f");
            if (names.contains(name) && !is_lost) || !is_ours {
                present.insert(name.to_owned());
                continue;
            }
            if row.get("active") == Some("t") {
                left_over = true;
                present.insert(name.to_owned());
                continue;
            }
            tracing::info!("dropping the replication slot {name}{}", if is_lost { ": its WAL is gone" } else { "" });
            let sql = format!("SELECT pg_drop_replication_slot({})", literal(name));
            session.run(&sql).await.map_err(failed(format!("drop the replication slot {name}")))?;
        }
        for name in names.difference(&present) {
            let sql = format!("SELECT pg_create_physical_replication_slot({}, true)", literal(name));
            session.run(&sql).await.map_err(failed(format!("create the replication slot {name}")))?;
        }
        // A slot that is still in use is looked at again in the next cycle.
        self.memory().slots = (!left_over).then_some(wanted);
        Ok(())
    }
}

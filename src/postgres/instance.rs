//! `Instance` for a real server: each method hands over to the file that does it.
//!
//! **Invariant:** of the operations that change the data directory or the server one runs at a time; a probe never
//! waits for them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::callbacks::Callback;
use super::local::LocalPostgres;
use super::probe::Alone;
use super::server::Announce;
use super::{DesiredServer, Force, Instance, PostgresError, Probe, Progress, RoleChange, Waits, files};
use crate::config::Config;
use crate::core::local::{CloneSource, StartAs, StopMode, Upstream};
use crate::core::observation::Divergence;
use crate::core::slots::{Brought, SlotsWanted};
use crate::core::standby_names::StandbyNames;
use crate::core::units::{Lsn, SystemId, Timeline};
use crate::core::view::{Address, HistoryEntry};

const DYNAMIC: &str = "patroni.dynamic.json";

impl Instance for LocalPostgres {
    async fn probe(&self, deadline: Duration) -> Probe {
        let alone = self.work.try_lock();
        if alone.is_ok() {
            self.settle_within(deadline).await;
            self.expire_discarded().await;
        }
        self.probe_now(deadline, if alone.is_ok() { Alone::Yes } else { Alone::No }).await
    }

    async fn positions(&self, deadline: Duration) -> Option<Probe> {
        self.positions_now(deadline).await
    }

    async fn wait_exit(&self) {
        self.postmaster_ended().await;
    }

    fn set_config(&self, config: Arc<Config>) {
        LocalPostgres::set_config(self, config);
    }

    async fn configure(&self, desired: &DesiredServer, force: Force) -> Result<(), PostgresError> {
        self.apply(desired, force).await
    }

    async fn bootstrap(&self, progress: Progress) -> Result<SystemId, PostgresError> {
        let _alone = self.work.lock().await;
        self.bootstrap_cluster(&progress).await
    }

    async fn ensure_roles(&self) -> Result<(), PostgresError> {
        self.add_missing_roles().await
    }

    async fn clone_from(&self, source: &CloneSource, progress: Progress) -> Result<(), PostgresError> {
        let _alone = self.work.lock().await;
        self.clone_data(source, &progress).await
    }

    async fn rewind(&self, leader: &Address, progress: Progress) -> Result<(), PostgresError> {
        let _alone = self.work.lock().await;
        self.rewind_data(leader, &progress).await
    }

    async fn recover(&self) -> Result<(), PostgresError> {
        let _alone = self.work.lock().await;
        self.recover_data().await
    }

    async fn start(&self, role: &StartAs, limit: Duration) -> Result<(), PostgresError> {
        let _alone = self.work.lock().await;
        self.start_server(role, limit, Some(Callback::Start)).await
    }

    async fn stop(&self, mode: StopMode, limit: Duration) -> Result<Option<Lsn>, PostgresError> {
        let _alone = self.work.lock().await;
        self.stop_server(mode, limit, Announce::Yes).await
    }

    async fn demote(&self, mode: StopMode, limit: Duration) -> Result<(), PostgresError> {
        let _alone = self.work.lock().await;
        self.demote_server(mode, limit).await
    }

    async fn restart(&self, role: &StartAs, stop: Duration, start: Duration) -> Result<(), PostgresError> {
        let _alone = self.work.lock().await;
        self.checkpoint_before_stop(stop / 2).await;
        self.run_before_stop(stop, Waits::Always).await;
        self.stop_server(StopMode::Fast, stop, Announce::No).await?;
        self.start_server(role, start, Some(Callback::Restart)).await
    }

    async fn pre_promote(&self, limit: Duration) -> Result<(), PostgresError> {
        self.ask_pre_promote(limit).await
    }

    async fn before_stop(&self, limit: Duration, waits: Waits) {
        self.run_before_stop(limit, waits).await;
    }

    fn demoted(&self, change: RoleChange) {
        self.tell_demoted(change);
    }

    async fn promote(&self, limit: Duration) -> Result<(), PostgresError> {
        let _alone = self.work.lock().await;
        self.promote_server(limit).await
    }

    async fn follow(&self, upstream: &Upstream) -> Result<(), PostgresError> {
        let _alone = self.work.lock().await;
        self.follow_upstream(upstream).await
    }

    async fn find_upstream(&self) -> Result<(), PostgresError> {
        self.find_upstream_anew().await
    }

    async fn resume_replay(&self) -> Result<(), PostgresError> {
        let session = self.session("resume", Duration::from_secs(2)).await?;
        let resumed = session.run("SELECT pg_wal_replay_resume()").await;
        resumed.map_err(|cause| PostgresError::sql("resume replay", &cause))
    }

    async fn checkpoint(&self) -> Result<(), PostgresError> {
        self.checkpoint_now().await
    }

    async fn divergence(&self, leader: &Address, deadline: Duration) -> Divergence {
        let compared = tokio::time::timeout(deadline, self.divergence_from(leader));
        compared.await.unwrap_or(Divergence::Undecided)
    }

    async fn history(&self, timeline: Timeline) -> Result<Vec<HistoryEntry>, PostgresError> {
        self.local_history(timeline)
    }

    async fn sync_slots(&self, wanted: &SlotsWanted) -> Result<Brought, PostgresError> {
        self.bring_slots(wanted).await
    }

    async fn tend_logical_slots(&self, wanted: &SlotsWanted) -> Result<BTreeSet<String>, PostgresError> {
        self.tend_logical(wanted).await
    }

    async fn set_standby_names(&self, names: Option<&StandbyNames>) -> Result<(), PostgresError> {
        self.put_standby_names(names).await
    }

    async fn wait_standby_lost(&self) {
        self.a_standby_ended().await;
    }

    async fn save_dynamic(&self, config: &Value) -> Result<(), PostgresError> {
        if self.data_version().is_none() {
            return Ok(());
        }
        let path = self.data_dir.join(DYNAMIC);
        files::replace_if_different(&path, config.to_string().as_bytes(), files::file_mode(&self.data_dir))
            .map(drop)
            .map_err(|cause| PostgresError::failed(format!("write {}", path.display()), cause))
    }

    fn load_dynamic(&self) -> Option<Value> {
        kept_dynamic(&self.data_dir)
    }
}

/// The cluster's configuration as it is kept beside the data.
pub fn kept_dynamic(data_dir: &Path) -> Option<Value> {
    let path = data_dir.join(DYNAMIC);
    let text = std::fs::read(&path).ok()?;
    let parsed: Result<Value, _> = serde_json::from_slice(&text);
    if let Err(error) = &parsed {
        tracing::warn!("ignoring {}: {error}", path.display());
    }
    parsed.ok().filter(Value::is_object)
}

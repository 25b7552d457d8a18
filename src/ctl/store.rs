//! The cluster from the DCS itself, when no local member answers. Reads only.

use std::time::Duration;

use crate::api::types::ClusterDocument;
use crate::config::Config;
use crate::core::view::Initialize;
use crate::dcs::{self, Dcs, DcsError};

const READ_LIMIT: Duration = Duration::from_secs(5);

/// Why the DCS could not help.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no DCS to ask either: this is a single server")]
    Single,
    #[error("{0}")]
    Dcs(#[from] DcsError),
}

/// The cluster, and its database's identifier or what stands for it.
pub async fn read(config: &Config) -> Result<(ClusterDocument, Option<String>), StoreError> {
    let store = dcs::observe(config)?.ok_or(StoreError::Single)?;
    let snapshot = store.read(READ_LIMIT).await?;
    let documents = &snapshot.documents;
    let settings = documents.config.as_ref().map(|config| &config.value);
    let switchover = documents.switchover.as_ref().map(|switchover| &switchover.value);
    let cluster = ClusterDocument::of(&config.scope, &snapshot.view, &documents.members, settings, switchover);
    let system_id = match &snapshot.view.initialize {
        Initialize::Done(id) => id.to_string(),
        Initialize::InProgress(_) => "initializing".to_owned(),
        Initialize::Absent => "uninitialized".to_owned(),
        Initialize::Invalid(text) => text.clone(),
    };
    Ok((cluster, Some(system_id)))
}

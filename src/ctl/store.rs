//! The cluster from the DCS itself, when no local member answers.

use std::time::Duration;

use super::CtlError;
use super::settings::Settings;
use crate::api::types::ClusterDocument;
use crate::core::view::Initialize;
use crate::dcs::{self, Dcs, DcsError, Snapshot};

const READ_LIMIT: Duration = Duration::from_secs(5);

/// Why the DCS could not help.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no DCS to ask either: this is a single server")]
    Single,
    #[error("{0}")]
    Dcs(#[from] DcsError),
    #[error("{0}")]
    Unsettled(#[from] CtlError),
}

/// The cluster as a command shows it.
#[derive(Debug)]
pub struct Cluster {
    pub document: ClusterDocument,
    /// Its database's identifier, or what stands for it.
    pub system_id: Option<String>,
}

pub fn open(settings: &Settings) -> Result<dcs::Store, StoreError> {
    dcs::observe(&settings.config)?.ok_or(StoreError::Single)
}

pub async fn read(settings: &Settings) -> Result<Cluster, StoreError> {
    let settings = settings.settled().await?;
    let snapshot = open(&settings)?.read(READ_LIMIT).await?;
    Ok(Cluster::of(&settings, &snapshot))
}

impl Cluster {
    pub fn of(settings: &Settings, snapshot: &Snapshot) -> Self {
        let documents = &snapshot.documents;
        let config = documents.config.as_ref().map(|config| &config.value);
        let switchover = documents.switchover.as_ref().map(|switchover| &switchover.value);
        let scope = &settings.config.scope;
        let document = ClusterDocument::of(scope, &snapshot.view, &documents.members, config, switchover);
        let system_id = match &snapshot.view.initialize {
            Initialize::Done(id) => id.to_string(),
            Initialize::InProgress(_) => "initializing".to_owned(),
            Initialize::Absent => "uninitialized".to_owned(),
            Initialize::Invalid(text) => text.clone(),
        };
        Cluster { document, system_id: Some(system_id) }
    }
}

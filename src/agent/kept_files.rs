//! The files in the data directory that outlive a container: the lease and what is known of the cluster. Each is written
//! by a background task when what is to be kept has changed.

use super::background_task::{AtEnd, BackgroundTask, BackgroundTasks, Report};
use super::cluster_file::{ClusterFile, Known};
use super::lease_file::LeaseFile;
use crate::dcs::LeaseToken;

#[derive(Debug)]
pub(super) struct KeptFiles {
    lease_file: Option<LeaseFile>,
    cluster_file: Option<ClusterFile>,
    /// What they hold.
    lease: Option<LeaseToken>,
    cluster: Option<Known>,
}

impl KeptFiles {
    pub(super) fn new(lease_file: Option<LeaseFile>, cluster_file: Option<ClusterFile>) -> Self {
        let cluster = cluster_file.as_ref().and_then(ClusterFile::load);
        KeptFiles { lease_file, cluster_file, lease: None, cluster }
    }

    /// What is known of the cluster, as the file holds it.
    pub(super) fn cluster(&self) -> Option<Known> {
        self.cluster.clone()
    }

    /// The data directory was replaced: its files may be another member's now.
    pub(super) fn data_replaced(&mut self) {
        self.lease = None;
        self.cluster = None;
    }

    pub(super) fn keep_cluster(&self, known: Known, background: &mut BackgroundTasks) {
        if let Some(file) = self.cluster_file.clone().filter(|_| self.cluster.as_ref() != Some(&known)) {
            let work = async move { Report::of(file.save(&known), |()| Report::ClusterSaved(known)) };
            background.begin(BackgroundTask::SaveCluster, AtEnd::Wait, work);
        }
    }

    pub(super) fn cluster_saved(&mut self, known: Known) {
        self.cluster = Some(known);
    }

    pub(super) fn keep_lease(&self, token: LeaseToken, background: &mut BackgroundTasks) {
        if let Some(file) = self.lease_file.clone().filter(|_| self.lease.as_ref() != Some(&token)) {
            let work = async move { Report::of(file.save(&token), |()| Report::LeaseSaved(token)) };
            background.begin(BackgroundTask::SaveLease, AtEnd::Wait, work);
        }
    }

    pub(super) fn lease_saved(&mut self, token: LeaseToken) {
        self.lease = Some(token);
    }
}

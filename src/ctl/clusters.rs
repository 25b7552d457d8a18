//! Which cluster a command is for, where no setting says so: Kubernetes is asked what there is.

use std::time::Duration;

use super::CtlError;
use super::settings::Settings;
use crate::config::{DcsConfig, KubernetesConfig};
use crate::dcs::{self, FindError, FoundCluster};

const LIMIT: Duration = Duration::from_secs(10);

impl Settings {
    /// Those of each cluster that may be meant: of the one that is configured, or of all that are found.
    pub async fn clusters(&self) -> Result<Vec<Settings>, CtlError> {
        if !self.config.scope.is_empty() {
            return Ok(vec![self.clone()]);
        }
        let found = self.find().await?.into_iter();
        Ok(found.map(|cluster| self.of(cluster)).collect())
    }

    /// Those of the one cluster that is meant.
    pub async fn cluster(&self) -> Result<Settings, CtlError> {
        let mut clusters = self.clusters().await?;
        match (clusters.pop(), clusters.is_empty()) {
            (Some(one), true) => Ok(one),
            (last, _) => {
                let names = clusters.iter().chain(&last).map(|cluster| cluster.config.scope.as_str());
                let names = names.collect::<Vec<_>>().join(", ");
                Err(CtlError::Refused(format!("there are several clusters: {names}; choose one with --scope")))
            }
        }
    }

    /// The same with the kind of objects that the cluster's lock is in, for whoever is about to read them.
    pub async fn settled(&self) -> Result<Settings, CtlError> {
        match &self.config.dcs {
            DcsConfig::Kubernetes(kubernetes) if !kubernetes.is_state_given => {}
            DcsConfig::Kubernetes(_) | DcsConfig::Etcd3(_) | DcsConfig::Single => return Ok(self.clone()),
        }
        let found = self.find().await?.into_iter().find(|cluster| cluster.scope == self.config.scope);
        let Some(cluster) = found else { return Ok(self.clone()) };
        match &cluster.objects {
            Ok(_) => Ok(self.of(cluster)),
            Err(why) => Err(CtlError::Refused(why.clone())),
        }
    }

    async fn find(&self) -> Result<Vec<FoundCluster>, CtlError> {
        match dcs::find(&self.config, LIMIT).await {
            Ok(found) => Ok(found.unwrap_or_default()),
            Err(FindError::Nothing(why)) => Err(CtlError::Refused(why)),
            Err(FindError::Dcs(error)) => Err(CtlError::Unreachable(format!("cannot look for clusters: {error}"))),
        }
    }

    fn of(&self, cluster: FoundCluster) -> Settings {
        let mut settings = self.clone();
        settings.config.scope = cluster.scope;
        if let (DcsConfig::Kubernetes(kubernetes), Ok(state)) = (&mut settings.config.dcs, cluster.objects) {
            let KubernetesConfig { state: known, is_state_given, .. } = &mut **kubernetes;
            if !*is_state_given {
                (*known, *is_state_given) = (state, true);
            }
        }
        settings
    }
}

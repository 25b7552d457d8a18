//! All keys of the cluster at once.

use std::time::Duration;

use etcd_client::DeleteOptions;

use super::pool::Try;
use super::session::Session;
use crate::dcs::DcsError;

impl Session {
    /// The prefix ends with a slash, so that a scope whose name begins like ours keeps its keys.
    pub(super) async fn remove_cluster(&self, deadline: Duration) -> Result<(), DcsError> {
        let remove = |attempt: Try| async move {
            let below = DeleteOptions::new().with_prefix();
            attempt.link.kv().delete(self.prefix.as_str(), Some(below)).await?;
            self.range(&attempt.link).await.map(drop)
        };
        self.pool.call(deadline, remove).await.map_err(|failure| failure.into_error(deadline))
    }
}

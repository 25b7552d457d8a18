//! All objects that hold the cluster's state, and what leads its Service to the leader. Pods and Services are left alone.

use std::time::Duration;

use hyper::http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::api::Ask;
use super::failure::{Failure, STORE};
use super::objects::{Kind, Metadata, Object};
use super::session::{JSON, Session, Tries};
use crate::core::units::Seconds;
use crate::dcs::DcsError;

impl Session {
    pub(super) async fn remove_cluster(&self, deadline: Duration) -> Result<(), DcsError> {
        let removal = async {
            let mut tries = Tries::new(deadline);
            loop {
                match self.remove_once(tries.share()).await {
                    Ok(()) => return Ok(()),
                    Err(failure) => tries.again(failure).await?,
                }
            }
        };
        let late = |_| {
            let detail = format!("not everything was deleted within {}", Seconds(deadline));
            Err(DcsError::Unreachable { store: STORE, limit: deadline, detail })
        };
        timeout(deadline, removal).await.unwrap_or_else(late)
    }

    /// Each is looked at before the first one goes, so that a right that is missing leaves all of them there. The
    /// configuration goes last: its `initialize` keeps others from making a new cluster among the remains.
    async fn remove_once(&self, limit: Duration) -> Result<(), Failure> {
        let mut found = Vec::new();
        for (kind, name) in self.names.removed() {
            let path = self.path_of(kind, &name).await?;
            match self.api.ask::<Object>(&Ask::get(path), limit).await {
                Ok(object) if self.names.marks(&object) => found.push((kind, object.metadata)),
                // Somebody else's, of the same name.
                Ok(_) | Err(Failure::Absent(_)) => {}
                // A server that is too old for it never had one.
                Err(Failure::Unserved(_)) if kind == Kind::EndpointSlices => {}
                Err(failure) => return Err(failure),
            }
        }
        for (kind, metadata) in found {
            self.delete(kind, &metadata, limit).await?;
        }
        Ok(())
    }

    /// This object, and not another one that has come into its place.
    async fn delete(&self, kind: Kind, metadata: &Metadata, limit: Duration) -> Result<(), Failure> {
        let path = self.path_of(kind, &metadata.name).await?;
        let options =
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": metadata.uid.as_str()}});
        let ask = Ask { method: Method::DELETE, path, query: &[], body: Some((JSON, options)) };
        match self.api.ask::<Value>(&ask, limit).await {
            Ok(_) | Err(Failure::Absent(_)) => {
                self.cache().gone(kind, &metadata.name, None, Instant::now());
                Ok(())
            }
            Err(Failure::Conflict(detail)) => Err(Failure::Busy { detail, after: None }),
            Err(failure) => Err(failure),
        }
    }
}

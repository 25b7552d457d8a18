//! Reaching the members: our own first, over loopback; the others at the addresses that the cluster knows.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use super::CtlError;
use super::settings::{Beside, Settings};
use super::store::{self, Cluster, StoreError};
use crate::api::types::{ClusterDocument, MemberDocument};
use crate::http::{Answer, Caller, Client, endpoint};

/// Answers that need no work; the store may take its deadlines.
const READ_LIMIT: Duration = Duration::from_secs(25);

/// The cluster and the ways to its members.
#[derive(Debug)]
pub struct Members {
    pub cluster: ClusterDocument,
    /// Of the database, where it is known.
    pub system_id: Option<String>,
    /// Our own member's API.
    own_url: Option<String>,
    itself: Client,
    others: Client,
}

impl Members {
    /// Asks our own member for the cluster; without an answer, the DCS.
    pub async fn find(settings: &Settings) -> Result<Self, CtlError> {
        let settings = &settings.cluster().await?;
        let itself = settings.client(Caller::Itself)?;
        let others = settings.client(Caller::Operator)?;
        let own = match settings.beside {
            Beside::Member => ask_itself(&itself, settings).await,
            Beside::Others => Own::default(),
        };
        let Own { url: own_url, cluster: own } = own;
        let Cluster { document: cluster, system_id } = match own {
            Ok(cluster) => cluster,
            Err(own) => store::read(settings).await.map_err(|store| unreadable(own, store))?,
        };
        Ok(Members { cluster, system_id, own_url, itself, others })
    }

    pub fn leader(&self) -> Option<&MemberDocument> {
        self.cluster.members.iter().find(|member| member.is_leader())
    }

    pub fn named(&self, name: &str) -> Option<&MemberDocument> {
        self.cluster.members.iter().find(|member| member.name == name)
    }

    /// What any member can answer.
    pub async fn ask_any(&self, path: &str) -> Result<Answer, CtlError> {
        self.ask_first(None, Method::GET, path, None, READ_LIMIT).await
    }

    /// One request to one member.
    pub async fn ask(
        &self,
        member: &MemberDocument,
        method: Method,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<Answer, CtlError> {
        let missing = || CtlError::Unreachable(format!("member {} has no REST API address", member.name));
        let url = endpoint(member.api_url.as_deref().ok_or_else(missing)?, path);
        Ok(self.others.send(method, &url, body, limit).await?)
    }

    /// One request to whoever takes it first: this member, ours, then all others. Only a request that reached nobody
    /// goes to the next.
    pub async fn ask_first(
        &self,
        first: Option<&MemberDocument>,
        method: Method,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<Answer, CtlError> {
        let url = |member: &MemberDocument| Some(endpoint(member.api_url.as_deref()?, path));
        let rest =
            self.cluster.members.iter().filter(|member| Some(member.name.as_str()) != first.map(|m| m.name.as_str()));
        let preferred = first.and_then(url).map(|url| (&self.others, url));
        let own = self.own_url.as_ref().map(|url| (&self.itself, endpoint(url, path)));
        let rest = rest.filter_map(url).map(|url| (&self.others, url));
        let mut failures = Vec::new();
        for (client, url) in preferred.into_iter().chain(own).chain(rest) {
            match client.send(method.clone(), &url, body, limit).await {
                Err(error) if error.is_unsent() => failures.push(error.to_string()),
                result => return Ok(result?),
            }
        }
        Err(CtlError::Unreachable(format!("no member can be reached:\n{}", failures.join("\n"))))
    }
}

/// What our own member says of the cluster.
struct Own {
    /// `None`: none that is known to be of the cluster's.
    url: Option<String>,
    /// Or why there is no answer, where one could be expected.
    cluster: Result<Cluster, Option<String>>,
}

impl Default for Own {
    fn default() -> Self {
        Own { url: None, cluster: Err(None) }
    }
}

async fn ask_itself(itself: &Client, settings: &Settings) -> Own {
    let (url, scope) = (settings.own_url(), &settings.config.scope);
    let (cluster, health) = tokio::join!(read_cluster(itself, &url), read_health(itself, &url));
    let text = |name: &str| health.as_ref()?.pointer(name)?.as_str();
    // Another cluster's member may be the one that listens there.
    let its_scope = cluster.as_ref().map(|cluster| cluster.scope.as_str()).ok().or_else(|| text("/patroni/scope"));
    if let Some(other) = its_scope.filter(|other| other != scope) {
        return Own { url: None, cluster: Err(Some(format!("it is one of cluster {other}"))) };
    }
    let system_id = text("/database_system_identifier").map(str::to_owned);
    Own { url: Some(url), cluster: cluster.map(|document| Cluster { document, system_id }).map_err(Some) }
}

fn unreadable(own: Option<String>, store: StoreError) -> CtlError {
    match (own, store) {
        (None, StoreError::Unsettled(error)) => error,
        (own, store) => {
            let own = own.map(|own| format!("\nfrom the member on this host: {own}")).unwrap_or_default();
            CtlError::Unreachable(format!("cannot read the cluster{own}\nfrom the DCS: {store}"))
        }
    }
}

async fn read_cluster(itself: &Client, own_url: &str) -> Result<ClusterDocument, String> {
    let answer = itself.send(Method::GET, &endpoint(own_url, "/cluster"), None, READ_LIMIT).await;
    let answer = answer.map_err(|cause| cause.to_string())?;
    match answer.code {
        200 => serde_json::from_slice(&answer.body).map_err(|cause| cause.to_string()),
        _ => Err(answer.text()),
    }
}

async fn read_health(itself: &Client, own_url: &str) -> Option<Value> {
    let answer = itself.send(Method::GET, &endpoint(own_url, "/health"), None, READ_LIMIT).await;
    answer.ok()?.json()
}

//! Reaching the members: our own first, over loopback; the others at the addresses that the cluster knows.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use super::settings::Settings;
use super::{CtlError, store};
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
    own_url: String,
    itself: Client,
    others: Client,
}

impl Members {
    /// Asks our own member for the cluster; without an answer, the DCS.
    pub async fn find(settings: &Settings) -> Result<Self, CtlError> {
        let itself = settings.client(Caller::Itself)?;
        let others = settings.client(Caller::Operator)?;
        let own_url = settings.own_url();
        let (cluster, system_id) = tokio::join!(read_cluster(&itself, &own_url), read_system_id(&itself, &own_url));
        let (cluster, system_id) = match cluster {
            Ok(cluster) => (cluster, system_id),
            Err(own) => store::read(&settings.config).await.map_err(|store| {
                let tried = format!("from the member on this host: {own}\nfrom the DCS: {store}");
                CtlError::Unreachable(format!("cannot read the cluster\n{tried}"))
            })?,
        };
        Ok(Members { cluster, system_id, own_url, itself, others })
    }

    pub fn leader(&self) -> Option<&MemberDocument> {
        self.cluster.members.iter().find(|member| member.is_leader())
    }

    pub fn named(&self, name: &str) -> Option<&MemberDocument> {
        self.cluster.members.iter().find(|member| member.name == name)
    }

    /// One request to our own member.
    pub async fn ask_own(&self, path: &str) -> Result<Answer, CtlError> {
        Ok(self.itself.send(Method::GET, &endpoint(&self.own_url, path), None, READ_LIMIT).await?)
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
        let own = Some((&self.itself, endpoint(&self.own_url, path)));
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

async fn read_cluster(itself: &Client, own_url: &str) -> Result<ClusterDocument, String> {
    let answer = itself.send(Method::GET, &endpoint(own_url, "/cluster"), None, READ_LIMIT).await;
    let answer = answer.map_err(|cause| cause.to_string())?;
    match answer.code {
        200 => serde_json::from_slice(&answer.body).map_err(|cause| cause.to_string()),
        _ => Err(answer.text()),
    }
}

/// Only for the title of a table: whoever has none leaves it out.
async fn read_system_id(itself: &Client, own_url: &str) -> Option<String> {
    let answer = itself.send(Method::GET, &endpoint(own_url, "/health"), None, READ_LIMIT).await.ok()?;
    answer.json()?.get("database_system_identifier")?.as_str().map(str::to_owned)
}

//! Which clusters there are in a namespace, and what kind of objects each keeps its lock in: for commands that were not told.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::timeout;

use super::api::{Api, Ask};
use super::failure::{Failure, STORE};
use super::objects::{Kind, Names, Object, selector_of};
use super::session::Tries;
use super::state::{LEADER, OPTIME, RENEW_TIME, STATUS};
use crate::config::{KubernetesConfig, StateObjects};
use crate::core::policy::Timing;
use crate::core::units::Seconds;
use crate::dcs::codec::key_path;
use crate::dcs::{DcsError, FindError, FoundCluster, Key};

const KINDS: [Kind; 4] = [Kind::Endpoints, Kind::ConfigMaps, Kind::Leases, Kind::Pods];
const MODES: [StateObjects; 3] = [StateObjects::Endpoints, StateObjects::ConfigMaps, StateObjects::Leases];
const CHOOSE: &str = "set PATRONI_KUBERNETES_USE_ENDPOINTS or PATRONI_KUBERNETES_USE_LEASES as the members have it (one of them to \
                      false where both are off)";

/// Those that the configuration's labels mark, in the order of their names; of this scope alone, if one is given.
pub async fn find(
    config: &KubernetesConfig,
    scope: Option<&str>,
    deadline: Duration,
) -> Result<Vec<FoundCluster>, FindError> {
    let api = Api::new(config, Timing::default());
    let search = async {
        let mut tries = Tries::new(deadline);
        loop {
            match look(&api, config, scope, tries.share()).await {
                Ok(found) => return found.map_err(FindError::Nothing),
                Err(failure) => tries.again(failure).await?,
            }
        }
    };
    let late = |_| {
        let detail = format!("not everything was read within {}", Seconds(deadline));
        Err(DcsError::Unreachable { store: STORE, limit: deadline, detail }.into())
    };
    timeout(deadline, search).await.unwrap_or_else(late)
}

async fn look(
    api: &Api,
    config: &KubernetesConfig,
    scope: Option<&str>,
    limit: Duration,
) -> Result<Result<Vec<FoundCluster>, String>, Failure> {
    // Of any scope: those that have the label at all.
    let of_scope = scope.map_or(config.scope_label.clone(), |scope| format!("{}={scope}", config.scope_label));
    let selector = format!("{},{of_scope}", selector_of(&config.labels));
    let mut seen = Seen::default();
    for kind in KINDS {
        match api.list(kind, &selector, limit).await {
            Ok((objects, _)) => seen.objects.extend(objects.into_iter().map(|object| (kind, object))),
            Err(Failure::Denied(detail)) => seen.hidden.push((kind, detail)),
            Err(failure) => return Err(failure),
        }
    }
    if let ([(_, detail), ..], true) = (&seen.hidden[..], seen.hidden.len() == KINDS.len()) {
        return Err(Failure::Denied(detail.clone()));
    }
    let found = seen.clusters(config);
    match found.is_empty() {
        true => Ok(Err(why_nothing(api, &seen, &selector, limit).await?)),
        false => Ok(Ok(found)),
    }
}

/// In an empty namespace and in one that does not exist a list has nothing: only a look at the namespace tells which it is.
async fn why_nothing(api: &Api, seen: &Seen, selector: &str, limit: Duration) -> Result<String, Failure> {
    let namespace = api.namespace().await?;
    let ask = Ask::get(format!("/api/v1/namespaces/{namespace}"));
    if let Err(Failure::Absent(detail)) = api.ask::<Value>(&ask, limit).await {
        return Ok(format!("{detail}; choose another namespace with --namespace or PATRONI_KUBERNETES_NAMESPACE"));
    }
    let hidden = seen.hidden.iter().map(|(_, detail)| format!("; {detail}")).collect::<String>();
    Ok(format!(
        "there is no cluster in the namespace {namespace}: no Endpoints, ConfigMap, Lease or pod of one was found with the \
         labels {selector}{hidden}; choose another namespace (--namespace, PATRONI_KUBERNETES_NAMESPACE), another scope \
         (--scope, PATRONI_SCOPE), or say what its pods are labelled with (PATRONI_KUBERNETES_LABELS, \
         PATRONI_KUBERNETES_SCOPE_LABEL)"
    ))
}

/// What the lists had, and which kinds may not be listed, in the server's words.
#[derive(Default)]
struct Seen {
    objects: Vec<(Kind, Object)>,
    hidden: Vec<(Kind, String)>,
}

impl Seen {
    fn clusters(&self, config: &KubernetesConfig) -> Vec<FoundCluster> {
        let scopes: BTreeSet<&str> =
            self.objects.iter().filter_map(|(_, object)| object.label(&config.scope_label)).collect();
        let found = scopes.into_iter().filter_map(|scope| {
            let names = MODES.map(|state| Names::of(&KubernetesConfig { state, ..config.clone() }, scope));
            let objects = self.state_of(&names, scope)?;
            Some(FoundCluster { scope: scope.to_owned(), objects })
        });
        found.collect()
    }

    /// `None`: nothing of a cluster has this scope, whatever is labelled with it.
    fn state_of(&self, names: &[Names; 3], scope: &str) -> Option<Result<StateObjects, String>> {
        let mut locks: Vec<(Option<Timestamp>, &Names)> = names
            .iter()
            .filter_map(|names| {
                let lock = self.object(names.lock_kind(), &names.leader)?;
                let renewed = lock.annotation(RENEW_TIME).and_then(|time| time.parse().ok());
                has_any(lock, &[LEADER, RENEW_TIME, OPTIME]).then_some((renewed, names))
            })
            .collect();
        // What a former mode has left was renewed long ago.
        locks.sort_by_key(|(renewed, _)| std::cmp::Reverse(*renewed));
        match locks[..] {
            [(_, names)] => return Some(Ok(names.state)),
            [(Some(first), names), (second, _), ..] if Some(first) != second => return Some(Ok(names.state)),
            [(_, first), (_, second), ..] => {
                let [first, second] = [first, second].map(|names| names.lock_kind().singular());
                return Some(Err(format!(
                    "{scope} has a lock in a {first} and in a {second}, and nothing says which is in use: {CHOOSE}"
                )));
            }
            [] => {}
        }
        let has_documents = |kind| {
            let keys = [Key::Initialize, Key::Config, Key::History].map(key_path);
            self.object(kind, &names[0].config).is_some_and(|config| has_any(config, &keys))
        };
        let is_member = |object: &Object| names[0].marks(object) && object.annotation(STATUS).is_some();
        let has_members = self.objects.iter().any(|(kind, object)| *kind == Kind::Pods && is_member(object));
        match (has_documents(Kind::Endpoints), has_documents(Kind::ConfigMaps)) {
            (true, true) => Some(Err(format!(
                "the Endpoints and the ConfigMap {} both have a configuration, and no lock says which is in use: {CHOOSE}",
                names[0].config
            ))),
            (true, false) => Some(Ok(StateObjects::Endpoints)),
            // Without a lock there is no difference to Leases.
            (false, true) => Some(self.unless_hidden(&[Kind::Leases], scope)),
            (false, false) if has_members => Some(self.unless_hidden(&KINDS, scope)),
            (false, false) => None,
        }
    }

    /// ConfigMaps, unless a lock may be among what may not be listed.
    fn unless_hidden(&self, kinds: &[Kind], scope: &str) -> Result<StateObjects, String> {
        let hidden = self.hidden.iter().filter(|(kind, _)| kinds.contains(kind));
        let details: Vec<&str> = hidden.map(|(_, detail)| detail.as_str()).collect();
        match details.is_empty() {
            true => Ok(StateObjects::ConfigMaps),
            false => {
                let details = details.join("; ");
                Err(format!("what keeps the lock of {scope} cannot be told: {details}; {CHOOSE}"))
            }
        }
    }

    fn object(&self, kind: Kind, name: &str) -> Option<&Object> {
        let found = self.objects.iter().find(|(of, object)| *of == kind && object.metadata.name == name);
        found.map(|(_, object)| object)
    }
}

fn has_any(object: &Object, annotations: &[&str]) -> bool {
    annotations.iter().any(|name| object.annotation(name).is_some())
}

#[cfg(test)]
mod tests;

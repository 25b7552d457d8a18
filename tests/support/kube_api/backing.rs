//! What is behind the handle: the server in this process, or a real one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::access::{Rule, User};
use super::controller::Switch;
use super::server::Record;
use super::store;
use super::watch::Ending;

/// What `KubeApi::restore` goes back to.
pub enum Snapshot {
    Standin(store::Snapshot),
    /// A file of etcd's.
    Real(PathBuf),
}

/// The methods of `KubeApi` of the same names, which say what they do.
pub trait Backing: Send + Sync {
    fn add_superuser(&self, token: &str, user: User);
    /// The Endpoints `kubernetes`, which say where the servers are.
    fn furnish(&self, address: SocketAddr);
    fn stop(&self);
    fn restart(&self);
    fn freeze(&self);
    fn thaw(&self);
    fn compact(&self);
    fn drop_watches(&self, how: Ending);
    fn expire_watches(&self);
    fn snapshot(&self) -> Snapshot;
    fn restore(&self, snapshot: &Snapshot);
    /// Afterwards there is nothing, not even namespaces.
    fn wipe(&self);
    fn endpoints_controller(&self, switch: Switch);
    fn garbage_collector(&self, switch: Switch);
    fn revision(&self) -> u64;
    /// What a superuser reads at a path; `None` where there is nothing.
    fn document(&self, path: &str) -> Option<Value>;
    fn token(&self, user: User) -> String;
    fn service_account(&self, namespace: &str, name: &str) -> String;
    fn expire(&self, token: &str, at: Instant);
    /// The user has these rights and no others.
    fn set_rules(&self, user: &str, rules: Vec<Rule>);
    fn records(&self) -> Vec<Record>;
    fn clear_records(&self);
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;
    fn list(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>>;
    fn put(&self, resource: &str, namespace: &str, object: Value) -> Arc<Value>;
    fn patch(&self, resource: &str, namespace: &str, name: &str, patch: &Value) -> Arc<Value>;
    fn delete(&self, resource: &str, namespace: &str, name: &str) -> bool;
    /// Looks at each change; false when the time is over.
    fn wait(&self, limit: Duration, look: &mut dyn FnMut() -> bool) -> bool;
}

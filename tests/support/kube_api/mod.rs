//! A Kubernetes API server for tests, in the test's own process, as far as a member of a cluster, Patroni and kubectl use
//! one: its resources and verbs, versions, watches, validations, rights, and its words when it refuses. It also is what a
//! test breaks: it can be stopped, frozen, emptied, set back, and it says what it was asked.
//!
//! Use: `#[path = "../support/kube_api/mod.rs"] mod kube_api;` in the test's root file.
//!
//! What it has not: server-side apply (415), protobuf and YAML, admission but for namespaces, schemas beyond the kinds that
//! members write, and controllers but for two (`controller`), which are off at first. Nothing runs pods.

// Each test crate uses its own part of this.
#![allow(dead_code, unused_imports)]

pub mod access;
pub mod asked;
pub mod authority;
pub mod backing;
mod client;
mod controller;
mod defaults;
mod delete;
mod discovery;
mod faults;
pub mod files;
mod fresh;
mod gate;
mod patch;
mod proxy;
mod read;
pub mod real;
pub mod real_audit;
mod real_process;
mod real_rights;
mod refusal;
mod resources;
mod selector;
mod served;
mod server;
mod shape;
mod standin;
mod store;
mod table;
mod transport;
mod validation;
mod watch;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use access::{Rule, User};
pub use authority::Authority;
pub use backing::Snapshot;
pub use controller::Switch;
pub use faults::{Fault, Loss, RuleId, When};
pub use proxy::Proxy;
pub use server::Record;
pub use watch::Ending;

use backing::Backing;
use fresh::{new_uid, now_text, random_letters};

/// What a test wants of its server.
pub struct Options {
    /// Port 0: a free one, which then stays.
    pub address: SocketAddr,
    pub authority: Authority,
    /// Beside `default` and `kube-system`.
    pub namespaces: Vec<String>,
    /// A minute, as a server has it.
    pub bookmark_every: Duration,
    /// A group that the stand-in serves in another version only than the one that members use.
    pub without: &'static str,
}

impl Options {
    /// A free port on the loopback address that is this process's own.
    pub fn loopback() -> Self {
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        Self::at(SocketAddr::new(Ipv4Addr::new(127, 64 | high, middle, low).into(), 0))
    }

    pub fn at(address: SocketAddr) -> Self {
        Options {
            address,
            authority: Authority::new(),
            namespaces: vec!["demo".to_owned()],
            bookmark_every: Duration::from_secs(60),
            without: "",
        }
    }
}

pub struct KubeApi {
    backing: Box<dyn Backing>,
    address: SocketAddr,
    authority: Authority,
    namespaces: Vec<String>,
    admin: String,
    rights: Mutex<Rights>,
}

/// Who may do what by the test's will.
#[derive(Default)]
struct Rights {
    rules: BTreeMap<String, Vec<Rule>>,
    /// Verbs on resources that are taken out of all rules.
    withheld: Vec<(String, String)>,
}

impl KubeApi {
    /// A real server where `KUBEBUILDER_ASSETS` names a folder with `kube-apiserver` and `etcd`, else the one in this
    /// process. Listens in the network namespace of the calling thread.
    pub fn start(options: Options) -> Self {
        match real::assets() {
            None => Self::stand_in(options),
            Some(assets) => {
                let admin = random_letters(40);
                let (address, authority) = (options.address, options.authority.clone());
                let (address, real) = real::Real::start(assets, address, &authority, &admin);
                Self::new(Box::new(real), address, options, admin)
            }
        }
    }

    /// The one in this process, for tests of what only that can.
    pub fn stand_in(options: Options) -> Self {
        let (place, listener) = transport::Place::bind(options.address).expect("the address can be listened on");
        let address = place.address;
        let standin = standin::Standin::start(place, listener, &options);
        let admin = random_letters(40);
        Self::new(Box::new(standin), address, options, admin)
    }

    fn new(backing: Box<dyn Backing>, address: SocketAddr, options: Options, admin: String) -> Self {
        backing.add_superuser(&admin, User::new("admin", &[access::SUPERUSERS]));
        let api = KubeApi {
            backing,
            address,
            authority: options.authority,
            namespaces: options.namespaces,
            admin,
            rights: Mutex::default(),
        };
        api.furnish();
        api
    }

    /// What a new cluster has.
    fn furnish(&self) {
        let own = ["default", "kube-system"].map(str::to_owned);
        for name in own.iter().chain(&self.namespaces) {
            if self.get("namespaces", "", name).is_none() {
                self.put("namespaces", "", json!({"metadata": {"name": name}}));
            }
        }
        self.backing.furnish(self.address);
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The token of a superuser.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// Ends the server and its connections; the objects stay. Connections are refused until `restart`.
    pub fn stop(&self) {
        self.backing.stop();
    }

    /// On the same address, in the same network namespace.
    pub fn restart(&self) {
        self.backing.restart();
    }

    /// From now on nothing is read and nothing is answered, while connections are accepted.
    pub fn freeze(&self) {
        self.backing.freeze();
    }

    pub fn thaw(&self) {
        self.backing.thaw();
    }

    /// Older versions are Expired from now on. A real server starts anew for it.
    pub fn compact(&self) {
        self.backing.compact();
    }

    /// Ends every watch. A real server starts anew for it, so that they break.
    pub fn drop_watches(&self, how: Ending) {
        self.backing.drop_watches(how);
    }

    /// Ends every watch, whose version is Expired from then on.
    pub fn expire_watches(&self) {
        self.backing.expire_watches();
    }

    pub fn snapshot(&self) -> Snapshot {
        self.backing.snapshot()
    }

    /// Objects and versions as they were, as after a restore of etcd from an older backup: the server starts anew.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.backing.restore(snapshot);
    }

    /// Another, empty cluster behind the same address, with the same users.
    pub fn wipe(&self) {
        self.backing.wipe();
        self.furnish();
        self.write_rights();
    }

    /// The controller that fills the Endpoints of Services with a selector; off at first.
    pub fn endpoints_controller(&self, switch: Switch) {
        self.backing.endpoints_controller(switch);
    }

    /// The controller that deletes what has owners of which none is there; off at first.
    pub fn garbage_collector(&self, switch: Switch) {
        self.backing.garbage_collector(switch);
    }

    /// A proxy before this server, on this address.
    pub fn proxy(&self, address: SocketAddr) -> Proxy {
        Proxy::start(address, &self.authority, self.address, &self.authority.cert)
    }

    pub fn revision(&self) -> u64 {
        self.backing.revision()
    }

    /// A new token of the user. A real server knows superusers' and service accounts' tokens only.
    pub fn token(&self, user: User) -> String {
        self.backing.token(user)
    }

    /// A new token of a service account, which has these rights too.
    pub fn service_account(&self, namespace: &str, name: &str, rules: Vec<Rule>) -> String {
        let token = self.backing.service_account(namespace, name);
        self.allow(&User::service_account(namespace, name).name, rules);
        token
    }

    /// The token is refused with 401 from then on, others of its user not. A real server's refuses it when this returns.
    pub fn expire(&self, token: &str, at: Instant) {
        self.backing.expire(token, at);
    }

    /// More rights.
    pub fn allow(&self, user: &str, rules: Vec<Rule>) {
        self.rights().rules.entry(user.to_owned()).or_default().extend(rules);
        self.write_rights();
    }

    /// The user has these rights and no others.
    pub fn allow_only(&self, user: &str, rules: Vec<Rule>) {
        self.rights().rules.insert(user.to_owned(), rules);
        self.write_rights();
    }

    /// Nobody but a superuser has the verb on the resource (`pods`, `pods/status`), until `give_back`.
    pub fn withhold(&self, verb: &str, resource: &str) {
        self.rights().withheld.push((verb.to_owned(), resource.to_owned()));
        self.write_rights();
    }

    pub fn give_back(&self) {
        self.rights().withheld.clear();
        self.write_rights();
    }

    fn rights(&self) -> std::sync::MutexGuard<'_, Rights> {
        self.rights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_rights(&self) {
        let rights = self.rights();
        for (user, rules) in &rights.rules {
            let left = rules.iter().flat_map(|rule| rule.without(&rights.withheld)).collect();
            self.backing.set_rules(user, left);
        }
    }

    /// What was asked so far, in order.
    pub fn records(&self) -> Vec<Record> {
        self.backing.records()
    }

    pub fn clear_records(&self) {
        self.backing.clear_records();
    }

    /// Group, resource and verb of all that the user did and was allowed to: what its Role has to hold.
    pub fn used(&self, user: &str) -> BTreeSet<(String, String, String)> {
        let records = self.records().into_iter().filter(|record| record.user == user && record.code != 403);
        let resources = records.filter(|record| record.asked.is_resource());
        resources.map(|one| (one.asked.group.clone(), one.asked.full_resource(), one.asked.verb)).collect()
    }

    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.backing.get(resource, namespace, name)
    }

    pub fn list(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        self.backing.list(resource, namespace)
    }

    /// Makes the object or puts it in the place of the one that is there, with its status. Only a real server refuses
    /// anything.
    pub fn put(&self, resource: &str, namespace: &str, object: Value) -> Arc<Value> {
        self.backing.put(resource, namespace, object)
    }

    /// A JSON merge patch, of the status too.
    pub fn patch(&self, resource: &str, namespace: &str, name: &str, patch: &Value) -> Arc<Value> {
        self.backing.patch(resource, namespace, name, patch)
    }

    /// At once, whatever finalizers it has; whether it was there.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> bool {
        self.backing.delete(resource, namespace, name)
    }

    /// A running and ready pod with one container, and a hostname as a StatefulSet's pods have it.
    pub fn put_pod(&self, namespace: &str, name: &str, ip: &str, labels: &Value) -> Arc<Value> {
        let spec = json!({"hostname": name, "containers": [{"name": "postgres", "image": "postgres"}]});
        let mut status = json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]});
        status["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        status["containerStatuses"] = json!([{"name": "postgres", "image": "postgres", "imageID": "", "ready": true,
            "restartCount": 0, "state": {"running": {"startedAt": now_text()}}}]);
        let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status});
        self.put("pods", namespace, pod)
    }

    /// Blocks until the object is such; `None` stands for an object that is not there. Fails when it takes too long.
    pub fn wait_for(
        &self,
        limit: Duration,
        at: (&str, &str, &str),
        mut is_such: impl FnMut(Option<&Value>) -> bool,
    ) -> Option<Arc<Value>> {
        let mut object = None;
        let is_found = self.backing.wait(limit, &mut || {
            object = self.get(at.0, at.1, at.2);
            is_such(object.as_deref())
        });
        assert!(is_found, "{at:?} not as expected within {limit:?}: {object:?}");
        object
    }

    /// The same without blocking the thread.
    pub async fn wait_until(
        &self,
        limit: Duration,
        at: (&str, &str, &str),
        mut is_such: impl FnMut(Option<&Value>) -> bool,
    ) -> Option<Arc<Value>> {
        let began = Instant::now();
        loop {
            let object = self.get(at.0, at.1, at.2);
            if is_such(object.as_deref()) {
                return object;
            }
            assert!(began.elapsed() < limit, "{at:?} not as expected within {limit:?}: {object:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Blocks until a request was such.
    pub fn wait_for_request(&self, limit: Duration, what: &str, is_such: impl Fn(&Record) -> bool) -> Record {
        let mut found = None;
        self.backing.wait(limit, &mut || {
            found = self.records().into_iter().find(|record| is_such(record));
            found.is_some()
        });
        found.unwrap_or_else(|| panic!("no such request within {limit:?}: {what}"))
    }
}

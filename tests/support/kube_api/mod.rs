//! A Kubernetes API server for tests, in the test's own process, as far as a member of a cluster, Patroni and kubectl use
//! one: its resources and verbs, versions, watches, validations, rights, and its words when it refuses. It also is what a
//! test breaks: it can be stopped, frozen, emptied, set back, and it says what it was asked.
//!
//! Use: `#[path = "../support/kube_api/mod.rs"] mod kube_api;` in the test's root file.
//!
//! What it has not: server-side apply (415), protobuf and YAML, admission but for namespaces, schemas beyond the kinds that
//! members write, and controllers but for one (`controller`). Nothing collects garbage and nothing runs pods.

// Each test crate uses its own part of this.
#![allow(dead_code, unused_imports)]

pub mod access;
pub mod asked;
pub mod authority;
mod controller;
mod defaults;
mod discovery;
mod faults;
mod files;
mod gate;
mod patch;
mod proxy;
mod read;
mod refusal;
mod resources;
mod selector;
mod server;
mod shape;
mod store;
mod table;
mod transport;
mod validation;
mod watch;
mod write;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openssl::rand::rand_bytes;
use serde_json::{Value, json};

pub use access::{Rule, User};
pub use authority::Authority;
pub use controller::Switch;
pub use faults::{Fault, Loss, RuleId, When};
pub use proxy::Proxy;
pub use server::Record;
pub use store::Snapshot;
pub use watch::Ending;

use resources::named;
use server::{Server, State};
use store::{Store, key};
use write::{Effect, Part, Target};

/// What a test wants of its server.
pub struct Options {
    /// Port 0: a free one, which then stays.
    pub address: SocketAddr,
    pub authority: Authority,
    /// Beside `default` and `kube-system`.
    pub namespaces: Vec<String>,
    /// A minute, as a server has it.
    pub bookmark_every: Duration,
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
        }
    }
}

pub struct KubeApi {
    server: Arc<Server>,
    place: transport::Place,
    authority: Authority,
    namespaces: Vec<String>,
    gate: gate::Gate,
    leaf: authority::Leaf,
    running: Option<transport::Background>,
    admin: String,
}

impl KubeApi {
    /// Listens in the network namespace of the calling thread.
    pub fn start(options: Options) -> Self {
        let (place, listener) = transport::Place::bind(options.address).expect("the address can be listened on");
        let server = Arc::new(Server::new(Store::new(), options.bookmark_every));
        let leaf = options.authority.issue_server(&[place.address.ip()]);
        let mut api = KubeApi {
            server,
            place,
            authority: options.authority,
            namespaces: options.namespaces,
            gate: gate::Gate::default(),
            leaf,
            running: None,
            admin: String::new(),
        };
        api.furnish();
        api.admin = api.token(User::new("admin", &[access::SUPERUSERS]));
        api.serve(listener);
        api
    }

    fn serve(&mut self, listener: std::net::TcpListener) {
        let acceptor = transport::acceptor(&self.authority, &self.leaf, transport::Protocols::Both);
        let server = Arc::clone(&self.server);
        let answer = move |request, peer| Arc::clone(&server).answer(request, peer);
        self.running = Some(transport::Background::serve(listener, acceptor, self.gate.clone(), answer));
    }

    /// What a new cluster has.
    fn furnish(&self) {
        let own = ["default", "kube-system"].map(str::to_owned);
        for name in own.iter().chain(&self.namespaces) {
            self.put("namespaces", "", json!({"metadata": {"name": name}}));
        }
        let ports = json!([{"name": "https", "port": self.address().port(), "protocol": "TCP"}]);
        let subsets = json!([{"addresses": [{"ip": self.address().ip().to_string()}], "ports": ports}]);
        self.put("endpoints", "default", json!({"metadata": {"name": "kubernetes"}, "subsets": subsets}));
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.place.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.place.address
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The token of a superuser.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// Ends the server and its connections; the objects stay. Connections are refused until `restart`.
    pub fn stop(&mut self) {
        self.running = None;
        self.gate.open();
    }

    /// On the same address, in the same network namespace.
    pub fn restart(&mut self) {
        self.stop();
        self.serve(self.place.bind_again().expect("the address can be listened on again"));
    }

    /// From now on nothing is read and nothing is answered, while connections are accepted.
    pub fn freeze(&self) {
        self.gate.shut();
    }

    pub fn thaw(&self) {
        self.gate.open();
    }

    /// Older versions are Expired from now on.
    pub fn compact(&self) {
        self.server.change(|state| state.store.compact());
    }

    /// Ends every watch.
    pub fn drop_watches(&self, how: Ending) {
        self.server.change(|state| state.endings = (state.endings.0 + 1, how));
    }

    pub fn snapshot(&self) -> Snapshot {
        self.server.state().store.snapshot()
    }

    /// Objects and versions as they were, as after a restore of etcd from an older backup: the server starts anew.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        self.stop();
        self.server.change(|state| state.store.restore(snapshot));
        self.restart();
    }

    /// Another, empty cluster behind the same address.
    pub fn wipe(&mut self) {
        self.stop();
        self.server.change(|state| state.store = Store::new());
        self.furnish();
        self.restart();
    }

    /// The controller that fills the Endpoints of Services with a selector; off at first.
    pub fn endpoints_controller(&self, switch: Switch) {
        self.server.change(|state| state.controller = switch);
    }

    pub fn revision(&self) -> u64 {
        self.server.state().store.revision()
    }

    /// A new token of the user.
    pub fn token(&self, user: User) -> String {
        let token = random_letters(40);
        self.server.state().access.add_token(&token, user, None);
        token
    }

    /// A service account's token, with these rights.
    pub fn service_account(&self, namespace: &str, name: &str, rules: Vec<Rule>) -> String {
        let user = User::service_account(namespace, name);
        self.allow(&user.name, rules);
        self.token(user)
    }

    /// The token is refused with 401 from then on.
    pub fn expire(&self, token: &str, at: Instant) {
        self.server.state().access.expire(token, at);
    }

    pub fn allow(&self, user: &str, rules: Vec<Rule>) {
        self.server.state().access.allow(user, rules);
    }

    /// The user has these rights and no others.
    pub fn allow_only(&self, user: &str, rules: Vec<Rule>) {
        self.server.state().access.replace(user, rules);
    }

    /// Nobody but a superuser has the verb on the resource (`pods`, `pods/status`), until `give_back`.
    pub fn withhold(&self, verb: &str, resource: &str) {
        self.server.state().access.withhold(verb, resource);
    }

    pub fn give_back(&self) {
        self.server.state().access.give_back();
    }

    /// What was asked so far, in order.
    pub fn records(&self) -> Vec<Record> {
        self.server.state().records.clone()
    }

    pub fn clear_records(&self) {
        self.server.state().records.clear();
    }

    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.server.state().store.get(&key(named(resource), namespace, name))
    }

    pub fn list(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let listed = self.server.state().store.list(named(resource), Some(namespace));
        listed.into_iter().map(|(_, object)| object).collect()
    }

    /// Makes the object or puts it in the place of the one that is there; nothing is refused, its status is taken too.
    pub fn put(&self, resource: &str, namespace: &str, mut object: Value) -> Arc<Value> {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let target = target(resource, namespace, &name);
        self.server.change(|state| {
            if let Some(old) = state.store.get(&target.key()) {
                object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
                object["metadata"]["uid"] = old["metadata"]["uid"].clone();
            }
            let body = object.to_string();
            let put = match state.store.get(&target.key()) {
                Some(_) => write::update(&mut state.store, &target, body.as_bytes()).map(|(object, _)| object),
                None => write::create(&mut state.store, &target, body.as_bytes()),
            };
            put.unwrap_or_else(|refusal| panic!("{}", refusal.status))
        })
    }

    /// A JSON merge patch; nothing is refused.
    pub fn patch(&self, resource: &str, namespace: &str, name: &str, patch: &Value) -> Arc<Value> {
        let target = target(resource, namespace, name);
        let body = patch.to_string();
        let patched =
            self.server.change(|state| write::patch(&mut state.store, &target, patch::Kind::Merge, body.as_bytes()));
        patched.unwrap_or_else(|refusal| panic!("{}", refusal.status))
    }

    /// At once, whatever finalizers it has; whether it was there.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> bool {
        self.server.change(|state| state.store.remove(&key(named(resource), namespace, name))).is_some()
    }

    /// A running and ready pod with one container, and a hostname as a StatefulSet's pods have it.
    pub fn put_pod(&self, namespace: &str, name: &str, ip: &str, labels: &Value) -> Arc<Value> {
        let spec = json!({"hostname": name, "containers": [{"name": "postgres", "image": "postgres"}]});
        let conditions = json!([{"type": "Ready", "status": "True"}]);
        let status = json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions});
        let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status});
        self.put("pods", namespace, pod)
    }

    /// Blocks until the object is such; `None` stands for an object that is not there. Fails when it takes too long.
    pub fn wait_for(
        &self,
        limit: Duration,
        (resource, namespace, name): (&str, &str, &str),
        mut is_such: impl FnMut(Option<&Value>) -> bool,
    ) -> Option<Arc<Value>> {
        let key = key(named(resource), namespace, name);
        let look = |state: &State| {
            let object = state.store.get(&key);
            is_such(object.as_deref()).then_some(object)
        };
        let found = self.server.wait(limit, look);
        found.unwrap_or_else(|| {
            let object = self.get(resource, namespace, name);
            panic!("{resource} {namespace}/{name} not as expected within {limit:?}: {object:?}")
        })
    }

    /// Blocks until a request was such.
    pub fn wait_for_request(&self, limit: Duration, what: &str, is_such: impl Fn(&Record) -> bool) -> Record {
        let found = self.server.wait(limit, |state| state.records.iter().find(|record| is_such(record)).cloned());
        found.unwrap_or_else(|| panic!("no such request within {limit:?}: {what}"))
    }
}

fn target(resource: &str, namespace: &str, name: &str) -> Target {
    Target {
        resource: named(resource),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        part: Part::Whole,
        effect: Effect::Commit,
    }
}

fn new_uid() -> String {
    let mut bytes = [0; 16];
    rand_bytes(&mut bytes).expect("OpenSSL has random bytes");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn random_letters(count: usize) -> String {
    let mut bytes = vec![0; count];
    rand_bytes(&mut bytes).expect("OpenSSL has random bytes");
    let letters = b"bcdfghjklmnpqrstvwxz2456789";
    bytes.iter().map(|byte| char::from(letters[usize::from(*byte) % letters.len()])).collect()
}

fn now_text() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

//! The server in the test's own process.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Options;
use super::access::{Rule, User};
use super::authority::{Authority, Leaf};
use super::backing::{Backing, Snapshot};
use super::controller::Switch;
use super::discovery;
use super::gate::Gate;
use super::patch;
use super::resources::named;
use super::server::{Record, Server};
use super::store::{Store, key};
use super::transport::{Background, Place, Protocols, acceptor};
use super::watch::Ending;
use super::write::{self, Effect, Part, Target};

const JSON: &str = "application/json";

pub struct Standin {
    server: Arc<Server>,
    place: Place,
    authority: Authority,
    leaf: Leaf,
    gate: Gate,
    running: Mutex<Option<Background>>,
}

impl Standin {
    pub fn start(place: Place, listener: TcpListener, options: &Options) -> Self {
        let authority = &options.authority;
        let standin = Standin {
            server: Arc::new(Server::new(Store::new(), options.bookmark_every, options.without)),
            leaf: authority.issue_server(&[place.address.ip()]),
            place,
            authority: authority.clone(),
            gate: Gate::default(),
            running: Mutex::default(),
        };
        standin.serve(listener);
        standin
    }

    fn serve(&self, listener: TcpListener) {
        let acceptor = acceptor(&self.authority, &self.leaf, Protocols::Both);
        let server = Arc::clone(&self.server);
        let answer = move |request, peer| Arc::clone(&server).answer(request, peer);
        let running = Background::serve(listener, acceptor, self.gate.clone(), answer);
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
    }
}

impl Backing for Standin {
    fn add_superuser(&self, token: &str, user: User) {
        self.server.state().access.add_token(token, user, None);
    }

    fn furnish(&self, address: SocketAddr) {
        let ports = json!([{"name": "https", "port": address.port(), "protocol": "TCP"}]);
        let subsets = json!([{"addresses": [{"ip": address.ip().to_string()}], "ports": ports}]);
        self.put("endpoints", "default", json!({"metadata": {"name": "kubernetes"}, "subsets": subsets}));
    }

    fn stop(&self) {
        drop(self.running.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.gate.open();
    }

    fn restart(&self) {
        self.stop();
        self.serve(self.place.bind_again().expect("the address can be listened on again"));
    }

    fn freeze(&self) {
        self.gate.shut();
    }

    fn thaw(&self) {
        self.gate.open();
    }

    fn compact(&self) {
        self.server.change(|state| state.store.compact());
    }

    fn drop_watches(&self, how: Ending) {
        self.server.change(|state| state.endings = (state.endings.0 + 1, how));
    }

    fn expire_watches(&self) {
        self.compact();
        self.drop_watches(Ending::Expired);
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::Standin(self.server.state().store.snapshot())
    }

    fn restore(&self, snapshot: &Snapshot) {
        let Snapshot::Standin(snapshot) = snapshot else { panic!("a snapshot of another server") };
        self.stop();
        self.server.change(|state| state.store.restore(snapshot));
        self.restart();
    }

    fn wipe(&self) {
        self.stop();
        self.server.change(|state| state.store = Store::new());
        self.restart();
    }

    fn endpoints_controller(&self, switch: Switch) {
        self.server.change(|state| state.controllers.endpoints = switch);
    }

    fn garbage_collector(&self, switch: Switch) {
        self.server.change(|state| state.controllers.garbage = switch);
    }

    fn revision(&self) -> u64 {
        self.server.state().store.revision()
    }

    fn document(&self, path: &str) -> Option<Value> {
        let (_, body) = discovery::answer(path, JSON, self.server.state().without)?;
        serde_json::from_slice(&body).ok()
    }

    fn token(&self, user: User) -> String {
        let token = super::random_letters(40);
        self.server.state().access.add_token(&token, user, None);
        token
    }

    fn service_account(&self, namespace: &str, name: &str) -> String {
        self.token(User::service_account(namespace, name))
    }

    fn expire(&self, token: &str, at: Instant) {
        self.server.state().access.expire(token, at);
    }

    fn set_rules(&self, user: &str, rules: Vec<Rule>) {
        self.server.state().access.set_rules(user, rules);
    }

    fn records(&self) -> Vec<Record> {
        self.server.state().records.clone()
    }

    fn clear_records(&self) {
        self.server.state().records.clear();
    }

    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.server.state().store.get(&key(named(resource), namespace, name))
    }

    fn list(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let listed = self.server.state().store.list(named(resource), Some(namespace));
        listed.into_iter().map(|(_, object)| object).collect()
    }

    fn put(&self, resource: &str, namespace: &str, mut object: Value) -> Arc<Value> {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let target = target(resource, namespace, &name);
        let put = self.server.change(|state| match state.store.get(&target.key()) {
            None => write::create(&mut state.store, &target, object.to_string().as_bytes()),
            Some(old) => {
                for field in ["resourceVersion", "uid"] {
                    object["metadata"][field] = old["metadata"][field].clone();
                }
                write::update(&mut state.store, &target, object.to_string().as_bytes()).map(|(object, _)| object)
            }
        });
        put.unwrap_or_else(|refusal| panic!("{}", refusal.status))
    }

    fn patch(&self, resource: &str, namespace: &str, name: &str, patch: &Value) -> Arc<Value> {
        let target = target(resource, namespace, name);
        let body = patch.to_string();
        let patched =
            self.server.change(|state| write::patch(&mut state.store, &target, patch::Kind::Merge, body.as_bytes()));
        patched.unwrap_or_else(|refusal| panic!("{}", refusal.status))
    }

    fn delete(&self, resource: &str, namespace: &str, name: &str) -> bool {
        self.server.change(|state| state.store.remove(&key(named(resource), namespace, name))).is_some()
    }

    fn wait(&self, limit: Duration, look: &mut dyn FnMut() -> bool) -> bool {
        self.server.wait(limit, look)
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

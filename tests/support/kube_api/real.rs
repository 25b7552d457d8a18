//! A real API server behind the same handle, as far as it goes: envtest's way, with etcd, RBAC, and an audit log for the
//! records.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use hyper::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::access::{Rule, User};
use super::authority::Authority;
use super::backing::{Backing, Snapshot};
use super::client::{Caller, connector};
use super::controller::Switch;
use super::real_audit;
use super::real_process::{Process, Site};
use super::real_rights::{self, Right};
use super::resources::{Resource, Trait, named};
use super::server::Record;
use super::watch::Ending;

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const READY_MAX: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

pub struct Real {
    site: Site,
    caller: Caller,
    /// etcd and the API server.
    processes: Mutex<(Option<Process>, Option<Process>)>,
    /// Namespace and name of the secret that each token of a service account is bound to.
    secrets: Mutex<HashMap<String, (String, String)>>,
    /// What each user was given.
    rights: Mutex<HashMap<String, BTreeSet<Right>>>,
    /// How many records a test does not want to see any more.
    cleared: AtomicUsize,
}

/// The folder of a real server's programs. Says once which server the tests have.
pub fn assets() -> Option<PathBuf> {
    static SAID: Once = Once::new();
    let folder = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let assets = folder.filter(|folder| ["etcd", "kube-apiserver"].iter().all(|name| folder.join(name).is_file()));
    SAID.call_once(|| {
        let which = match &assets {
            Some(folder) => format!("kube-apiserver of {}", folder.display()),
            None => "the in-test one (KUBEBUILDER_ASSETS names no folder with etcd and kube-apiserver)".to_owned(),
        };
        // Past libtest, which keeps what is printed.
        writeln!(std::io::stderr(), "\nnote: Kubernetes API server: {which}").ok();
    });
    assets
}

/// `/api/v1/namespaces/demo/pods/demo-0`; without a name the collection's.
fn path(resource: &Resource, namespace: &str, name: &str) -> String {
    let group = if resource.group.is_empty() { "api".to_owned() } else { format!("apis/{}", resource.group) };
    let place = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    let name = if name.is_empty() { String::new() } else { format!("/{name}") };
    format!("/{group}/{}{place}/{}{name}", resource.version, resource.plural)
}

impl Real {
    pub fn start(assets: PathBuf, address: SocketAddr, authority: &Authority, token: &str) -> (SocketAddr, Self) {
        let site = Site::new(assets, address, authority, token);
        let caller = Caller { server: site.address, connector: connector(&authority.cert), token: token.to_owned() };
        let real = Self::of(site, caller);
        real.start_both();
        (real.site.address, real)
    }

    /// Of a server that somebody else has started, without its processes.
    pub fn beside(address: SocketAddr, authority: &Authority, token: &str) -> Self {
        let site = Site::new(PathBuf::new(), SocketAddr::new(address.ip(), 0), authority, token);
        let caller = Caller { server: address, connector: connector(&authority.cert), token: token.to_owned() };
        Self::of(site, caller)
    }

    fn of(site: Site, caller: Caller) -> Self {
        Real {
            site,
            caller,
            processes: Mutex::default(),
            secrets: Mutex::default(),
            rights: Mutex::default(),
            cleared: AtomicUsize::new(0),
        }
    }

    fn processes(&self) -> MutexGuard<'_, (Option<Process>, Option<Process>)> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_both(&self) {
        self.processes().0 = Some(self.site.etcd());
        self.start_server();
    }

    fn start_server(&self) {
        self.processes().1 = Some(self.site.api_server());
        let is_ready = self.wait(READY_MAX, &mut || {
            let has_ended = self.processes().1.as_mut().is_none_or(Process::has_ended);
            assert!(!has_ended, "kube-apiserver has ended:\n{}", self.site.log("kube-apiserver"));
            self.caller.ask(Method::GET, "/readyz", JSON, None).is_ok_and(|(code, _)| code == 200)
        });
        let logs = || format!("{}\n{}", self.site.log("etcd"), self.site.log("kube-apiserver"));
        assert!(is_ready, "kube-apiserver is not ready:\n{}", logs());
    }

    /// The answer, which must be one of these codes.
    fn must(&self, method: Method, path: &str, media: &str, body: Option<&Value>, codes: &[u16]) -> (u16, Value) {
        let (code, answer) = self.caller.ask(method.clone(), path, media, body).expect("the server answers");
        assert!(codes.contains(&code), "{method} {path}: {code} {answer}");
        (code, answer)
    }

    /// Makes it, or replaces what is there.
    fn write(&self, resource: &Resource, namespace: &str, object: &mut Value) -> Value {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        object["kind"] = json!(resource.kind);
        object["apiVersion"] = json!(resource.api_version());
        let (one, all) = (path(resource, namespace, &name), path(resource, namespace, ""));
        let (code, old) = self.must(Method::GET, &one, JSON, None, &[200, 404]);
        if code == 404 {
            let (code, made) = self.must(Method::POST, &all, JSON, Some(object), &[201, 409]);
            // Some namespaces are made by the server itself, a moment after its start.
            return if code == 201 { made } else { self.must(Method::GET, &one, JSON, None, &[200]).1 };
        }
        if resource.is(Trait::Graceful) {
            // Of a pod little else may change, and the server has filled in more than the object says.
            let patch = json!({"metadata": {"labels": object["metadata"]["labels"],
                "annotations": object["metadata"]["annotations"]}});
            return self.must(Method::PATCH, &one, MERGE, Some(&patch), &[200]).1;
        }
        object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        self.must(Method::PUT, &one, JSON, Some(object), &[200]).1
    }

    /// Waits until the server has noticed a change of rights.
    fn wait_for_right(&self, user: &str, right: &Right, is_given: bool) {
        let (path, review) = ("/apis/authorization.k8s.io/v1/subjectaccessreviews", right.review(user));
        let is_so = self.wait(READY_MAX, &mut || {
            self.must(Method::POST, path, JSON, Some(&review), &[201]).1["status"]["allowed"] == is_given
        });
        assert!(is_so, "{user} does not get, or does not lose, {right:?}");
    }
}

impl Backing for Real {
    fn add_superuser(&self, token: &str, _: User) {
        assert_eq!(token, self.caller.token, "the server was started with the superuser's token");
    }

    fn furnish(&self, _: SocketAddr) {}

    fn stop(&self) {
        drop(self.processes().1.take());
    }

    fn restart(&self) {
        self.stop();
        self.start_server();
    }

    fn freeze(&self) {
        self.processes().1.as_ref().expect("the server runs").signal(Signal::SIGSTOP);
    }

    fn thaw(&self) {
        self.processes().1.as_ref().expect("the server runs").signal(Signal::SIGCONT);
    }

    fn compact(&self) {
        self.site.etcdctl(&["compact", &self.revision().to_string()]);
        // Else it answers from its own memory of older versions.
        self.restart();
    }

    fn drop_watches(&self, _: Ending) {
        self.restart();
    }

    /// They end with the start that compacting takes.
    fn expire_watches(&self) {
        self.compact();
    }

    fn snapshot(&self) -> Snapshot {
        let file = self.site.path(&format!("snapshot-{}", super::random_letters(8)));
        self.site.etcdctl(&["snapshot", "save", &file.display().to_string()]);
        Snapshot::Real(file)
    }

    fn restore(&self, snapshot: &Snapshot) {
        let Snapshot::Real(file) = snapshot else { panic!("a snapshot of another server") };
        *self.processes() = (None, None);
        self.site.replace_data(Some(file));
        self.start_both();
    }

    fn wipe(&self) {
        *self.processes() = (None, None);
        self.site.replace_data(None);
        self.start_both();
    }

    fn endpoints_controller(&self, switch: Switch) {
        assert_eq!(switch, Switch::Off, "there is no kube-controller-manager beside a real server here");
    }

    fn garbage_collector(&self, switch: Switch) {
        assert_eq!(switch, Switch::Off, "there is no kube-controller-manager beside a real server here");
    }

    fn revision(&self) -> u64 {
        let (_, list) = self.must(Method::GET, "/api/v1/configmaps?limit=1", JSON, None, &[200]);
        let version = list["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
        version.expect("a list has a version")
    }

    fn document(&self, path: &str) -> Option<Value> {
        let (code, document) = self.must(Method::GET, path, JSON, None, &[200, 404]);
        (code == 200).then_some(document)
    }

    fn token(&self, user: User) -> String {
        panic!("a real server makes no tokens for {user:?}: use a service account or a client certificate")
    }

    fn service_account(&self, namespace: &str, name: &str) -> String {
        self.write(named("serviceaccounts"), namespace, &mut json!({"metadata": {"name": name}}));
        let path = format!("{}/token", path(named("serviceaccounts"), namespace, name));
        let secret = format!("token-{}", super::random_letters(10));
        self.write(named("secrets"), namespace, &mut json!({"metadata": {"name": secret}}));
        let bound = json!({"kind": "Secret", "apiVersion": "v1", "name": secret});
        let request = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
            "spec": {"expirationSeconds": 3600, "boundObjectRef": bound}});
        let (_, answer) = self.must(Method::POST, &path, JSON, Some(&request), &[201]);
        let token = answer["status"]["token"].as_str().expect("a token").to_owned();
        let secret = (namespace.to_owned(), secret);
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), secret);
        token
    }

    /// With the secret that it is bound to; until the server has forgotten that it took it for good.
    fn expire(&self, token: &str, at: Instant) {
        if at > Instant::now() {
            return;
        }
        let secret = self.secrets.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned();
        let (namespace, name) = secret.expect("a service account's token that was made here");
        self.delete("secrets", &namespace, &name);
        let (server, connector) = (self.caller.server, self.caller.connector.clone());
        let its = Caller { server, connector, token: token.to_owned() };
        let is_refused =
            self.wait(READY_MAX, &mut || its.ask(Method::GET, "/api", JSON, None).is_ok_and(|(code, _)| code == 401));
        assert!(is_refused, "the token stays good");
    }

    fn set_rules(&self, user: &str, rules: Vec<Rule>) {
        // What may be written, by namespace; everywhere first, so that nothing of it is left when it is empty.
        let mut places: Vec<Option<String>> = vec![None];
        places
            .extend(self.list("namespaces", "").iter().map(|one| one["metadata"]["name"].as_str().map(str::to_owned)));
        let name = format!("test-{}", user.replace(':', "-"));
        for place in places {
            let (role, binding) = match &place {
                None => ("clusterroles", "clusterrolebindings"),
                Some(_) => ("roles", "rolebindings"),
            };
            let namespace = place.as_deref().unwrap_or_default();
            let of_place: Vec<&Rule> = rules.iter().filter(|rule| rule.namespace == place).collect();
            let written: Vec<Value> = of_place.iter().map(|rule| stored(rule)).collect();
            if written.is_empty() && self.get(role, namespace, &name).is_none() {
                continue;
            }
            let metadata = json!({"name": name});
            self.write(named(role), namespace, &mut json!({"metadata": metadata, "rules": written}));
            let group = "rbac.authorization.k8s.io";
            let reference = json!({"apiGroup": group, "kind": named(role).kind, "name": name});
            let subjects = json!([{"apiGroup": group, "kind": "User", "name": user}]);
            let mut bound = json!({"metadata": metadata, "roleRef": reference, "subjects": subjects});
            self.write(named(binding), namespace, &mut bound);
        }
        let rights = real_rights::of(&rules);
        let before = self.rights.lock().unwrap_or_else(PoisonError::into_inner).insert(user.to_owned(), rights.clone());
        rights.iter().for_each(|right| self.wait_for_right(user, right, true));
        before.unwrap_or_default().difference(&rights).for_each(|right| self.wait_for_right(user, right, false));
    }

    fn records(&self) -> Vec<Record> {
        let log = std::fs::read_to_string(self.site.path("audit.log")).unwrap_or_default();
        real_audit::records(&log).into_iter().skip(self.cleared.load(Ordering::Relaxed)).collect()
    }

    fn clear_records(&self) {
        self.cleared.fetch_add(self.records().len(), Ordering::Relaxed);
    }

    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let path = path(named(resource), namespace, name);
        let (code, object) = self.must(Method::GET, &path, JSON, None, &[200, 404]);
        (code == 200).then(|| Arc::new(object))
    }

    fn list(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let (_, list) = self.must(Method::GET, &path(named(resource), namespace, ""), JSON, None, &[200]);
        list["items"].as_array().cloned().unwrap_or_default().into_iter().map(Arc::new).collect()
    }

    fn put(&self, resource: &str, namespace: &str, mut object: Value) -> Arc<Value> {
        let written = self.write(named(resource), namespace, &mut object);
        if !named(resource).is(Trait::Status) || object.get("status").is_none() {
            return Arc::new(written);
        }
        let name = object["metadata"]["name"].as_str().expect("a name");
        Arc::new(self.write_part(resource, namespace, name, "/status", &json!({"status": object["status"]})))
    }

    fn patch(&self, resource: &str, namespace: &str, name: &str, patch: &Value) -> Arc<Value> {
        let mut patched = self.write_part(resource, namespace, name, "", patch);
        if named(resource).is(Trait::Status) && patch.get("status").is_some() {
            patched = self.write_part(resource, namespace, name, "/status", &json!({"status": patch["status"]}));
        }
        Arc::new(patched)
    }

    fn delete(&self, resource: &str, namespace: &str, name: &str) -> bool {
        let path = path(named(resource), namespace, name);
        let free = json!({"metadata": {"finalizers": null}});
        if self.must(Method::PATCH, &path, MERGE, Some(&free), &[200, 404]).0 == 404 {
            return false;
        }
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
        self.must(Method::DELETE, &path, JSON, Some(&options), &[200, 404]).0 == 200
    }

    fn wait(&self, limit: Duration, look: &mut dyn FnMut() -> bool) -> bool {
        let began = Instant::now();
        while !look() {
            if began.elapsed() > limit {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
        true
    }
}

impl Real {
    fn write_part(&self, resource: &str, namespace: &str, name: &str, part: &str, patch: &Value) -> Value {
        let path = format!("{}{part}", path(named(resource), namespace, name));
        self.must(Method::PATCH, &path, MERGE, Some(patch), &[200]).1
    }
}

/// The rule as a Role has it.
fn stored(rule: &Rule) -> Value {
    let mut stored = json!({"apiGroups": rule.groups, "resources": rule.resources, "verbs": rule.verbs});
    if !rule.names.is_empty() {
        stored["resourceNames"] = json!(rule.names);
    }
    stored
}

//! The Kubernetes backend against what happens to an API server and on the way to it: frozen, restarted, restored from a
//! backup, answers that are lost, refused, late, or cut in half. In each case every call must end by its deadline, and no
//! error may count as an answer about the lock.

mod authority;
mod faults;
#[path = "../support/kube_api/mod.rs"]
mod kube_api;
#[path = "../support/kubernetes_config.rs"]
mod kubernetes_config;
mod losses;
mod rights;
mod servers;
mod slices;
mod strangers;
mod traffic;
#[path = "../support/wait.rs"]
mod wait;
mod watching;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tamada::config::StateObjects;
use tamada::core::policy::Timing;
use tamada::core::units::Lsn;
use tamada::core::view::ClusterStatus;
use tamada::dcs::kubernetes::KubernetesDcs;
use tamada::dcs::{DcsError, LeaseToken};

use kube_api::{KubeApi, Options, Proxy, User};
use wait::SOON;

const NAMESPACE: &str = "demo";

/// What a call may take beyond its deadline: the time of a busy machine to notice it.
const SLACK: Duration = Duration::from_millis(500);

/// Waits until it is so.
async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    wait::within(SOON, what, holds).await;
}

/// The call's answer; panics when it comes after the deadline.
async fn in_time<T>(deadline: Duration, call: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let answer = call.await;
    assert!(began.elapsed() <= deadline + SLACK, "{:?} instead of {deadline:?}", began.elapsed());
    answer
}

fn timing(ttl: u64) -> Timing {
    let seconds = Duration::from_secs;
    Timing { ttl: seconds(ttl), loop_wait: seconds(1), retry_timeout: seconds(3), reset_before: Duration::ZERO }
}

fn record(state: &str) -> Value {
    json!({"state": state, "role": "replica", "version": "4.1.5", "tamada": "0"})
}

fn status(optime: u64) -> ClusterStatus {
    ClusterStatus { optime: Some(Lsn(optime)), ..ClusterStatus::default() }
}

/// A server with three pods, and a proxy before it.
struct World {
    api: KubeApi,
    proxy: Proxy,
    folder: tempfile::TempDir,
}

impl World {
    fn open() -> Self {
        Self::around(KubeApi::start(Options::loopback()))
    }

    fn around(api: KubeApi) -> Self {
        let proxy =
            Proxy::start(SocketAddr::new(api.address().ip(), 0), api.authority(), api.address(), &api.authority().cert);
        let world = World { api, proxy, folder: tempfile::tempdir().expect("there is room") };
        world.put_pods();
        world
    }

    fn put_pods(&self) {
        for at in 1..=3 {
            let labels = json!({"application": "patroni", "cluster-name": "demo"});
            self.api.put_pod(NAMESPACE, &format!("n{at}"), &format!("10.244.0.{at}"), &labels);
        }
    }

    /// How a client of this token reaches the server; `through` the proxy or not.
    fn kubeconfig(&self, name: &str, token: &str, through: Through) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).expect("there is room");
        match through {
            Through::Proxy => self.proxy.kubeconfig(&folder, token, NAMESPACE),
            Through::Nothing => self.api.kubeconfig(&folder, token, NAMESPACE),
        }
    }

    /// A member that reaches the server through the proxy.
    fn member(&self, name: &str) -> KubernetesDcs {
        self.resume(name, 30, None)
    }

    fn resume(&self, name: &str, ttl: u64, token: Option<&LeaseToken>) -> KubernetesDcs {
        let path = self.kubeconfig(name, self.api.admin(), Through::Proxy);
        at(path, name, ttl, token)
    }

    /// One that nothing disturbs.
    fn other(&self, name: &str, ttl: u64) -> KubernetesDcs {
        let path = self.kubeconfig(&format!("{name}-direct"), self.api.admin(), Through::Nothing);
        at(path, name, ttl, None)
    }

    /// One that has the rights of this token alone, and reaches the server directly.
    fn limited(&self, folder: &str, token: &str, name: &str) -> KubernetesDcs {
        at(self.kubeconfig(folder, token, Through::Nothing), name, 30, None)
    }

    fn annotation(&self, resource: &str, name: &str, annotation: &str) -> Option<String> {
        let object = self.api.get(resource, NAMESPACE, name)?;
        object["metadata"]["annotations"][annotation].as_str().map(str::to_owned)
    }

    fn leader(&self) -> Option<String> {
        self.annotation("configmaps", "demo-leader", "leader")
    }
}

fn at(kubeconfig: PathBuf, name: &str, ttl: u64, token: Option<&LeaseToken>) -> KubernetesDcs {
    let config = kubernetes_config::by_default(StateObjects::ConfigMaps, kubeconfig);
    KubernetesDcs::member(&config, "demo", name.into(), timing(ttl), token)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Through {
    Proxy,
    Nothing,
}

/// A user with the rights that a member needs, and no others.
fn member_rules() -> Vec<kube_api::Rule> {
    vec![
        kube_api::Rule::new(&["configmaps"], &["create", "get", "list", "patch", "watch"]),
        kube_api::Rule::new(&["pods"], &["get", "list", "patch", "watch"]),
    ]
}

fn service_account(world: &World) -> (String, User) {
    let user = User::service_account(NAMESPACE, "members");
    (world.api.service_account(NAMESPACE, "members", member_rules()), user)
}

fn unreachable<T: std::fmt::Debug>(answer: Result<T, DcsError>) {
    assert!(matches!(answer, Err(DcsError::Unreachable { .. })), "{answer:?}");
}

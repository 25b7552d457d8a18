//! Leases on a server that has no EndpointSlices of the version that is needed: the lock works, and what does not is told.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tamada::config::StateObjects;
use tamada::core::lock_seen::LockSeen;
use tamada::dcs::Dcs;
use tamada::dcs::kubernetes::KubernetesDcs;

use super::kube_api::{KubeApi, Options};
use super::{SOON, Through, World, eventually, kubernetes_config, timing};

/// What this thread logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nothing panics with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nothing panics with it")).into_owned()
    }
}

/// A real server that is old enough, else the one in this process.
fn world() -> World {
    let world = World::open();
    if !world.api.serves("endpointslices") {
        return world;
    }
    World::around(KubeApi::stand_in(Options { without: "discovery.k8s.io", ..Options::loopback() }))
}

#[tokio::test]
async fn a_server_without_slices_is_told_by_resource_and_version() {
    let (world, log) = (world(), Log::default());
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let path = world.kubeconfig("n1", world.api.admin(), Through::Nothing);
    let config = kubernetes_config::by_default(StateObjects::Leases, path);
    let member = KubernetesDcs::member(&config, "demo", "n1".into(), timing(30), None);
    let lock = member.acquire(LockSeen::default(), SOON).await.expect("the server answers");
    assert!(lock.is_held(), "the lock needs no slice");
    eventually("it is told", async || log.text().contains("the Service does not lead here")).await;
    let told = log.text();
    assert!(told.contains("the API server has no endpointslices of discovery.k8s.io/v1"), "{told}");
    assert!(told.contains("Kubernetes 1.21"), "{told}");
    assert!(member.renew(None, None, SOON).await.expect("the server answers").is_held());
    member.release(None, None, Duration::from_secs(5)).await.expect("the server answers");
    assert!(!log.text().contains("still leads here"), "{}", log.text());
    assert_eq!(world.api.get("leases", "demo", "demo").expect("it is there")["spec"].get("holderIdentity"), None);
    member.remove_cluster(SOON).await.expect("nothing of it can be a slice");
    assert!(world.api.get("leases", "demo", "demo").is_none());
}

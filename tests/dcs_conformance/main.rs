//! What every backend of the DCS must do, asked of the in-process store, of a real etcd and of an API server of Kubernetes
//! alike.
//!
//! The cases are in `dcs_conformance/`; here stand the worlds that they run in. The in-process store runs on tokio's paused
//! clock, the others on the real one.

mod documents;
#[path = "../support/etcd.rs"]
mod etcd;
#[path = "../support/kube_api/mod.rs"]
mod kube_api;
mod kubernetes;
#[path = "../support/kubernetes_config.rs"]
mod kubernetes_config;
mod lock;
#[path = "../support/wait.rs"]
mod wait;
mod watching;

use std::time::Duration;

use etcd_client::{Client, GetOptions};
use serde_json::{Value, json};
use tamada::core::policy::Timing;
use tamada::core::units::Lsn;
use tamada::core::view::ClusterStatus;
use tamada::dcs::codec::base_path;
use tamada::dcs::etcd::EtcdDcs;
use tamada::dcs::memory::{Backup, MemoryDcs, MemoryStore};
use tamada::dcs::{Dcs, LeaseToken};

use wait::SOON;

/// Waits until it is so.
async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    wait::within(SOON, what, holds).await;
}

/// A store, members of it, and a back door.
trait World {
    type Dcs: Dcs;
    /// Whether keys are annotations of objects: no record expires, each renewal of the lock is a change that others see, a
    /// lock that is free has a version, and a document without a field is like none.
    const ANNOTATIONS: bool = false;
    async fn open() -> Self;
    /// A handle as a process of this name would have it, going on with `lease`.
    fn resume(&self, name: &str, timing: Timing, lease: Option<&LeaseToken>) -> Self::Dcs;
    fn member(&self, name: &str) -> Self::Dcs {
        self.resume(name, timing(30), None)
    }
    async fn put(&mut self, path: &str, value: &str);
    async fn delete(&mut self, path: &str);
    async fn get(&mut self, path: &str) -> Option<String>;
    /// The store is empty from now on, and counts from the beginning.
    async fn wipe(&mut self);
}

struct Memory(MemoryStore);

impl World for Memory {
    type Dcs = MemoryDcs;
    async fn open() -> Self {
        Memory(MemoryStore::new())
    }
    fn resume(&self, name: &str, timing: Timing, lease: Option<&LeaseToken>) -> MemoryDcs {
        MemoryDcs::resume(&self.0, name.into(), timing, lease)
    }
    async fn put(&mut self, path: &str, value: &str) {
        self.0.put_raw(path, value);
    }
    async fn delete(&mut self, path: &str) {
        self.0.delete_raw(path);
    }
    async fn get(&mut self, path: &str) -> Option<String> {
        self.0.get_raw(path)
    }
    async fn wipe(&mut self) {
        self.0.restore(Backup::default());
    }
}

struct RealEtcd {
    etcd: etcd::Etcd,
    client: Client,
}

fn key(path: &str) -> String {
    format!("{}/{path}", base_path("service", "demo"))
}

impl World for RealEtcd {
    type Dcs = EtcdDcs;
    async fn open() -> Self {
        let etcd = etcd::Etcd::start();
        let client = etcd.client().await;
        RealEtcd { etcd, client }
    }
    fn resume(&self, name: &str, timing: Timing, lease: Option<&LeaseToken>) -> EtcdDcs {
        let base = base_path("service", "demo");
        EtcdDcs::member(&self.etcd.config(), &base, name.into(), timing, lease).expect("the configuration is complete")
    }
    async fn put(&mut self, path: &str, value: &str) {
        self.client.put(key(path), value, None).await.expect("etcd answers");
    }
    async fn delete(&mut self, path: &str) {
        self.client.delete(key(path), None).await.expect("etcd answers");
    }
    async fn get(&mut self, path: &str) -> Option<String> {
        let answer = self.client.get(key(path), Some(GetOptions::new())).await.expect("etcd answers");
        answer.kvs().first().map(|kv| kv.value_str().expect("the values are text").to_owned())
    }
    async fn wipe(&mut self) {
        self.etcd.kill(0);
        self.etcd.lose_data(0);
        self.etcd.restart(0);
        self.client = self.etcd.client().await;
    }
}

fn timing(ttl: u64) -> Timing {
    let seconds = Duration::from_secs;
    Timing { ttl: seconds(ttl), loop_wait: seconds(1), retry_timeout: seconds(5), reset_before: Duration::ZERO }
}

fn record(state: &str) -> Value {
    json!({"conn_url": "postgres://h:5432/postgres", "api_url": "http://h:8008/patroni", "state": state,
           "role": "replica", "version": "4.1.5", "tamada": "0"})
}

fn status(optime: u64) -> ClusterStatus {
    ClusterStatus { optime: Some(Lsn(optime)), ..ClusterStatus::default() }
}

/// The same case in every world.
macro_rules! in_every_world {
    ($($module:ident::$case:ident;)*) => {
        mod memory {
            $(#[tokio::test(start_paused = true)]
            async fn $case() {
                super::$module::$case::<super::Memory>().await;
            })*
        }
        mod real_etcd {
            $(#[tokio::test]
            async fn $case() {
                super::$module::$case::<super::RealEtcd>().await;
            })*
        }
        mod endpoints {
            $(#[tokio::test]
            async fn $case() {
                super::$module::$case::<super::kubernetes::OnEndpoints>().await;
            })*
        }
        mod leases {
            $(#[tokio::test]
            async fn $case() {
                super::$module::$case::<super::kubernetes::OnLeases>().await;
            })*
        }
        mod config_maps {
            $(#[tokio::test]
            async fn $case() {
                super::$module::$case::<super::kubernetes::OnConfigMaps>().await;
            })*
        }
    };
}

in_every_world! {
    lock::exactly_one_of_many_racers_gets_the_lock;
    lock::a_lock_without_renewal_is_free_after_its_ttl_and_so_is_the_record;
    lock::a_free_lock_is_not_taken_by_what_was_read_before_another_led;
    lock::renewal_notices_that_the_key_was_deleted;
    lock::renewal_notices_that_the_key_was_overwritten;
    lock::our_name_on_another_lease_is_anothers_lock;
    lock::a_second_process_goes_on_with_the_lease_of_the_first;
    lock::a_lease_that_is_gone_is_replaced;
    lock::a_new_ttl_keeps_lock_and_record;
    lock::release_gives_up_the_lock_and_leaves_the_last_status;
    lock::releasing_what_is_not_ours_changes_nothing;
    documents::a_missing_key_is_created_once;
    documents::only_one_of_two_writers_of_a_revision_wins;
    documents::what_a_leader_writes_is_refused_once_the_lock_is_another_ones;
    documents::the_synchronous_standbys_are_the_leaders_to_write;
    documents::writes_without_a_condition_and_deletions_work;
    documents::a_renewal_writes_the_status_when_it_differs;
    documents::a_renewal_writes_our_record_while_the_lock_is_ours_and_on_our_lease;
    documents::a_record_is_restored_when_it_was_removed;
    documents::a_decision_of_before_a_loss_of_the_stores_data_writes_nothing;
    documents::every_document_arrives_in_the_snapshot;
    documents::everything_of_the_cluster_is_removed;
    watching::others_changes_wake_and_own_ones_do_not;
    watching::what_nobody_acts_on_does_not_wake;
    watching::status_wakes_beside_a_patroni_member;
    watching::what_happened_before_the_call_wakes_at_once;
    watching::an_expired_lock_wakes;
}

//! Settings that Patroni has and this version does not implement. None is silently ignored: one on which data or
//! availability depend is an error, any other a warning, both by name.

use serde_json::Value;

use super::error::{ConfigError, Reported};
use super::reader::Reader;
use crate::core::policy::Mode;

/// Sections of DCSs that are not supported, with what to use instead.
const STORES: [(&str, &str); 5] = [
    ("consul", "PATRONI_ETCD3_*: Consul is not supported yet"),
    (
        "etcd",
        "PATRONI_ETCD3_*: only etcd's v3 API is supported, and keys written through the v2 API are invisible to it",
    ),
    ("exhibitor", "PATRONI_ETCD3_*: Exhibitor is not supported yet"),
    ("raft", "PATRONI_ETCD3_*: Raft is not supported yet"),
    ("zookeeper", "PATRONI_ETCD3_*: ZooKeeper is not supported yet"),
];

/// Local settings that are only warned about.
const WARNED: [&str; 11] = [
    "etcd3.srv_suffix",
    "bootstrap.users",
    "postgresql.parameters_primary",
    "postgresql.parameters_replica",
    "postgresql.pg_hba_primary",
    "postgresql.pg_hba_replica",
    "postgresql.parameters_standby_leader",
    "postgresql.pg_hba_standby_leader",
    "postgresql.pg_ident_primary",
    "postgresql.pg_ident_replica",
    "postgresql.pg_ident_standby_leader",
];

/// Known, and without any effect here.
const ACCEPTED: [&str; 4] =
    ["thread_pool_size", "thread_stack_size", "restapi.thread_pool_size", "environment.configuration"];

/// Settings of the cluster that a node's own configuration cannot set.
const CLUSTER_ONLY: [&str; 17] = [
    "ttl",
    "loop_wait",
    "retry_timeout",
    "maximum_lag_on_failover",
    "maximum_lag_on_syncnode",
    "primary_start_timeout",
    "primary_stop_timeout",
    "synchronous_mode",
    "synchronous_mode_strict",
    "synchronous_node_count",
    "failsafe_mode",
    "check_timeline",
    "pause",
    "slots",
    "ignore_slots",
    "standby_cluster",
    "postgresql.use_slots",
];

/// Settings of `postgresql` that a single server does not have: its files are the user's.
const NOT_OF_A_SINGLE_SERVER: [&str; 5] = ["pg_hba", "pg_ident", "recovery_conf", "use_slots", "use_pg_rewind"];

/// A variable of a section that is not supported is an error.
pub(super) fn refuse_variable(reader: &mut Reader<'_>, name: &str) -> Option<Reported> {
    let upper = name.to_ascii_uppercase();
    let section = upper.strip_prefix("PATRONI_").and_then(|rest| rest.split('_').next()).unwrap_or_default();
    if section == "CITUS" {
        let advice = "no Citus: this version does not set up its coordinator and workers";
        return Some(reader.report.error(ConfigError::new(name, "set", advice)));
    }
    let (_, advice) = STORES.iter().find(|(store, _)| store.eq_ignore_ascii_case(section))?;
    Some(reader.report.error(ConfigError::new(name, "set", *advice)))
}

/// Each DCS that a document names and that is not supported is an error.
pub(super) fn refuse_stores(reader: &mut Reader<'_>) -> Option<Reported> {
    let mut refused = None;
    for (store, advice) in STORES {
        if reader.document.get(store).is_some() {
            let _asked = reader.value(store);
            refused = Some(reader.error(store, format!("a section {store}"), advice));
        }
    }
    refused
}

pub(super) fn check(reader: &mut Reader<'_>, mode: Mode) {
    for path in ACCEPTED {
        let _asked = reader.value(path);
    }
    for path in WARNED {
        let is_off = |value: &Value| super::reader::as_switch(value).is_some_and(|switch| !switch.is_on());
        if reader.value(path).is_some_and(|value| !is_off(value)) {
            warn(reader, path);
        }
    }
    for path in CLUSTER_ONLY {
        if reader.value(path).is_some() {
            let place = reader.document.origin(path);
            let text =
                "has no effect in a node's own configuration; its place is bootstrap.dcs, or the cluster's /config";
            reader.report.warn(format!("{path} of {place} {text}"));
        }
    }
    if mode == Mode::Single {
        single(reader);
    }
    replica_methods(reader);
    if let Some(method) = reader.text("bootstrap.method")
        && method != "initdb"
    {
        let _asked = reader.value(&format!("bootstrap.{method}"));
        let advice = "initdb: other methods are not implemented yet, and an empty cluster in place of a restored one \
                      would be wrong";
        reader.wrong("bootstrap.method", advice);
    }
    if reader.value("citus").is_some() {
        reader.error("citus", "a section citus", "no Citus: this version does not set up its coordinator and workers");
    }
}

fn warn(reader: &mut Reader<'_>, path: &str) {
    let place = reader.document.place(path);
    reader.report.warn(format!("{place}: this setting is not implemented yet and has no effect"));
}

fn single(reader: &mut Reader<'_>) {
    let paths = NOT_OF_A_SINGLE_SERVER
        .iter()
        .flat_map(|key| ["", "bootstrap.dcs."].map(|above| format!("{above}postgresql.{key}")));
    for path in paths.filter(|path| reader.document.get(path).is_some_and(|value| !value.is_null())) {
        let place = reader.document.place(&path);
        let text = "has no effect on a single server, whose pg_hba.conf, pg_ident.conf and postgresql.conf are yours";
        reader.report.warn(format!("{place} {text}"));
    }
}

fn replica_methods(reader: &mut Reader<'_>) {
    for path in ["postgresql.create_replica_methods", "postgresql.create_replica_method"] {
        let methods = reader.list(path).unwrap_or_default();
        let others: Vec<&String> = methods.iter().filter(|method| *method != "basebackup").collect();
        if !others.is_empty() {
            let place = reader.document.place(path);
            reader
                .report
                .warn(format!("{place}: replicas are made by basebackup only; other methods have no effect yet"));
        }
        for method in others {
            let _asked = reader.value(&format!("postgresql.{method}"));
        }
    }
}

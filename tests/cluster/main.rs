//! Whole clusters on real parts: the binary as PID 1 of namespaces of its own, etcd and PostgreSQL, and every kind of
//! fault. Needs root, for the namespaces; members drop to the user postgres by themselves.
//!
//! Each test has its own etcd, folders and ports. Times that are asserted are about three times what was measured on two
//! busy cores.

mod adoption;
mod agent;
mod amnesia;
mod bad_input;
mod beside_patroni;
mod bootstrap;
#[path = "../support/certs.rs"]
mod certs;
mod checks;
mod cluster_wide;
#[path = "../support/etcd.rs"]
mod etcd;
mod failover;
mod file;
mod fingerprint;
mod hooks;
mod http;
mod idle;
mod in_pods;
#[path = "../support/kube_api/mod.rs"]
mod kube_api;
mod kubernetes;
mod kubernetes_bench;
mod kubernetes_faults;
mod load;
mod logs;
mod member;
mod names;
mod ordered;
mod outage;
mod passwords;
mod pods;
mod processes;
mod proxy;
mod rejoin;
mod renewals;
mod settings;
mod single;
mod slots;
mod space;
mod sql;
mod standby_cluster;
mod synchronous;
mod tags;
#[path = "../support/wait.rs"]
mod wait;
mod watchdog;
mod world;

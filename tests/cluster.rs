//! Whole clusters on real parts: the binary as PID 1 of namespaces of its own, etcd and PostgreSQL, and every kind of
//! fault. Needs root, for the namespaces; members drop to the user postgres by themselves.
//!
//! Each test has its own etcd, folders and ports. Times that are asserted are about three times what was measured on two
//! busy cores.

#[path = "cluster/adoption.rs"]
mod adoption;
#[path = "cluster/agent.rs"]
mod agent;
#[path = "cluster/bad_input.rs"]
mod bad_input;
#[path = "cluster/bootstrap.rs"]
mod bootstrap;
#[path = "support/certs.rs"]
mod certs;
#[path = "support/etcd.rs"]
mod etcd;
#[path = "cluster/failover.rs"]
mod failover;
#[path = "cluster/file.rs"]
mod file;
#[path = "cluster/fingerprint.rs"]
mod fingerprint;
#[path = "cluster/http.rs"]
mod http;
#[path = "cluster/load.rs"]
mod load;
#[path = "cluster/logs.rs"]
mod logs;
#[path = "cluster/member.rs"]
mod member;
#[path = "cluster/outage.rs"]
mod outage;
#[path = "cluster/passwords.rs"]
mod passwords;
#[path = "cluster/processes.rs"]
mod processes;
#[path = "cluster/proxy.rs"]
mod proxy;
#[path = "cluster/rejoin.rs"]
mod rejoin;
#[path = "cluster/renewals.rs"]
mod renewals;
#[path = "cluster/settings.rs"]
mod settings;
#[path = "cluster/single.rs"]
mod single;
#[path = "cluster/sql.rs"]
mod sql;
#[path = "cluster/tags.rs"]
mod tags;
#[path = "cluster/wait.rs"]
mod wait;
#[path = "cluster/world.rs"]
mod world;

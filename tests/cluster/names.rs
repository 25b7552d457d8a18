//! Members that are known by name: whose name is looked up, and when.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};

use nix::sys::signal::Signal;

use crate::etcd::own_host;
use crate::processes;
use crate::wait::{always, seconds, until};
use crate::world::{Cluster, SOON};

const CONNINFO: &str = "SELECT current_setting('primary_conninfo')";
/// What is left of the lease at most, and what an election takes.
const NODE_LOSS: u64 = 5 + 5;

/// Two members that announce names, which a file of the test's resolves; whatever it does not know is asked of
/// `resolver`.
fn named(resolver: &str) -> Cluster {
    let mut cluster = Cluster::prepare(2);
    let resolv = cluster.folder.path().join("resolv.conf");
    fs::write(&resolv, format!("{resolver}\n")).expect("a file");
    let hosts = cluster.folder.path().join("hosts");
    for member in &mut cluster.members {
        let address = format!("{}:{}", host_name(&member.name), member.sql.port());
        member.set("PATRONI_POSTGRESQL_CONNECT_ADDRESS", &address);
        member.before = format!(
            "mount --bind {} /etc/hosts && mount --bind {} /etc/resolv.conf",
            hosts.display(),
            resolv.display()
        );
    }
    resolve(&cluster, &[("m1", own_host()), ("m2", own_host())]);
    cluster
}

fn host_name(member: &str) -> String {
    format!("{member}.cluster.test")
}

/// From now on, for all members.
fn resolve(cluster: &Cluster, known: &[(&str, Ipv4Addr)]) {
    let lines = known.iter().map(|(member, address)| format!("{address} {}\n", host_name(member)));
    let text = ["127.0.0.1 localhost\n".to_owned()].into_iter().chain(lines).collect::<String>();
    fs::write(cluster.folder.path().join("hosts"), text).expect("a file");
}

fn has_address(cluster: &Cluster, at: usize, address: Ipv4Addr) -> bool {
    let upstream = host_name(&cluster.members[1 - at].name);
    cluster.members[at]
        .value(CONNINFO)
        .is_ok_and(|text| text.contains(&format!(" host={upstream} hostaddr={address} ")))
}

#[test]
fn a_name_that_is_gone_delays_no_promotion() {
    // It takes questions and answers none.
    let silent = UdpSocket::bind((own_host(), 53)).expect("tests run as root");
    let mut cluster = named(&format!("nameserver {}\noptions timeout:10 attempts:3", own_host()));
    cluster.start_all();
    let (old, _) = cluster.whole(seconds(40));
    let standby = 1 - old;
    assert!(has_address(&cluster, standby, own_host()), "{}", cluster.members[standby].must(CONNINFO));

    // Nor does an agent that begins anew, and knows the address from the server alone, change anything.
    resolve(&cluster, &[]);
    let loaded = cluster.members[standby].must("SELECT pg_conf_load_time()");
    let agent = cluster.members[standby].agent().expect("it runs");
    processes::signal(agent, Signal::SIGKILL);
    until(SOON, "another agent", || cluster.members[standby].agent().is_some_and(|another| another != agent));
    cluster.whole(SOON);
    always(seconds(3), "nothing is loaded", || {
        cluster.members[standby].value("SELECT pg_conf_load_time()").is_ok_and(|now| now == loaded)
    });

    cluster.members[old].kill();
    let (new, took) = cluster.primary(seconds(NODE_LOSS));
    println!("a new primary after {took:?}");
    assert_eq!(new, standby);
    drop(silent);
}

#[test]
fn a_leader_that_comes_back_with_another_address_is_followed() {
    // Nobody listens there.
    let mut cluster = named("nameserver 127.0.0.1");
    cluster.members[1].set("PATRONI_TAGS", "{nofailover: true}");
    cluster.start_all();
    assert_eq!(cluster.whole(seconds(40)).0, 0);
    assert!(has_address(&cluster, 1, own_host()), "{}", cluster.members[1].must(CONNINFO));

    cluster.members[0].kill();
    // For a while nobody knows the name.
    resolve(&cluster, &[("m2", own_host())]);
    always(seconds(3), "the address known last stays", || has_address(&cluster, 1, own_host()));
    let [first, second, third, fourth] = own_host().octets();
    let other = Ipv4Addr::new(first, second | 128, third, fourth);
    resolve(&cluster, &[("m1", other), ("m2", own_host())]);
    let leader = &mut cluster.members[0];
    leader.sql.set_ip(other.into());
    let listen = leader.sql.to_string();
    leader.set("PATRONI_POSTGRESQL_LISTEN", &listen).start();
    assert_eq!(cluster.whole(SOON).0, 0);
    assert!(has_address(&cluster, 1, other), "{}", cluster.members[1].must(CONNINFO));
    let loaded = cluster.members[1].must("SELECT pg_conf_load_time()");
    always(seconds(3), "nothing is loaded again", || {
        cluster.members[1].value("SELECT pg_conf_load_time()").is_ok_and(|now| now == loaded)
    });
}

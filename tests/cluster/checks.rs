//! What load balancers are told while the leader's server is down.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use crate::processes::signal;
use crate::wait::{always, seconds, until};
use crate::world::{Cluster, SOON};

#[test]
fn a_leader_whose_server_cannot_start_is_no_primary() {
    let mut cluster = Cluster::prepare(1);
    cluster.set("PATRONI_PRIMARY_START_TIMEOUT", "10");
    cluster.start_all();
    cluster.whole(seconds(40));
    let member = &mut cluster.members[0];
    let code = |path: &str, member: &crate::member::Member| member.get(path).map_or(0, |reply| reply.code);
    let paths = ["/primary", "/", "/leader", "/read-write", "/readiness"];
    for path in paths {
        assert_eq!(code(path, member), 200, "{path}");
    }
    let control = member.data().join("global/pg_control");
    set_permissions(&control, Permissions::from_mode(0o000)).expect("the file is there");
    signal(member.postmaster().expect("it runs"), Signal::SIGKILL);
    until(seconds(5), "the crash to be noticed", || code("/primary", member) == 503);
    // Beyond primary_start_timeout, and as long as pauses that grow need to be longer than what is waited for below.
    always(seconds(18), "a server that is down is no primary", || paths.iter().all(|path| code(path, member) == 503));
    set_permissions(&control, Permissions::from_mode(0o600)).expect("the file is there");
    let took = until(seconds(8), "the primary, soon after the file is back", || code("/primary", member) == 200);
    println!("primary again {took:?} after the file was back");
    member.wait_writable(SOON);
    assert_eq!(member.stop(), 0);
}

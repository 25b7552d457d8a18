//! What PID 1 keeps of root's rights, and what nobody below it can come by.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::world::{Namespace, Setup, World};

/// KILL, SETGID, SETUID.
const KEPT: u64 = 0b1110_0000;

fn status(pid: i32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t").map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {field} in {text}"))
}

fn capabilities(pid: i32, field: &str) -> u64 {
    u64::from_str_radix(&status(pid, field), 16).expect("a mask")
}

fn agent_and_postmaster(world: &World) -> [i32; 2] {
    let agent = world.outside(world.agent_start(1).pid());
    [agent, world.tree()[0]]
}

pub fn children_cannot_gain_privileges_and_pid_1_keeps_few() {
    let world = Setup::new(Namespace::Own).start(&["tree"]);
    for pid in agent_and_postmaster(&world) {
        assert_eq!(status(pid, "NoNewPrivs"), "1");
        for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(capabilities(pid, field), 0, "{field}");
        }
    }
    assert_eq!(capabilities(world.init, "CapPrm"), KEPT);
    assert_eq!(capabilities(world.init, "CapEff"), KEPT);
    assert_eq!(capabilities(world.init, "CapBnd"), 0);
}

pub fn a_setuid_program_works_only_where_hooks_are_to_use_sudo() {
    for (value, gained) in [("", false), ("on", false), ("false", true)] {
        let setup = Setup::new(Namespace::Own).env("TAMADA_NO_NEW_PRIVS", value);
        let program = setup.folder().join("id");
        fs::copy("/usr/bin/id", &program).expect("coreutils are there");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("ours");
        let world = setup.start(&["run=id"]);
        let agent = world.agent_start(1);
        let uid = world.read("run.out").trim().to_owned();
        assert_eq!(uid == "0", gained, "TAMADA_NO_NEW_PRIVS={value}: {uid}");
        assert!(gained || uid == agent.field("uid"), "{uid}");
    }
}

pub fn any_user_number_gains_nothing_either() {
    let user = ["setpriv", "--reuid", "54322", "--regid", "54322", "--clear-groups"];
    let world = Setup::new(Namespace::Own).through(&user).start(&["tree"]);
    for pid in agent_and_postmaster(&world) {
        assert_eq!((status(pid, "NoNewPrivs").as_str(), capabilities(pid, "CapEff")), ("1", 0));
    }
}

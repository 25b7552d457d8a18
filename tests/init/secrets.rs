//! Who sees what of the environment.

use std::fs;

use crate::world::{Namespace, Setup, World, visible_to_us};

const SECRET: &str = "s3cr3t-Qm9";

fn world(setup: Setup) -> World {
    let names = ["PATRONI_SUPERUSER_PASSWORD", "POSTGRES_PASSWORD", "TAMADA_TOKEN", "PGPASSWORD", "NOTIFY_SOCKET"];
    let setup = names.iter().fold(setup, |setup, name| setup.env(name, SECRET));
    setup.env("LANG", "C.UTF-8").start(&["tree"])
}

fn inside_nobody_sees_it(world: &World) {
    assert_eq!(world.agent_start(1).field("secret"), SECRET, "the agent itself gets it");
    world.tree();
    let seen = world.read("seen");
    assert!(seen.contains("cmdline"), "the postmaster did look: {seen}");
    assert!(seen.contains("LANG=C.UTF-8"), "the rest is left: {seen}");
    assert!(!seen.contains(SECRET), "{seen}");
    let hidden = |pid: &str| !seen.lines().any(|line| line.starts_with(&format!("{pid} environ")));
    assert!(hidden("1"), "{seen}");
    assert!(hidden(&world.agent_start(1).pid().to_string()), "{seen}");
}

pub fn no_process_shows_a_secret_to_the_agents_user_nor_to_root() {
    let world = world(Setup::new(Namespace::Own));
    inside_nobody_sees_it(&world);
    let pids: Vec<String> = world.processes().values().map(|process| process.pid.to_string()).collect();
    assert_eq!(pids.len(), 8, "PID 1, agent, postmaster, five backends");
    for (pid, file, content) in visible_to_us() {
        assert!(!pids.contains(&pid) || !content.contains(SECRET), "{pid} {file} {content}");
    }
    let environment = fs::read_to_string(format!("/proc/{}/environ", world.init)).expect("root reads it");
    assert!(environment.contains("LANG=C.UTF-8") && !environment.contains("TAMADA_TEST_FOLDER"), "{environment}");
}

pub fn any_user_number_will_do() {
    let user = ["setpriv", "--reuid", "54322", "--regid", "54322", "--clear-groups"];
    let world = world(Setup::new(Namespace::Own).through(&user));
    assert_eq!(world.agent_start(1).field("uid"), "54322");
    inside_nobody_sees_it(&world);
}

//! Who sees what of the environment.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
    // Root sees memory files; nobody sees environment or arguments.
    for (pid, file, content) in visible_to_us().into_iter().filter(|(_, file, _)| *file != "fd") {
        assert!(!pids.contains(&pid) || !content.contains(SECRET), "{pid} {file} {content}");
    }
    let environment = fs::read_to_string(format!("/proc/{}/environ", world.init)).expect("root reads it");
    assert!(environment.contains("LANG=C.UTF-8") && !environment.contains("TAMADA_TEST_FOLDER"), "{environment}");
}

pub fn files_that_only_root_can_read_reach_the_agent_and_nobody_else() {
    let setup = Setup::new(Namespace::Own);
    let file = |name: &str, mode: u32, owner: u32| {
        let path = setup.folder().join(name);
        fs::write(&path, format!("{SECRET} in {name}")).expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        chown(&path, Some(owner), Some(owner)).expect("root");
        path
    };
    let postgres = nix::unistd::User::from_name("postgres").expect("readable").expect("there").uid.as_raw();
    let given = [
        ("PATRONI_SUPERUSER_PASSWORD_FILE", file("password", 0o400, 0)),
        ("PATRONI_ETCD3_KEY", file("key", 0o400, 0)),
        ("PATRONI_REPLICATION_PASSWORD_FILE", file("readable", 0o444, 0)),
        ("PATRONI_REWIND_PASSWORD_FILE", file("its-own", 0o400, postgres)),
    ];
    let missing = setup.folder().join("missing");
    let setup = given.iter().fold(setup, |setup, (name, path)| setup.env(name, path));
    let world = setup.env("PATRONI_RESTAPI_PASSWORD_FILE", missing).start(&["tree"]);
    let check = |count: usize| {
        let agent = world.agent_start(count);
        let files = world.read("files");
        for (name, path) in &given {
            let line = format!("{name} {SECRET} in {}", path.file_name().expect("a file").display());
            assert_eq!(files.lines().filter(|other| **other == line).count(), count, "{files}");
        }
        agent
    };
    let agent = check(1);
    world.tree();
    let seen = world.read("seen");
    assert!(!seen.contains(SECRET), "{seen}");
    kill(Pid::from_raw(world.outside(agent.pid())), Signal::SIGKILL).expect("it runs");
    check(2);
}

pub fn libpqs_variables_reach_nobody_and_are_named_once() {
    let (reader, writer) = std::io::pipe().expect("a descriptor");
    let withheld = ["PGSSLMODE", "PGREQUIREAUTH", "PGTZ", "PGSERVICEFILE"];
    let setup = Setup::new(Namespace::Own);
    // PID 1 makes it, so it has to be ours.
    let data = setup.folder().join("data").display().to_string();
    let left = [("PGDATA", data.as_str()), ("PGBACKREST_STANZA", "main")];
    let setup = withheld.iter().fold(setup.stderr(writer), |setup, name| setup.env(name, "x"));
    let setup = left.iter().fold(setup.env("PGHOST", ""), |setup, (name, value)| setup.env(name, value));
    let mut world = setup.start(&["tree"]);
    world.agent_start(1);
    world.tree();
    let seen = world.read("seen");
    assert!(left.iter().all(|(name, value)| seen.contains(&format!("{name}={value}"))), "{seen}");
    assert!(withheld.iter().all(|name| !seen.contains(name)), "{seen}");
    world.signal(Signal::SIGTERM);
    world.end();
    drop(world);
    let log = std::io::read_to_string(reader).expect("UTF-8");
    let told: Vec<&str> = log.lines().filter(|line| line.contains("libpq")).collect();
    assert!(told.len() == 1 && withheld.iter().all(|name| told[0].contains(name)), "{log}");
    assert!(!log.contains("PGHOST") && !told[0].contains("PGDATA"), "an empty variable sets nothing: {log}");
}

pub fn any_user_number_will_do() {
    let user = ["setpriv", "--reuid", "54322", "--regid", "54322", "--clear-groups"];
    let world = world(Setup::new(Namespace::Own).through(&user));
    assert_eq!(world.agent_start(1).field("uid"), "54322");
    inside_nobody_sees_it(&world);
}

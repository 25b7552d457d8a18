//! What PID 1 does as root before the agent starts, and what it costs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::world::{Namespace, Setup, World, start};

/// A volume as a fresh container finds it: its own mount, root's, with these files in it.
fn volume(setup: Setup, prepare: &str) -> Setup {
    let script = format!(r#"mount -t tmpfs tmpfs "$TAMADA_TEST_FOLDER/volume" && {prepare} && exec "$@""#);
    fs::create_dir(setup.folder().join("volume")).expect("writable");
    setup.through(&["sh", "-c", &script, "sh"])
}

/// Owner and mode of a path in PID 1's mount namespace.
fn owner_and_mode(world: &World, path: &str) -> (u32, u32) {
    let path = format!("/proc/{}/root{}/{path}", world.init, world.folder.path().display());
    let file = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    (file.uid(), file.permissions().mode() & 0o7777)
}

fn agents_uid(world: &World) -> u32 {
    world.agent_start(1).field("uid").parse().expect("a number")
}

pub fn prepares_a_fresh_volume_for_the_agents_user() {
    let setup = Setup::new(Namespace::Own);
    let data = setup.folder().join("volume/17/docker");
    let world = volume(setup.env("PGDATA", &data), "mkdir volume/lost+found 2>/dev/null || true").start(&[]);
    let postgres = agents_uid(&world);
    assert_ne!(postgres, 0);
    assert_eq!(owner_and_mode(&world, "volume").0, postgres);
    assert_eq!(owner_and_mode(&world, "volume/17").0, postgres);
    assert_eq!(owner_and_mode(&world, "volume/17/docker"), (postgres, 0o700));
    let sockets = fs::metadata(format!("/proc/{}/root/run/postgresql", world.init)).expect("made");
    assert_eq!((sockets.uid(), sockets.mode() & 0o7777), (postgres, 0o3777));
}

pub fn leaves_what_is_not_a_data_directory_alone() {
    // Data of another user number are given over; somebody's files are not; a link of the agent's user leads nowhere.
    let setup = Setup::new(Namespace::Own);
    let folder = setup.folder().to_owned();
    let make = |path: &str, file: &str, uid: u32| {
        fs::create_dir(folder.join(path)).expect("writable");
        fs::write(folder.join(path).join(file), "17").expect("writable");
        for path in [folder.join(path), folder.join(path).join(file)] {
            chown(path, Some(uid), Some(uid)).expect("root");
        }
    };
    make("data", "PG_VERSION", 54323);
    let world = setup.env("PGDATA", folder.join("data")).start(&[]);
    let postgres = agents_uid(&world);
    assert_eq!(owner_and_mode(&world, "data"), (postgres, 0o700));
    assert_eq!(owner_and_mode(&world, "data/PG_VERSION").0, postgres);

    let refused = |name: &str| {
        let setup = Setup::new(Namespace::Own);
        let world = setup.env("PGDATA", folder.join(name)).start(&[]);
        world.agent_start(1);
        let path = Path::new(&folder).join(name);
        fs::metadata(path).expect("there").uid()
    };
    make("precious", "diary.txt", 54323);
    assert_eq!(refused("precious"), 54323);
    make("elsewhere", "PG_VERSION", 54323);
    std::os::unix::fs::symlink(folder.join("elsewhere"), folder.join("link")).expect("writable");
    std::os::unix::fs::lchown(folder.join("link"), Some(postgres), Some(postgres)).expect("root");
    assert_eq!(refused("link"), 54323);
}

pub fn stays_small() {
    let world = start(Namespace::Own, &["tree"]);
    world.agent_start(1);
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", world.init)).expect("root reads it");
    let kib = |name: &str| -> u64 {
        let line = rollup.lines().find(|line| line.starts_with(name)).expect("a field");
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
    };
    let private = kib("Private_Dirty:") + kib("Private_Clean:");
    println!("    PID 1: PSS {} KiB, private {private} KiB", kib("Pss:"));
    assert!(kib("Private_Dirty:") < 700, "{rollup}");
}

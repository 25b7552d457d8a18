//! What PID 1 does as root before the agent starts, and what it costs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::world::{Namespace, Setup, World, start};

/// A volume as a fresh container finds it: its own mount, root's, with these files in it.
fn volume(setup: Setup, prepare: &str) -> Setup {
    let script = format!(r#"mount -t tmpfs -o mode=755 tmpfs "$TAMADA_TEST_FOLDER/volume" && {prepare} && exec "$@""#);
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

pub fn prepares_the_wal_folder_as_it_does_the_data_directory() {
    // Both are volumes of their own, fresh, so root's.
    let prepare = |options: (&str, &str)| {
        let setup = Setup::new(Namespace::Own).env("POSTGRES_PASSWORD", "secret");
        let (data, wal) = (setup.folder().join("volume"), setup.folder().join("wal"));
        fs::create_dir(&wal).expect("writable");
        let script = r#"mount -t tmpfs -o mode=755 tmpfs "$TAMADA_TEST_FOLDER/wal" && exec "$@""#;
        let option = options.1.replace("WAL", wal.to_str().expect("ASCII"));
        let setup = setup.env("PGDATA", data.join("data")).env(options.0, option);
        volume(setup, "true").through(&["sh", "-c", script, "sh"]).start(&[])
    };
    for (name, value, folder) in [
        ("PATRONI_BOOTSTRAP_INITDB", "[waldir: WAL/data]", "wal/data"),
        ("PATRONI_POSTGRESQL_BASEBACKUP", "[waldir: WAL/data]", "wal/data"),
        ("PATRONI_CONFIGURATION", "{bootstrap: {initdb: [waldir: WAL]}}", "wal"),
        ("POSTGRES_INITDB_WALDIR", "WAL/of/this", "wal/of/this"),
    ] {
        let world = prepare((name, value));
        let postgres = agents_uid(&world);
        assert_eq!(owner_and_mode(&world, folder), (postgres, 0o700), "{name}");
        assert_eq!(owner_and_mode(&world, "wal").0, postgres, "{name}");
    }
}

/// What PID 1 logs of its preparations.
fn log_of(setup: Setup) -> String {
    let (reader, writer) = std::io::pipe().expect("a descriptor");
    let mut world = setup.stderr(writer).start(&["bye=0"]);
    let status = world.end();
    drop(world);
    let log = std::io::read_to_string(reader).expect("UTF-8");
    assert!(status.success(), "{log}");
    log
}

pub fn gives_no_directory_away_through_a_link() {
    // On /run, which the world's own script has mounted, everybody may write, as Docker's image and --tmpfs had it.
    for (lines, given, told) in [
        ("chmod 1777 /run; ln -s $F/precious /run/postgresql; chown -h postgres /run/postgresql", 0, "a link"),
        ("chmod 0777 /run; ln -s $F/precious /run/postgresql; chown -h postgres /run/postgresql", 0, "a link"),
        ("chmod 0777 /run; mkdir /run/precious; mv /run/precious /run/postgresql", 0, "others than root"),
        ("mkdir /run/postgresql", 1, ""),
    ] {
        let setup = Setup::new(Namespace::Own);
        let precious = setup.folder().join("precious");
        fs::create_dir(&precious).expect("writable");
        let script = format!(
            r#"F="$TAMADA_TEST_FOLDER"; {lines}; "$@"; stat -c %u /run/postgresql/ "$F/precious" >"$F/owners""#
        );
        let folder = setup.folder().to_owned();
        let (reader, writer) = std::io::pipe().expect("a descriptor");
        // Not PID 1 here, since the shell looks at what is left behind.
        let mut world = setup.stderr(writer).through(&["sh", "-c", &script, "sh"]).start(&["bye=0"]);
        world.end();
        let owners = fs::read_to_string(folder.join("owners")).expect("written by the script");
        drop(world);
        let log = std::io::read_to_string(reader).expect("UTF-8");
        let postgres = nix::unistd::User::from_name("postgres").expect("readable").expect("there").uid.to_string();
        let owners: Vec<&str> = owners.lines().collect();
        assert_eq!(owners, [if given == 1 { &postgres } else { "0" }, "0"], "{lines}: {log}");
        assert!(log.contains(told), "{lines}: {log}");
    }
}

pub fn warns_only_of_what_the_agent_cannot_do_itself() {
    let few = |capabilities: &str| ["setpriv".to_owned(), "--bounding-set".to_owned(), format!("-all,{capabilities}")];
    let log = |capabilities: &str, path: &str, prepare: &str| {
        let setup = Setup::new(Namespace::Own);
        let data = setup.folder().join(path);
        let few = few(capabilities);
        let words: Vec<&str> = few.iter().map(String::as_str).collect();
        let setup = volume(setup.env("PGDATA", &data), prepare).through(&words);
        let log = log_of(setup);
        log.lines()
            .filter(|line| line.contains("cannot prepare the") && line.contains("/volume"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let none: [String; 0] = [];
    let in_volume = r#"cd "$TAMADA_TEST_FOLDER/volume""#;
    for capabilities in
        ["+chown,+setgid,+setuid", "+chown,+fowner,+setgid,+setuid", "+chown,+dac_override,+setgid,+setuid"]
    {
        assert_eq!(log(capabilities, "volume/17/docker", "true"), none, "{capabilities}: missing");
        assert_eq!(log(capabilities, "volume/data", &format!("{in_volume} && mkdir data")), none, "{capabilities}");
        assert_eq!(log(capabilities, "volume", "true"), none, "{capabilities}: the mount point itself");
        let again = format!("{in_volume} && mkdir -m 700 17 && mkdir -m 700 17/docker && chown -R postgres .");
        assert_eq!(log(capabilities, "volume/17/docker", &again), none, "{capabilities}: a second start");
    }
    let open = "chmod 0777 $TAMADA_TEST_FOLDER/volume";
    assert_eq!(log("+setgid,+setuid", "volume/data", open), none, "everybody can make it");
    assert_eq!(log("+setgid,+setuid", "volume/data", "true").len(), 1, "nobody but root can make it");
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

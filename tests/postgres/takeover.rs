//! Data that we did not make: taken over as they are, or refused untouched.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tamada::config::Secret;
use tamada::core::local::{ClusterState, DataDir, Postgres, RecoverySignal, StartAs};
use tamada::core::policy::Switch;
use tamada::postgres::{Force, Instance};

use crate::installations::installations;
use crate::support::{LIMIT, Node, PASSWORD, desired, eventually, from_vars, on_every_version, pair, progress};

fn initdb(bin: &Path, data: &Path) {
    let done = Command::new(bin.join("initdb"))
        .args(["--no-sync", "--username=postgres", "--auth=trust", "-D"])
        .arg(data)
        .output()
        .expect("initdb");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn why_unusable(data: DataDir) -> String {
    match data {
        DataDir::Unusable(why) => why,
        DataDir::Empty | DataDir::Present(_) => panic!("{data:?} is usable"),
    }
}

fn names_in(dir: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = dir.read_dir().expect("read").flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

#[test]
fn data_of_another_major_version_are_refused_with_both_versions_and_stay_untouched() {
    let bin = installations().pop().expect("one");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let node = Node::new("n1", &bin);
        initdb(&bin, node.data_dir());
        let own = std::fs::read_to_string(node.data_dir().join("PG_VERSION")).expect("read");
        std::fs::write(node.data_dir().join("PG_VERSION"), "12\n").expect("written");
        let before = names_in(node.data_dir());
        let why = why_unusable(node.probe().await.data);
        assert!(why.contains("PostgreSQL 12") && why.contains(own.trim()), "{why}");
        assert!(node.postgres.bootstrap(progress()).await.is_err());
        assert_eq!(names_in(node.data_dir()), before);
    });
}

#[test]
fn a_base_backup_in_place_of_the_data_becomes_a_standby() {
    on_every_version(|bin| async move {
        let (primary, replica) = pair(&bin).await;
        replica.stop().await;
        std::fs::remove_dir_all(replica.data_dir()).expect("removed");
        let done = Command::new(bin.join("pg_basebackup"))
            .args(["-X", "stream", "-c", "fast", "-h", "127.0.0.1", "-U", "replicator", "-p"])
            .arg(primary.config.postgres.port.to_string())
            .arg("-D")
            .arg(replica.data_dir())
            .env("PGPASSWORD", PASSWORD)
            .output()
            .expect("pg_basebackup");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let DataDir::Present(data) = replica.probe().await.data else { panic!("there are data") };
        assert_eq!(data.signal, RecoverySignal::BackupLabel);
        assert_eq!(data.control.expect("it is stopped").state, ClusterState::InProduction);
        let error = replica.postgres.recover().await.expect_err("refused");
        assert!(error.to_string().contains("backup_label"), "{error}");
        primary.sql("INSERT INTO t VALUES (2)");
        replica.postgres.start(&StartAs::Standby(primary.as_upstream()), LIMIT).await.expect("started");
        eventually("it has what was written since", async || replica.sql("SELECT count(*) FROM t") == "2").await;
        let DataDir::Present(data) = replica.probe().await.data else { panic!("there are data") };
        assert_eq!(data.signal, RecoverySignal::Present);
    });
}

#[test]
fn nothing_is_initialised_beside_data_of_another_layout() {
    let bin = installations().pop().expect("one");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let of = |layout: &str| {
            let data = folder.path().join(layout);
            Node::changed("n1", &bin, |config| config.postgres.data_dir = data)
        };
        std::fs::create_dir(folder.path().join("data")).expect("made");
        std::fs::write(folder.path().join("data/PG_VERSION"), "17\n").expect("written");
        let error = of("18/docker").postgres.bootstrap(progress()).await.expect_err("refused").to_string();
        assert!(error.contains("PostgreSQL 17") && error.contains("18/docker"), "{error}");
        assert_eq!(names_in(folder.path()), ["data"], "nothing was made");
        std::fs::create_dir_all(folder.path().join("9")).expect("made");
        std::fs::rename(folder.path().join("data"), folder.path().join("9/docker")).expect("moved");
        assert!(of("data").postgres.bootstrap(progress()).await.is_err());
        assert_eq!(names_in(folder.path()), ["9"]);
    });
}

#[test]
fn what_is_not_postgresqls_or_cannot_be_read_or_written_is_refused_by_name() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        std::fs::create_dir(node.data_dir()).expect("made");
        std::fs::write(node.data_dir().join("letter.txt"), "dear").expect("written");
        let why = why_unusable(node.probe().await.data);
        assert!(why.contains("no readable PG_VERSION"), "{why}");
        assert!(node.postgres.bootstrap(progress()).await.is_err());
        assert_eq!(names_in(node.data_dir()), ["letter.txt"]);
        let allow = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(node.data_dir(), mode).expect("changed");
        };
        allow(0o000);
        let why = why_unusable(node.probe().await.data);
        assert!(why.contains("cannot be read"), "{why}");
        allow(0o700);
        std::fs::remove_file(node.data_dir().join("letter.txt")).expect("removed");
        initdb(&bin, node.data_dir());
        allow(0o500);
        let why = why_unusable(node.probe().await.data);
        assert!(why.contains("not writable"), "{why}");
        allow(0o700);
        assert!(matches!(node.probe().await.data, DataDir::Present(_)));
        // What was read from it before does not count.
        let control = node.data_dir().join("global/pg_control");
        std::fs::set_permissions(&control, std::fs::Permissions::from_mode(0o000)).expect("changed");
        let why = why_unusable(node.probe().await.data);
        assert!(why.contains("pg_control is absent or unreadable"), "{why}");
        std::fs::set_permissions(&control, std::fs::Permissions::from_mode(0o600)).expect("changed");
        assert!(matches!(node.probe().await.data, DataDir::Present(_)));
        std::fs::write(&control, "x").expect("written");
        let why = why_unusable(node.probe().await.data);
        assert!(why.contains("tamada reinit"), "{why}");
    });
}

#[test]
fn existing_data_keep_their_settings_and_roles_and_get_what_is_missing() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        initdb(&bin, node.data_dir());
        let conf = node.data_dir().join("postgresql.conf");
        let text = std::fs::read_to_string(&conf).expect("read");
        std::fs::write(&conf, text.clone() + "work_mem = '7MB'\nport = 1\n").expect("written");
        node.configure().await;
        node.postgres.start(&StartAs::Primary, LIMIT).await.expect("started");
        assert!(
            std::fs::read_to_string(node.data_dir().join("postgresql.base.conf")).expect("kept").starts_with(&text)
        );
        let session = |sql: &str| {
            let pid_file = std::fs::read_to_string(node.data_dir().join("postmaster.pid")).expect("it runs");
            let socket = pid_file.lines().nth(4).expect("the folder of its socket");
            let port = node.config.postgres.port.to_string();
            let done = Command::new("/usr/bin/psql")
                .args(["-XAtq", "-h", socket, "-p", &port, "-U", "postgres", "-d", "postgres", "-c", sql])
                .output()
                .expect("psql");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            String::from_utf8_lossy(&done.stdout).trim().to_owned()
        };
        assert_eq!(session("SHOW work_mem"), "7MB");
        session("CREATE ROLE replicator LOGIN REPLICATION PASSWORD 'of its own'");
        node.postgres.ensure_roles().await.expect("ensured");
        assert_eq!(node.psql("rewinder", "SELECT 1"), (true, "1".to_owned()));
        assert!(!node.psql("replicator", "SELECT 1").0, "its password is another and stays");
        let verifier = "SELECT rolpassword FROM pg_authid WHERE rolname = 'replicator'";
        let before = session(verifier);
        node.postgres.ensure_roles().await.expect("ensured again");
        assert_eq!(session(verifier), before);
    });
}

#[test]
fn a_single_server_is_a_plain_one_and_its_files_are_the_users() {
    on_every_version(|bin| async move {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let port = crate::support::free_port();
        let vars = [
            ("PGDATA", data.to_string_lossy().into_owned()),
            ("POSTGRES_PASSWORD", PASSWORD.to_owned()),
            ("POSTGRES_DB", "the \"app\"".to_owned()),
            ("PATRONI_POSTGRESQL_LISTEN", format!("127.0.0.1:{port}")),
            ("PATRONI_POSTGRESQL_BIN_DIR", bin.to_string_lossy().into_owned()),
            ("PATRONI_POSTGRESQL_PGPASS", folder.path().join("pgpass").to_string_lossy().into_owned()),
        ];
        let node = Node::changed("single", &bin, |config| *config = from_vars(&vars));
        node.postgres.bootstrap(progress()).await.expect("bootstrapped");
        assert_eq!(node.sql("SELECT count(*) FROM pg_roles WHERE rolname !~ '^pg_'"), "1", "no roles but the user's");
        assert_eq!(node.sql("SELECT pg_is_in_recovery()"), "f");
        assert_eq!(node.sql("SELECT count(*) FROM pg_database WHERE datname = 'the \"app\"'"), "1");
        node.stop().await;
        let names = names_in(&data);
        let ours: Vec<_> = names.iter().filter(|name| name.to_string_lossy().contains("base.conf")).collect();
        assert!(ours.is_empty() && !names.iter().any(|name| name.to_string_lossy().ends_with(".backup")), "{names:?}");
        let conf = data.join("postgresql.conf");
        let text = std::fs::read_to_string(&conf).expect("read") + "work_mem = '9MB'\n";
        std::fs::write(&conf, &text).expect("written");
        node.postgres.start(&StartAs::Primary, LIMIT).await.expect("started");
        assert_eq!(node.sql("SHOW work_mem"), "9MB");
        assert_eq!(std::fs::read_to_string(&conf).expect("read"), text);
        assert_eq!(node.sql("SELECT timeline_id FROM pg_control_checkpoint()"), "1");
        node.stop().await;
        assert_eq!(node.probe().await.postgres, Postgres::Stopped);
        crate::support::kill_below(&data);
    });
}

#[test]
fn a_bootstrap_that_fails_leaves_nothing_behind() {
    on_every_version(|bin| async move {
        let node = Node::changed("n1", &bin, |config| config.bootstrap.initdb.push("--encoding=nonsense".to_owned()));
        node.configure().await;
        let error = node.postgres.bootstrap(progress()).await.expect_err("initdb refuses");
        assert!(error.to_string().contains("nonsense"), "{error}");
        assert_eq!(node.probe().await.data, DataDir::Empty);
        let later = Node::changed("n2", &bin, |config| config.bootstrap.post_bootstrap = vec!["/bin/false".to_owned()]);
        later.configure().await;
        let error = later.postgres.bootstrap(progress()).await.expect_err("the hook fails");
        assert!(error.to_string().contains("post_bootstrap"), "{error}");
        let probe = later.probe().await;
        assert_eq!((probe.data, probe.postgres), (DataDir::Empty, Postgres::Stopped));
        for node in [&node, &later] {
            let left = names_in(node.folder.path());
            assert!(left.iter().all(|name| name == "run" || name == "data"), "{left:?}");
        }
        let quoted = Node::changed("n3", &bin, |config| {
            config.postgres.superuser.username = "o'brien".to_owned();
            config.postgres.superuser.password = Some(Secret::new("x"));
        });
        let error = quoted.postgres.bootstrap(progress()).await.expect_err("refused");
        assert!(error.to_string().contains("PATRONI_SUPERUSER_USERNAME"), "{error}");
    });
}

#[test]
fn post_bootstrap_is_told_where_the_server_is() {
    on_every_version(|bin| async move {
        for socket in [Switch::Off, Switch::On] {
            let told = tempfile::NamedTempFile::new().expect("a file");
            let node = Node::changed("n1", &bin, |config| {
                let script = format!("echo \"$1\" > {}", told.path().display());
                config.bootstrap.post_bootstrap = ["/bin/sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
                config.postgres.use_unix_socket = socket;
            });
            let sockets = node.folder.path().join("sockets");
            let mut wanted = desired();
            let setting = sockets.to_string_lossy().into_owned();
            wanted.server.parameters.insert("unix_socket_directories".to_owned(), setting.into());
            node.postgres.configure(&wanted, Force::No).await.expect("configured");
            node.postgres.bootstrap(progress()).await.expect("bootstrapped");
            let host = if socket.is_on() { sockets.display().to_string() } else { "localhost".to_owned() };
            let expected = format!("dbname=postgres user=postgres host={host} port={}", node.config.postgres.port);
            assert_eq!(std::fs::read_to_string(told.path()).expect("read").trim(), expected);
        }
    });
}

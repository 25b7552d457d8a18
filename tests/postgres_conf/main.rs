//! The configuration text against a real server: it starts with what was written, compares equal with what was wanted,
//! and its programs' output is read as meant.

#[path = "../support/installations.rs"]
mod installations;
mod server;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use tamada::config::{Credentials, Secret, ServerSettings};
use tamada::core::local::RecoverySignal;
use tamada::core::observation::Divergence;
use tamada::core::units::{Lsn, MemberName, Timeline};
use tamada::core::view::Address;
use tamada::postgres::conf::conninfo::Conninfo;
use tamada::postgres::conf::parameters::{Identity, ServerParameters, server_parameters};
use tamada::postgres::conf::postgresql_conf::ServerFile;
use tamada::postgres::conf::recovery::{self, Change, Origin, Passfile, RunningRecovery, RunningSetting, Source};
use tamada::postgres::conf::roles::{self, Existing, Purpose};
use tamada::postgres::conf::rules::{self, Rule};
use tamada::postgres::conf::settings::{self, Context, SettingRow, VarType};
use tamada::postgres::conf::{Parameters, pgpass, validate};
use tamada::postgres::controldata::ControlData;
use tamada::postgres::history::{self, LocalPosition};
use tamada::postgres::version::Version;

use installations::installations;
use server::{Server, program, program_in, run};

/// Everything that a file, a shell, a connection string or SQL could trip over.
const ODD: &str = "a:b\\c'd\"e$f g%h#i&j?k=l;m*nö🐘";

fn version() -> Version {
    Version::from_program(&run(program("postgres").arg("--version"))).expect("says its version")
}

fn credentials(username: &str, password: &str) -> Credentials {
    Credentials {
        username: username.to_owned(),
        password: Some(Secret::new(password)),
        options: BTreeMap::new(),
        sslpassword: None,
    }
}

/// A new server, started with our file and command line; its `postgresql.conf` of initdb is the base.
fn configured(parameters: Value) -> (Server, ServerParameters, Parameters) {
    let server = Server::init();
    let identity = Identity {
        listen_addresses: "127.0.0.1".to_owned(),
        port: server.port,
        cluster_name: "it's \"demo\"".to_owned(),
    };
    let parameters: Map<String, Value> = parameters.as_object().expect("a map").clone();
    let mut wanted = ServerSettings { parameters, ..ServerSettings::default() };
    let socket_dir = server.dir().to_string_lossy().into_owned();
    wanted.parameters.insert("unix_socket_directories".to_owned(), json!(socket_dir));
    let (parameters, warnings) = server_parameters(&wanted, &identity, version());
    assert_eq!(warnings, []);
    let known = validate::known_names(&run(program("postgres").arg("--describe-config")));
    let (valid, warnings) = validate::validate(&parameters.all(), version(), &known);
    assert_eq!(warnings, []);
    server.rename("postgresql.conf", "postgresql.base.conf");
    server.write("postgresql.conf", &server_file(&valid, &server.data(), None));
    (server, parameters, valid)
}

fn server_file(parameters: &Parameters, config_dir: &Path, recovery: Option<&Parameters>) -> String {
    ServerFile { include: "postgresql.base.conf", parameters, config_dir, recovery }.text()
}

fn setting_rows(server: &Server) -> Vec<SettingRow> {
    let row = |row: Vec<String>| SettingRow {
        name: row[0].clone(),
        setting: row[1].clone(),
        unit: Some(row[2].clone()).filter(|unit| !unit.is_empty()),
        vartype: VarType::from_word(&row[3]),
        context: Context::from_word(&row[4]),
        pending_restart: row[5] == "t",
    };
    server.sql(&format!("SELECT {} FROM pg_settings", settings::SETTINGS_COLUMNS)).into_iter().map(row).collect()
}

#[test]
fn limits_agree_with_the_servers_own() {
    for bin_dir in installations() {
        let version = run(program_in(&bin_dir, "postgres").arg("--version"));
        let version = Version::from_program(&version).expect("says its version");
        let described = run(program_in(&bin_dir, "postgres").arg("--describe-config"));
        let compared = described.lines().filter(|line| agrees(line, version)).count();
        assert!(compared > 200, "{compared} parameters of {version} compared");
    }
}

/// Whether there is a rule for the parameter described in this line; it must be the server's.
fn agrees(line: &str, version: Version) -> bool {
    let fields: Vec<&str> = line.split('\t').collect();
    let Some(rule) = rules::rule(fields[0], version) else { return false };
    let number = |text: &str| text.parse::<f64>().unwrap_or_else(|_| panic!("{line}: {text:?} is a number"));
    let agrees = match (fields[3], rule) {
        ("INTEGER" | "REAL", Rule::Number { min, max, .. }) => {
            let (least, most) = (number(fields[5]), number(fields[6]));
            // The server prints six digits of a real.
            least == min && (most == max || (most / max - 1.0).abs() < 1e-5)
        }
        ("BOOLEAN", Rule::Bool) | ("STRING", Rule::Text) => true,
        ("ENUM", Rule::Words(_) | Rule::BoolOrWords(_)) => true,
        _ => false,
    };
    assert!(agrees, "{version}: {line}: {rule:?}");
    true
}

#[test]
fn a_server_runs_with_what_was_written() {
    let (mut server, parameters, valid) = configured(json!({
        "log_line_prefix": "it's \\ %m\n", "shared_buffers": "16MB", "work_mem": "9MB", "my.knob": ODD, "jit": false,
        "wal_buffers": -1, "autovacuum_vacuum_cost_delay": "1500us", "max_connections": 30, "TimeZone": "UTC",
        "synchronous_commit": "local", "log_rotation_age": "1d", "random_page_cost": 1.1, "wal_keep_segments": 2,
    }));
    server.start(&parameters.command_line());
    let show = |name: &str| server.sql(&format!("SELECT current_setting('{name}')")).remove(0).remove(0);
    assert_eq!(show("my.knob"), ODD);
    assert_eq!(show("log_line_prefix"), "it's \\ %m\n");
    assert_eq!(show("cluster_name"), "it's \"demo\"");
    assert_eq!(show("wal_keep_size"), "32MB");
    let rows = setting_rows(&server);
    assert_eq!(settings::pending_restarts(&valid, &valid, &rows), settings::PendingRestarts::default());

    let mut other = valid.clone();
    for (name, value) in [("shared_buffers", "32MB"), ("work_mem", "1GB"), ("jit", "on"), ("my.knob", "x")] {
        other.insert(name.to_owned(), value.to_owned());
    }
    let pending = json!({"shared_buffers": {"old_value": "16MB", "new_value": "32MB"}});
    let found = settings::pending_restarts(&other, &valid, &rows);
    assert_eq!(Value::Object(settings::pending_json(&found)), pending);

    server.write("postgresql.conf", &server_file(&other, &server.data(), None));
    server.reload();
    server.wait_until("SELECT pending_restart::text FROM pg_settings WHERE name = 'shared_buffers'", "true");
    let rows = setting_rows(&server);
    let waiting: Vec<&str> = settings::pending_of_server(&rows).iter().map(|row| row.name.as_str()).collect();
    assert_eq!(waiting, ["shared_buffers"]);
    server.wait_until("SHOW work_mem", "1GB");
}

#[test]
fn roles_log_in_with_any_password_and_none_is_logged() {
    let (mut server, parameters, _) = configured(json!({
        "log_statement": "all", "log_min_duration_statement": 0, "log_duration": true, "log_min_error_statement": "debug5",
    }));
    server.write("pg_hba.conf", "local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
    server.start(&parameters.command_line());
    let roles = [
        (credentials("postgres", &format!("one {ODD}")), Purpose::Superuser),
        (credentials(ODD, &format!("two {ODD}")), Purpose::Replication),
        (credentials("rewind", &format!("three {ODD}")), Purpose::Rewind),
    ];
    for existing in [Existing::Alter, Existing::Alter, Existing::Keep] {
        for (credentials, purpose) in &roles {
            let password = credentials.password.clone().filter(|_| existing == Existing::Alter);
            let kept = Some(Secret::new("not this one"));
            let credentials = Credentials { password: password.or(kept), ..credentials.clone() };
            let statement = roles::role_statement(&credentials, *purpose, existing);
            server.session(roles::SESSION.iter().copied().chain([statement.expose()]));
        }
    }
    let address = Address { host: "127.0.0.1".to_owned(), port: server.port, database: "postgres".to_owned() };
    for (credentials, _) in &roles {
        let password = credentials.password.as_ref().expect("has one");
        let passfile = pgpass::content(&address.host, address.port, &credentials.username, password).expect("writable");
        let conninfo = Conninfo::for_program(&address, credentials, version()).to_string();
        let user = server.sql_as(&conninfo, &passfile, "SELECT current_user");
        assert_eq!(user, [[credentials.username.clone()]]);
    }
    let rights = server.sql(
        "SELECT rolname, rolsuper, rolreplication, rolcanlogin, \
         has_function_privilege(oid, 'pg_read_binary_file(text, bigint, bigint, boolean)', 'execute') \
         FROM pg_roles WHERE rolcanlogin ORDER BY rolname = 'rewind', rolsuper",
    );
    assert_eq!(rights, [[ODD, "f", "t", "t", "f"], ["postgres", "t", "t", "t", "t"], ["rewind", "f", "f", "t", "t"]]);
    let log = server.log();
    assert!(log.contains("SET log_statement TO none") && log.contains("SELECT current_user"), "statements are logged");
    for secret in ["one a", "two a", "three a", "SCRAM-SHA-256$", "not this one"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn a_standby_follows_and_the_positions_tell_who_has_diverged() {
    let (mut primary, parameters, valid) = configured(json!({"wal_log_hints": true}));
    primary.write("pg_hba.conf", "local all all trust\nhost all,replication all 127.0.0.1/32 scram-sha-256\n");
    primary.start(&parameters.command_line());
    let replicator = credentials("rep l'icator", ODD);
    let statement = roles::role_statement(&replicator, Purpose::Replication, Existing::Alter);
    primary.session(roles::SESSION.iter().copied().chain([statement.expose()]));
    primary.sql("SELECT pg_create_physical_replication_slot('node_2')");

    let address = Address { host: "127.0.0.1".to_owned(), port: primary.port, database: "postgres".to_owned() };
    let password = replicator.password.as_ref().expect("has one");
    let passfile = pgpass::content("127.0.0.1", primary.port, &replicator.username, password).expect("writable");
    let program = Conninfo::for_program(&address, &replicator, version()).to_string();
    let mut standby = Server::clone_of(&primary, &program, &passfile);
    let passfile_path = standby.dir().join("pass file");
    let member = MemberName::from("node '2' \\");
    let conninfo = Conninfo::for_standby(&address, &replicator, &member, Some(&passfile_path), None, version());
    let source = Source { conninfo, slot: Some("node_2".to_owned()) };
    let wanted = recovery::standby_settings(&Parameters::new(), Some(&source));
    let mut own = valid.clone();
    own.insert("unix_socket_directories".to_owned(), standby.dir().to_string_lossy().into_owned());
    standby.write("postgresql.conf", &server_file(&own, &standby.data(), Some(&wanted)));
    standby.write("standby.signal", "");
    standby.start(&[format!("--port={}", standby.port), "--listen_addresses=127.0.0.1".to_owned()]);
    primary.wait_until("SELECT application_name || state FROM pg_stat_replication", &format!("{member}streaming"));

    assert_eq!(recovery::compare(&wanted, &running(&standby), version()), Change::No);
    let elsewhere = Source { conninfo: source.conninfo.clone().with("host", "10.9.9.9"), slot: None };
    let other = recovery::standby_settings(&Parameters::new(), Some(&elsewhere));
    assert_eq!(recovery::compare(&other, &running(&standby), version()), Change::Reload);

    primary.sql("CREATE TABLE first ()");
    primary.stop();
    let control = control_data(&primary);
    let checkpoint = control.control.checkpoint;
    assert_eq!(shutdown_position(&primary, checkpoint), checkpoint);
    standby.wait_until(&format!("SELECT (pg_last_wal_replay_lsn() > '{checkpoint}')::text"), "true");
    standby.promote();
    standby.wait_until("SELECT pg_is_in_recovery()::text", "false");
    let history = history::parse(&standby.read("pg_wal/00000002.history")).expect("the server wrote it");
    let local = control.local_position().expect("shut down cleanly");
    assert!(local.wants_checkpoint_end(Timeline(2)));
    let (stdout, stderr) = waldump(&primary, checkpoint, 2);
    let local = local.with_checkpoint_end(history::checkpoint_end(checkpoint, &stdout, &stderr));
    assert_eq!(history::divergence(local, Timeline(2), &history), Divergence::None, "{local:?} {history:?} {stderr}");

    primary.start(&parameters.command_line());
    primary.sql("CREATE TABLE more ()");
    primary.stop();
    let diverged = control_data(&primary).local_position().expect("shut down cleanly");
    assert_eq!(history::divergence(diverged, Timeline(2), &history), Divergence::Diverged);
    standby.stop();
    let promoted = control_data(&standby).local_position();
    assert!(matches!(promoted, Some(LocalPosition::ShutDown { timeline: Timeline(2), .. })), "{promoted:?}");
}

fn control_data(server: &Server) -> ControlData {
    let output = run(program("pg_controldata").arg(server.data()));
    ControlData::parse(&output).unwrap_or_else(|error| panic!("{error}: {output}"))
}

fn waldump(server: &Server, from: Lsn, records: u32) -> (String, String) {
    let mut command = program("pg_waldump");
    command.args(["-t", "1", "-s", &from.to_string(), "-n", &records.to_string(), "-p"]);
    let output = command.arg(server.data().join("pg_wal")).output().expect("pg_waldump runs");
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn shutdown_position(server: &Server, checkpoint: Lsn) -> Lsn {
    let record = |at| history::WalRecord::parse(&waldump(server, at, 1).0).expect("a record");
    let last = record(checkpoint);
    assert!(last.is_shutdown_checkpoint_at(checkpoint), "{last:?}");
    history::last_position(checkpoint, Some(&record(last.prev)))
}

fn running(standby: &Server) -> RunningRecovery {
    let rows = standby.sql("SELECT name, setting, sourcefile FROM pg_settings");
    let ours = rows.into_iter().filter(|row| recovery::is_recovery_parameter(&row[0]));
    let setting = |row: Vec<String>| {
        let origin = if row[2].ends_with("base.conf") { Origin::OtherFile } else { Origin::Ours };
        (row[0].clone(), RunningSetting { setting: row[1].clone(), origin })
    };
    let settings = ours.map(setting).collect();
    RunningRecovery { signal: RecoverySignal::Present, settings, passfile: Passfile::Matches }
}

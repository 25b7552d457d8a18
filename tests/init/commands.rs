//! The real binary as the image's entry point, given somebody else's command.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

fn tamada(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tamada"));
    command.args(arguments);
    command
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("it can be executed");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
}

pub fn executes_other_commands_as_they_are() {
    let script = r#"pwd; echo "$SECRET_PASSWORD"; for word; do echo "<$word>"; done; exit 3"#;
    let mut command = tamada(&["sh", "-c", script, "sh", "", "two\nlines", "-c"]);
    command.current_dir("/usr/share").env("SECRET_PASSWORD", "kept");
    let expected = "/usr/share\nkept\n<>\n<two\nlines>\n<-c>\n".to_owned();
    assert_eq!(output(&mut command), (Some(3), expected, String::new()));
}

pub fn tells_missing_from_unexecutable_commands() {
    let (code, stdout, stderr) = output(&mut tamada(&["no-such-command"]));
    assert_eq!((code, stdout.as_str()), (Some(127), ""));
    assert!(stderr.contains("cannot execute no-such-command"), "{stderr}");

    let folder = tempfile::tempdir().expect("/tmp is writable");
    let file = folder.path().join("plain");
    std::fs::write(&file, "echo hello").expect("writable");
    let path = file.to_str().expect("ASCII");
    assert_eq!(output(&mut tamada(&[path])).0, Some(126), "not executable");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("ours");
    let expected = (Some(0), "hello\n".to_owned(), String::new());
    assert_eq!(output(&mut tamada(&[path])), expected, "a script without a first line is the shell's");
}

/// As a health check: root, and a file beside the sockets that says how the member is reached. Whether the address in it
/// was connected to, with a key that only root can read.
fn health_shows_roots_key(owner: &str) -> bool {
    let folder = tempfile::tempdir().expect("/tmp is writable");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("ours");
    let (key, certificate) = (folder.path().join("key"), folder.path().join("certificate"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"]);
    let made = openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output().expect("there");
    assert!(made.status.success(), "{made:?}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("ours");
    let url = format!("https://{}", listener.local_addr().expect("bound"));
    let (key, certificate) = (key.display(), certificate.display());
    let said = format!(r#"{{"url":"{url}","certfile":"{certificate}","keyfile":"{key}"}}"#);
    let script = r#"mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/postgresql && f=/run/postgresql/tamada.demo.n1.api &&
        printf %s "$1" >$f && chown "$2" $f /run/postgresql && exec timeout 20 "$0" health"#;
    let mut health = Command::new("unshare");
    health.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_tamada"), &said, owner]);
    let ended = health.env_clear().env("PATH", "/usr/bin:/bin").output().expect("util-linux is there");
    assert!(!ended.status.success(), "nobody answers: {ended:?}");
    listener.accept().is_ok()
}

pub fn a_health_check_as_root_has_no_more_rights_than_who_wrote_the_address() {
    assert!(health_shows_roots_key("root"), "what root wrote is believed");
    assert!(!health_shows_roots_key("postgres"));
}

pub fn refuses_options_by_name() {
    let (code, stdout, stderr) = output(&mut tamada(&["-c", "shared_buffers=1GB"]));
    assert_eq!((code, stdout.as_str()), (Some(64), ""));
    assert!(stderr.contains("unknown option -c:"), "{stderr}");
    let (code, stdout, _) = output(&mut tamada(&["--version"]));
    assert_eq!((code, stdout), (Some(0), format!("tamada {}\n", env!("CARGO_PKG_VERSION"))));
}

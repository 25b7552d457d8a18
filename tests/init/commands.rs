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

pub fn refuses_options_by_name() {
    let (code, stdout, stderr) = output(&mut tamada(&["-c", "shared_buffers=1GB"]));
    assert_eq!((code, stdout.as_str()), (Some(64), ""));
    assert!(stderr.contains("the option -c "), "{stderr}");
    let (code, stdout, _) = output(&mut tamada(&["--version"]));
    assert_eq!((code, stdout), (Some(0), format!("tamada {}\n", env!("CARGO_PKG_VERSION"))));
}

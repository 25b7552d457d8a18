use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::super::log::{Format, Style};
use super::*;

const NOW: Duration = Duration::from_secs(100);

fn log() -> Log {
    Log::new(Style { format: Format::Plain, level: Level::Error })
}

fn device(path: &Path) -> Device {
    Device::new(path.as_os_str().as_encoded_bytes()).expect("short enough")
}

fn keep(path: &Path, timeout: u16) -> WatchdogOrder {
    let by = NOW + Duration::from_secs(5);
    let by = u64::try_from(by.as_nanos()).expect("little");
    WatchdogOrder::Keep { device: device(path), need: Need::Optional, timeout, by }
}

/// A FIFO and whoever reads it.
struct Fifo {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
    reader: fs::File,
}

impl Fifo {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("t").tempdir_in("/tmp").expect("a folder");
        let path = folder.path().join("w");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).expect("made");
        let reader = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).expect("opened");
        Fifo { _folder: folder, path, reader }
    }

    fn said(&mut self) -> String {
        let mut text = [0; 256];
        match self.reader.read(&mut text) {
            Ok(length) => String::from_utf8_lossy(&text[..length]).into_owned(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => String::new(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn each_order_is_one_keepalive_and_the_answer_is_given_once() {
    let (mut fifo, mut watchdog) = (Fifo::new(), Watchdog::default());
    let armed = Some(WatchdogState::Armed { timeout: 25 });
    assert_eq!(watchdog.obey(keep(&fifo.path, 25), NOW, &mut log()), armed);
    assert_eq!(fifo.said(), "Ctimeout=25\n1");
    assert_eq!(watchdog.obey(keep(&fifo.path, 25), NOW, &mut log()), None);
    assert_eq!(fifo.said(), "1");
    watchdog.agent_started();
    assert_eq!(watchdog.obey(keep(&fifo.path, 25), NOW, &mut log()), armed, "another agent");
    assert_eq!(fifo.said(), "1");
    // The cluster's ttl has changed.
    assert_eq!(watchdog.obey(keep(&fifo.path, 15), NOW, &mut log()), Some(WatchdogState::Armed { timeout: 15 }));
    assert_eq!(fifo.said(), "Ctimeout=15\n1");
    assert_eq!(watchdog.obey(WatchdogOrder::Disarm, NOW, &mut log()), None);
    assert_eq!(watchdog.obey(WatchdogOrder::Disarm, NOW, &mut log()), None);
    assert_eq!(fifo.said(), "V", "once");
    assert_eq!(watchdog.obey(keep(&fifo.path, 25), NOW, &mut log()), armed, "it is told anew");
}

#[test]
fn a_late_order_begins_no_countdown() {
    let (mut fifo, mut watchdog) = (Fifo::new(), Watchdog::default());
    let late = NOW + Duration::from_secs(6);
    assert_eq!(watchdog.obey(keep(&fifo.path, 25), late, &mut log()), None);
    assert_eq!(fifo.said(), "");
    watchdog.obey(keep(&fifo.path, 25), NOW, &mut log());
    assert_eq!(fifo.said(), "Ctimeout=25\n1");
    assert_eq!(watchdog.obey(keep(&fifo.path, 25), late, &mut log()), None);
    assert_eq!(fifo.said(), "");
}

#[test]
fn another_device_takes_the_place_of_the_first() {
    let (mut first, mut second, mut watchdog) = (Fifo::new(), Fifo::new(), Watchdog::default());
    watchdog.obey(keep(&first.path, 25), NOW, &mut log());
    watchdog.obey(keep(&second.path, 25), NOW, &mut log());
    assert_eq!((first.said().as_str(), second.said().as_str()), ("Ctimeout=25\n1V", "Ctimeout=25\n1"));
}

#[test]
fn nothing_is_written_to_what_is_no_watchdog() {
    let folder = tempfile::Builder::new().prefix("t").tempdir_in("/tmp").expect("a folder");
    let (file, nowhere) = (folder.path().join("f"), folder.path().join("n"));
    fs::write(&file, "kept").expect("written");
    let (tty_less, null) = (folder.path().join("b"), Path::new("/dev/null"));
    nix::unistd::mkfifo(&tty_less, Mode::S_IRWXU).expect("made");
    let mut watchdog = Watchdog::default();
    for path in [&file, &nowhere, folder.path(), null, &tty_less] {
        watchdog.agent_started();
        let state = watchdog.obey(keep(path, 25), NOW, &mut log());
        assert_eq!(state, Some(WatchdogState::Failed), "{}: nothing is there, or nobody reads it", path.display());
        assert!(watchdog.open.is_none());
    }
    assert_eq!(fs::read_to_string(&file).expect("there"), "kept");
}

#[test]
fn a_check_touches_nothing() {
    let (mut fifo, mut watchdog) = (Fifo::new(), Watchdog::default());
    let check = |path: &Path| WatchdogOrder::Check(device(path));
    assert_eq!(watchdog.obey(check(&fifo.path), NOW, &mut log()), Some(WatchdogState::Usable));
    assert_eq!(watchdog.obey(check(&fifo.path), NOW, &mut log()), None);
    assert_eq!(watchdog.obey(check(Path::new("/nowhere")), NOW, &mut log()), Some(WatchdogState::Unusable));
    assert_eq!(watchdog.obey(check(Path::new("/tmp")), NOW, &mut log()), None, "the same again");
    assert_eq!(fifo.said(), "");
}

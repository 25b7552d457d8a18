//! The thread that writes, and the bounded queue to it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::file::{Rotating, path};
use crate::config::LogFile;

const STACK: usize = 256 * 1024;

#[derive(Clone)]
pub(super) struct Sink(Arc<Ends>);

/// The last one that is dropped lets the thread end.
struct Ends(Arc<Shared>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.queue().is_open = false;
        self.0.filled.notify_one();
    }
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Queue {
    items: VecDeque<Item>,
    /// Lines that may wait.
    max: usize,
    /// Lines that did not fit and were not told yet.
    lost: u64,
    is_open: bool,
}

enum Item {
    Line(String),
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
    /// Where what comes after it goes; `None`: standard error.
    Target(Option<LogFile>),
}

/// How the log keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    pub waiting: usize,
    /// Not told in the log yet.
    pub lost: u64,
}

/// What the log says about itself.
pub(super) enum About {
    Lost(u64),
    Broken { file: String, why: String },
}

impl Sink {
    /// `tell` makes a line of the log about itself. An error: the file cannot be opened.
    pub(super) fn start(
        stderr: File,
        file: Option<LogFile>,
        max: usize,
        tell: impl Fn(About) -> String + Send + 'static,
    ) -> io::Result<Sink> {
        let file = file.map(Rotating::open).transpose()?;
        let queue = Queue { items: VecDeque::new(), max, lost: 0, is_open: true };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), filled: Condvar::new() });
        let writer = Writer { stderr, file, is_broken: false, tell };
        let for_writer = Arc::clone(&shared);
        std::thread::Builder::new().name("log".into()).stack_size(STACK).spawn(move || writer.run(&for_writer))?;
        Ok(Sink(Arc::new(Ends(shared))))
    }

    /// Never waits.
    pub(super) fn write(&self, line: String) {
        let shared = &self.0.0;
        let mut queue = shared.queue();
        if queue.items.len() < queue.max {
            queue.items.push_back(Item::Line(line));
            drop(queue);
            shared.filled.notify_one();
        } else {
            queue.lost += 1;
        }
    }

    pub(super) fn flush(&self, at_most: Duration) {
        let shared = &self.0.0;
        let (answer, answered) = sync_channel(1);
        let mut queue = shared.queue();
        // A full queue means that nobody reads, and that waiting is in vain.
        if queue.items.len() < queue.max {
            queue.items.push_back(Item::Flush(answer));
            drop(queue);
            shared.filled.notify_one();
            let _ = answered.recv_timeout(at_most);
        }
    }

    /// What comes from now on goes there. The file is opened anew, whoever has renamed it.
    pub(super) fn turn(&self, file: Option<LogFile>, max: usize) {
        let shared = &self.0.0;
        let mut queue = shared.queue();
        queue.max = max;
        queue.items.push_back(Item::Target(file));
        drop(queue);
        shared.filled.notify_one();
    }

    pub(super) fn backlog(&self) -> Backlog {
        let queue = self.0.0.queue();
        Backlog { waiting: queue.items.len(), lost: queue.lost }
    }
}

struct Writer<T> {
    stderr: File,
    file: Option<Rotating>,
    /// The last line could not be written to the file: that is told once.
    is_broken: bool,
    tell: T,
}

impl<T: Fn(About) -> String> Writer<T> {
    fn run(mut self, shared: &Shared) {
        loop {
            let mut queue = shared.queue();
            let item = loop {
                if let Some(item) = queue.items.pop_front() {
                    break item;
                }
                if !queue.is_open {
                    return;
                }
                queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            };
            drop(queue);
            match item {
                Item::Line(line) => self.write(line.as_bytes()),
                // Whoever waited may have given up.
                Item::Flush(answer) => drop(answer.try_send(())),
                Item::Target(file) => self.turn(file),
            }
            let lost = std::mem::take(&mut shared.queue().lost);
            if lost > 0 {
                let told = (self.tell)(About::Lost(lost));
                self.write(told.as_bytes());
            }
        }
    }

    /// A file that cannot be opened leaves the log where it was.
    fn turn(&mut self, file: Option<LogFile>) {
        let Some(settings) = file else {
            self.file = None;
            return;
        };
        let name = path(&settings).display().to_string();
        match Rotating::open(settings) {
            Ok(file) => {
                self.file = Some(file);
                self.is_broken = false;
            }
            Err(error) => {
                let told = (self.tell)(About::Broken { file: name, why: error.to_string() });
                self.write(told.as_bytes());
            }
        }
    }

    /// What the file cannot take goes to standard error, with the reason once.
    fn write(&mut self, line: &[u8]) {
        let Some(file) = &mut self.file else { return write(&mut self.stderr, line) };
        match file.write(line) {
            Ok(()) => self.is_broken = false,
            Err(error) => {
                if !self.is_broken {
                    let about = About::Broken { file: file.path().display().to_string(), why: error.to_string() };
                    let told = (self.tell)(about);
                    write(&mut self.stderr, told.as_bytes());
                }
                self.is_broken = true;
                write(&mut self.stderr, line);
            }
        }
    }
}

/// Waits as long as it takes, on a descriptor that somebody made non-blocking too. A log that is closed is no error.
fn write(file: &mut File, mut rest: &[u8]) {
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut wanted = [PollFd::new(std::os::fd::AsFd::as_fd(file), PollFlags::POLLOUT)];
                let _ = poll(&mut wanted, PollTimeout::NONE);
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    fn start(file: File) -> Sink {
        started(file, None)
    }

    fn started(stderr: File, file: Option<LogFile>) -> Sink {
        let tell = |about| match about {
            About::Lost(count) => format!("dropped {count}\n"),
            About::Broken { .. } => "broken\n".to_owned(),
        };
        Sink::start(stderr, file, 256, tell).expect("a thread")
    }

    #[test]
    fn a_log_that_nobody_reads_costs_lines_and_no_time() {
        let (mut reader, writer) = std::io::pipe().expect("a descriptor");
        let sink = start(File::from(OwnedFd::from(writer)));
        let line = format!("{}\n", "x".repeat(999));
        for _ in 0..2000 {
            // A pipe holds 65 of these and the queue 256; were this to wait, it would wait for ever.
            sink.write(line.clone());
        }
        drop(sink);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("UTF-8");
        let told = text.lines().filter_map(|line| line.strip_prefix("dropped "));
        let told: u64 = told.map(|count| count.parse::<u64>().expect("a number")).sum();
        assert!(told >= 2000 - 256 - 70, "{told}");
        assert_eq!(told + text.lines().filter(|found| line.starts_with(found)).count() as u64, 2000);
    }

    #[test]
    fn a_flush_returns_when_all_is_written() {
        let file = tempfile::tempfile().expect("/tmp is writable");
        let sink = start(file.try_clone().expect("a descriptor"));
        for _ in 0..100 {
            sink.write("line\n".into());
        }
        sink.flush(Duration::from_secs(20));
        assert_eq!(file.metadata().expect("open").len(), 500);
    }

    #[test]
    fn a_closed_log_is_no_error() {
        let (reader, writer) = std::io::pipe().expect("a descriptor");
        drop(reader);
        let sink = start(File::from(OwnedFd::from(writer)));
        sink.write("line\n".into());
        sink.flush(Duration::from_secs(20));
        assert_eq!(sink.backlog(), Backlog { waiting: 0, lost: 0 });
    }

    #[test]
    fn what_waits_and_what_was_lost_is_known() {
        let (_reader, writer) = std::io::pipe().expect("a descriptor");
        let sink = start(File::from(OwnedFd::from(writer)));
        let line = format!("{}\n", "x".repeat(999));
        // A pipe holds 65 of these: after so many the thread waits for ever, and takes none any more.
        while sink.backlog().lost < 100 {
            sink.write(line.clone());
        }
        let before = sink.backlog();
        assert!(before.waiting > 100, "{before:?}");
        sink.turn(None, 1000);
        sink.write(line);
        assert!(sink.backlog().lost <= before.lost, "there is room again");
    }

    #[test]
    fn what_the_file_cannot_take_goes_to_standard_error() {
        let dir = tempfile::tempdir().expect("/tmp is writable");
        let settings = LogFile { dir: dir.path().join("log"), mode: None, size_max: 1, kept: 1 };
        std::fs::create_dir(&settings.dir).expect("writable");
        let mut stderr = tempfile::tempfile().expect("/tmp is writable");
        let sink = started(stderr.try_clone().expect("a descriptor"), Some(settings.clone()));
        sink.write("one\n".into());
        sink.flush(Duration::from_secs(20));
        assert_eq!(std::fs::read_to_string(settings.dir.join("patroni.log")).expect("there"), "one\n");
        std::fs::remove_dir_all(&settings.dir).expect("ours");
        sink.write("two\n".into());
        sink.write("three\n".into());
        sink.turn(Some(settings.clone()), 256);
        sink.flush(Duration::from_secs(20));
        std::fs::create_dir(&settings.dir).expect("writable");
        sink.turn(Some(settings.clone()), 256);
        sink.write("four\n".into());
        sink.turn(None, 256);
        sink.write("five\n".into());
        sink.flush(Duration::from_secs(20));
        let mut said = String::new();
        std::io::Seek::rewind(&mut stderr).expect("a file");
        stderr.read_to_string(&mut said).expect("UTF-8");
        assert_eq!(said, "broken\ntwo\nthree\nbroken\nfive\n");
        assert_eq!(std::fs::read_to_string(settings.dir.join("patroni.log")).expect("there"), "four\n");
    }
}

//! The thread that writes, and the bounded queue to it.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Lines that may wait. At a healthy member's rate this is many minutes.
const QUEUE_MAX: usize = 256;
const STACK: usize = 256 * 1024;

#[derive(Clone)]
pub(super) struct Sink {
    queue: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

enum Item {
    Line(String),
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
}

impl Sink {
    /// `tell` makes the line that says how many were dropped.
    pub(super) fn start(file: File, tell: impl Fn(u64) -> String + Send + 'static) -> io::Result<Sink> {
        let (queue, items) = sync_channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer { file, dropped: Arc::clone(&dropped), tell };
        std::thread::Builder::new().name("log".into()).stack_size(STACK).spawn(move || writer.run(&items))?;
        Ok(Sink { queue, dropped })
    }

    /// Never waits.
    pub(super) fn write(&self, line: String) {
        if self.queue.try_send(Item::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn flush(&self, at_most: Duration) {
        let (answer, answered) = sync_channel(1);
        // A full queue means that nobody reads, and that waiting is in vain.
        if self.queue.try_send(Item::Flush(answer)).is_ok() {
            let _ = answered.recv_timeout(at_most);
        }
    }
}

struct Writer<T> {
    file: File,
    dropped: Arc<AtomicU64>,
    tell: T,
}

impl<T: Fn(u64) -> String> Writer<T> {
    fn run(mut self, items: &Receiver<Item>) {
        while let Ok(item) = items.recv() {
            match item {
                Item::Line(line) => self.write(line.as_bytes()),
                // Whoever waited may have given up.
                Item::Flush(answer) => drop(answer.try_send(())),
            }
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                let told = (self.tell)(dropped);
                self.write(told.as_bytes());
            }
        }
    }

    /// Waits as long as it takes, on a descriptor that somebody made non-blocking too. A log that is closed is no error.
    fn write(&mut self, mut rest: &[u8]) {
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut wanted = [PollFd::new(std::os::fd::AsFd::as_fd(&self.file), PollFlags::POLLOUT)];
                    let _ = poll(&mut wanted, PollTimeout::NONE);
                }
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    fn start(file: File) -> Sink {
        Sink::start(file, |count| format!("dropped {count}\n")).expect("a thread")
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
        assert_eq!(sink.dropped.load(Ordering::Relaxed), 0);
    }
}

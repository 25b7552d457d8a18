//! PID 1's own log lines, in the agent's format, on standard error.
//!
//! Nothing here allocates, and nothing here waits: whoever reads our log may have stopped reading it, and a PID 1 that
//! waits for them does not fence. A line that does not fit now is dropped and counted. PID 1 knows of the log's
//! settings only what the environment says; the YAML file is the agent's to read.

use std::fmt::{self, Write};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::time::{ClockId, clock_gettime};

use super::sys;

/// Below PIPE_BUF, so that a line goes into a pipe as a whole or not at all.
const LINE_MAX: usize = 1024;

/// What a line keeps free for its end.
const END_MAX: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warning => "WARNING",
            Level::Error => "ERROR",
        }
    }

    /// The level of `PATRONI_LOG_LEVEL`; a word that is not known is for the agent to complain about.
    pub(super) fn from_word(word: &str) -> Level {
        match word.to_ascii_uppercase().as_str() {
            "DEBUG" => Level::Debug,
            "WARN" | "WARNING" => Level::Warning,
            "ERROR" | "FATAL" | "CRITICAL" => Level::Error,
            _ => Level::Info,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Plain,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) format: Format,
    pub(super) level: Level,
}

/// How a write to standard error is kept from blocking. O_NONBLOCK on the descriptor itself would hold for PostgreSQL
/// too, which shares it and would lose lines.
enum Output {
    /// An open file of our own on the same pipe or terminal.
    Own(File),
    Socket,
    /// Asked with poll(2) first. That leaves a gap when others write to the same pipe; only a pipe of another user, whom
    /// PID 1 is not allowed to open it again for, comes to this.
    Shared,
}

pub(super) struct Log {
    output: Output,
    style: Style,
    dropped: u32,
}

impl Log {
    pub(super) fn new(style: Style) -> Self {
        // Reads the time zone now rather than in the loop.
        sys::local_time(0);
        Log { output: Output::open(), style, dropped: 0 }
    }

    pub(super) fn write(&mut self, level: Level, message: fmt::Arguments<'_>) {
        if level < self.style.level {
            return;
        }
        if self.dropped > 0 {
            let mut line = Line::new();
            line.entry(self.style.format, Level::Warning, format_args!("{} log lines were dropped", self.dropped));
            if self.output.write(line.bytes()).is_err() {
                self.dropped = self.dropped.saturating_add(1);
                return;
            }
            self.dropped = 0;
        }
        let mut line = Line::new();
        line.entry(self.style.format, level, message);
        if self.output.write(line.bytes()).is_err() {
            self.dropped = self.dropped.saturating_add(1);
        }
    }
}

impl Output {
    fn open() -> Output {
        let stderr = io::stderr();
        let Ok(kind) = stderr.as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata()) else {
            return Output::Shared;
        };
        if kind.file_type().is_socket() {
            return Output::Socket;
        }
        // A regular file never blocks, and a second open file would have an offset of its own.
        if !kind.file_type().is_fifo() && !kind.file_type().is_char_device() {
            return Output::Shared;
        }
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
        match File::options().write(true).custom_flags(flags).open("/proc/self/fd/2") {
            Ok(own) => Output::Own(own),
            Err(_) => Output::Shared,
        }
    }

    fn write(&self, line: &[u8]) -> nix::Result<()> {
        let stderr = io::stderr();
        match self {
            Output::Own(file) => nix::unistd::write(file, line).map(drop),
            Output::Socket => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                send(stderr.as_fd().as_raw_fd(), line, flags).map(drop)
            }
            Output::Shared if is_writable(stderr.as_fd()) => nix::unistd::write(stderr.as_fd(), line).map(drop),
            Output::Shared => Err(nix::errno::Errno::EAGAIN),
        }
    }
}

fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let mut wanted = [PollFd::new(fd, PollFlags::POLLOUT)];
    poll(&mut wanted, PollTimeout::ZERO) == Ok(1)
}

/// One line, cut where it does not fit.
struct Line {
    bytes: [u8; LINE_MAX],
    length: usize,
}

impl Line {
    fn new() -> Self {
        Line { bytes: [0; LINE_MAX], length: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn entry(&mut self, format: Format, level: Level, message: fmt::Arguments<'_>) {
        let level = level.as_str();
        // The end has room of its own, so that a cut line is still a line and still JSON.
        let (result, end) = match format {
            Format::Plain => (write!(self, "{} {level}: {message}", Now), "\n"),
            Format::Json => {
                let head = write!(self, r#"{{"time":"{}","level":"{level}","logger":"tamada::init","message":""#, Now);
                (head.and_then(|()| write!(Escaped(self), "{message}")), "\"}\n")
            }
        };
        // A line that was cut says enough.
        let _ = result;
        self.bytes[self.length..self.length + end.len()].copy_from_slice(end.as_bytes());
        self.length += end.len();
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LINE_MAX - END_MAX - self.length;
        let fits = (0..=room.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.bytes[self.length..self.length + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.length += fits;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl Line {
    /// Half an escape sequence would swallow the quote after it.
    fn write_whole(&mut self, sequence: &str) -> fmt::Result {
        if self.length + sequence.len() + END_MAX > LINE_MAX { Err(fmt::Error) } else { self.write_str(sequence) }
    }
}

/// Escapes what JSON does not allow inside a string.
struct Escaped<'a>(&'a mut Line);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '"' => self.0.write_whole("\\\"")?,
                '\\' => self.0.write_whole("\\\\")?,
                c if c.is_control() => self.0.write_char(' ')?,
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// `2026-11-22 09:00:00,123`, in the container's time zone.
struct Now;

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = clock_gettime(ClockId::CLOCK_REALTIME).map_err(|_| fmt::Error)?;
        let tm = sys::local_time(now.tv_sec());
        let (year, month, day) = (tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
        write!(f, "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02},", tm.tm_hour, tm.tm_min, tm.tm_sec)?;
        write!(f, "{:03}", now.tv_nsec() / 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: Format, message: &str) -> String {
        let mut line = Line::new();
        line.entry(format, Level::Error, format_args!("{message}"));
        String::from_utf8(line.bytes().to_vec()).expect("only whole characters are written")
    }

    #[test]
    fn plain_lines_look_like_the_agents() {
        let line = line(Format::Plain, "the agent ended");
        let (time, text) = line.split_at(23);
        assert_eq!(text, " ERROR: the agent ended\n");
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00 00:00:00,000");
    }

    #[test]
    fn json_lines_are_json_whatever_they_hold() {
        for message in ["a \"b\" \\ c", "two\nlines", &"é".repeat(2000), &"\"".repeat(2000)] {
            let line = line(Format::Json, message);
            let value: serde_json::Value = serde_json::from_str(&line).expect("valid JSON");
            assert_eq!(value["level"], "ERROR");
            assert!(line.ends_with("}\n"));
        }
        assert!(line(Format::Json, "a \"b\"").contains(r#""message":"a \"b\"""#));
    }
}

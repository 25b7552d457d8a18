//! The stream of a session over PostgreSQL's Unix socket. The kernel tells a socket that can be written again whenever the
//! server takes something out of it, and tokio's own streams listen for that: each statement woke the thread twice, when
//! the server had read it and when it answered. This one asks for room only while there is none.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use super::kernel::watched;

pub(super) struct QuietSocket {
    reads: AsyncFd<UnixStream>,
    /// While the socket has no room.
    writes: Option<AsyncFd<UnixStream>>,
}

impl QuietSocket {
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        // Which leaves it non-blocking.
        QuietSocket::new(tokio::net::UnixStream::connect(path).await?.into_std()?)
    }

    /// The socket does not block.
    fn new(socket: UnixStream) -> io::Result<Self> {
        Ok(QuietSocket { reads: watched(socket, Interest::READABLE)?, writes: None })
    }
}

impl AsyncRead for QuietSocket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.reads.poll_read_ready(context))?;
            match ready.try_io(|socket| socket.get_ref().read(buffer.initialize_unfilled())) {
                Ok(read) => return Poll::Ready(read.map(|length| buffer.advance(length))),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for QuietSocket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.reads.get_ref().write(data) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                written => {
                    self.writes = None;
                    return Poll::Ready(written);
                }
            }
            if self.writes.is_none() {
                self.writes = Some(watched(self.reads.get_ref().try_clone()?, Interest::WRITABLE)?);
            }
            let Some(writes) = &self.writes else { continue };
            ready!(writes.poll_write_ready(context))?.clear_ready();
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.reads.get_ref().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::resource::{UsageWho, getrusage};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (QuietSocket, UnixStream) {
        let (ours, server) = UnixStream::pair().expect("a descriptor");
        ours.set_nonblocking(true).expect("ours");
        (QuietSocket::new(ours).expect("in a runtime"), server)
    }

    /// How often this thread has waited and was woken.
    fn wake_ups() -> i64 {
        getrusage(UsageWho::RUSAGE_THREAD).expect("Linux").voluntary_context_switches()
    }

    #[tokio::test]
    async fn an_exchange_wakes_the_thread_once() {
        const EXCHANGES: i64 = 20;
        let (mut socket, mut server) = pair();
        let answers = std::thread::spawn(move || {
            // As a server that is busy when it is asked and thinks before it answers: whoever asked sleeps at both times.
            let is_busy = || std::thread::sleep(Duration::from_millis(3));
            let mut question = [0; 8];
            loop {
                is_busy();
                if server.read_exact(&mut question).is_err() {
                    return;
                }
                is_busy();
                server.write_all(&question).expect("somebody waits");
            }
        });
        let before = wake_ups();
        for number in 0..EXCHANGES {
            let mut answer = [0; 8];
            socket.write_all(&number.to_le_bytes()).await.expect("room");
            socket.read_exact(&mut answer).await.expect("an answer");
            assert_eq!(i64::from_le_bytes(answer), number);
        }
        let count = wake_ups() - before;
        assert!(count <= EXCHANGES + EXCHANGES / 2, "{count} times in {EXCHANGES} exchanges");
        drop(socket);
        answers.join().expect("it has ended");
    }

    #[tokio::test]
    async fn what_does_not_fit_waits_for_room() {
        const LENGTH: usize = 4 * 1024 * 1024;
        let (mut socket, mut server) = pair();
        let reads = std::thread::spawn(move || {
            let mut all = Vec::new();
            server.read_to_end(&mut all).expect("until the end");
            all
        });
        let sent: Vec<u8> = (0..LENGTH).map(|at| (at / 4096) as u8).collect();
        socket.write_all(&sent).await.expect("room in the end");
        assert!(socket.writes.is_none(), "room is asked for only while there is none");
        socket.shutdown().await.expect("ours");
        assert!(reads.join().expect("it has ended") == sent);
        let mut rest = Vec::new();
        assert_eq!(socket.read_to_end(&mut rest).await.expect("the end"), 0);
    }
}

//! A socket that wakes its reader once for several answers.
//!
//! The answers to a renewal arrive a moment after each other, each a wake-up of its own: by the kernel's SO_RCVLOWAT the
//! socket counts as readable only when more has arrived than the first. What else comes meanwhile waits as long.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::{setsockopt_impl, sockopt_impl};

sockopt_impl!(
    /// How many bytes make the socket readable.
    ReceiveLowWater,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    i32
);

/// More than a keepalive's answer of some 54 bytes with what HTTP/2 sends of itself (a ping, window updates), and less than it
/// and the proof of a lock together.
const BOTH: i32 = 150;
/// Answers that are shorter, such as errors, are read then.
const PATIENCE: Duration = Duration::from_millis(100);

/// A second handle on a connection's socket.
pub(super) struct Patience(OwnedFd);

impl Patience {
    pub(super) fn on(socket: &impl AsFd) -> io::Result<Self> {
        Ok(Patience(socket.as_fd().try_clone_to_owned()?))
    }

    /// An exchange whose answers are of use only together.
    pub(super) async fn for_both<T>(&self, exchange: impl Future<Output = T>) -> T {
        let mut exchange = pin!(exchange);
        let few = Waiting::on(&self.0);
        match tokio::time::timeout(PATIENCE, &mut exchange).await {
            Ok(done) => done,
            Err(_) => {
                drop(few);
                exchange.await
            }
        }
    }
}

/// The socket waits for both answers as long as this lives.
struct Waiting<'a>(&'a OwnedFd);

impl<'a> Waiting<'a> {
    fn on(socket: &'a OwnedFd) -> Self {
        // Where the kernel refuses it, it costs a wake-up.
        let _ = setsockopt(socket, ReceiveLowWater, &BOTH);
        Waiting(socket)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Wakes the reader for what is there.
        let _ = setsockopt(self.0, ReceiveLowWater, &1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        (client, listener.accept().await.expect("a connection").0)
    }

    #[tokio::test]
    async fn a_first_answer_alone_makes_the_socket_readable_only_after_a_while_and_both_do_at_once() {
        let (client, mut server) = pair().await;
        let patience = Patience::on(&client).expect("a second handle");
        server.write_all(&[1; 52]).await.expect("room");
        let begun = tokio::time::Instant::now();
        patience.for_both(client.readable()).await.expect("readable");
        assert!(begun.elapsed() >= PATIENCE, "{:?}", begun.elapsed());

        let (mut client, mut server) = pair().await;
        let patience = Patience::on(&client).expect("a second handle");
        let answers = async {
            server.write_all(&[1; 52]).await.expect("room");
            server.write_all(&[2; 120]).await.expect("room");
        };
        let read = async {
            let mut buffer = [0; 512];
            client.read(&mut buffer).await.expect("both")
        };
        let (read, ()) = tokio::join!(patience.for_both(read), answers);
        assert_eq!(read, 172);
    }

    #[tokio::test]
    async fn after_an_exchange_one_byte_makes_the_socket_readable() {
        let (mut client, mut server) = pair().await;
        let patience = Patience::on(&client).expect("a second handle");
        patience.for_both(std::future::ready(())).await;
        server.write_all(&[1]).await.expect("room");
        assert_eq!(client.read_u8().await.expect("a byte"), 1);
    }
}

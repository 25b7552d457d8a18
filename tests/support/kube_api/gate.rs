//! A connection that can stand still: while the gate is shut nothing is read from it and nothing is written, as with a
//! process that has been stopped. The kernel goes on accepting connections.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<Waiters>>);

#[derive(Default)]
struct Waiters {
    is_shut: bool,
    wakers: Vec<Waker>,
}

impl Gate {
    pub fn shut(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_shut = true;
    }

    pub fn open(&self) {
        let mut waiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.is_shut = false;
        waiters.wakers.drain(..).for_each(Waker::wake);
    }

    /// Whether the caller has to wait; it is woken when the gate opens.
    fn holds_up(&self, context: &Context<'_>) -> bool {
        let mut waiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiters.is_shut && !waiters.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            waiters.wakers.push(context.waker().clone());
        }
        waiters.is_shut
    }
}

pub struct Gated<S> {
    pub inner: S,
    pub gate: Gate,
}

impl<S: AsyncRead + Unpin> AsyncRead for Gated<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.gate.holds_up(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gated<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.gate.holds_up(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gate.holds_up(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gate.holds_up(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

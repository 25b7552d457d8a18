//! A way to etcd that holds one of a renewal's two requests back while the other goes through. It reads HTTP/2's frames and
//! lets all headers pass, whose compression counts on their order: a request without its data waits in etcd.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::spawn;

use super::etcd::own_address;

const PREFACE: usize = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const DATA: u8 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    KeepAlive,
    /// The transaction that looks whether the leader key hangs on the lease.
    Proof,
}

pub struct Gate {
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    shut: Option<Request>,
    /// Whose data wait, and all that came on these streams since.
    streams: BTreeSet<[u8; 4]>,
    held: Vec<u8>,
    to_server: Option<TcpStream>,
    /// Messages of the server since the gate was shut.
    answers: usize,
}

impl Gate {
    /// For one connection, as long as the test's process lives.
    pub fn to(server: SocketAddr) -> Self {
        let address = own_address();
        let listener = TcpListener::bind(address).expect("the address is this process's own");
        let shared = Arc::<Mutex<Shared>>::default();
        let ways = shared.clone();
        spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(server).expect("etcd is there");
                let reader = server.try_clone().expect("a descriptor");
                let writer = client.try_clone().expect("a descriptor");
                lock(&ways).to_server = Some(server);
                let (there, back) = (ways.clone(), ways.clone());
                spawn(move || pass_requests(client, &there));
                spawn(move || pass_answers(reader, writer, &back));
            }
        });
        Gate { address, shared }
    }

    pub fn shut(&self, request: Request) {
        let mut shared = lock(&self.shared);
        shared.shut = Some(request);
        shared.answers = 0;
    }

    /// Whether one request waits and the other has been answered.
    pub fn stands_between(&self) -> bool {
        let shared = lock(&self.shared);
        !shared.held.is_empty() && shared.answers > 0
    }

    pub fn open(&self) {
        let mut shared = lock(&self.shared);
        shared.shut = None;
        shared.streams.clear();
        let held = std::mem::take(&mut shared.held);
        shared.to_server.as_mut().expect("connected").write_all(&held).expect("etcd reads");
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Header and payload together; `None` at the end.
fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 9];
    stream.read_exact(&mut frame).ok()?;
    let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize;
    frame.resize(9 + length, 0);
    stream.read_exact(&mut frame[9..]).ok()?;
    Some(frame)
}

fn stream_of(frame: &[u8]) -> [u8; 4] {
    frame[5..9].try_into().expect("four bytes")
}

fn pass_requests(mut client: TcpStream, shared: &Mutex<Shared>) {
    let mut preface = [0; PREFACE];
    if client.read_exact(&mut preface).is_err() {
        return;
    }
    let mut next = Some(preface.to_vec());
    while let Some(bytes) = next {
        let mut guard = lock(shared);
        let shared = &mut *guard;
        let is_frame = bytes != preface;
        if is_frame && shared.shut.is_some() && shared.shut == request(&bytes) {
            shared.streams.insert(stream_of(&bytes));
        }
        let sent = match is_frame && shared.streams.contains(&stream_of(&bytes)) {
            true => shared.held.write_all(&bytes),
            false => shared.to_server.as_mut().expect("connected").write_all(&bytes),
        };
        drop(guard);
        next = sent.ok().and_then(|()| frame(&mut client));
    }
}

fn pass_answers(mut server: TcpStream, mut client: TcpStream, shared: &Mutex<Shared>) {
    while let Some(frame) = frame(&mut server) {
        let is_passed = client.write_all(&frame).is_ok();
        lock(shared).answers += usize::from(frame[3] == DATA && frame.len() > 9);
        if !is_passed {
            return;
        }
    }
}

/// Of the two that a renewal consists of: the keepalive names a lease and nothing else.
fn request(frame: &[u8]) -> Option<Request> {
    let payload = &frame[9..];
    if frame[3] != DATA {
        None
    } else if payload.windows(7).any(|word| word == b"/leader") {
        Some(Request::Proof)
    } else if (6..=16).contains(&payload.len()) && payload[5] == 0x08 {
        Some(Request::KeepAlive)
    } else {
        None
    }
}

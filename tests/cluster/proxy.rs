//! A way to a server that notes when something passes, and that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::spawn;
use std::time::Instant;

use crate::etcd::own_address;

/// Lives as long as the test's process.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    sent: Vec<Instant>,
    /// Both ends of every connection.
    streams: Vec<TcpStream>,
    is_cut: bool,
}

impl Proxy {
    pub fn to(server: SocketAddr) -> Self {
        let address = own_address();
        let listener = TcpListener::bind(address).expect("the address is this process's own");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let notes = shared.clone();
        spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let ends = [&server, &client, &server, &client].map(TcpStream::try_clone);
                let [Ok(to_server), Ok(to_client), Ok(one), Ok(other)] = ends else { continue };
                {
                    let mut shared = lock(&notes);
                    if shared.is_cut {
                        continue;
                    }
                    shared.streams.extend([one, other]);
                }
                let notes = notes.clone();
                spawn(move || pass(client, to_server, || lock(&notes).sent.push(Instant::now())));
                spawn(move || pass(server, to_client, || ()));
            }
        });
        Proxy { address, shared }
    }

    /// When clients sent something.
    pub fn sent(&self) -> Vec<Instant> {
        lock(&self.shared).sent.clone()
    }

    /// Nothing passes any more: connections end, and new ones end at once.
    pub fn cut(&self) {
        let mut shared = lock(&self.shared);
        shared.is_cut = true;
        for stream in shared.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn mend(&self) {
        lock(&self.shared).is_cut = false;
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().expect("whole")
}

fn pass(mut from: TcpStream, mut to: TcpStream, note: impl Fn()) {
    let mut bytes = [0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        note();
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

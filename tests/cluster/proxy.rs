//! A way to a server that notes when something passes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::spawn;
use std::time::Instant;

use crate::etcd::own_address;

/// Lives as long as the test's process.
pub struct Proxy {
    pub address: SocketAddr,
    sent: Arc<Mutex<Vec<Instant>>>,
}

impl Proxy {
    pub fn to(server: SocketAddr) -> Self {
        let address = own_address();
        let listener = TcpListener::bind(address).expect("the address is this process's own");
        let sent = Arc::new(Mutex::new(Vec::new()));
        let notes = sent.clone();
        spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let (to_server, to_client) = (server.try_clone(), client.try_clone());
                let (Ok(to_server), Ok(to_client)) = (to_server, to_client) else { continue };
                let notes = notes.clone();
                spawn(move || pass(client, to_server, || notes.lock().expect("whole").push(Instant::now())));
                spawn(move || pass(server, to_client, || ()));
            }
        });
        Proxy { address, sent }
    }

    /// When clients sent something.
    pub fn sent(&self) -> Vec<Instant> {
        self.sent.lock().expect("whole").clone()
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, note: impl Fn()) {
    let mut bytes = [0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        note();
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

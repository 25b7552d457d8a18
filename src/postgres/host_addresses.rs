//! Addresses of other members by their host names, so that a WAL receiver need not look a name up: nothing can interrupt
//! it meanwhile, and a promotion waits for its end (ADR 19).
//!
//! What the last lookup with an answer found stays: one without an answer changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// How long a lookup is waited for. It goes on beside, and what it finds is kept.
const LIMIT: Duration = Duration::from_secs(2);

type Resolver = Box<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

pub(super) struct HostAddresses {
    resolve: Resolver,
    names: Arc<Mutex<Names>>,
}

#[derive(Default)]
struct Names {
    found: BTreeMap<String, Found>,
    /// Of each name at most one: a thread is taken until it ends. Closed without a value: it was given up.
    running: BTreeMap<String, watch::Receiver<Option<Answer>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    One(IpAddr),
    /// Several, of which libpq is to choose, or one that means nothing without its interface.
    NotOne,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    /// The name is not known, or nobody has said so within the time.
    No,
}

impl Default for HostAddresses {
    /// With the system's resolver, which runs where the runtime lets work block.
    fn default() -> Self {
        HostAddresses::new(Box::new(|host| {
            Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) })
        }))
    }
}

impl HostAddresses {
    fn new(resolve: Resolver) -> Self {
        HostAddresses { resolve, names: Arc::default() }
    }

    /// The one address of this host; `None` where it is no name, has several, or none was ever found.
    pub(super) fn known(&self, host: &str) -> Option<IpAddr> {
        match locked(&self.names).found.get(host)? {
            Found::One(address) => Some(*address),
            Found::NotOne => None,
        }
    }

    /// What an earlier agent has found, unless we know better.
    pub(super) fn take_over(&self, host: &str, address: &str) {
        let Some(address) = address.parse().ok().filter(|_| is_name(host)) else { return };
        locked(&self.names).found.entry(host.to_owned()).or_insert(Found::One(address));
    }

    /// Asks for the addresses of a name; no longer than `LIMIT`.
    pub(super) async fn look_up(&self, host: &str) -> Answer {
        if !is_name(host) {
            return Answer::No;
        }
        let mut running = self.running(host);
        match tokio::time::timeout(LIMIT, running.wait_for(Option::is_some)).await {
            Ok(Ok(answer)) => answer.unwrap_or(Answer::No),
            Ok(Err(_)) | Err(_) => Answer::No,
        }
    }

    /// The lookup that is under way, else a new one.
    fn running(&self, host: &str) -> watch::Receiver<Option<Answer>> {
        let mut names = locked(&self.names);
        if let Some(running) = names.running.get(host).filter(|running| running.has_changed().is_ok()) {
            return running.clone();
        }
        let (ended, running) = watch::channel(None);
        names.running.insert(host.to_owned(), running.clone());
        drop(names);
        let (host, names, lookup) = (host.to_owned(), self.names.clone(), (self.resolve)(host.to_owned()));
        tokio::spawn(async move {
            let result = lookup.await;
            let answer = locked(&names).take_in(&host, result);
            ended.send_replace(Some(answer));
        });
        running
    }
}

impl Names {
    fn take_in(&mut self, host: &str, result: io::Result<Vec<SocketAddr>>) -> Answer {
        self.running.remove(host);
        let addresses = match result {
            Ok(addresses) if !addresses.is_empty() => addresses,
            Ok(_none) => return Answer::No,
            Err(error) => {
                tracing::debug!("cannot look {host} up: {error}");
                return Answer::No;
            }
        };
        let found = found(&addresses);
        if self.found.insert(host.to_owned(), found).is_some_and(|before| before != found) {
            match found {
                Found::One(address) => tracing::info!("{host} has another address: {address}"),
                Found::NotOne => tracing::info!("{host} has several addresses"),
            }
        }
        Answer::Yes
    }
}

fn locked(names: &Mutex<Names>) -> MutexGuard<'_, Names> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

fn found(addresses: &[SocketAddr]) -> Found {
    let distinct: BTreeSet<IpAddr> = addresses.iter().map(|address| address.ip().to_canonical()).collect();
    let needs_interface = |address: &SocketAddr| matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0);
    match distinct.first() {
        Some(address) if distinct.len() == 1 && !addresses.iter().any(needs_interface) => Found::One(*address),
        Some(_) | None => Found::NotOne,
    }
}

/// Neither an address, nor the folder of a socket or an abstract one, nor a list of hosts.
fn is_name(host: &str) -> bool {
    !host.is_empty() && !host.starts_with(['/', '@']) && !host.contains([',', ':']) && host.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// What each lookup brings, one after the other; `None`: nothing, for ever.
    fn answering(answers: &[Option<&[&str]>]) -> (HostAddresses, Arc<AtomicUsize>) {
        let socket = |address: &&str| SocketAddr::new(address.parse().expect("an address"), 0);
        let answers: VecDeque<Option<Vec<SocketAddr>>> =
            answers.iter().map(|answer| answer.map(|found| found.iter().map(socket).collect())).collect();
        let (answers, asked) = (Mutex::new(answers), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        let resolve = move |_host| -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
            count.fetch_add(1, Ordering::Relaxed);
            match answers.lock().expect("no panic").pop_front().expect("an answer") {
                Some(found) if found.is_empty() => Box::pin(async { Err(io::ErrorKind::NotFound.into()) }),
                Some(found) => Box::pin(async { Ok(found) }),
                None => Box::pin(std::future::pending()),
            }
        };
        (HostAddresses::new(Box::new(resolve)), asked)
    }

    fn ip(address: &str) -> Option<IpAddr> {
        Some(address.parse().expect("an address"))
    }

    #[tokio::test]
    async fn the_address_that_was_found_last_stays_until_another_is_found() {
        let (hosts, _) = answering(&[
            Some(&[]),
            Some(&["10.0.0.1", "10.0.0.1"]),
            Some(&[]),
            Some(&["10.0.0.2"]),
            Some(&["10.0.0.2", "2001:db8::2"]),
            Some(&["::ffff:10.0.0.3"]),
        ]);
        let known = [None, ip("10.0.0.1"), ip("10.0.0.1"), ip("10.0.0.2"), None, ip("10.0.0.3")];
        let answers = [Answer::No, Answer::Yes, Answer::No, Answer::Yes, Answer::Yes, Answer::Yes];
        for (answer, known) in answers.into_iter().zip(known) {
            assert_eq!((hosts.look_up("n1").await, hosts.known("n1")), (answer, known));
        }
        assert_eq!(hosts.known("n2"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_without_an_answer_is_waited_for_a_moment_and_not_begun_twice() {
        let (hosts, asked) = answering(&[Some(&["10.0.0.1"]), None]);
        hosts.look_up("n1").await;
        let began = tokio::time::Instant::now();
        assert_eq!((hosts.look_up("n1").await, began.elapsed()), (Answer::No, LIMIT));
        assert_eq!((hosts.look_up("n1").await, hosts.known("n1")), (Answer::No, ip("10.0.0.1")));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn only_names_are_looked_up() {
        let (hosts, asked) = answering(&[]);
        for host in ["", "10.0.0.1", "2001:db8::1", "fe80::1%eth0", "/run/postgresql", "@abstract", "n1,n2"] {
            assert_eq!((hosts.look_up(host).await, hosts.known(host)), (Answer::No, None), "{host}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_an_earlier_agent_has_found_is_taken_over_once() {
        let (hosts, _) = answering(&[Some(&[]), Some(&["10.0.0.2", "10.0.0.3"])]);
        hosts.take_over("n1", "10.0.0.1");
        hosts.take_over("n1", "10.0.0.9");
        hosts.take_over("n2", "nonsense");
        hosts.look_up("n1").await;
        assert_eq!((hosts.known("n1"), hosts.known("n2")), (ip("10.0.0.1"), None));
        hosts.look_up("n1").await;
        hosts.take_over("n1", "10.0.0.1");
        assert_eq!(hosts.known("n1"), None, "it has several");
    }

    #[test]
    fn an_address_of_one_interface_is_libpqs_to_find() {
        let local = std::net::SocketAddrV6::new("fe80::1".parse().expect("an address"), 0, 0, 2);
        assert_eq!(found(&[local.into()]), Found::NotOne);
    }
}

//! The places that connections take. A client that sends nothing, or half a request, must not keep the checks of others
//! out.
//!
//! **Invariants:** at most `PLACES` connections, at most `PER_ADDRESS` from one address. A new connection gets a place
//! unless all that could give way are in the middle of a change: the oldest of its own address gives way when that has
//! its share, else the oldest of the address that has most.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::warn;

/// Half of the usual 1,024 descriptors of a process: a flood must not take those that the loop needs for the DCS and for
/// PostgreSQL.
const PLACES: usize = 500;

/// Enough for a proxy or a NAT gateway in front of many clients.
const PER_ADDRESS: usize = 200;

/// From so many connections on, clients have to be quick.
const PRESSURE: usize = PLACES / 2;
const PRESSURE_PER_ADDRESS: usize = PER_ADDRESS / 2;

/// How long a client may take for a handshake or for its headers, and how long a connection may idle.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);
const CLIENT_LIMIT_UNDER_PRESSURE: Duration = Duration::from_secs(1);

/// How often the log tells of connections that were closed to make room.
const TELL_AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Places(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// The oldest first.
    by_address: HashMap<IpAddr, VecDeque<Arc<Place>>>,
    taken: usize,
    told: Option<Instant>,
}

/// What a connection is doing; the lower, the sooner it gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Doing {
    /// Nothing has been asked, or not completely.
    Waiting,
    /// A document is being prepared.
    Reading,
    /// Something is being changed: never interrupted.
    Changing,
}

#[derive(Debug)]
pub struct Place {
    doing: AtomicU8,
    given_up: Notify,
}

impl Place {
    /// While the result lives, a request is being answered.
    pub fn answering(self: &Arc<Self>, changes: Changes) -> Answering {
        let doing = match changes {
            Changes::Something => Doing::Changing,
            Changes::Nothing => Doing::Reading,
        };
        self.doing.store(doing as u8, Ordering::Relaxed);
        Answering(self.clone())
    }

    pub fn is_waiting(&self) -> bool {
        self.is(Doing::Waiting)
    }

    fn is(&self, doing: Doing) -> bool {
        self.doing.load(Ordering::Relaxed) == doing as u8
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    Something,
    Nothing,
}

#[derive(Debug)]
pub struct Answering(Arc<Place>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.doing.store(Doing::Waiting as u8, Ordering::Relaxed);
    }
}

/// A place that is free again when this is dropped.
#[derive(Debug)]
pub struct Taken {
    places: Arc<Places>,
    owner: IpAddr,
    pub place: Arc<Place>,
    /// How long the client may take for a handshake or for its headers.
    pub limit: Duration,
}

impl Taken {
    /// Ends when the place is needed for another connection.
    pub async fn given_up(&self) {
        self.place.given_up.notified().await;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.places.table().remove(self.owner, &self.place);
    }
}

impl Places {
    /// `None`: nobody can give way.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Taken> {
        let owner = owner(address);
        let mut table = self.table();
        let own = table.held_by(owner);
        if own >= PER_ADDRESS {
            table.tell(&format!("{PER_ADDRESS} connections from {address}"));
            table.make_room([owner])?;
        } else if table.taken >= PLACES {
            table.tell(&format!("{PLACES} connections"));
            let mut owners: Vec<(usize, IpAddr)> =
                table.by_address.iter().map(|(owner, places)| (places.len(), *owner)).collect();
            owners.sort_unstable_by(|a, b| b.cmp(a));
            table.make_room(owners.into_iter().map(|(_, owner)| owner))?;
        }
        let pressed = table.taken >= PRESSURE || own >= PRESSURE_PER_ADDRESS;
        let place = Arc::new(Place { doing: AtomicU8::new(Doing::Waiting as u8), given_up: Notify::new() });
        table.by_address.entry(owner).or_default().push_back(place.clone());
        table.taken += 1;
        let limit = if pressed { CLIENT_LIMIT_UNDER_PRESSURE } else { CLIENT_LIMIT };
        Some(Taken { places: self.clone(), owner, place, limit })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn held_by(&self, owner: IpAddr) -> usize {
        self.by_address.get(&owner).map_or(0, VecDeque::len)
    }

    /// The first of these that has a connection to spare loses its oldest.
    fn make_room(&mut self, owners: impl IntoIterator<Item = IpAddr> + Clone) -> Option<()> {
        [Doing::Waiting, Doing::Reading].into_iter().find_map(|doing| {
            owners.clone().into_iter().find_map(|owner| {
                let place = self.by_address.get(&owner)?.iter().find(|place| place.is(doing))?.clone();
                place.given_up.notify_one();
                self.remove(owner, &place);
                Some(())
            })
        })
    }

    fn remove(&mut self, owner: IpAddr, place: &Arc<Place>) {
        let Some(places) = self.by_address.get_mut(&owner) else { return };
        let Some(at) = places.iter().position(|other| Arc::ptr_eq(other, place)) else { return };
        places.remove(at);
        self.taken -= 1;
        if places.is_empty() {
            self.by_address.remove(&owner);
        }
    }

    fn tell(&mut self, why: &str) {
        if self.told.is_none_or(|told| told.elapsed() > TELL_AGAIN) {
            self.told = Some(Instant::now());
            warn!("the REST API has {why}: it closes the oldest ones without a request to accept new ones");
        }
    }
}

/// An IPv6 client has a network of 64 bits to choose addresses from.
fn owner(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn take(places: &Arc<Places>, number: u8) -> Option<Taken> {
        places.take(IpAddr::from([192, 0, 2, number]))
    }

    fn many(places: &Arc<Places>, number: u8, count: usize) -> Vec<Taken> {
        (0..count).map(|_| take(places, number).expect("a place")).collect()
    }

    fn gave_way(taken: &Taken) -> bool {
        taken.given_up().now_or_never().is_some()
    }

    #[test]
    fn an_address_with_its_share_loses_its_own_oldest() {
        let places = Arc::new(Places::default());
        let other = take(&places, 2).expect("a place");
        let held = many(&places, 1, PER_ADDRESS + 1);
        assert!(gave_way(&held[0]) && !gave_way(&held[1]) && !gave_way(&other));
        let answering: Vec<_> = held.iter().map(|taken| taken.place.answering(Changes::Something)).collect();
        assert!(take(&places, 1).is_none(), "changes are not interrupted");
        assert!(take(&places, 2).is_some());
        drop(answering);
        assert!(take(&places, 1).is_some());
    }

    #[test]
    fn when_all_places_are_taken_the_address_with_most_gives_way() {
        let places = Arc::new(Places::default());
        let few = many(&places, 1, 100);
        let most = many(&places, 2, 200);
        let more = many(&places, 3, 199);
        let last = take(&places, 4).expect("a place");
        assert!(![&few[0], &most[0], &more[0], &last].into_iter().any(gave_way));
        let reading = most[0].place.answering(Changes::Nothing);
        let new = take(&places, 5).expect("a place");
        assert!(!gave_way(&most[0]) && gave_way(&most[1]) && !gave_way(&few[0]) && !gave_way(&new));
        drop((few, more, last, new, reading));
        drop(most);
        assert_eq!(places.table().taken, 0);
    }

    #[test]
    fn clients_have_to_be_quick_under_pressure() {
        let places = Arc::new(Places::default());
        let held = many(&places, 1, PRESSURE_PER_ADDRESS + 1);
        assert_eq!((held[0].limit, held[PRESSURE_PER_ADDRESS].limit), (CLIENT_LIMIT, CLIENT_LIMIT_UNDER_PRESSURE));
        assert_eq!(take(&places, 2).expect("a place").limit, CLIENT_LIMIT);
        assert_eq!(owner("2001:db8:1:2:3::4".parse().expect("an address")).to_string(), "2001:db8:1:2::");
    }
}

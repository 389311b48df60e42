//! The places for connections. If all are taken, the one that has been idle the longest makes room; and
//! some are reserved for small requests, so that an admin gets in whatever the others do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::rates::Peer;
use crate::config::Server;

/// The bounds of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Connections for all requests.
    pub all: usize,
    /// Those of one peer that isn't on this machine.
    pub of_peer: usize,
    /// Connections beyond all, for requests that move little.
    pub reserve: usize,
    /// The time that an answer may stall whatever its length.
    pub stuck: Duration,
    /// The longest that headers may take, and a connection idle between two requests.
    pub headers: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let (stuck, headers) = (Duration::from_secs(20), Duration::from_secs(30));
        Self { all: 1_024, of_peer: 256, reserve: RESERVE, stuck, headers }
    }
}

impl Bounds {
    /// Those that the configuration says.
    pub(crate) fn of(server: &Server) -> Self {
        let (all, of_peer) = (server.connections, server.connections_per_address);
        Self { all, of_peer, headers: server.idle.duration(), ..Self::default() }
    }
}

/// Connections that are kept for requests that move little.
const RESERVE: usize = 32;

/// Marks requests on a connection from the reserve: an extension of theirs.
#[derive(Clone, Copy, Debug)]
pub(super) struct InReserve;

/// The time that a connection has for a request with a token before it is one of strangers.
const INTRODUCTION: Duration = Duration::from_secs(2);

/// The interval at which a waiting connection looks for an idle one.
const LOOK: Duration = Duration::from_millis(50);

/// All connections that are open.
pub(super) struct Connections {
    bounds: Bounds,
    free: Arc<Semaphore>,
    open: Arc<Mutex<BTreeMap<u64, Arc<Connection>>>>,
    began: Instant,
    next: AtomicU64,
}

pub(super) struct Connection {
    began: Instant,
    /// A request is being worked on.
    busy: AtomicBool,
    /// The time of the last byte in either direction, in milliseconds.
    last: AtomicU64,
    /// Bytes that have come, and that may come.
    received: AtomicU64,
    allowed: AtomicU64,
    end: Notify,
    /// It was told to make room.
    ending: AtomicBool,
    in_reserve: bool,
    peer: Peer,
    opened: Instant,
    /// It is of this machine, or a request on it came from somebody who may send one.
    known: AtomicBool,
}

/// A connection's place, given back when it is dropped.
pub(super) struct Place {
    id: u64,
    open: Arc<Mutex<BTreeMap<u64, Arc<Connection>>>>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.lock().remove(&self.id);
    }
}

impl Connection {
    /// Something came or went.
    pub(super) fn is_active(&self) {
        self.last.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// So many bytes have come.
    pub(super) fn receives(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.is_active();
    }

    /// Bytes that have come since it began.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Beyond as many bytes none is read. Whoever reads asks again by itself once more are allowed.
    pub(super) fn allow(&self, bytes: u64) {
        self.allowed.store(bytes, Ordering::Relaxed);
    }

    /// Says if all that is allowed has come.
    pub(super) fn is_held_back(&self) -> bool {
        self.received() >= self.allowed.load(Ordering::Relaxed)
    }

    /// A request is being worked on, or no longer.
    pub(super) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
        self.is_active();
    }

    /// Says if it hasn't been told to make room.
    fn stays(&self) -> bool {
        !self.ending.load(Ordering::Relaxed)
    }

    /// Somebody has sent a request who may: strangers make room first.
    pub(super) fn set_known(&self) {
        self.known.store(true, Ordering::Relaxed);
    }

    fn is_strange(&self) -> bool {
        !self.known.load(Ordering::Relaxed) && self.opened.elapsed() >= INTRODUCTION
    }

    /// Whether it is a connection of the reserve.
    pub(super) fn is_in_reserve(&self) -> bool {
        self.in_reserve
    }

    /// Ready when it has to make room.
    pub(super) async fn ended(&self) {
        self.end.notified().await;
    }
}

impl Connections {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            free: Arc::new(Semaphore::new(bounds.all + bounds.reserve)),
            open: Arc::default(),
            began: Instant::now(),
            next: AtomicU64::new(0),
        }
    }

    /// A place for a connection that has come; none where its peer has all that one may have, and works on each.
    pub(super) async fn place(&self, peer: Peer) -> Option<(Arc<Connection>, Place)> {
        // Before the wait for a place, in which nobody else gets in.
        if !self.has_share(peer) {
            return None;
        }
        let permit = loop {
            let waited = tokio::time::timeout(LOOK, Arc::clone(&self.free).acquire_owned());
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                break permit;
            }
            end_the_idlest(&self.open.lock(), None);
            if let Ok(permit) = waited.await {
                break permit.ok()?;
            }
        };
        let mut open = self.open.lock();
        let staying = open.values().filter(|connection| connection.stays()).count();
        // Only where all the others are at work is it one of those that are kept.
        let in_reserve = staying >= self.bounds.all && !end_the_idlest(&open, None);
        let connection = Arc::new(Connection {
            began: self.began,
            busy: AtomicBool::new(false),
            last: AtomicU64::new(self.began.elapsed().as_millis() as u64),
            received: AtomicU64::new(0),
            allowed: AtomicU64::new(u64::MAX),
            end: Notify::new(),
            ending: AtomicBool::new(false),
            in_reserve,
            peer,
            opened: Instant::now(),
            known: AtomicBool::new(peer.is_local()),
        });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        open.insert(id, Arc::clone(&connection));
        Some((connection, Place { id, open: Arc::clone(&self.open), _permit: permit }))
    }

    /// Says if a peer may have one more, for which an idle one of its own makes room.
    fn has_share(&self, peer: Peer) -> bool {
        let open = self.open.lock();
        let is_of_peer = |connection: &&Arc<Connection>| connection.stays() && connection.peer == peer;
        peer.is_local()
            || open.values().filter(is_of_peer).count() < self.bounds.of_peer
            || end_the_idlest(&open, Some(peer))
    }
}

/// Ends the connection that waits longest for a request, or for its answer to be read; one of strangers, if there is any.
/// `false` where all are at work. Of this peer alone, where one is named.
fn end_the_idlest(open: &BTreeMap<u64, Arc<Connection>>, of: Option<Peer>) -> bool {
    let is_idle = |connection: &&Arc<Connection>| {
        !connection.busy.load(Ordering::Relaxed)
            && connection.stays()
            && of.is_none_or(|peer| connection.peer == peer)
    };
    let idlest = open
        .values()
        .filter(is_idle)
        .min_by_key(|connection| (!connection.is_strange(), connection.last.load(Ordering::Relaxed)));
    if let Some(idlest) = idlest {
        idlest.ending.store(true, Ordering::Relaxed);
        idlest.end.notify_one();
    }
    idlest.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_leaves_places_to_the_others() {
        let bounds = Bounds { all: 8, of_peer: 2, reserve: 1, ..Bounds::default() };
        let connections = Connections::new(bounds);
        let peer = |address: &str| Peer::of(address.parse().unwrap());
        let (greedy, other, local) = (peer("192.0.2.7"), peer("192.0.2.8"), peer("127.0.0.1"));
        let first = connections.place(greedy).await.unwrap();
        let second = connections.place(greedy).await.unwrap();
        first.0.set_busy(true);
        // Its own idle one makes room, and nobody else's.
        let elsewhere = connections.place(other).await.unwrap();
        let third = connections.place(greedy).await.unwrap();
        second.0.ended().await;
        assert!(!elsewhere.0.ending.load(Ordering::Relaxed));
        drop(second);
        third.0.set_busy(true);
        assert!(connections.place(greedy).await.is_none(), "all of its connections are at work");
        drop(first);
        assert!(connections.place(greedy).await.is_some());
        // A proxy on this machine has those of many.
        let mut of_proxy = Vec::new();
        for _ in 0..4 {
            of_proxy.push(connections.place(local).await.unwrap());
            of_proxy.iter().for_each(|(connection, _)| connection.set_busy(true));
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_one_who_has_had_its_share() {
        let bounds = Bounds { all: 1, of_peer: 1, reserve: 0, ..Bounds::default() };
        let connections = Connections::new(bounds);
        let greedy = Peer::of("192.0.2.7".parse().unwrap());
        let only = connections.place(greedy).await.unwrap();
        only.0.set_busy(true);
        assert!(connections.place(greedy).await.is_none());
    }

    #[tokio::test]
    async fn strangers_make_room_before_those_who_have_shown_a_token() {
        let bounds = Bounds { all: 3, of_peer: 3, reserve: 0, ..Bounds::default() };
        let connections = Connections::new(bounds);
        let peer = |last: u8| Peer::of(std::net::Ipv4Addr::new(192, 0, 2, last).into());
        let known = connections.place(peer(1)).await.unwrap();
        known.0.set_known();
        let stranger = connections.place(peer(2)).await.unwrap();
        tokio::time::sleep(INTRODUCTION).await;
        stranger.0.is_active();
        let new = connections.place(peer(3)).await.unwrap();
        // The known one has been idle for longer, and the new one has time to show who it is.
        assert!(end_the_idlest(&connections.open.lock(), None));
        let ending = |one: &(Arc<Connection>, Place)| one.0.ending.load(Ordering::Relaxed);
        assert_eq!([&known, &stranger, &new].map(ending), [false, true, false]);
        assert!(end_the_idlest(&connections.open.lock(), None));
        assert_eq!([&known, &stranger, &new].map(ending), [true, true, false]);
    }
}

//! Requests in a second: those of each token, and of each address without one.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::operation::{Operation, Pace};
use super::problem::Problem;
use crate::access::TokenHash;
use crate::config::Rates as Limits;
use ironloom_types::clock::SECOND;

/// Tokens, and as many addresses, that are told apart: more than a site has. Others than those that were seen lately share
/// one place, so that whoever has many addresses takes no memory by them.
const MAX_KNOWN: usize = 16_384;
/// The time within which a full table is looked through once.
const SWEEP: Duration = Duration::from_secs(1);
/// Seconds' worth of requests that may come at once.
const BURST: u64 = 2;

/// The source of a connection. Whoever has an IPv6 address has a whole network of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer(IpAddr);

impl Peer {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                Self(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into())
            }
            address => Self(address),
        }
    }

    /// Says if it is a program of this machine.
    pub(super) fn is_local(self) -> bool {
        self.0.is_loopback()
    }
}

/// Whoever requests are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Caller {
    /// By a part of its hash.
    Token(u64),
    /// Somebody whose address needs no token.
    Open(Peer),
    /// Without a token that is known.
    Stranger(Peer),
}

impl Caller {
    pub(super) fn of(hash: &TokenHash) -> Self {
        Self::Token(hash.bucket())
    }
}

/// The requests of all callers.
pub(super) struct Rates {
    limits: Limits,
    began: Instant,
    tokens: Mutex<Table>,
    // On their own, so that strangers leave the tokens their places.
    peers: Mutex<Table>,
    connections: Mutex<Table<Peer>>,
}

impl Rates {
    pub(super) fn new(limits: Limits) -> Self {
        let (tokens, peers, connections) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { limits, began: Instant::now(), tokens, peers, connections }
    }

    /// Counts a new connection, and says if it isn't one too many: each may cost a handshake of TLS, before anybody has shown
    /// a token.
    pub(super) fn count_connection(&self, peer: Peer) -> bool {
        self.count_connection_at(peer, Instant::now())
    }

    fn count_connection_at(&self, peer: Peer, now: Instant) -> bool {
        let now = self.nanoseconds(now);
        // A proxy on this machine has those of many.
        peer.is_local() || self.connections.lock().count(peer, now, self.limits.connections).is_ok()
    }

    /// Since it began.
    fn nanoseconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_nanos() as u64
    }

    /// Counts a request; one that shows a token which isn't known `guesses`.
    ///
    /// # Errors
    /// 429 where there are too many.
    pub(super) fn count(&self, caller: Caller, operation: &Operation, guesses: bool) -> Result<(), Problem> {
        self.count_at(caller, operation.pace, guesses, Instant::now())
    }

    fn count_at(&self, caller: Caller, pace: Pace, guesses: bool, now: Instant) -> Result<(), Problem> {
        let per_second = match (caller, pace) {
            // Of strangers only those who show no token come through anyhow: others guess.
            (Caller::Stranger(_), Pace::Unbounded) if !guesses => return Ok(()),
            (Caller::Stranger(_), _) => self.limits.strangers,
            (_, Pace::Unbounded) => return Ok(()),
            (_, Pace::Requests) => self.limits.requests,
            (_, Pace::Pushes) => self.limits.pushes,
        };
        let table = match caller {
            Caller::Token(_) => &self.tokens,
            Caller::Open(_) | Caller::Stranger(_) => &self.peers,
        };
        let now = self.nanoseconds(now);
        let late = table.lock().count((caller, pace), now, per_second);
        late.map_err(|wait| {
            let of = match caller {
                Caller::Token(_) => "of this token",
                Caller::Open(_) => "of this address",
                Caller::Stranger(_) => "without a token that is known, of this address",
            };
            let key = match (caller, pace) {
                (Caller::Stranger(_), _) => "rate_without_token",
                (_, Pace::Pushes) => "rate_of_pushes",
                _ => "rate",
            };
            Problem::too_many_requests(format!("more than {per_second} requests in a second {of}"), wait)
                .hint(format!("[server] {key} of the configuration has the limit."))
        })
    }
}

type Key = (Caller, Pace);

/// The times at which callers will have used up nothing, in nanoseconds.
struct Table<K = Key> {
    free_at: HashMap<K, u64>,
    /// That of those for whom there is no place.
    of_others: u64,
    swept: u64,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { free_at: HashMap::new(), of_others: 0, swept: 0 }
    }
}

impl<K: Eq + Hash> Table<K> {
    /// Counts a request, or says how long to wait for the next one. (GCRA: the "generic cell rate algorithm" of ATM, which is
    /// a token bucket in one number.)
    fn count(&mut self, key: K, now: u64, per_second: u32) -> Result<(), Duration> {
        if self.free_at.len() >= MAX_KNOWN && !self.free_at.contains_key(&key) {
            self.sweep(now);
        }
        let has_room = self.free_at.len() < MAX_KNOWN || self.free_at.contains_key(&key);
        let free_at = if has_room { self.free_at.entry(key).or_insert(now) } else { &mut self.of_others };
        let used = (*free_at).max(now) - now;
        let each = SECOND / u64::from(per_second.max(1));
        // One is always let through that comes to a caller without any.
        let most = (BURST * SECOND).max(each);
        if used + each > most {
            return Err(Duration::from_nanos(used + each - most));
        }
        *free_at = now + used + each;
        Ok(())
    }

    /// Forgets those that have used up nothing.
    fn sweep(&mut self, now: u64) {
        if now.saturating_sub(self.swept) < SWEEP.as_nanos() as u64 {
            return;
        }
        self.swept = now;
        self.free_at.retain(|_, free_at| *free_at > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { requests: 10, pushes: 1_000, strangers: 2, connections: 3 };

    fn rates() -> (Rates, Instant) {
        let rates = Rates::new(LIMITS);
        let began = rates.began;
        (rates, began)
    }

    /// Requests of so many at once that are let through.
    fn taken(rates: &Rates, caller: Caller, pace: Pace, at: Instant, tries: usize) -> usize {
        (0..tries).filter(|_| rates.count_at(caller, pace, false, at).is_ok()).count()
    }

    fn peer(address: &str) -> Peer {
        Peer::of(address.parse().unwrap())
    }

    #[test]
    fn twice_a_seconds_worth_comes_at_once_and_then_the_rate() {
        let (rates, began) = rates();
        let (token, other) = (Caller::Token(1), Caller::Token(2));
        assert_eq!(taken(&rates, token, Pace::Requests, began, 100), 20);
        assert_eq!(taken(&rates, other, Pace::Requests, began, 100), 20);
        assert_eq!(taken(&rates, token, Pace::Pushes, began, 5_000), 2_000);
        // A second later as many as the rate says have come back, and after ten not more than at first.
        let second = Duration::from_secs(1);
        assert_eq!(taken(&rates, token, Pace::Requests, began + second, 100), 10);
        assert_eq!(taken(&rates, token, Pace::Requests, began + 10 * second, 100), 20);
        // In the long run it is the rate, whoever asks how often.
        let in_all: usize = (0..1_000)
            .map(|ms| {
                taken(&rates, other, Pace::Requests, began + 20 * second + Duration::from_millis(10 * ms), 3)
            })
            .sum();
        assert_eq!(in_all, 20 + 99);
    }

    #[test]
    fn whoever_is_over_it_is_told_when_to_come_again() {
        let (rates, began) = rates();
        let stranger = Caller::Stranger(peer("192.0.2.7"));
        assert_eq!(taken(&rates, stranger, Pace::Pushes, began, 10), 4);
        let problem = rates.count_at(stranger, Pace::Requests, false, began);
        // Another kind of request has its own.
        assert!(problem.is_ok());
        let problem = rates.count_at(stranger, Pace::Pushes, false, began).unwrap_err();
        assert_eq!(
            (problem.status, problem.kind.as_str(), problem.retry_after),
            (429, "too-many-requests", Some(1))
        );
        assert!(problem.detail.contains("more than 2 requests in a second"), "{problem}");
        assert_eq!(taken(&rates, stranger, Pace::Pushes, began + Duration::from_millis(500), 10), 1);
    }

    #[test]
    fn what_has_to_come_through_isnt_counted() {
        let (rates, began) = rates();
        assert_eq!(taken(&rates, Caller::Token(1), Pace::Unbounded, began, 10_000), 10_000);
        let unbounded: Vec<_> = super::super::routes::OPERATIONS
            .iter()
            .filter(|operation| operation.pace == Pace::Unbounded)
            .map(|operation| (operation.method, operation.path))
            .collect();
        assert_eq!(unbounded, [("post", "/v1/halt"), ("get", "/healthz"), ("get", "/readyz")]);
    }

    #[test]
    fn new_connections_of_an_address_are_counted_but_for_those_of_this_machine() {
        let (rates, began) = rates();
        let taken = |address: &str, at: Instant, tries: usize| {
            (0..tries).filter(|_| rates.count_connection_at(peer(address), at)).count()
        };
        // Two seconds' worth at once, and then as many as a second brings.
        assert_eq!(taken("192.0.2.7", began, 100), 6);
        assert_eq!(taken("192.0.2.8", began, 100), 6);
        assert_eq!(taken("192.0.2.7", began + Duration::from_secs(1), 100), 3);
        assert_eq!(taken("127.0.0.1", began, 10_000), 10_000);
        // Requests have their own.
        assert_eq!(self::taken(&rates, Caller::Open(peer("192.0.2.7")), Pace::Requests, began, 100), 20);
    }

    #[test]
    fn addresses_of_one_network_are_one_caller() {
        assert_eq!(peer("2001:db8:1:2::7"), peer("2001:db8:1:2:ffff::1"));
        assert_ne!(peer("2001:db8:1:2::7"), peer("2001:db8:1:3::7"));
        assert_eq!(peer("::ffff:192.0.2.7"), peer("192.0.2.7"));
        assert_ne!(peer("192.0.2.7"), peer("192.0.2.8"));
        for local in ["127.0.0.1", "127.0.0.9", "::1", "::ffff:127.0.0.1"] {
            assert!(peer(local).is_local(), "{local}");
        }
        assert!(!peer("::2").is_local());
    }

    #[test]
    fn many_addresses_take_bounded_memory_and_bring_no_more_requests() {
        let (rates, began) = rates();
        let at =
            |number: usize| Caller::Stranger(peer(&std::net::Ipv4Addr::from(number as u32 + 1).to_string()));
        let token = Caller::Token(1);
        let mut through = 0;
        for number in 0..4 * MAX_KNOWN {
            through += taken(&rates, at(number), Pace::Requests, began, 1);
        }
        // Those beyond share one place.
        assert_eq!(through, MAX_KNOWN + 4);
        assert_eq!(rates.peers.lock().free_at.len(), MAX_KNOWN);
        assert_eq!(taken(&rates, token, Pace::Requests, began, 100), 20, "tokens have theirs");
        // Who was there goes on as before, and those who have stopped make room.
        assert_eq!(taken(&rates, at(7), Pace::Requests, began, 10), 3);
        let later = began + Duration::from_secs(3);
        assert_eq!(taken(&rates, at(4 * MAX_KNOWN), Pace::Requests, later, 10), 4);
        assert_eq!(rates.peers.lock().free_at.len(), 1);
    }
}

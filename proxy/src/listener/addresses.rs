//! Bounds per remote address, so that one host cannot take everything.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::limits::Limits;

/// Most addresses remembered. Those without a connection and at their full rate are forgotten first.
const ADDRESSES_MAX: usize = 65_536;

/// Open connections and recent arrivals, per address.
#[derive(Debug)]
pub(super) struct Addresses {
    open_max: usize,
    per_second: f64,
    known: Mutex<HashMap<IpAddr, Address>>,
}

#[derive(Debug, Clone, Copy)]
struct Address {
    open: usize,
    /// Arrivals still allowed at `as_of`.
    allowance: f64,
    as_of: Instant,
}

impl Addresses {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            open_max: limits.connections_per_address_max,
            per_second: limits.handshakes_per_address_per_second as f64,
            known: Mutex::new(HashMap::new()),
        }
    }

    /// Counts a new connection in until the guard is dropped, or says which bound it would break.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Entered, &'static str> {
        self.count_in(address, now)?;
        Ok(Entered { addresses: Arc::clone(self), address })
    }

    fn count_in(&self, address: IpAddr, now: Instant) -> Result<(), &'static str> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ADDRESSES_MAX && !known.contains_key(&group(address)) {
            known.retain(|_, it| it.open > 0 || self.allowance(it, now) < self.per_second);
            if known.len() >= ADDRESSES_MAX {
                return Err("too-many-addresses");
            }
        }
        let fresh = Address { open: 0, allowance: self.per_second, as_of: now };
        let entry = known.entry(group(address)).or_insert(fresh);
        entry.allowance = self.allowance(entry, now);
        entry.as_of = now;
        if entry.open >= self.open_max {
            return Err("address-connections");
        }
        if entry.allowance < 1.0 {
            return Err("address-rate");
        }
        entry.allowance -= 1.0;
        entry.open += 1;
        Ok(())
    }

    fn leave(&self, address: IpAddr) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get_mut(&group(address)) {
            entry.open = entry.open.saturating_sub(1);
        }
    }

    fn allowance(&self, entry: &Address, now: Instant) -> f64 {
        let since = now.saturating_duration_since(entry.as_of).as_secs_f64();
        (entry.allowance + since * self.per_second).min(self.per_second)
    }
}

/// A connection that counts against its address.
#[derive(Debug)]
pub(super) struct Entered {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.addresses.leave(self.address);
    }
}

/// One IPv6 customer has a whole /64.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn addresses(open_max: usize, per_second: usize) -> Addresses {
        let limits = Limits {
            connections_per_address_max: open_max,
            handshakes_per_address_per_second: per_second,
            ..Limits::default()
        };
        Addresses::new(&limits)
    }

    #[test]
    fn open_connections_are_counted_out_again() {
        let addresses = addresses(2, 1_000);
        let (now, one) = (Instant::now(), IpAddr::from([192, 0, 2, 1]));
        assert_eq!(addresses.count_in(one, now), Ok(()));
        assert_eq!(addresses.count_in(one, now), Ok(()));
        assert_eq!(addresses.count_in(one, now), Err("address-connections"));
        assert_eq!(addresses.count_in(IpAddr::from([192, 0, 2, 2]), now), Ok(()));
        addresses.leave(one);
        assert_eq!(addresses.count_in(one, now), Ok(()));
    }

    #[test]
    fn arrivals_have_a_rate() {
        let addresses = addresses(1_000, 10);
        let (now, one) = (Instant::now(), IpAddr::from([192, 0, 2, 1]));
        let entered = (0..100).filter(|_| addresses.count_in(one, now).is_ok()).count();
        assert_eq!(entered, 10);
        assert_eq!(addresses.count_in(one, now + Duration::from_millis(50)), Err("address-rate"));
        assert_eq!(addresses.count_in(one, now + Duration::from_millis(210)), Ok(()));
    }

    #[test]
    fn a_prefix_of_one_customer_is_one_address() {
        let addresses = addresses(1, 1_000);
        let now = Instant::now();
        assert_eq!(addresses.count_in("2001:db8::1".parse().expect("an address"), now), Ok(()));
        assert!(addresses.count_in("2001:db8::ffff".parse().expect("an address"), now).is_err());
        assert_eq!(addresses.count_in("2001:db8:0:1::1".parse().expect("an address"), now), Ok(()));
        let mapped = "::ffff:192.0.2.1".parse().expect("an address");
        assert_eq!(addresses.count_in(mapped, now), Ok(()));
        assert!(addresses.count_in(IpAddr::from([192, 0, 2, 1]), now).is_err());
    }

    #[test]
    fn memory_is_bounded_and_the_idle_are_forgotten() {
        let addresses = addresses(8, 10);
        let now = Instant::now();
        for number in 0..ADDRESSES_MAX as u32 {
            assert_eq!(addresses.count_in(IpAddr::from(number.to_be_bytes()), now), Ok(()));
            addresses.leave(IpAddr::from(number.to_be_bytes()));
        }
        let newcomer = IpAddr::from([255, 0, 0, 1]);
        assert_eq!(addresses.count_in(newcomer, now), Err("too-many-addresses"));
        assert_eq!(addresses.count_in(newcomer, now + Duration::from_secs(2)), Ok(()));
    }
}

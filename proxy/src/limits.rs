//! Every bound of the daemon, with unit and reason; table `[limits]` of the configuration.
//!
//! One line per bound below is its name, default, allowed range and reason, so that the file, the
//! `check` command and the documentation cannot disagree.

use std::time::Duration;

/// Name, default and allowed range of one bound, as the configuration spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Name in `[limits]`; times end in `_ms`.
    pub name: &'static str,
    /// Value when the file is silent.
    pub default: u64,
    /// Smallest value accepted.
    pub min: u64,
    /// Largest value accepted.
    pub max: u64,
    /// Why there is a bound.
    pub reason: &'static str,
}

macro_rules! limits {
    (
        counts { $($count:ident = $count_default:literal, $count_min:literal..=$count_max:literal, $count_reason:literal;)* }
        times { $($time:ident / $time_name:literal = $time_default:literal, $time_min:literal..=$time_max:literal, $time_reason:literal;)* }
    ) => {
        /// All bounds. Counts and bytes are numbers; times are durations, written in milliseconds.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits {
            $(#[doc = $count_reason] pub $count: usize,)*
            $(#[doc = $time_reason] pub $time: Duration,)*
        }

        impl Limits {
            /// The table, in the order of the documentation.
            pub const BOUNDS: &[Bound] = &[
                $(Bound { name: stringify!($count), default: $count_default, min: $count_min, max: $count_max, reason: $count_reason },)*
                $(Bound { name: $time_name, default: $time_default, min: $time_min, max: $time_max, reason: $time_reason },)*
            ];

            /// Takes each bound from `value`, which is given its row of the table.
            pub fn from_values(mut value: impl FnMut(&Bound) -> u64) -> Self {
                let mut bounds = Self::BOUNDS.iter();
                let mut next = || bounds.next().map_or(0, &mut value);
                Self {
                    $($count: usize::try_from(next()).unwrap_or(usize::MAX),)*
                    $($time: Duration::from_millis(next()),)*
                }
            }

            /// Name and value of each bound, for the effective configuration.
            pub fn values(&self) -> Vec<(&'static str, u64)> {
                vec![
                    $((stringify!($count), self.$count as u64),)*
                    $(($time_name, u64::try_from(self.$time.as_millis()).unwrap_or(u64::MAX)),)*
                ]
            }
        }
    };
}

limits! {
    counts {
        connections_max = 1024, 1..=65536, "Open connections on the service listener; further ones wait in the kernel's queue.";
        connections_per_address_max = 256, 1..=65536, "Open connections from one address, so that one host cannot take every slot.";
        handshakes_max = 32, 1..=4096, "TLS handshakes under way; each costs about 0.3 ms of CPU, the lever of a flood.";
        handshakes_per_address_per_second = 100, 1..=100000, "New connections per second from one address; what is above is closed before TLS.";
        headers_max = 64, 8..=256, "Header fields of one request.";
        header_bytes_max = 16384, 8192..=262144, "Bytes of request line (the target is part of it) and header fields.";
        body_bytes_max = 196608, 1024..=4194304, "Bytes of a body with one item; a leaf of 65,535 bytes escaped and indented fits.";
        batch_body_bytes_max = 8388608, 1024..=67108864, "Bytes of a body with many items.";
        batch_items_max = 1000, 1..=10000, "Items of one batch.";
        linger_bytes_max = 8388608, 0..=67108864, "Bytes thrown away after an answer that came before the whole request, so that a reset does not overtake it.";
        http2_streams_max = 128, 1..=1000, "Requests under way on one HTTP/2 connection.";
        requests_in_flight_max = 4096, 1..=65536, "Requests under way in all; the next one is told `overloaded`.";
        ledger_queue_max = 4096, 64..=65536, "Calls waiting for the ledger's writer.";
        ledger_batch_entries_max = 1024, 1..=65536, "Entries of one group commit.";
        ledger_batch_bytes_max = 16777216, 131072..=67108864, "Leaf bytes of one group commit.";
        ledger_streams_cached = 16384, 16..=1000000, "Stream heads kept in memory.";
        refusals_queue_max = 1024, 1..=65536, "Refusals waiting to be coalesced; what is above is counted, not listed.";
        stream_page_max = 256, 1..=1000, "Events of one page of a stream.";
        log_lines_max = 8192, 128..=1000000, "Log lines waiting for standard error; what is above is dropped and counted.";
    }
    times {
        handshake_timeout / "handshake_timeout_ms" = 5000, 50..=60000, "From accept to a finished TLS handshake.";
        header_timeout / "header_timeout_ms" = 10000, 50..=60000, "From the first wait for a request to its last header byte (HTTP/1.1).";
        body_timeout / "body_timeout_ms" = 10000, 50..=120000, "From the headers to the last byte of the body.";
        linger_timeout / "linger_timeout_ms" = 1000, 0..=60000, "How long a connection we closed waits for the client to close it too.";
        idle_timeout / "idle_timeout_ms" = 60000, 100..=3600000, "A connection without a request under way is closed after this.";
        connection_age_max / "connection_age_max_ms" = 3600000, 1000..=86400000, "A connection is asked to go away after this, so that certificates are shown again.";
        sign_timeout / "sign_timeout_ms" = 10000, 50..=120000, "From admission to the device's answer.";
        dialect_patience / "dialect_patience_ms" = 2500, 50..=60000, "How long a call of a foreign dialect is tried again while what stands against it may pass: its clients wait 3 s and then use a key of their own.";
        release_timeout / "release_timeout_ms" = 30000, 50..=300000, "How long a reply waits for its release rung (checkpointed, archived).";
        drain_timeout / "drain_timeout_ms" = 30000, 100..=600000, "On SIGTERM: how long requests under way may take to finish.";
        archive_flush_timeout / "archive_flush_timeout_ms" = 10000, 0..=600000, "On SIGTERM: how long the last epoch may take to reach the archive.";
        reload_poll / "reload_poll_ms" = 1000, 50..=60000, "How often certificate, CRL and grant files are looked at for changes.";
        kill_switch_poll / "kill_switch_poll_ms" = 100, 10..=250, "How often the kill switch's file is looked at.";
        refusals_flush / "refusals_flush_ms" = 5000, 100..=60000, "How often coalesced refusals are enrolled.";
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::from_values(|bound| bound.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_inside_its_range_and_names_carry_units() {
        for bound in Limits::BOUNDS {
            assert!((bound.min..=bound.max).contains(&bound.default), "{}", bound.name);
            assert!(!bound.reason.is_empty());
        }
    }

    #[test]
    fn values_name_each_bound_once_and_in_order() {
        let limits = Limits::default();
        let names: Vec<_> = limits.values().into_iter().map(|(name, _)| name).collect();
        let table: Vec<_> = Limits::BOUNDS.iter().map(|bound| bound.name).collect();
        assert_eq!(names, table);
        let defaults: Vec<_> = Limits::BOUNDS.iter().map(|bound| bound.default).collect();
        assert_eq!(limits.values().into_iter().map(|(_, value)| value).collect::<Vec<_>>(), defaults);
    }
}

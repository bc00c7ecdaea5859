//! What is measured: each scenario is a line of a table, in which every peer has its place.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use crate::servers::{Deflate, Options, Peer, Role, Service};

/// Bytes of a round, at most: of more than the kernel gives to TCP (`tcp_mem`) some would be dropped, and sent again much later.
const MAX_ROUND: usize = 1 << 30;
/// The same of what is compressed, which takes a fraction of a second.
const MAX_COMPRESSED_ROUND: usize = 16 << 20;
/// Connections of a peer, and bytes of one message on each, where all peers are there at the same time: some keep many times as
/// much.
const MAX_SIDE_BY_SIDE: usize = 1000;
const MAX_BYTES_SIDE_BY_SIDE: usize = 64 << 20;

/// What a table is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
pub(crate) enum Measure {
    /// CPU time per message, and throughput
    Messages,
    /// The same beside more and more connections that are idle
    Growth,
    /// CPU time per delivery of an announcement to all connections
    Broadcast,
    /// Opening handshakes
    Handshakes,
    /// Latency at half of the load that uWebSockets can bear
    Latency,
    /// Memory per connection
    Memory,
    /// Instructions in user space per message, counted by callgrind
    Instructions,
    /// System calls per message, counted by strace
    Calls,
}

/// A figure of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub(crate) enum Metric {
    Cpu,
    Rate,
    P50,
    P99,
    P999,
    Instructions,
    Calls,
    Idle,
    AfterTraffic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub(crate) struct Scenario {
    pub(crate) measure: Measure,
    /// The role of the peer.
    pub(crate) role: Role,
    pub(crate) deflate: Deflate,
    /// Payload of a message in bytes.
    pub(crate) size: usize,
    /// Connections that messages go over.
    pub(crate) connections: usize,
    /// Connections besides.
    pub(crate) idle: usize,
    /// Messages per connection and round.
    pub(crate) in_flight: usize,
}

impl Measure {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Messages => "CPU time per message, messages per second",
            Self::Growth => "CPU time per message beside idle connections",
            Self::Broadcast => "CPU time per delivery of 64 bytes, deliveries per second",
            Self::Handshakes => "CPU time per opening handshake, handshakes per second",
            Self::Latency => "Latency at half of uWebSockets' load",
            Self::Memory => "Memory per connection",
            Self::Instructions => "Instructions in user space per message",
            Self::Calls => "System calls per message",
        }
    }

    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// Whether messages of a chosen size are what it is about.
    pub(crate) fn has_sizes(self) -> bool {
        !matches!(self, Self::Broadcast | Self::Handshakes | Self::Memory)
    }

    /// Whether peers work side by side, each for a slice of the time.
    pub(crate) fn is_sliced(self) -> bool {
        matches!(
            self,
            Self::Messages | Self::Growth | Self::Broadcast | Self::Handshakes
        )
    }

    /// Whether a figure is the same each time it is taken.
    pub(crate) fn is_counted(self) -> bool {
        matches!(self, Self::Instructions | Self::Calls)
    }
}

impl Metric {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Cpu => "CPU time",
            Self::Rate => "per second",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Instructions => "instructions",
            Self::Calls => "system calls",
            Self::Idle => "idle",
            Self::AfterTraffic => "after 16 KiB messages",
        }
    }

    /// With its unit.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            // Nanoseconds.
            Self::Cpu | Self::P50 | Self::P99 | Self::P999 if value < 10_000.0 => {
                format!("{value:.0} ns")
            }
            Self::Cpu | Self::P50 | Self::P99 | Self::P999 => format!("{:.1} µs", value / 1000.0),
            Self::Rate if value < 1e6 => format!("{:.1} k/s", value / 1000.0),
            Self::Rate => format!("{:.2} M/s", value / 1e6),
            Self::Instructions => format!("{value:.0}"),
            Self::Calls => format!("{value:.3}"),
            Self::Idle | Self::AfterTraffic => format!("{value:.0} B"),
        }
    }
}

impl Scenario {
    pub(crate) fn options(&self, peer: Peer) -> Options {
        Options {
            peer,
            role: self.role,
            service: match self.measure {
                Measure::Broadcast => Service::Broadcast,
                _ => Service::Echo,
            },
            deflate: self.deflate,
            size: self.size,
            batch: self.in_flight > 1,
            busy_poll: self.measure == Measure::Latency,
            dial: None,
            connections: self.connections + self.idle,
        }
    }

    /// Connections that messages are sent over in a round; the others have their turn in the next ones.
    pub(crate) fn at_once(&self) -> usize {
        let max = match self.deflate {
            Deflate::Off => MAX_ROUND,
            Deflate::Shared | Deflate::Dedicated => MAX_COMPRESSED_ROUND,
        };
        let each = self.size * self.in_flight;
        (max / each.max(1)).clamp(1, self.connections.max(1))
    }

    /// Whether all peers fit into memory and descriptors at the same time.
    pub(crate) fn fits_side_by_side(&self) -> bool {
        let connections = self.connections + self.idle;
        connections <= MAX_SIDE_BY_SIDE && connections * self.size <= MAX_BYTES_SIDE_BY_SIDE
    }

    /// Those that can take part.
    pub(crate) fn peers(&self, chosen: &[Peer]) -> Vec<Peer> {
        let options = |peer: Peer| self.options(peer);
        chosen
            .iter()
            .copied()
            .filter(|&peer| peer.can(&options(peer)))
            .collect()
    }
}

impl Scenario {
    /// In a few short lines, for below a bar.
    pub(crate) fn label(&self) -> Vec<String> {
        let idle = (self.idle > 0).then(|| format!("{} idle", self.idle));
        let mut lines = match self.measure {
            Measure::Broadcast => vec![
                format!("to {}", self.connections),
                format!("{} per round", self.in_flight),
            ],
            Measure::Handshakes => vec![format!("{} at a time", self.connections)],
            Measure::Memory => vec![format!("{} conn.", self.connections)],
            _ => vec![
                Bytes(self.size).to_string(),
                format!("{} conn.", self.connections),
                format!("{} in flight", self.in_flight),
            ],
        };
        lines.extend(idle);
        lines
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.measure {
            Measure::Broadcast => {
                write!(out, "to {}, {} per round", self.connections, self.in_flight)?
            }
            Measure::Handshakes => write!(out, "{} at a time", self.connections)?,
            Measure::Memory => write!(out, "{} connections", self.connections)?,
            _ => {
                write!(
                    out,
                    "{}, {} conn., {} in flight",
                    Bytes(self.size),
                    self.connections,
                    self.in_flight
                )?;
            }
        }
        if self.idle > 0 {
            write!(out, ", {} idle", self.idle)?;
        }
        match self.deflate {
            Deflate::Off => {}
            Deflate::Shared => write!(out, ", compressed")?,
            Deflate::Dedicated => write!(out, ", compressed with a window each")?,
        }
        match self.role {
            Role::Server => Ok(()),
            Role::Client => write!(out, ", as client"),
        }
    }
}

struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 => write!(out, "{} MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 => write!(out, "{} KiB", bytes >> 10),
            bytes => write!(out, "{bytes} B"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_a_bound_and_at_least_one_connection() {
        let at_once = |deflate, size, connections, in_flight| {
            let scenario = Scenario {
                measure: Measure::Messages,
                role: Role::Server,
                deflate,
                size,
                connections,
                idle: 0,
                in_flight,
            };
            scenario.at_once()
        };
        assert_eq!(at_once(Deflate::Off, 20, 1000, 16), 1000);
        assert_eq!(at_once(Deflate::Off, 1 << 20, 64, 16), 64);
        assert_eq!(at_once(Deflate::Off, 1 << 20, 1000, 16), 64);
        assert_eq!(at_once(Deflate::Shared, 16 << 10, 1000, 16), 64);
        assert_eq!(at_once(Deflate::Dedicated, 1 << 20, 64, 17), 1);
    }

    #[test]
    fn peers_are_side_by_side_where_there_is_room() {
        let fits = |size, connections, idle| {
            let scenario = Scenario {
                measure: Measure::Messages,
                role: Role::Server,
                deflate: Deflate::Off,
                size,
                connections,
                idle,
                in_flight: 16,
            };
            scenario.fits_side_by_side()
        };
        assert!(fits(20, 1000, 0) && fits(1 << 20, 64, 0) && fits(20, 10, 990));
        assert!(!fits(20, 1001, 0) && !fits(1 << 20, 65, 0) && !fits(20, 10, 991));
    }
}

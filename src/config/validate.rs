use std::{fmt, time::Duration};

use super::{Compression, Config};
use crate::protocol::{
    MAX_CONTROL_PAYLOAD, MAX_HEADER_LEN,
    handshake::{MAX_HEADER_FIELDS, is_token},
};

/// The smallest fixed buffer: it has to hold a whole control frame, which is never taken apart.
const MIN_READ_BUFFER: usize = MAX_CONTROL_PAYLOAD + MAX_HEADER_LEN;
/// The smallest scratch buffer: the kernel hands over less than this only when there is no more.
const MIN_SCRATCH: usize = 4 * 1024;
/// The smallest request head that can hold a handshake.
const MIN_HEAD: usize = 256;
/// The largest size of a single thing in bytes. Sums of a few of them stay far below 2^63.
const MAX_SIZE: usize = 1 << 40;

/// A setting that cannot work, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The value is below the least that works.
    TooSmall {
        /// Name of the field.
        setting: &'static str,
        /// The least that works.
        min: usize,
    },
    /// The value is above the most that works.
    TooLarge {
        /// Name of the field.
        setting: &'static str,
        /// The most that works.
        max: usize,
    },
    /// The first setting must not be above the second.
    Exceeds {
        /// Name of the field that is too large.
        setting: &'static str,
        /// Name of the field that bounds it.
        bound: &'static str,
    },
    /// The value needs a feature of the crate that is not compiled in.
    Feature {
        /// Name of the field.
        setting: &'static str,
        /// Name of the feature.
        feature: &'static str,
    },
    /// An entry of a list is not what it has to be, or is there twice.
    Entry {
        /// Name of the field.
        setting: &'static str,
        /// Position of the entry.
        index: usize,
    },
    /// A duration of zero, or of more than a year.
    Duration {
        /// Name of the field.
        setting: &'static str,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall { setting, min } => write!(f, "{setting} must be at least {min}"),
            Self::TooLarge { setting, max } => write!(f, "{setting} must be at most {max}"),
            Self::Exceeds { setting, bound } => write!(f, "{setting} must not be above {bound}"),
            Self::Feature { setting, feature } => {
                write!(f, "{setting} needs the feature `{feature}`")
            }
            Self::Entry { setting, index } => {
                write!(f, "{setting}: entry {index} is not valid there")
            }
            Self::Duration { setting } => {
                write!(f, "{setting} must be longer than zero and at most a year")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Checks every setting, and the settings against one another.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check_pools()?;
        self.check_messages()?;
        self.check_times()?;
        self.check_lists()?;
        self.check_loop()
    }

    fn check_lists(&self) -> Result<(), ConfigError> {
        if let Some(index) = self.allowed_origins.invalid_entry() {
            return Err(ConfigError::Entry {
                setting: "allowed_origins",
                index,
            });
        }
        let names = &self.subprotocols;
        let wrong = |(index, name): (usize, &String)| {
            !is_token(name.as_bytes()) || names[..index].contains(name)
        };
        match names.iter().enumerate().position(wrong) {
            None => Ok(()),
            Some(index) => Err(ConfigError::Entry {
                setting: "subprotocols",
                index,
            }),
        }
    }

    fn check_pools(&self) -> Result<(), ConfigError> {
        within(
            "max_handshakes",
            self.max_handshakes,
            1,
            Self::MAX_CONNECTIONS,
        )?;
        not_above(
            "initial_handshakes",
            self.initial_handshakes,
            "max_handshakes",
            self.max_handshakes,
        )?;
        within(
            "max_connections",
            self.max_connections,
            1,
            Self::MAX_CONNECTIONS,
        )?;
        not_above(
            "initial_connections",
            self.initial_connections,
            "max_connections",
            self.max_connections,
        )?;
        within("max_dials", self.max_dials, 1, Self::MAX_CONNECTIONS)?;
        // They share the slots: a handshake has that of its connection reserved.
        let rest = Self::MAX_CONNECTIONS - self.max_connections;
        within("max_outbound", self.max_outbound, 0, rest)?;
        let rest = rest - self.max_outbound;
        within("max_handshakes", self.max_handshakes, 1, rest)?;
        self.check_buffers()
    }

    fn check_buffers(&self) -> Result<(), ConfigError> {
        within(
            "read_buffer_size",
            self.read_buffer_size,
            MIN_READ_BUFFER,
            MAX_SIZE,
        )?;
        within(
            "large_buffer_size",
            self.large_buffer_size,
            self.read_buffer_size + 1,
            MAX_SIZE,
        )?;
        within("max_read_buffers", self.max_read_buffers, 1, MAX_SIZE)?;
        not_above(
            "initial_read_buffers",
            self.initial_read_buffers,
            "max_read_buffers",
            self.max_read_buffers,
        )?;
        within("max_large_buffers", self.max_large_buffers, 1, MAX_SIZE)?;
        not_above(
            "initial_large_buffers",
            self.initial_large_buffers,
            "max_large_buffers",
            self.max_large_buffers,
        )?;
        within(
            "max_buffer_memory",
            self.max_buffer_memory,
            self.read_buffer_size + self.large_buffer_size,
            usize::MAX,
        )?;
        not_above(
            "max_idle_buffer_memory",
            self.max_idle_buffer_memory,
            "max_buffer_memory",
            self.max_buffer_memory,
        )?;
        let preheated = (self
            .initial_read_buffers
            .saturating_mul(self.read_buffer_size))
        .saturating_add(
            self.initial_large_buffers
                .saturating_mul(self.large_buffer_size),
        );
        not_above(
            "initial buffers",
            preheated,
            "max_idle_buffer_memory",
            self.max_idle_buffer_memory,
        )?;
        // A head and frames behind it lie there together.
        let head_and_frames = self.max_head_size.saturating_add(self.read_buffer_size);
        within(
            "scratch_size",
            self.scratch_size,
            MIN_SCRATCH.max(head_and_frames),
            MAX_SIZE,
        )
    }

    fn check_messages(&self) -> Result<(), ConfigError> {
        within("max_message_size", self.max_message_size, 1, MAX_SIZE)?;
        within("turn_bytes", self.turn_bytes, 1, MAX_SIZE)?;
        within("turn_messages", self.turn_messages, 1, MAX_SIZE)?;
        self.check_compression()?;
        within("send_queue", self.send_queue, 1, MAX_SIZE)?;
        within("max_backlog", self.max_backlog, 1, MAX_SIZE)?;
        within("high_water", self.high_water, 1, MAX_SIZE)?;
        not_above("low_water", self.low_water, "high_water", self.high_water)?;
        within(
            "max_head_size",
            self.max_head_size,
            MIN_HEAD,
            self.large_buffer_size,
        )?;
        within(
            "max_header_fields",
            self.max_header_fields,
            1,
            MAX_HEADER_FIELDS,
        )
    }

    fn check_compression(&self) -> Result<(), ConfigError> {
        if self.compression != Compression::Off && !cfg!(feature = "deflate") {
            return Err(ConfigError::Feature {
                setting: "compression",
                feature: "deflate",
            });
        }
        let level = usize::from(self.compression_level);
        within("compression_level", level, 1, 9)?;
        let window_bits = usize::from(self.compression_window_bits);
        within("compression_window_bits", window_bits, 8, 15)?;
        let memory_level = usize::from(self.compression_memory_level);
        within("compression_memory_level", memory_level, 1, 9)?;
        within(
            "compression_threshold",
            self.compression_threshold,
            0,
            MAX_SIZE,
        )?;
        within(
            "max_compression_contexts",
            self.max_compression_contexts,
            0,
            Self::MAX_CONNECTIONS,
        )?;
        within(
            "max_idle_compression_contexts",
            self.max_idle_compression_contexts,
            0,
            Self::MAX_CONNECTIONS,
        )?;
        duration("compression_idle_timeout", self.compression_idle_timeout)
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        duration("upgrade_timeout", Some(self.upgrade_timeout))?;
        duration("close_timeout", Some(self.close_timeout))?;
        duration("connect_timeout", Some(self.connect_timeout))?;
        duration("idle_timeout", self.idle_timeout)?;
        duration("heartbeat_interval", self.heartbeat_interval)?;
        duration("heartbeat_timeout", Some(self.heartbeat_timeout))?;
        duration("accept_backoff", Some(self.accept_backoff))?;
        duration("tcp_keepalive", self.tcp_keepalive)
    }

    fn check_loop(&self) -> Result<(), ConfigError> {
        within("backlog", self.backlog as usize, 1, i32::MAX as usize)?;
        within("accept_batch", self.accept_batch, 1, MAX_SIZE)?;
        within(
            "recv_buffer_size",
            self.recv_buffer_size.unwrap_or(1),
            1,
            i32::MAX as usize,
        )?;
        within(
            "send_buffer_size",
            self.send_buffer_size.unwrap_or(1),
            1,
            i32::MAX as usize,
        )?;
        within(
            "events_capacity",
            self.events_capacity,
            1,
            i32::MAX as usize,
        )?;
        within("max_timers", self.max_timers, 1, MAX_SIZE)?;
        within("max_sources", self.max_sources, 1, Self::MAX_CONNECTIONS)?;
        within("mailbox_capacity", self.mailbox_capacity, 1, MAX_SIZE)
    }
}

fn within(setting: &'static str, value: usize, min: usize, max: usize) -> Result<(), ConfigError> {
    if value < min {
        return Err(ConfigError::TooSmall { setting, min });
    }
    if value > max {
        return Err(ConfigError::TooLarge { setting, max });
    }
    Ok(())
}

fn not_above(
    setting: &'static str,
    value: usize,
    bound: &'static str,
    limit: usize,
) -> Result<(), ConfigError> {
    if value > limit {
        Err(ConfigError::Exceeds { setting, bound })
    } else {
        Ok(())
    }
}

fn duration(setting: &'static str, value: Option<Duration>) -> Result<(), ConfigError> {
    match value {
        Some(value) if value.is_zero() || value > Config::MAX_TIMEOUT => {
            Err(ConfigError::Duration { setting })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::handshake::OriginPolicy;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn compression_needs_its_feature() {
        let config = Config::default().compression(Compression::Shared);
        let refused = ConfigError::Feature {
            setting: "compression",
            feature: "deflate",
        };
        let expected = if cfg!(feature = "deflate") {
            Ok(())
        } else {
            Err(refused)
        };
        assert_eq!(config.validate(), expected);
    }

    #[test]
    fn every_bad_value_is_refused_by_name() {
        type Change = fn(&mut Config);
        let cases: &[(&str, Change)] = &[
            ("max_handshakes", |c| c.max_handshakes = 0),
            ("initial_handshakes", |c| c.initial_handshakes = 2000),
            ("max_connections", |c| c.max_connections = 0),
            ("max_connections", |c| {
                c.max_connections = Config::MAX_CONNECTIONS + 1
            }),
            ("initial_connections", |c| c.max_connections = 10),
            ("max_dials", |c| c.max_dials = 0),
            ("max_outbound", |c| c.max_outbound = Config::MAX_CONNECTIONS),
            ("connect_timeout", |c| c.connect_timeout = Duration::ZERO),
            ("read_buffer_size", |c| c.read_buffer_size = 138),
            ("large_buffer_size", |c| c.large_buffer_size = 4096),
            ("max_read_buffers", |c| c.max_read_buffers = 0),
            ("initial_read_buffers", |c| c.max_read_buffers = 7),
            ("max_large_buffers", |c| c.max_large_buffers = 0),
            ("initial_large_buffers", |c| c.max_large_buffers = 7),
            ("max_buffer_memory", |c| c.max_buffer_memory = 65_536),
            ("max_idle_buffer_memory", |c| c.max_buffer_memory = 32 << 20),
            ("initial buffers", |c| c.max_idle_buffer_memory = 65_536),
            ("scratch_size", |c| c.scratch_size = 4096),
            ("scratch_size", |c| {
                c.scratch_size = 16_384;
                c.read_buffer_size = 16_385;
            }),
            ("max_message_size", |c| c.max_message_size = 0),
            ("turn_bytes", |c| c.turn_bytes = 0),
            ("turn_messages", |c| c.turn_messages = 0),
            ("compression_level", |c| c.compression_level = 0),
            ("compression_level", |c| c.compression_level = 10),
            ("compression_window_bits", |c| c.compression_window_bits = 7),
            ("compression_window_bits", |c| {
                c.compression_window_bits = 16
            }),
            ("compression_memory_level", |c| {
                c.compression_memory_level = 0
            }),
            ("compression_memory_level", |c| {
                c.compression_memory_level = 10
            }),
            ("compression_threshold", |c| {
                c.compression_threshold = usize::MAX
            }),
            ("max_compression_contexts", |c| {
                c.max_compression_contexts = Config::MAX_CONNECTIONS + 1
            }),
            ("max_idle_compression_contexts", |c| {
                c.max_idle_compression_contexts = Config::MAX_CONNECTIONS + 1
            }),
            ("compression_idle_timeout", |c| {
                c.compression_idle_timeout = Some(Duration::ZERO)
            }),
            ("send_queue", |c| c.send_queue = 0),
            ("max_backlog", |c| c.max_backlog = 0),
            ("high_water", |c| c.high_water = 0),
            ("low_water", |c| c.low_water = c.high_water + 1),
            ("max_head_size", |c| c.max_head_size = 255),
            ("max_head_size", |c| {
                c.max_head_size = c.large_buffer_size + 1
            }),
            ("max_header_fields", |c| c.max_header_fields = 0),
            ("allowed_origins", |c| {
                c.allowed_origins = OriginPolicy::List(vec!["example.com".to_owned()])
            }),
            ("subprotocols", |c| c.subprotocols = vec!["a b".to_owned()]),
            ("subprotocols", |c| {
                c.subprotocols = vec!["a".to_owned(), "b".to_owned(), "a".to_owned()]
            }),
            ("max_header_fields", |c| c.max_header_fields = 129),
            ("upgrade_timeout", |c| c.upgrade_timeout = Duration::ZERO),
            ("close_timeout", |c| c.close_timeout = Duration::ZERO),
            ("idle_timeout", |c| c.idle_timeout = Some(Duration::ZERO)),
            ("idle_timeout", |c| c.idle_timeout = Some(Duration::MAX)),
            ("heartbeat_interval", |c| {
                c.heartbeat_interval = Some(Duration::ZERO)
            }),
            ("heartbeat_timeout", |c| {
                c.heartbeat_timeout = Duration::ZERO
            }),
            ("accept_backoff", |c| c.accept_backoff = Duration::ZERO),
            ("tcp_keepalive", |c| c.tcp_keepalive = Some(Duration::ZERO)),
            ("backlog", |c| c.backlog = 0),
            ("accept_batch", |c| c.accept_batch = 0),
            ("recv_buffer_size", |c| c.recv_buffer_size = Some(0)),
            ("send_buffer_size", |c| c.send_buffer_size = Some(0)),
            ("events_capacity", |c| c.events_capacity = 0),
            ("max_timers", |c| c.max_timers = 0),
            ("max_sources", |c| c.max_sources = 0),
            ("mailbox_capacity", |c| c.mailbox_capacity = 0),
        ];
        for (setting, change) in cases {
            let mut config = Config::default();
            change(&mut config);
            let error = config.validate().expect_err(setting);
            assert!(error.to_string().starts_with(setting), "{setting}: {error}");
        }
    }
}

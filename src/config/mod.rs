//! Every size and limit of a loop, with its default, and the check that refuses what cannot work.

mod compression;
mod validate;

use std::time::Duration;

use crate::protocol::handshake::OriginPolicy;

pub use compression::Compression;
pub use validate::ConfigError;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// One list for the fields, their documentation, their defaults and their setters, so that they cannot drift apart.
macro_rules! settings {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $default:expr;)*) => {
        /// The settings of an event loop. Every field has a default; every value is checked by
        /// [`validate`](Self::validate), which the constructors of a loop call.
        ///
        /// ```
        /// use std::time::Duration;
        /// use wsloop::Config;
        ///
        /// let config = Config::default().max_connections(100).idle_timeout(Some(Duration::from_secs(60)));
        /// assert!(config.validate().is_ok());
        /// ```
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Config {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        /// Setters, one for each field.
        impl Config {
            $($(#[$doc])*
            #[must_use]
            pub fn $field(mut self, value: $type) -> Self {
                self.$field = value;
                self
            })*
        }
    };
}

settings! {
    // Pools.

    /// Handshakes for which memory is reserved at the start. Default 16.
    initial_handshakes: usize = 16;
    /// Handshakes at a time. Above it, accepting pauses and clients wait in the kernel's backlog. Default 1,024.
    max_handshakes: usize = 1024;
    /// Connections for which memory is reserved at the start. Default 64.
    initial_connections: usize = 64;
    /// Open connections at a time. Above it, a handshake is answered with 503. Default 65,536; at most
    /// [`Config::MAX_CONNECTIONS`].
    max_connections: usize = 65_536;
    /// Attempts to connect at a time. Above it, `connect` is refused. Default 1,024.
    max_dials: usize = 1024;
    /// Outbound connections at a time, attempts included. Above it, `connect` is refused. Default 65,536; at most
    /// [`Config::MAX_CONNECTIONS`].
    max_outbound: usize = 65_536;
    /// Size in bytes of the fixed buffers that hold what arrived of a small message, and small frames that wait to be
    /// written. Default 4,096.
    read_buffer_size: usize = 4 * KIB;
    /// Fixed buffers that are allocated at the start. Default 8.
    initial_read_buffers: usize = 8;
    /// Fixed buffers leased at a time. A connection that needs one more is closed with 1013, a send is refused. Default
    /// 16,384.
    max_read_buffers: usize = 16_384;
    /// Size in bytes of the shared buffers for messages that do not fit a fixed buffer, and the most that a message is given
    /// because its length is announced. Default 65,536.
    large_buffer_size: usize = 64 * KIB;
    /// Large-message buffers that are allocated at the start. Default 8.
    initial_large_buffers: usize = 8;
    /// Large-message buffers leased at a time; above it as with `max_read_buffers`. Default 4,096.
    max_large_buffers: usize = 4096;
    /// Bytes of all buffers together, leased and kept; above it as with `max_read_buffers`. Default 1 GiB.
    max_buffer_memory: usize = 1024 * MIB;
    /// Bytes of buffers that are kept for reuse while nobody needs them. Default 64 MiB.
    max_idle_buffer_memory: usize = 64 * MIB;
    /// Size in bytes of the one buffer that the loop reads into, at most 1 MiB at a time, and a fixed buffer more where that ends
    /// a message. A message that it has room for is not copied when it comes in pieces, unless little of it comes first (see
    /// `guide::sizing`). So it is best a little larger than what comes at a time, which is often a power of two: for the headers,
    /// and for up to 4 KiB that are left free where it begins, because bytes are copied sooner from there on. 256 KiB and 8 KiB,
    /// unless it is set. Default 270,336.
    scratch_size: usize = 264 * KIB;

    // Messages.

    /// Largest message in bytes, inclusive, per frame and per message, after inflating; above it a connection is closed with
    /// 1009. Default 16 MiB.
    max_message_size: usize = 16 * MIB;
    /// True exactly when text messages are checked to be UTF-8 (RFC 6455 §8.1). Default true.
    check_utf8: bool = true;
    /// Bytes read from one connection before the others get their turn; the last read may go beyond. Default 512 KiB.
    turn_bytes: usize = 512 * KIB;
    /// Messages, pings and pongs handled for one connection before the others get their turn. Default 4,096.
    turn_messages: usize = 4096;

    // Compression.

    /// What is done about permessage-deflate (RFC 7692), as server and as client. Anything but `Off` needs the feature
    /// `deflate`. Default `Off`.
    compression: Compression = Compression::Off;
    /// Effort that compressing takes, from 1 (fast) to 9 (small). Default 1.
    compression_level: u8 = 1;
    /// Binary logarithm of the largest window in bytes that is compressed with, and of the one that the peer is asked to
    /// compress with when its window is kept (`server_max_window_bits`, `client_max_window_bits`), from 8 to 15. Default 15.
    compression_window_bits: u8 = 15;
    /// Memory that compressing takes beside its window and its tables, from 1 (little) to 9: 7 times 2 to the power of it and 6
    /// more, in bytes. Level 1 of `compression_level` makes next to no use of it. Default 6.
    compression_memory_level: u8 = 6;
    /// Messages of fewer bytes are sent as they are, unless their sender asks for more. Default 64.
    compression_threshold: usize = 64;
    /// Windows that are kept for connections at a time with [`Compression::Dedicated`], in each direction. They are reserved
    /// when a connection opens, which takes no memory, and made for its first compressed message. A connection that finds none
    /// left has its messages compressed one by one. Default 1,024.
    max_compression_contexts: usize = 1024;
    /// Windows that are kept for the next connection while nobody has them, in each direction; what comes back above it is
    /// freed. Default 4.
    max_idle_compression_contexts: usize = 4;
    /// Time after which a connection that has compressed nothing gives its compressor back; it may be twice as long. Its next
    /// message starts anew, which every sender may. `None`: when it ends. Default 60 s.
    compression_idle_timeout: Option<Duration> = Some(Duration::from_secs(60));

    // Sending.

    /// Payloads that one connection may have in flight at a time; one more is refused with `WriteBusy`. Default 1.
    send_queue: usize = 1;
    /// Bytes that may wait to be written on one connection. A send that would exceed it is refused with `BacklogFull`,
    /// except on an empty backlog, so that any single message can be sent. With `high_water` and `max_message_size` together
    /// or more, there is always room for an answer as large as the message that it answers. Default 17 MiB.
    max_backlog: usize = 17 * MIB;
    /// Backlog in bytes at which reading from the connection pauses by itself. Default 256 KiB.
    high_water: usize = 256 * KIB;
    /// Backlog in bytes at which reading goes on and `on_drain` is called. Default 64 KiB.
    low_water: usize = 64 * KIB;

    // Time.

    /// Time for the whole opening handshake. Default 10 s.
    upgrade_timeout: Duration = Duration::from_secs(10);
    /// Time for connecting to a server, from the name to the open connection. Default 10 s.
    connect_timeout: Duration = Duration::from_secs(10);
    /// Time from our close frame until the connection is ended by force. Default 5 s.
    close_timeout: Duration = Duration::from_secs(5);
    /// Time without a byte from the peer after which a connection is closed with 1001. `None`: never. Default `None`.
    idle_timeout: Option<Duration> = None;
    /// Time without a byte from the peer after which it is sent a ping. `None`: never. Default `None`.
    heartbeat_interval: Option<Duration> = None;
    /// Time that the peer has to send anything after such a ping. Default 10 s.
    heartbeat_timeout: Duration = Duration::from_secs(10);
    /// Value of `Retry-After` in seconds when a handshake is answered with 503. Default 1.
    retry_after: u32 = 1;

    // HTTP.

    /// Largest request head in bytes; above it the answer is 431. Default 8,192.
    max_head_size: usize = 8 * KIB;
    /// Header fields of a request; above it the answer is 431. Default 64; at most 128.
    max_header_fields: usize = 64;

    /// Pages that a browser may open connections from (`Origin`, RFC 6455 §10.2); a request from another one is answered with
    /// 403. By default pages of our own host may, so that no other site can use a visitor's cookies. Default `SameHost`.
    allowed_origins: OriginPolicy = OriginPolicy::SameHost;
    /// Subprotocols in the order of preference: the first one that a client offers is chosen, unless the application chooses or
    /// declines (RFC 6455 §4.2.2). Default none.
    subprotocols: Vec<String> = Vec::new();

    // Listening sockets.

    /// Connections that the kernel keeps until they are accepted. Default 128.
    backlog: u32 = 128;
    /// Connections accepted in a row before the others get their turn. Default 64.
    accept_batch: usize = 64;
    /// Pause of accepting when the process or the system is out of descriptors or memory. Default 100 ms.
    accept_backoff: Duration = Duration::from_millis(100);
    /// Several sockets may listen on the same port (`SO_REUSEPORT`). Default false.
    reuse_port: bool = false;
    /// A listener on an IPv6 address takes IPv6 alone, not IPv4 as well. Default false.
    ipv6_only: bool = false;

    // Connected sockets.

    /// Segments are sent at once (`TCP_NODELAY`). Default true.
    tcp_nodelay: bool = true;
    /// Silence after which the kernel probes the peer (`SO_KEEPALIVE`). `None`: never. Default `None`.
    tcp_keepalive: Option<Duration> = None;
    /// The kernel's receive buffer in bytes (`SO_RCVBUF`). `None`: the system's default. Default `None`.
    recv_buffer_size: Option<usize> = None;
    /// The kernel's send buffer in bytes (`SO_SNDBUF`). `None`: the system's default. Default `None`.
    send_buffer_size: Option<usize> = None;

    // The loop.

    /// Events taken from the kernel per turn. Default 1,024.
    events_capacity: usize = 1024;
    /// Timers of the application at a time. Default 65,536.
    max_timers: usize = 65_536;
    /// Foreign event sources at a time. Default 1,024.
    max_sources: usize = 1024;
    /// Messages from other threads that wait to be handled. Default 1,024.
    mailbox_capacity: usize = 1024;
}

impl Config {
    /// The longest timeout: adding it to a point in time must not overflow.
    pub(crate) const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);
    /// The most connections that one loop can address, handshakes included: their number is a part of the event token.
    pub const MAX_CONNECTIONS: usize = 1 << 24;
}

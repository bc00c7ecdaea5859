/// What a loop does about permessage-deflate (RFC 7692): a question of memory, for a window is 32 KiB and what is needed to
/// search it ten times as much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Nothing: the extension is neither offered nor accepted.
    #[default]
    Off,
    /// One compressor and one decompressor for the whole loop, and no memory per connection: every message is compressed by
    /// itself, in both directions (`server_no_context_takeover`, `client_no_context_takeover`).
    Shared,
    /// Every connection keeps its windows from message to message, which makes small messages that resemble each other much
    /// smaller. They are made for the first compressed message, in each direction; a connection that has exchanged none costs
    /// none. [`max_compression_contexts`](crate::Config::max_compression_contexts) bounds how many there may be; a connection
    /// that finds none left when it opens is treated as with `Shared`. One that has compressed nothing for
    /// [`compression_idle_timeout`](crate::Config::compression_idle_timeout) gives its compressor back, and starts anew with the
    /// next message.
    Dedicated,
}

//! What a client takes besides its buffers, counted by the allocator. One test in this binary: the count is the process's.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    alloc::System,
    io::{Read, Write},
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use wsloop::{
    Client, ClientState, Config, Conn, Connect, Handler, Message, protocol::handshake::accept_key,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes of an open client, besides the buffer that it reads into, its settings, which clients share, and the caller's
/// generator.
const BOUND: usize = 1024;
/// Bytes of what it writes from: the ring of control frames, the frames of it that are being written, the queue of messages.
const QUEUE_BOUND: usize = 2048;
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Echo {
    messages: usize,
}

impl Handler for Echo {
    type Session = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        self.messages += 1;
        conn.send_copy(message.kind(), message.as_bytes()).unwrap();
    }
}

#[test]
fn an_idle_client_takes_little_besides_its_buffers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let config = Arc::new(
        Config::default()
            .initial_read_buffers(0)
            .initial_large_buffers(0),
    );
    let mut app = Echo::default();
    let region = Region::new(ALLOCATOR);
    let mut client = Client::new(Arc::clone(&config), ChaCha20Rng::from_seed([7; 32])).unwrap();
    client.connect(Connect::to(&url).unwrap(), ()).unwrap();
    let mut turn = |until: &mut dyn FnMut(&Client<()>, &Echo) -> bool| {
        let end = Instant::now() + DEADLINE;
        while !until(&client, &app) {
            assert!(Instant::now() < end, "{:?}", client.state());
            client.turn(&mut app, Some(Duration::ZERO)).unwrap();
        }
    };
    let mut server = None;
    turn(&mut |_, _| {
        listener.set_nonblocking(true).unwrap();
        server = server.take().or_else(|| listener.accept().ok());
        server.is_some()
    });
    let (mut server, _) = server.unwrap();
    server.set_nonblocking(true).unwrap();
    let mut request = Vec::with_capacity(4096);
    turn(&mut |_, _| {
        let _ = server.read_to_end(&mut request);
        request.ends_with(b"\r\n\r\n")
    });
    let text = String::from_utf8(request).unwrap();
    let key = text
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .unwrap();
    let accept = String::from_utf8(accept_key(key.as_bytes()).to_vec()).unwrap();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    server.write_all(answer.as_bytes()).unwrap();
    drop((accept, answer));
    turn(&mut |client, _| client.state() == ClientState::Open);
    let open = live_bytes(&region) - text.capacity() - config.scratch_size;

    server.write_all(b"\x82\x02hi").unwrap();
    turn(&mut |_, app| app.messages == 1);
    // The answer, masked.
    let mut echo = [0; 8];
    turn(&mut |_, _| matches!(server.read(&mut echo), Ok(8)));
    let pooled = client.connections().stats().buffer_memory.current;
    let used = live_bytes(&region) - text.capacity() - config.scratch_size - pooled;

    let own = std::mem::size_of::<Client<()>>();
    let generator = std::mem::size_of::<ChaCha20Rng>();
    println!(
        "{} bytes: {own} itself, {} on the heap; {generator} the generator's; {} more once it has sent something, for control \
         frames and the queue",
        own + open - generator,
        open - generator,
        used - open
    );
    assert!(own + open - generator <= BOUND, "{} bytes", own + open);
    assert!(used - open <= QUEUE_BOUND, "{} bytes", used - open);
}

fn live_bytes(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.bytes_allocated - change.bytes_deallocated
}

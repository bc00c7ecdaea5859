//! What compressors and decompressors take, counted by the allocator: as their documentation says, and from a connection's first
//! compressed message on. One test in this binary: the count is the process's.
#![cfg(feature = "deflate")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    alloc::System,
    hint::black_box,
    time::{Duration, Instant},
};

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use wsloop::{
    Compression, Config, Conn, ConnId, Connect, EventLoop, Handler, HttpResponse, ListenAddr,
    Message, MessageKind, Request, Response,
    protocol::{Compressor, Decompressor, Inflating},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn bytes_of<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let region = Region::new(ALLOCATOR);
    let made = make();
    let change = region.change();
    (made, change.bytes_allocated - change.bytes_deallocated)
}

#[test]
fn windows_take_what_the_documentation_says_and_nothing_before_the_first_message() {
    they_take_all_of_it_at_the_start();
    an_idle_connection_costs_no_window();
}

fn they_take_all_of_it_at_the_start() {
    for window_bits in 8..=15 {
        for memory_level in 1..=9 {
            let make = || Compressor::new(1, window_bits, memory_level).unwrap();
            let (compressor, bytes) = bytes_of(make);
            let window = 1 << (window_bits.max(9) + 2);
            let documented = window + (7 << (memory_level + 6)) + (131 << 10);
            assert!(
                bytes.abs_diff(documented) < 4 << 10,
                "{window_bits}, {memory_level}: {bytes}, not {documented}"
            );
            black_box(compressor);
        }
    }
    let (mut decompressor, bytes) = bytes_of(Decompressor::new);
    assert!(bytes.abs_diff(47 << 10) < 4 << 10, "{bytes}");
    let mut compressor = Compressor::new(6, 15, 8).unwrap();
    let mut out = vec![0; Compressor::room_for(1000)];
    let mut back = vec![0; 1000];
    let (_, bytes) = bytes_of(|| {
        for _ in 0..100 {
            let len = compressor
                .compress([&[7; 1000][..]], &mut out, true)
                .unwrap();
            let mut progress = Inflating::default();
            decompressor
                .decompress(&out[..len], &mut progress, &mut back)
                .unwrap();
            compressor.reset();
            decompressor.reset();
        }
    });
    assert_eq!(bytes, 0);
}

/// Connections with which both ends keep their windows.
const CONNECTIONS: usize = 20;
/// Bytes that one of them may take with both of its ends, slots that are made for more than there are included. The smallest
/// window takes more.
const IDLE_BOUND: usize = 4 << 10;
/// Both windows of one end.
const WINDOWS: usize = (287 + 47) << 10;
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct App {
    clients: Vec<ConnId>,
    /// Ends that are open, of clients and servers.
    open: usize,
    messages: usize,
}

/// A client says how it goes on.
impl Handler for App {
    type Session = bool;

    fn on_upgrade(&mut self, _: &Request<'_>, _: &mut Response<'_>) -> Result<bool, HttpResponse> {
        Ok(false)
    }

    fn on_open(&mut self, conn: &mut Conn<'_, bool>) {
        assert!(conn.compresses());
        self.open += 1;
        if *conn.session() {
            self.clients.push(conn.id());
        }
    }

    fn on_message(&mut self, conn: &mut Conn<'_, bool>, message: Message<'_>) {
        self.messages += 1;
        if !*conn.session() {
            conn.send_copy(message.kind(), message.as_bytes()).unwrap();
        }
    }
}

fn an_idle_connection_costs_no_window() {
    let config = Config::default().compression(Compression::Dedicated);
    let mut event_loop = EventLoop::new(config).unwrap();
    event_loop.set_rng(ChaCha20Rng::from_seed([5; 32]));
    let listener = event_loop.listen(([127, 0, 0, 1], 0)).unwrap();
    let ListenAddr::Tcp(address) = event_loop.local_addr(listener).unwrap() else {
        panic!()
    };
    let connect = Connect::to(&format!("ws://{address}/")).unwrap();
    let mut app = App::default();
    let mut turn_until = |app: &mut App,
                          before: &dyn Fn(&mut EventLoop<bool>, &App),
                          reached: &dyn Fn(&App) -> bool| {
        let end = Instant::now() + DEADLINE;
        before(&mut event_loop, app);
        while !reached(app) {
            let timeout = Some(Duration::from_millis(100));
            let _ = event_loop.turn(app, timeout).unwrap();
            assert!(Instant::now() < end, "{} open", app.open);
        }
        let stats = event_loop.stats();
        (stats.compressors.current, stats.decompressors.current)
    };
    let mut dial = |app: &mut App, count: usize| {
        let open = app.open + 2 * count;
        let dial = |event_loop: &mut EventLoop<bool>, _: &App| {
            for _ in 0..count {
                event_loop.connect(connect.clone(), true).unwrap();
            }
        };
        turn_until(app, &dial, &|app| app.open == open)
    };
    // What the loop itself takes is there before.
    dial(&mut app, 1);
    let (kept, idle) = bytes_of(|| dial(&mut app, CONNECTIONS));
    let ends = 2 * (1 + CONNECTIONS);
    assert_eq!(kept, (ends, ends));
    assert!(idle <= CONNECTIONS * IDLE_BOUND, "{idle}");

    let mut echo = |app: &mut App, client: usize| {
        let messages = app.messages + 2;
        let send = |event_loop: &mut EventLoop<bool>, app: &App| {
            let mut connections = event_loop.connections();
            let mut conn = connections.get(app.clients[client]).unwrap();
            conn.send_copy(MessageKind::Binary, &[7; 1000]).unwrap();
        };
        turn_until(app, &send, &|app| app.messages == messages)
    };
    for client in 0..3 {
        let (_, first) = bytes_of(|| echo(&mut app, client));
        assert!(first.abs_diff(2 * WINDOWS) < 16 << 10, "{first}");
        let (kept, second) = bytes_of(|| echo(&mut app, client));
        assert_eq!((kept, second), ((ends, ends), 0));
    }
}

//! After warm-up a server allocates nothing: counted by the allocator, over a million echoed messages.
//!
//! Everything runs in one thread, the client included, so that what is counted is all there is. One test in this binary: the
//! count is the process's.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    alloc::System,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use wsloop::{
    Config, Conn, EventLoop, Handler, HttpResponse, ListenAddr, Message, Progress, Request,
    Response,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGES: usize = 1_000_000;
/// Small messages in one round, besides one of each other shape.
const SMALL_PER_ROUND: usize = 1000;
const DEADLINE: Duration = Duration::from_secs(300);

struct Echo {
    messages: usize,
    pings: usize,
}

impl Handler for Echo {
    type Session = ();

    fn on_upgrade(&mut self, _: &Request<'_>, _: &mut Response<'_>) -> Result<(), HttpResponse> {
        Ok(())
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        self.messages += 1;
        // A large one is moved, as a proxy would; the others are copied from the read buffer.
        if message.as_bytes().len() > 4096 && self.messages % 2 == 0 {
            conn.send(message.kind(), message.take()).unwrap();
        } else {
            conn.send_copy(message.kind(), message.as_bytes()).unwrap();
        }
    }

    fn on_ping(&mut self, conn: &mut Conn<'_, ()>, payload: &[u8]) {
        self.pings += 1;
        conn.auto_pong(payload);
    }
}

/// A masked frame with a key of its own.
fn masked(first_byte: u8, payload: &[u8], out: &mut Vec<u8>) {
    let key = [0x11, 0x22, 0x33, u8::try_from(payload.len() % 251).unwrap()];
    out.push(first_byte);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | u8::try_from(len).unwrap()),
        len @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(key);
    out.extend(
        payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
}

/// One round: small messages with pings between, a message of 64 KiB, one in fragments with a ping between them. Returns
/// the bytes to send and the number of bytes that come back.
fn round() -> (Vec<u8>, usize) {
    let mut wire = Vec::new();
    let mut answer = 0;
    for at in 0..SMALL_PER_ROUND {
        masked(0x82, &[7; 20], &mut wire);
        answer += 22;
        if at % 100 == 50 {
            masked(0x8A, b"unasked", &mut wire);
        }
    }
    masked(0x82, &vec![8; 65_536], &mut wire);
    answer += 10 + 65_536;
    masked(0x01, "frag".as_bytes(), &mut wire);
    masked(0x00, &[b'm'; 5000], &mut wire);
    masked(0x8A, b"", &mut wire);
    masked(0x80, "ented".as_bytes(), &mut wire);
    answer += 4 + 5009;
    (wire, answer)
}

struct Pair {
    event_loop: EventLoop<()>,
    app: Echo,
    client: TcpStream,
    received: Vec<u8>,
}

impl Pair {
    fn connect() -> Self {
        let mut event_loop = EventLoop::new(Config::default().send_queue(8)).unwrap();
        let listener = event_loop
            .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
            .unwrap();
        let ListenAddr::Tcp(address) = event_loop.local_addr(listener).unwrap() else {
            panic!()
        };
        let client = TcpStream::connect(address).unwrap();
        client.set_nonblocking(true).unwrap();
        let app = Echo {
            messages: 0,
            pings: 0,
        };
        let mut pair = Self {
            event_loop,
            app,
            client,
            received: vec![0; 1 << 20],
        };
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        // The length of the answer to this request, which holds nothing that varies.
        pair.exchange(request.as_bytes(), 129);
        pair
    }

    /// Sends `wire` and reads `answer` bytes, turning the loop meanwhile.
    fn exchange(&mut self, wire: &[u8], answer: usize) {
        let end = Instant::now() + DEADLINE;
        let (mut sent, mut got) = (0, 0);
        while sent < wire.len() || got < answer {
            match self.client.write(&wire[sent..]) {
                Ok(count) => sent += count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            let progress = self
                .event_loop
                .turn(&mut self.app, Some(Duration::ZERO))
                .unwrap();
            assert_eq!(progress, Progress::Running);
            match self.client.read(&mut self.received) {
                Ok(0) => panic!("the server has ended the connection"),
                Ok(count) => got += count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            assert!(
                Instant::now() < end,
                "{sent} of {} sent, {got} of {answer} back",
                wire.len()
            );
        }
        assert_eq!(got, answer);
    }
}

#[test]
fn a_million_echoed_messages_allocate_nothing() {
    let (wire, answer) = round();
    let mut ping = Vec::new();
    masked(0x89, b"between", &mut ping);
    let mut pair = Pair::connect();
    for _ in 0..20 {
        pair.exchange(&wire, answer);
        pair.exchange(&ping, 9);
    }
    pair.app.messages = 0;
    pair.app.pings = 0;

    let region = Region::new(ALLOCATOR);
    let rounds = MESSAGES.div_ceil(SMALL_PER_ROUND + 2);
    for _ in 0..rounds {
        pair.exchange(&wire, answer);
        // By itself: of several pings in a row only the newest is answered.
        pair.exchange(&ping, 9);
    }
    let counted = region.change();

    assert!(pair.app.messages >= MESSAGES);
    assert_eq!(pair.app.pings, rounds);
    assert_eq!(counted.allocations, 0, "{counted:?}");
    assert_eq!(counted.reallocations, 0, "{counted:?}");
}

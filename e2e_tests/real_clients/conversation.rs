//! Our client talks to an echo server that others wrote, directly or through a proxy that others wrote. Prints a line for
//! each scenario; the last one is `N passed, M failed`.
//!
//! ```text
//! conversation NAME URL [http|socks5 PROXY_PORT [USER PASSWORD]]
//! ```
//!
//! With `WSLOOP_DEFLATE=shared` or `dedicated` it offers compression, and the server has to take it up. With `WSLOOP_SERVER=ID`
//! the server is ours, the process of this id: it closes because it is stopped, and not because a message asks it to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use wsloop::{
    Client, ClientState, CloseCode, Compression, Config, Connect, Frames, MessageKind, Proxy,
    Pulled,
};

const DEADLINE: Option<Duration> = Some(Duration::from_secs(20));
const SIZES: [usize; 13] = [
    0,
    1,
    125,
    126,
    127,
    4095,
    4096,
    4097,
    65_535,
    65_536,
    65_537,
    1 << 20,
    16 << 20,
];

struct Peer {
    client: Client<()>,
    buffer: Vec<u8>,
    rng: ChaCha20Rng,
}

impl Peer {
    fn connect(connect: Connect) -> Result<Self, String> {
        let mode = match std::env::var("WSLOOP_DEFLATE").as_deref() {
            Ok("shared") => Compression::Shared,
            Ok("dedicated") => Compression::Dedicated,
            _ => Compression::Off,
        };
        let config = Config::default().compression(mode);
        let mut client = Client::new(config, ChaCha20Rng::from_seed([5; 32]))
            .map_err(|error| error.to_string())?;
        client
            .connect(connect, ())
            .map_err(|error| error.to_string())?;
        let mut peer = Self {
            client,
            buffer: vec![0; 16 << 20],
            rng: ChaCha20Rng::from_seed([6; 32]),
        };
        let end = Instant::now() + Duration::from_secs(20);
        while peer.client.state() != ClientState::Open {
            match peer
                .client
                .read_message(&mut [], Some(Duration::from_millis(5)))
            {
                Ok(Pulled::TimedOut) if Instant::now() < end => {}
                Ok(Pulled::ConnectFailed(error)) => return Err(format!("not open: {error}")),
                other => return Err(format!("not open: {other:?}")),
            }
        }
        if peer.client.conn().unwrap().compresses() != (mode != Compression::Off) {
            return Err("not agreed on".to_owned());
        }
        Ok(peer)
    }

    fn expect(&mut self, kind: MessageKind, payload: &[u8]) -> Result<(), String> {
        match self.client.read_message(&mut self.buffer, DEADLINE) {
            Ok(Pulled::Message(got, len)) if got == kind && self.buffer[..len] == *payload => {
                Ok(())
            }
            other => Err(format!(
                "{} bytes of {kind:?} expected, {other:?} came",
                payload.len()
            )),
        }
    }

    fn random(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    fn binary(&mut self) -> Result<(), String> {
        for len in SIZES {
            let payload = self.random(len);
            let sent = self
                .client
                .conn()
                .unwrap()
                .send(MessageKind::Binary, payload.clone());
            sent.map_err(|error| error.to_string())?;
            self.expect(MessageKind::Binary, &payload)?;
        }
        Ok(())
    }

    fn text(&mut self) -> Result<(), String> {
        for len in SIZES {
            let text = "ß".repeat(len / 2);
            let sent = self
                .client
                .conn()
                .unwrap()
                .send_copy(MessageKind::Text, text.as_bytes());
            sent.map_err(|error| error.to_string())?;
            self.expect(MessageKind::Text, text.as_bytes())?;
        }
        Ok(())
    }

    fn fragments(&mut self) -> Result<(), String> {
        let payload = self.random(100_000);
        let parts: Vec<&[u8]> = payload.chunks(7001).collect();
        let frames = Frames::builder()
            .fragments(MessageKind::Binary, &parts)
            .ping(b"between")
            .unwrap()
            .message(MessageKind::Text, "dahinter".as_bytes())
            .build();
        let sent = self.client.conn().unwrap().send_frames(&frames);
        sent.map_err(|error| error.to_string())?;
        self.expect(MessageKind::Binary, &payload)?;
        self.expect(MessageKind::Text, b"dahinter")
    }

    fn in_flight(&mut self) -> Result<(), String> {
        for at in 0..1000u32 {
            let sent = self
                .client
                .conn()
                .unwrap()
                .send_copy(MessageKind::Text, at.to_string().as_bytes());
            sent.map_err(|error| error.to_string())?;
        }
        (0..1000u32).try_for_each(|at| self.expect(MessageKind::Text, at.to_string().as_bytes()))
    }

    fn pings(&mut self) -> Result<(), String> {
        for _ in 0..10 {
            self.client
                .conn()
                .unwrap()
                .send_ping(b"are you there?")
                .map_err(|e| e.to_string())?;
            self.client
                .conn()
                .unwrap()
                .send_copy(MessageKind::Text, b"x")
                .unwrap();
            self.expect(MessageKind::Text, b"x")?;
        }
        let pongs = self.client.connections().stats().received.pongs;
        if pongs >= 10 {
            Ok(())
        } else {
            Err(format!("{pongs} pongs to 10 pings"))
        }
    }

    fn close(&mut self) -> Result<(), String> {
        self.client
            .conn()
            .unwrap()
            .close(CloseCode::new(4321), "genug")
            .unwrap();
        match self.client.read_message(&mut self.buffer, DEADLINE) {
            Ok(Pulled::Closed(Some(close))) if close.clean => Ok(()),
            other => Err(format!("no clean close: {other:?}")),
        }
    }

    fn closed_by_the_server(&mut self) -> Result<(), String> {
        let (code, reason) = match std::env::var("WSLOOP_SERVER") {
            Ok(id) => {
                let status = Command::new("kill").args(["-TERM", &id]).status();
                assert!(status.unwrap().success());
                (CloseCode::GOING_AWAY, "")
            }
            Err(_) => {
                let asked = self
                    .client
                    .conn()
                    .unwrap()
                    .send_copy(MessageKind::Text, b"close 4001 bye");
                asked.map_err(|error| error.to_string())?;
                (CloseCode::new(4001), "bye")
            }
        };
        match self.client.read_message(&mut self.buffer, DEADLINE) {
            Ok(Pulled::Closed(Some(close)))
                if close.clean && close.code == Some(code) && close.reason == reason =>
            {
                Ok(())
            }
            other => Err(format!("not closed with {code}: {other:?}")),
        }
    }
}

fn target(arguments: &[String]) -> Connect {
    let connect = Connect::to(&arguments[1]).unwrap();
    let [kind, port, credentials @ ..] = &arguments[2..] else {
        return connect;
    };
    let port = port.parse().unwrap();
    let proxy = match kind.as_str() {
        "http" => Proxy::http("127.0.0.1", port),
        _ => Proxy::socks5("127.0.0.1", port),
    };
    let proxy = proxy.unwrap();
    connect.proxy(match credentials {
        [user, password] => proxy.credentials(user, password),
        _ => proxy,
    })
}

type Scenario = (&'static str, fn(&mut Peer) -> Result<(), String>);

const SCENARIOS: [Scenario; 7] = [
    ("binary messages of every size", Peer::binary),
    ("text messages of every size", Peer::text),
    (
        "a fragmented message, a ping and another message",
        Peer::fragments,
    ),
    ("1000 messages in flight", Peer::in_flight),
    ("pings", Peer::pings),
    ("close by us", Peer::close),
    ("close by the server", Peer::closed_by_the_server),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut failed = 0;
    for (name, scenario) in SCENARIOS {
        let result = Peer::connect(target(&arguments)).and_then(|mut peer| scenario(&mut peer));
        match result {
            Ok(()) => println!("ok {}: {name}", arguments[0]),
            Err(error) => {
                failed += 1;
                println!("FAILED {}: {name}: {error}", arguments[0]);
            }
        }
    }
    println!("{} passed, {failed} failed", SCENARIOS.len() - failed);
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

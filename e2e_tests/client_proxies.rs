//! Connections through proxies, from inside the loop. The proxy is a script of the test's, and what it leads to speaks on the
//! same socket.

use std::{net::Ipv6Addr, time::Duration};

use wsloop::{Config, Connect, ConnectError, ListenAddr, MessageKind, Proxy};

use super::support::{Event, Frame, Peer, RawServer, Server, pattern};

/// A name that only a proxy could know (RFC 6761 §6.4).
pub const URL: &str = "ws://server.invalid:8080/chat";
/// The proxy's word that the tunnel is open.
pub const HTTP_OPEN: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
pub const SOCKS_OPEN: &[u8] = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38";
const SOCKS_REQUEST: &[u8] = b"\x05\x01\x00\x03\x0eserver.invalid\x1f\x90";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Http,
    Socks5,
}

pub const KINDS: [Kind; 2] = [Kind::Http, Kind::Socks5];

impl Kind {
    pub fn proxy(self, port: u16) -> Proxy {
        match self {
            Self::Http => Proxy::http("127.0.0.1", port),
            Self::Socks5 => Proxy::socks5("127.0.0.1", port),
        }
        .unwrap()
    }

    /// Takes what the client says before it waits for the proxy's last answer.
    pub fn ask(self, peer: &mut Peer) {
        match self {
            Self::Http => peer.read_request(),
            Self::Socks5 => {
                assert_eq!(peer.take(3), b"\x05\x01\x00");
                peer.write(b"\x05\x00");
                assert_eq!(peer.take(SOCKS_REQUEST.len()), SOCKS_REQUEST);
            }
        }
    }

    pub fn open(self) -> &'static [u8] {
        match self {
            Self::Http => HTTP_OPEN,
            Self::Socks5 => SOCKS_OPEN,
        }
    }
}

/// A loop, and a proxy for it.
pub struct Scene {
    pub dialler: Server,
    pub raw: RawServer,
}

impl Scene {
    pub fn new() -> Self {
        Self {
            dialler: Server::dialler(Config::default()),
            raw: RawServer::bind(),
        }
    }

    pub fn proxy(&self, kind: Kind) -> Proxy {
        kind.proxy(self.raw.port())
    }

    /// Dials through the proxy, whose end of the connection it returns.
    pub fn dial(&self, connect: Connect) -> Peer {
        self.dialler.try_dial(connect, 1).unwrap();
        self.raw.accept_silent()
    }

    /// As `dial`, up to where the proxy has to say whether the tunnel opens.
    pub fn ask(&self, kind: Kind) -> Peer {
        let mut peer = self.dial(Connect::to(URL).unwrap().proxy(self.proxy(kind)));
        kind.ask(&mut peer);
        peer
    }

    /// The attempt has failed, and its socket is closed.
    pub fn expect_failed(&self, mut peer: Peer) -> ConnectError {
        let error = self.dialler.expect_failed();
        peer.expect_end();
        error
    }

    /// The server at the end of the tunnel opens the connection, and messages go both ways.
    pub fn expect_opens(&self, peer: &mut Peer) {
        peer.read_request();
        let answer = peer.switching("");
        peer.write(answer.as_bytes());
        self.expect_open(peer);
    }

    pub fn expect_open(&self, peer: &mut Peer) {
        let id = self.dialler.expect_dialled();
        let payload = pattern(100_000, 3);
        let sent = payload.clone();
        self.dialler.on(id, move |conn| {
            conn.send(MessageKind::Binary, sent).unwrap();
        });
        assert_eq!(peer.read_frame(), Frame::binary(payload));
        peer.send_text("back");
        assert_eq!(self.dialler.expect_message(), b"back");
        self.dialler.on(id, |conn| {
            conn.close(wsloop::CloseCode::NORMAL, "").unwrap()
        });
        assert_eq!(peer.read_frame().close_code(), Some(1000));
        peer.send_close(1000, "");
        peer.expect_end();
        assert!(self.dialler.expect_close().clean);
    }
}

// Tunnels that open.

#[test]
fn an_http_proxy_is_asked_for_the_name_and_told_nothing_else() {
    let scene = Scene::new();
    let mut peer = scene.ask(Kind::Http);
    let asked = "CONNECT server.invalid:8080 HTTP/1.1\r\nHost: server.invalid:8080\r\n\r\n";
    assert_eq!(peer.request, asked);
    peer.write(HTTP_OPEN);
    scene.expect_opens(&mut peer);
    assert!(peer.request.starts_with("GET /chat HTTP/1.1\r\n"));
    assert_eq!(peer.fields("Host"), ["server.invalid:8080"]);
}

#[test]
fn a_socks5_proxy_is_asked_for_names_and_addresses_as_they_are() {
    let scene = Scene::new();
    let ipv6 = [b"\x04", &Ipv6Addr::LOCALHOST.octets()[..]].concat();
    let hosts: [(&str, &[u8]); 3] = [
        ("server.invalid", b"\x03\x0eserver.invalid"),
        ("127.0.0.9", b"\x01\x7f\x00\x00\x09"),
        ("[::1]", &ipv6),
    ];
    for (host, address) in hosts {
        let connect = Connect::to(&format!("ws://{host}:8080")).unwrap();
        let mut peer = scene.dial(connect.proxy(scene.proxy(Kind::Socks5)));
        assert_eq!(peer.take(3), b"\x05\x01\x00");
        peer.write(b"\x05\x00");
        let asked = [b"\x05\x01\x00", address, b"\x1f\x90"].concat();
        assert_eq!(peer.take(asked.len()), asked, "{host}");
        peer.write(SOCKS_OPEN);
        scene.expect_opens(&mut peer);
    }
}

#[test]
fn credentials_are_for_the_proxy_alone() {
    let scene = Scene::new();
    let connect = |kind| {
        let proxy = scene.proxy(kind).credentials("user", "s:cret");
        Connect::to(URL).unwrap().proxy(proxy)
    };
    let mut peer = scene.dial(connect(Kind::Http));
    peer.read_request();
    assert_eq!(
        peer.fields("Proxy-Authorization"),
        ["Basic dXNlcjpzOmNyZXQ="]
    );
    peer.write(HTTP_OPEN);
    scene.expect_opens(&mut peer);
    assert!(!peer.request.contains("Authorization"), "{}", peer.request);

    let mut peer = scene.dial(connect(Kind::Socks5));
    assert_eq!(peer.take(4), b"\x05\x02\x00\x02");
    peer.write(b"\x05\x02");
    assert_eq!(peer.take(13), b"\x01\x04user\x06s:cret");
    peer.write(b"\x01\x00");
    assert_eq!(peer.take(SOCKS_REQUEST.len()), SOCKS_REQUEST);
    peer.write(SOCKS_OPEN);
    scene.expect_opens(&mut peer);
}

#[test]
fn an_answer_may_come_byte_by_byte_and_be_long() {
    let scene = Scene::new();
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(4000));
    for (kind, answer) in [
        (Kind::Http, HTTP_OPEN),
        (Kind::Http, long.as_bytes()),
        (Kind::Socks5, SOCKS_OPEN),
    ] {
        let mut peer = scene.ask(kind);
        // Without Nagle's algorithm each is a segment of its own.
        answer.chunks(1).for_each(|byte| peer.write(byte));
        scene.expect_opens(&mut peer);
    }
}

#[test]
fn what_comes_behind_the_proxys_answer_is_the_servers() {
    for kind in KINDS {
        let scene = Scene::new();
        let mut peer = scene.ask(kind);
        // The server announces before it is asked, and its last word is torn.
        let behind = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.";
        peer.write(&[kind.open(), behind].concat());
        peer.read_request();
        let answer = peer.switching("");
        peer.write(&answer.as_bytes()[b"HTTP/1.".len()..]);
        scene.expect_open(&mut peer);
    }
}

#[test]
fn a_server_may_refuse_before_it_is_asked() {
    for kind in KINDS {
        let scene = Scene::new();
        let mut peer = scene.ask(kind);
        let refusal = b"HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\nlater";
        peer.write(&[kind.open(), refusal].concat());
        let ConnectError::Refused(answer) = scene.dialler.expect_failed() else {
            panic!("not the server's refusal")
        };
        assert_eq!((answer.status, &answer.body[..]), (503, &b"later"[..]));
    }
}

/// There is no address of it that a proxy could go to.
#[test]
fn a_unix_socket_is_reached_directly() {
    let path = std::env::temp_dir().join(format!("wsloop-direct-{}.sock", std::process::id()));
    let server = Server::start_on(
        Config::default(),
        vec![([127, 0, 0, 1], 0).into(), ListenAddr::Unix(path.clone())],
        |_| {},
    );
    let url = format!("ws+unix:{}", path.display());
    for kind in KINDS {
        let scene = Scene::new();
        let connect = Connect::to(&url).unwrap().proxy(scene.proxy(kind));
        scene.dialler.try_dial(connect, 1).unwrap();
        let id = scene.dialler.expect_dialled();
        scene.dialler.on(id, |conn| {
            conn.send_copy(MessageKind::Text, b"direct").unwrap();
        });
        assert_eq!(scene.dialler.expect_message(), b"direct");
    }
    drop(server);
}

// Tunnels that take too long.

/// Where a proxy can fall silent.
const SILENCES: [(Kind, &[u8]); 4] = [
    (Kind::Http, b""),
    (Kind::Http, b"HTTP/1.1 200 OK\r\n"),
    (Kind::Socks5, b""),
    (Kind::Socks5, b"\x05\x00\x00"),
];

#[test]
fn the_connect_deadline_includes_the_proxy() {
    let scene = Scene::new();
    // All at once, with time enough to get there on a busy machine.
    let peers = SILENCES.map(|(kind, answer)| {
        let connect = Connect::to(URL).unwrap().proxy(scene.proxy(kind));
        let mut peer = scene.dial(connect.timeout(Duration::from_secs(2)));
        kind.ask(&mut peer);
        peer.write(answer);
        peer
    });
    for peer in peers {
        assert_eq!(scene.expect_failed(peer), ConnectError::Timeout);
    }
}

#[test]
fn an_attempt_is_cancelled_inside_the_tunnels_handshake() {
    let scene = Scene::new();
    for (kind, answer) in SILENCES {
        let connect = Connect::to(URL).unwrap().proxy(scene.proxy(kind));
        let id = scene.dialler.try_dial(connect, 7).unwrap();
        let mut peer = scene.raw.accept_silent();
        kind.ask(&mut peer);
        peer.write(answer);
        scene
            .dialler
            .with(move |_, connections| connections.cancel_connect(id));
        let tag = scene
            .dialler
            .expect("on_connect_failed", |event| match event {
                Event::ConnectFailed(tag, ConnectError::Cancelled) => Some(*tag),
                _ => None,
            });
        assert_eq!(tag, 7);
        peer.expect_end();
    }
}

#[test]
fn a_shutdown_ends_attempts_inside_the_tunnels_handshake() {
    for (kind, answer) in SILENCES {
        let scene = Scene::new();
        let mut peer = scene.ask(kind);
        peer.write(answer);
        scene
            .dialler
            .with(|_, connections| connections.shutdown(Duration::ZERO));
        assert_eq!(scene.expect_failed(peer), ConnectError::Shutdown);
    }
}

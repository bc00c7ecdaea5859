//! Dials that do not become connections: each failure has its reason, and leaves nothing behind.

use std::{
    io::ErrorKind,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use wsloop::{
    Config, Connect, ConnectConfigError, ConnectError, DialErrorKind, RefusedAnswer,
    protocol::{
        ExtensionError, UrlError,
        handshake::{ClientRequestError, HeaderError, ResponseError},
    },
};

use super::support::{Event, Peer, RawServer, Server, Session};

const SHORT: Duration = Duration::from_millis(60);
/// A busy machine may be late, by this much at most.
const LATE: Duration = Duration::from_millis(900);

fn dialler() -> Server {
    Server::dialler(Config::default())
}

fn refused(error: ConnectError) -> RefusedAnswer {
    match error {
        ConnectError::Refused(answer) => *answer,
        other => panic!("not refused: {other:?}"),
    }
}

/// A listener whose queue is full: the kernel drops what wants to connect to it.
struct Blackhole {
    addr: SocketAddr,
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

impl Blackhole {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        listener.bind(&SockAddr::from(any)).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(50)) {
            queued.push(stream);
            assert!(queued.len() < 100, "the queue is never full");
        }
        Self {
            addr,
            _listener: listener,
            _queued: queued,
        }
    }

    fn url(&self) -> String {
        format!("ws://{}/", self.addr)
    }
}

/// An address that nobody listens on.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Dials and lets the server answer `answer` of the request.
fn answered(dialler: &Server, raw: &RawServer, answer: impl Fn(&Peer) -> String) -> Peer {
    dialler.dial(&raw.url());
    let mut peer = raw.accept();
    let answer = answer(&peer);
    peer.write(answer.as_bytes());
    peer
}

fn dialled_unix(name: &str) -> String {
    let path = std::env::temp_dir().join(format!("wsloop-{name}-{}.sock", std::process::id()));
    format!("ws+unix:{}", path.display())
}

// No connection.

#[test]
fn nobody_listens() {
    let dialler = dialler();
    let port = nobody().port();
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        dialler.dial(&format!("ws://{host}:{port}/"));
        assert_eq!(
            dialler.expect_failed(),
            ConnectError::Io(ErrorKind::ConnectionRefused),
            "{host}"
        );
    }
    dialler.dial(&dialled_unix("nowhere"));
    assert_eq!(
        dialler.expect_failed(),
        ConnectError::Io(ErrorKind::NotFound)
    );
    // Longer than an address of a Unix socket.
    dialler.dial(&format!("ws+unix:/{}", "x".repeat(200)));
    assert_eq!(
        dialler.expect_failed(),
        ConnectError::Io(ErrorKind::InvalidInput)
    );
    assert_eq!(dialler.stats().dials.current, 0);
}

#[test]
fn a_name_that_does_not_exist() {
    let dialler = dialler();
    for _ in 0..3 {
        dialler.dial("ws://nobody-here.invalid/");
        let error = dialler.expect_failed();
        assert!(matches!(error, ConnectError::Resolve(_)), "{error:?}");
    }
    // The resolver is at work as before.
    let raw = RawServer::bind();
    dialler.dial(&format!("ws://localhost:{}/", raw.port()));
    let _peer = raw.open();
    dialler.expect_dialled();
}

/// Dials that are given up do not fill the resolver up for those that come after them.
#[test]
fn names_that_nobody_waits_for_any_more_do_not_stop_the_resolver() {
    let server = Server::echo();
    let url = format!("ws://localhost:{}/", server.addr.port());
    let dialler = Server::dialler(Config::default().max_dials(1));
    for _ in 0..300 {
        let again = url.clone();
        dialler.with(move |_, connections| {
            let connect = Connect::to(&again).unwrap();
            let id = connections.connect(connect, Session::default()).unwrap();
            connections.cancel_connect(id);
        });
        assert_eq!(dialler.expect_failed(), ConnectError::Cancelled);
    }
    dialler.open(&url);
}

/// Of a Unix socket whose queue is full nobody says when it has room.
#[test]
fn a_full_queue_of_a_unix_socket_is_waited_for() {
    let url = dialled_unix("queue");
    let address = SockAddr::unix(url.strip_prefix("ws+unix:").unwrap()).unwrap();
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let mut queued = 0;
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&address) {
            Ok(()) => queued += 1,
            Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(queued < 100, "the queue is never full");
    }
    let dialler = dialler();
    let hurried = Connect::to(&url).unwrap().timeout(SHORT);
    dialler.try_dial(hurried, 1).unwrap();
    let start = Instant::now();
    assert_eq!(dialler.expect_failed(), ConnectError::Timeout);
    assert!(start.elapsed() < SHORT + LATE);
    dialler.dial(&url);
    dialler.with(|_, _| ());
    assert_eq!(dialler.events(), []);
    for _ in 0..queued {
        listener.accept().unwrap();
    }
    let (peer, _) = listener.accept().unwrap();
    let mut start = [0; 4];
    let mut reader = &peer;
    std::io::Read::read_exact(&mut reader, &mut start).unwrap();
    assert_eq!(&start, b"GET ");
    drop(peer);
    assert_eq!(
        dialler.expect_failed(),
        ConnectError::Io(ErrorKind::ConnectionReset)
    );
    std::fs::remove_file(address.as_pathname().unwrap()).unwrap();
}

// Time.

/// The time, once the turn is over that has told of the last failure: what is asked for in that one has the time of its
/// beginning.
fn turned(dialler: &Server) -> Instant {
    dialler.with(|_, _| ());
    Instant::now()
}

fn assert_times_out(dialler: &Server, url: &str, prepare: impl FnOnce() -> Option<Peer>) {
    let start = turned(dialler);
    dialler.dial(url);
    let peer = prepare();
    assert_eq!(dialler.expect_failed(), ConnectError::Timeout);
    let elapsed = start.elapsed();
    assert!(elapsed >= SHORT && elapsed < SHORT + LATE, "{elapsed:?}");
    if let Some(mut peer) = peer {
        let _ = peer.stream.shutdown(Shutdown::Write);
        peer.read_to_end();
    }
}

#[test]
fn every_phase_has_the_same_deadline() {
    let dialler = Server::dialler(Config::default().connect_timeout(SHORT));
    let raw = RawServer::bind();
    let hole = Blackhole::new();
    // Connecting.
    assert_times_out(&dialler, &hole.url(), || None);
    // Nothing accepts, nothing answers.
    assert_times_out(&dialler, &raw.url(), || None);
    drop(raw.accept_silent());
    assert_times_out(&dialler, &raw.url(), || Some(raw.accept()));
    // A part of the head.
    assert_times_out(&dialler, &raw.url(), || {
        let mut peer = raw.accept();
        let answer = peer.switching("");
        peer.write(&answer.as_bytes()[..answer.len() - 1]);
        Some(peer)
    });
    // An interim head alone.
    assert_times_out(&dialler, &raw.url(), || {
        let mut peer = raw.accept();
        peer.write(b"HTTP/1.1 100 Continue\r\n\r\n");
        Some(peer)
    });
    assert_eq!(dialler.stats().dials.current, 0);
}

#[test]
fn a_dial_can_have_a_timeout_of_its_own() {
    let raw = RawServer::bind();
    let dialler = dialler();
    let connect = Connect::to(&raw.url()).unwrap().timeout(SHORT);
    dialler.try_dial(connect, 1).unwrap();
    let start = Instant::now();
    assert_eq!(dialler.expect_failed(), ConnectError::Timeout);
    assert!(start.elapsed() < SHORT + LATE);
    drop(raw.accept_silent());
    // As long as can be said, and no time at all.
    let connect = Connect::to(&raw.url()).unwrap().timeout(Duration::MAX);
    dialler.try_dial(connect, 2).unwrap();
    let _peer = raw.open();
    dialler.expect_dialled();
    let hole = Blackhole::new();
    let connect = Connect::to(&hole.url()).unwrap().timeout(Duration::ZERO);
    dialler.try_dial(connect, 3).unwrap();
    assert_eq!(dialler.expect_failed(), ConnectError::Timeout);
}

#[test]
fn an_open_connection_outlives_the_connect_timeout() {
    let dialler = Server::dialler(Config::default().connect_timeout(SHORT));
    let raw = RawServer::bind();
    dialler.dial(&raw.url());
    let mut peer = raw.open();
    dialler.expect_dialled();
    dialler.with(|_, connections| connections.set_timer(SHORT * 2, 1).unwrap());
    dialler.expect("the timer", |event| {
        matches!(event, Event::Timer(1)).then_some(())
    });
    peer.send_text("still here");
    assert_eq!(dialler.expect_message(), b"still here");
}

// Given up.

#[test]
fn every_phase_can_be_cancelled() {
    let raw = RawServer::bind();
    let hole = Blackhole::new();
    let dialler = dialler();
    // At once, before anything has begun; a name is being resolved then.
    for url in [
        raw.url(),
        format!("ws://localhost:{}/", raw.port()),
        hole.url(),
    ] {
        dialler.with(move |_, connections| {
            let connect = Connect::to(&url).unwrap();
            let id = connections.connect(connect, Session::default()).unwrap();
            connections.cancel_connect(id);
            // Twice is once.
            connections.cancel_connect(id);
        });
        assert_eq!(dialler.expect_failed(), ConnectError::Cancelled);
    }
    // Connecting.
    let id = dialler.dial(&hole.url());
    dialler.with(move |_, connections| connections.cancel_connect(id));
    assert_eq!(dialler.expect_failed(), ConnectError::Cancelled);
    // With the request sent, and with a part of the answer.
    let raw = RawServer::bind();
    for part in [&b""[..], b"HTTP/1.1 101 Sw", b"HTTP/1.1 403 No\r\n\r\nso"] {
        let id = dialler.dial(&raw.url());
        let mut peer = raw.accept();
        peer.write(part);
        dialler.with(move |_, connections| connections.cancel_connect(id));
        assert_eq!(dialler.expect_failed(), ConnectError::Cancelled);
        assert_eq!(peer.read_to_end(), b"");
    }
    // Too late: it is a connection, or has failed.
    let id = dialler.dial(&raw.url());
    let mut peer = raw.open();
    let conn = dialler.expect_dialled();
    dialler.with(move |_, connections| connections.cancel_connect(id));
    peer.send_text("open");
    assert_eq!(dialler.expect_message(), b"open");
    assert!(dialler.on(conn, |conn| conn.is_open()));
    let stats = dialler.stats();
    assert_eq!((stats.dials.current, stats.opened), (0, 1));
}

/// A dial and its end in the callback of another's.
#[test]
fn a_dial_that_is_cancelled_in_the_callback_that_began_it_is_cancelled() {
    let raw = RawServer::bind();
    let url = raw.url();
    let dialler = Server::start(Config::default(), move |app| {
        app.on_connect_failed = Some(Box::new(move |connections, session, error| {
            assert_eq!(error, ConnectError::Cancelled);
            if session.tag == 1 {
                let connect = Connect::to(&url).unwrap();
                let next = Session {
                    tag: 2,
                    ..Session::default()
                };
                let id = connections.connect(connect, next).unwrap();
                connections.cancel_connect(id);
            }
        }));
    });
    let id = dialler.dial(&raw.url());
    dialler.with(move |_, connections| connections.cancel_connect(id));
    for tag in 1..=2 {
        let failed = dialler.expect("failure", |event| match event {
            Event::ConnectFailed(of, error) => Some((*of, error.clone())),
            _ => None,
        });
        assert_eq!(failed, (tag, ConnectError::Cancelled));
    }
}

#[test]
fn a_shutdown_ends_dials_in_every_phase() {
    let raw = RawServer::bind();
    let hole = Blackhole::new();
    let (report, failures) = std::sync::mpsc::channel();
    let again = raw.url();
    let dialler = Server::start(Config::default(), move |app| {
        app.on_connect_failed = Some(Box::new(move |connections, session, error| {
            let connect = Connect::to(&again).unwrap();
            let refused = connections.connect(connect, Session::default());
            let refused = refused.err().map(|error| error.kind);
            report.send((session.tag, error, refused)).unwrap();
        }));
    });
    let talking = Connect::to(&raw.url()).unwrap();
    dialler.try_dial(talking, 1).unwrap();
    let mut peer = raw.accept();
    let connecting = Connect::to(&hole.url()).unwrap();
    dialler.try_dial(connecting, 2).unwrap();
    // In the same turn as the shutdown.
    let name = Connect::to(&format!("ws://localhost:{}/", raw.port())).unwrap();
    let fresh = Connect::to(&raw.url()).unwrap();
    dialler.with(move |_, connections| {
        for (tag, connect) in [(3, name), (4, fresh)] {
            let session = Session {
                tag,
                ..Session::default()
            };
            connections.connect(connect, session).unwrap();
        }
        connections.shutdown(Duration::ZERO);
    });
    let stopped = dialler.stop(Duration::ZERO);
    assert!(stopped.shutdown.is_clean());
    let mut tags = Vec::new();
    for (tag, error, refused) in failures.try_iter() {
        assert_eq!(error, ConnectError::Shutdown);
        assert_eq!(refused, Some(DialErrorKind::ShuttingDown));
        tags.push(tag);
    }
    tags.sort_unstable();
    assert_eq!(tags, [1, 2, 3, 4]);
    assert_eq!(peer.read_to_end(), b"");
}

/// A session comes back whenever `connect` has taken it, also when the callback that dials is the last before the end.
#[test]
fn a_dial_from_a_failure_in_the_turn_of_the_shutdown_fails_too() {
    let (report, failures) = std::sync::mpsc::channel();
    let url = dialled_unix("shutdown");
    let again = url.clone();
    let dialler = Server::start(Config::default(), move |app| {
        app.on_connect_failed = Some(Box::new(move |connections, session, error| {
            report.send((session.tag, error)).unwrap();
            let next = Session {
                tag: session.tag + 1,
                ..Session::default()
            };
            if session.tag < 3 {
                let _ = connections.connect(Connect::to(&again).unwrap(), next);
            }
        }));
    });
    let connect = Connect::to(&url).unwrap();
    dialler.with(move |_, connections| {
        let session = Session {
            tag: 1,
            ..Session::default()
        };
        let id = connections.connect(connect, session).unwrap();
        connections.cancel_connect(id);
        connections.shutdown(Duration::ZERO);
    });
    let _ = dialler.stop(Duration::ZERO);
    let failures: Vec<_> = failures.try_iter().collect();
    assert!(failures.len() >= 2, "{failures:?}");
    assert_eq!(
        failures.last().map(|(_, error)| error),
        Some(&ConnectError::Shutdown),
        "{failures:?}"
    );
}

// Answers that open no WebSocket.

#[test]
fn each_fault_of_a_101_has_its_error() {
    let raw = RawServer::bind();
    let dialler = dialler();
    type Fault = fn(String, &Peer) -> String;
    let cases: [(ResponseError, Fault); 22] = [
        (ResponseError::WrongAccept, |good, peer| {
            good.replace(&peer.accept_value(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        }),
        (ResponseError::WrongAccept, |good, peer| {
            good.replace(&peer.accept_value(), &peer.accept_value().to_lowercase())
        }),
        (ResponseError::WrongAccept, |good, peer| {
            good.replace(&peer.accept_value(), "")
        }),
        (ResponseError::MissingAccept, |good, _| {
            good.replace("Sec-WebSocket-Accept", "X-Accept")
        }),
        (
            ResponseError::DuplicateHeader("Sec-WebSocket-Accept"),
            |_, peer| {
                let line = format!("Sec-WebSocket-Accept: {}\r\n", peer.accept_value());
                peer.switching(&line)
            },
        ),
        (ResponseError::MissingUpgrade, |good, _| {
            good.replace("Upgrade: websocket\r\n", "")
        }),
        (ResponseError::MissingUpgrade, |good, _| {
            good.replace("Upgrade: websocket", "Upgrade: h2c")
        }),
        (ResponseError::MissingUpgrade, |good, _| {
            good.replace("Upgrade: websocket", "Upgrade: websocket, h2c")
        }),
        (ResponseError::MissingConnection, |good, _| {
            good.replace("Connection: Upgrade\r\n", "")
        }),
        (ResponseError::MissingConnection, |good, _| {
            good.replace("Connection: Upgrade", "Connection: close")
        }),
        (ResponseError::UnrequestedSubprotocol, |_, peer| {
            peer.switching("Sec-WebSocket-Protocol: chat\r\n")
        }),
        (ResponseError::UnrequestedSubprotocol, |_, peer| {
            peer.switching("Sec-WebSocket-Protocol:\r\n")
        }),
        (
            ResponseError::DuplicateHeader("Sec-WebSocket-Protocol"),
            |_, peer| peer.switching("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n"),
        ),
        (
            ResponseError::Extension(ExtensionError::NotOffered),
            |_, peer| peer.switching("Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        ),
        (ResponseError::UnsupportedHttpVersion, |good, _| {
            good.replace("HTTP/1.1", "HTTP/1.0")
        }),
        (ResponseError::UnsupportedHttpVersion, |good, _| {
            good.replace("HTTP/1.1", "HTTP/2.0")
        }),
        (ResponseError::Malformed, |good, _| {
            good.replace("HTTP/1.1", "ICY")
        }),
        (ResponseError::Malformed, |good, _| {
            good.replace("\r\nConnection", "\nConnection")
        }),
        (ResponseError::Malformed, |good, _| {
            good.replace(" 101 ", " 1o1 ")
        }),
        (ResponseError::Malformed, |good, _| {
            good.replace("Upgrade: websocket", "Upgrade websocket")
        }),
        (ResponseError::TooManyHeaders, |_, peer| {
            peer.switching(&"X: y\r\n".repeat(130))
        }),
        (ResponseError::HeadTooLarge, |_, peer| {
            peer.switching(&format!("X: {}\r\n", "y".repeat(8192)))
        }),
    ];
    for (at, (error, fault)) in cases.into_iter().enumerate() {
        let mut peer = answered(&dialler, &raw, |peer| fault(peer.switching(""), peer));
        assert_eq!(
            dialler.expect_failed(),
            ConnectError::Response(error),
            "{at}"
        );
        assert_eq!(peer.read_to_end(), b"", "{at}: nothing is sent to it");
    }
    let stats = dialler.stats();
    assert_eq!((stats.dials.current, stats.opened), (0, 0));
}

#[test]
fn a_subprotocol_that_was_not_offered_in_this_case_of_letters() {
    let raw = RawServer::bind();
    let dialler = dialler();
    let connect = Connect::to(&raw.url())
        .unwrap()
        .subprotocol("chat")
        .unwrap();
    dialler.try_dial(connect, 1).unwrap();
    let mut peer = raw.accept();
    let answer = peer.switching("Sec-WebSocket-Protocol: Chat\r\n");
    peer.write(answer.as_bytes());
    assert_eq!(
        dialler.expect_failed(),
        ConnectError::Response(ResponseError::UnrequestedSubprotocol)
    );
}

/// The bound for a head is inclusive, and holds for one without an end too.
#[test]
fn heads_around_the_bound() {
    let raw = RawServer::bind();
    let dialler = Server::dialler(Config::default().max_head_size(1024));
    let padded = |peer: &Peer, len: usize| {
        let bare = peer.switching("X: \r\n").len();
        peer.switching(&format!("X: {}\r\n", "y".repeat(len - bare)))
    };
    let _peer = answered(&dialler, &raw, |peer| padded(peer, 1024));
    dialler.expect_dialled();
    let _peer = answered(&dialler, &raw, |peer| padded(peer, 1025));
    let too_large = ConnectError::Response(ResponseError::HeadTooLarge);
    assert_eq!(dialler.expect_failed(), too_large);
    let _peer = answered(&dialler, &raw, |peer| padded(peer, 2000)[..1024].to_owned());
    assert_eq!(dialler.expect_failed(), too_large);
    // Never an answer, however much is announced.
    dialler.dial(&raw.url());
    let mut peer = raw.accept();
    let chunk = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
    while std::io::Write::write_all(&mut peer.stream, chunk.as_bytes()).is_ok() {}
    assert_eq!(
        dialler.expect_failed(),
        ConnectError::Response(ResponseError::HeadTooLarge)
    );
}

#[test]
fn a_server_that_ends_inside_the_head() {
    let raw = RawServer::bind();
    let dialler = dialler();
    for part in [
        "",
        "HTTP/1.1 101 Switching",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        let peer = answered(&dialler, &raw, |_| part.to_owned());
        drop(peer);
        assert_eq!(
            dialler.expect_failed(),
            ConnectError::Io(ErrorKind::UnexpectedEof),
            "{part:?}"
        );
    }
    dialler.dial(&raw.url());
    let mut peer = raw.accept();
    peer.write(b"HTTP/1.1 101 ");
    SockRef::from(&peer.stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(peer);
    assert_eq!(
        dialler.expect_failed(),
        ConnectError::Io(ErrorKind::ConnectionReset)
    );
}

// Refusals.

#[test]
fn refusals_come_with_status_headers_and_body() {
    let raw = RawServer::bind();
    let dialler = dialler();
    for (status, field, value) in [
        (301, "Location", "ws://other.example/"),
        (302, "Location", "/there"),
        (307, "Location", "wss://other.example/a?b"),
        (401, "WWW-Authenticate", "Basic realm=\"x\""),
        (403, "X-Why", "because"),
        (426, "Sec-WebSocket-Version", "13"),
        (503, "Retry-After", "120"),
        (200, "Content-Type", "text/html"),
        (999, "X-Odd", "\u{e4}"),
    ] {
        let _peer = answered(&dialler, &raw, |_| {
            format!(
                "HTTP/1.1 {status} Whatever\r\n{field}: {value}\r\nX-Two: a\r\nX-Two: b\r\n\
                 Content-Length: 9\r\n\r\nsome body, and more of it"
            )
        });
        let answer = refused(dialler.expect_failed());
        assert_eq!(answer.status, status);
        assert_eq!(answer.header(field), Some(value));
        assert_eq!(answer.header(&field.to_uppercase()), Some(value));
        assert_eq!(answer.header("X-Two"), Some("a"));
        assert_eq!(answer.header("X-None"), None);
        assert_eq!(answer.headers.len(), 4);
        assert_eq!(answer.headers[2], ("X-Two".to_owned(), b"b".to_vec()));
        assert_eq!(answer.body, b"some body");
    }
}

#[test]
fn a_refusal_of_the_librarys_own_server() {
    let server = Server::start(Config::default(), |app| {
        app.on_upgrade = Some(Box::new(|_, _| {
            Err(wsloop::HttpResponse::upgrade_required())
        }));
    });
    let dialler = dialler();
    dialler.dial(&server.url("/"));
    assert_eq!(refused(dialler.expect_failed()).status, 426);
}

#[test]
fn bodies_without_a_length_go_on_until_the_end() {
    let raw = RawServer::bind();
    let dialler = dialler();
    for head in ["HTTP/1.1 403 No\r\n\r\n", "HTTP/1.0 403 No\r\nX: y\r\n\r\n"] {
        let mut peer = answered(&dialler, &raw, |_| head.to_owned());
        for part in ["one ", "two ", "three"] {
            peer.write(part.as_bytes());
            dialler.with(|_, _| ());
        }
        drop(peer);
        assert_eq!(refused(dialler.expect_failed()).body, b"one two three");
    }
    // None, whatever the header says.
    for status in [204, 304] {
        let _peer = answered(&dialler, &raw, |_| {
            format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n")
        });
        let answer = refused(dialler.expect_failed());
        assert_eq!((answer.status, &answer.body[..]), (status, &b""[..]));
    }
}

/// As most servers do it, and they keep the connection open for another request.
#[test]
fn a_chunked_body_ends_with_its_last_chunk() {
    let raw = RawServer::bind();
    let dialler = dialler();
    let head = "HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "5;ext=1\r\nhello\r\nA\r\n0\r\n\r\n 567 \r\n00\r\nTrailer: x\r\n\r\n",
    ] {
        for at_once in [true, false] {
            let mut peer = answered(&dialler, &raw, |_| {
                format!("{head}{}", if at_once { body } else { "" })
            });
            if !at_once {
                for byte in body.as_bytes() {
                    dialler.with(|_, _| ());
                    peer.write(&[*byte]);
                }
            }
            let answer = refused(dialler.expect_failed());
            assert_eq!(answer.status, 401);
            assert_eq!(answer.body, body.as_bytes(), "as it came");
        }
    }
}

#[test]
fn a_body_is_kept_up_to_its_bound() {
    let raw = RawServer::bind();
    let dialler = dialler();
    for framing in [
        "Content-Length: 100000\r\n",
        "Content-Length: 18446744073709551615\r\n",
        "Transfer-Encoding: chunked\r\n",
        "",
    ] {
        let body = if framing.starts_with('T') {
            format!("186A0\r\n{}", "b".repeat(100_000))
        } else {
            "b".repeat(100_000)
        };
        dialler.dial(&raw.url());
        let mut peer = raw.accept();
        let answer = format!("HTTP/1.1 403 No\r\n{framing}\r\n{body}");
        // The client may be gone before it is all sent.
        let _ = std::io::Write::write_all(&mut peer.stream, answer.as_bytes());
        let answer = refused(dialler.expect_failed());
        assert_eq!(answer.body.len(), RefusedAnswer::MAX_BODY);
        assert_eq!(answer.body, &body.as_bytes()[..RefusedAnswer::MAX_BODY]);
    }
}

/// The head has said it all: a body that does not come is no reason to forget it.
#[test]
fn a_refusal_whose_body_does_not_come_is_a_refusal_at_the_deadline() {
    let raw = RawServer::bind();
    let dialler = Server::dialler(Config::default().connect_timeout(SHORT));
    for framing in [
        "Content-Length: 100\r\n",
        "Transfer-Encoding: chunked\r\n",
        "",
    ] {
        let start = turned(&dialler);
        let _peer = answered(&dialler, &raw, |_| {
            format!("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n{framing}\r\n5\r\nhe")
        });
        let answer = refused(dialler.expect_failed());
        assert!(start.elapsed() >= SHORT);
        assert_eq!(
            (answer.status, answer.header("Retry-After")),
            (503, Some("7"))
        );
        assert_eq!(answer.body, b"5\r\nhe");
    }
}

#[test]
fn a_refusal_whose_body_is_cut_off_is_a_refusal() {
    let raw = RawServer::bind();
    let dialler = dialler();
    for reset in [false, true] {
        let peer = answered(&dialler, &raw, |_| {
            "HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\nsome".to_owned()
        });
        // The loop has turned: it has the part.
        dialler.with(|_, _| ());
        if reset {
            SockRef::from(&peer.stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        drop(peer);
        let answer = refused(dialler.expect_failed());
        assert_eq!((answer.status, &answer.body[..]), (503, &b"some"[..]));
    }
}

/// A busy server answers before it has read anything and cuts the connection, which resets it.
#[test]
fn a_refusal_with_a_reset_behind_it_is_a_refusal() {
    let raw = RawServer::bind();
    let dialler = dialler();
    dialler.dial(&raw.url());
    let mut peer = raw.accept_silent();
    // The request is there, and nobody reads it.
    assert!(peer.stream.peek(&mut [0; 10]).unwrap() > 0);
    let hold = dialler.hold();
    peer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: 3\r\n\r\n");
    drop(peer);
    drop(hold);
    let answer = refused(dialler.expect_failed());
    assert_eq!(
        (answer.status, answer.header("Retry-After")),
        (503, Some("3"))
    );
}

// What is wrong before anything is dialled.

#[test]
fn what_cannot_be_dialled_is_said_at_once() {
    let url = |text: &str| Connect::to(text).unwrap_err();
    assert_eq!(url("wss://localhost/"), ConnectConfigError::TlsUnavailable);
    for (text, error) in [
        ("", UrlError::MissingScheme),
        ("localhost", UrlError::MissingScheme),
        ("http://localhost/", UrlError::UnsupportedScheme),
        ("ws:localhost", UrlError::EmptyHost),
        ("ws://", UrlError::EmptyHost),
        ("ws://a b/", UrlError::InvalidCharacter),
        ("ws://a/\r\nX: y", UrlError::InvalidCharacter),
        ("ws://a/#b", UrlError::Fragment),
        ("ws://u:p@a/", UrlError::UserInfo),
        ("ws://a:0/", UrlError::InvalidPort),
        ("ws://a:65536/", UrlError::InvalidPort),
        ("ws://a:+1/", UrlError::InvalidPort),
        ("ws://[::1/", UrlError::InvalidHost),
        ("ws://a/\u{e4}", UrlError::InvalidTarget),
        ("ws+unix:relative", UrlError::InvalidSocketPath),
    ] {
        assert_eq!(url(text), ConnectConfigError::Url(error), "{text}");
    }
    let good = || Connect::to("ws://localhost/").unwrap();
    let request = |error| ConnectConfigError::Request(error);
    assert_eq!(
        good().subprotocol("a b").unwrap_err(),
        request(ClientRequestError::InvalidSubprotocol)
    );
    assert_eq!(
        good()
            .subprotocol("a")
            .unwrap()
            .subprotocol("a")
            .unwrap_err(),
        request(ClientRequestError::RepeatedSubprotocol)
    );
    assert_eq!(
        good().origin("").unwrap_err(),
        request(ClientRequestError::InvalidOrigin)
    );
    assert_eq!(
        good().host("a/b").unwrap_err(),
        request(ClientRequestError::InvalidHost)
    );
    for reserved in [
        "Host",
        "upgrade",
        "Connection",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
    ] {
        assert!(
            matches!(
                good().header(reserved, "x").unwrap_err(),
                ConnectConfigError::Request(ClientRequestError::Header(HeaderError::Reserved(_)))
            ),
            "{reserved}"
        );
    }
    assert_eq!(
        good().header("X", "a\r\nY: b").unwrap_err(),
        request(ClientRequestError::Header(HeaderError::InvalidValue))
    );
}

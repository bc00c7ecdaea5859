//! Several addresses of one host (RFC 8305), up to the open connection. The clock is the test's and stands still unless the
//! test moves it; the sockets are real.

use std::{
    io::{ErrorKind, Write},
    net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use socket2::{Domain, Socket, Type};

use super::*;
use crate::{
    driver::{Conn, Connections, Core, Message},
    protocol::handshake::accept_key,
    transport::Registrar,
};

const PATIENCE: Duration = Duration::from_secs(20);
/// Head start of an attempt (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Default)]
struct App {
    opened: usize,
    failed: Vec<ConnectError>,
}

impl Handler for App {
    type Session = ();

    fn on_open(&mut self, _: &mut Conn<'_, ()>) {
        self.opened += 1;
    }

    fn on_message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}

    fn on_connect_failed(&mut self, _: &mut Connections<'_, ()>, (): (), error: ConnectError) {
        self.failed.push(error);
    }
}

/// A dialler with one attempt.
struct Stage {
    app: App,
    core: Core<()>,
    dialler: Dialler<()>,
    scratch: Box<[u8]>,
    start: Instant,
    key: Key,
}

impl Stage {
    /// The host's name has these addresses.
    fn new(addresses: &[SocketAddr]) -> Self {
        Self::with(addresses, Connect::to("ws://localhost").unwrap())
    }

    fn with(addresses: &[SocketAddr], connect: Connect) -> Self {
        let start = Instant::now();
        let registrar = Registrar::Alone(None);
        let mut core = Core::new(Arc::new(Config::default()), registrar, start);
        let rng = ChaCha20Rng::from_seed([3; 32]);
        core.shared.pools.mask_keys.supply(Box::new(rng));
        let mut connections = Connections::new(&mut core);
        connections.connect(connect.timeout(TIMEOUT), ()).unwrap();
        let mut stage = Self {
            app: App::default(),
            core,
            dialler: Dialler::new(1),
            scratch: vec![0; Config::default().scratch_size].into_boxed_slice(),
            start,
            key: Key::from_parts(0, 0),
        };
        stage.begin(addresses);
        stage
    }

    /// The resolver's own answer is never looked at.
    fn begin(&mut self, addresses: &[SocketAddr]) {
        let orders = std::mem::take(&mut self.core.orders);
        for order in orders {
            let DialOrder::Begin {
                id,
                connect,
                session,
            } = order
            else {
                panic!("nobody cancels")
            };
            let mut driver = Driver::new(&mut self.app, &mut self.core, &mut self.scratch);
            self.dialler
                .begin::<App, ()>(id, connect, session, &mut driver);
        }
        self.key = self.dialler.dials.key_at(0).unwrap();
        let answer = Answer {
            id: key_to_id(self.key),
            result: Ok(addresses.to_vec()),
        };
        let mut driver = Driver::new(&mut self.app, &mut self.core, &mut self.scratch);
        self.dialler.resolved::<App, ()>(answer, &mut driver);
    }

    /// Lets the clock show a time after the start, and fires what is due.
    fn at(&mut self, after: Duration) {
        let now = self.start + after;
        self.core.shared.now = now;
        while let Some((_, timer)) = self.core.shared.timers.pop_due(now) {
            let Timer::Dial(key) = timer else { continue };
            let mut driver = Driver::new(&mut self.app, &mut self.core, &mut self.scratch);
            self.dialler.handle_timer::<App, ()>(key, &mut driver);
        }
    }

    /// When the dialler wants to be asked again without an event, after the start.
    fn next_look(&self) -> Duration {
        self.core.shared.timers.next_deadline().unwrap() - self.start
    }

    /// How many sockets the attempt has.
    fn sockets(&mut self) -> usize {
        let dial = self.dialler.dials.get_mut(self.key);
        dial.map_or(0, |dial| dial.streams().len())
    }

    /// Goes on with the sockets until it is so. The clock stands still.
    fn until<T>(&mut self, mut reached: impl FnMut(&mut Self) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut driver = Driver::new(&mut self.app, &mut self.core, &mut self.scratch);
            self.dialler.try_all::<App, ()>(&mut driver);
            if let Some(found) = reached(self) {
                return found;
            }
            assert!(Instant::now() < end, "not reached");
            std::thread::yield_now();
        }
    }

    fn expect_open(&mut self, listener: &TcpListener) {
        let mut stream = self.until(|_| accepted(listener));
        let request = self.until(|_| request(&mut stream));
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
            .unwrap();
        let accept = String::from_utf8(accept_key(key.as_bytes()).to_vec()).unwrap();
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade";
        let answer = format!("{head}\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
        stream.write_all(answer.as_bytes()).unwrap();
        self.until(|stage| (stage.app.opened == 1).then_some(()));
        assert_eq!(self.app.failed, []);
    }

    fn expect_failed(&mut self) -> ConnectError {
        self.until(|stage| stage.app.failed.pop())
    }
}

fn accepted(listener: &TcpListener) -> Option<TcpStream> {
    let (stream, _) = listener.accept().ok()?;
    stream.set_nonblocking(true).unwrap();
    Some(stream)
}

/// A request, when it is there.
fn request(stream: &mut TcpStream) -> Option<String> {
    let mut seen = [0; 1024];
    let count = stream.peek(&mut seen).ok()?;
    let whole = seen[..count].ends_with(b"\r\n\r\n");
    whole.then(|| String::from_utf8(seen[..count].to_vec()).unwrap())
}

fn listen(address: impl Into<std::net::IpAddr>) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((address.into(), 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address where nobody listens, and nobody else will: it stays bound to the end of the tests.
fn refusing() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket);
    address
}

/// An address that TCP connects to never: of several hosts at once.
fn unreachable() -> SocketAddr {
    (Ipv4Addr::new(224, 0, 0, 1), 80).into()
}

/// An address that answers nothing: the backlog of its listener is full.
struct Hanging {
    address: SocketAddr,
    _sockets: (Socket, TcpStream),
}

impl Hanging {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).unwrap();
        // Linux keeps one more than that, and passes over what comes then.
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let filling = TcpStream::connect(address).unwrap();
        Self {
            address,
            _sockets: (socket, filling),
        }
    }

    /// How many sockets of this process are on their way here, as the kernel sees it.
    fn connecting(&self) -> usize {
        const SYN_SENT: &str = "02";
        let port = format!(":{:04X}", self.address.port());
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = table.lines().map(|line| line.split_whitespace().skip(2));
        rows.filter_map(|mut row| Some((row.next()?, row.next()?)))
            .filter(|(remote, state)| remote.ends_with(&port) && *state == SYN_SENT)
            .count()
    }
}

#[test]
fn a_refused_address_is_followed_by_the_next_at_once() {
    let (listener, good) = listen(Ipv4Addr::LOCALHOST);
    let mut stage = Stage::new(&[refusing(), refusing(), good]);
    stage.expect_open(&listener);
}

#[test]
fn an_address_that_cannot_be_tried_is_followed_by_the_next_at_once() {
    let (listener, good) = listen(Ipv4Addr::LOCALHOST);
    let mut stage = Stage::new(&[unreachable(), good]);
    stage.expect_open(&listener);
}

#[test]
fn families_take_turns_down_to_one_that_answers() {
    let (listener, good) = listen(Ipv4Addr::LOCALHOST);
    let nobody = SocketAddr::from((Ipv6Addr::LOCALHOST, refusing().port()));
    let mut stage = Stage::new(&[nobody, nobody, good]);
    stage.expect_open(&listener);
}

#[test]
fn while_one_hangs_the_next_begins_after_its_head_start_and_wins() {
    let hanging = Hanging::new();
    let (listener, good) = listen(Ipv4Addr::LOCALHOST);
    let mut stage = Stage::new(&[hanging.address, good]);
    assert_eq!((stage.sockets(), stage.next_look()), (1, HEAD_START));

    stage.at(HEAD_START - Duration::from_millis(1));
    assert_eq!((stage.sockets(), hanging.connecting()), (1, 1));
    assert!(accepted(&listener).is_none());

    stage.at(HEAD_START);
    assert_eq!(stage.next_look(), TIMEOUT);
    stage.expect_open(&listener);
    assert_eq!(hanging.connecting(), 0, "the loser is closed");
}

#[test]
fn each_that_hangs_takes_its_head_start_until_the_time_is_up() {
    let hanging = [Hanging::new(), Hanging::new(), Hanging::new()];
    let addresses = hanging.each_ref().map(|it| it.address);
    let mut stage = Stage::new(&addresses);
    for begun in 1..3 {
        assert_eq!(stage.sockets(), begun as usize);
        assert_eq!(stage.next_look(), begun * HEAD_START);
        stage.at(begun * HEAD_START);
    }
    assert_eq!((stage.sockets(), stage.next_look()), (3, TIMEOUT));
    stage.at(TIMEOUT);
    assert_eq!(stage.app.failed, [ConnectError::Timeout]);
    assert_eq!(hanging.each_ref().map(Hanging::connecting), [0; 3]);
}

#[test]
fn a_refusal_after_the_head_start_lets_nobody_wait() {
    let hanging = Hanging::new();
    let (listener, good) = listen(Ipv4Addr::LOCALHOST);
    let mut stage = Stage::new(&[hanging.address, refusing(), good]);
    stage.at(HEAD_START);
    // The clock stands: the third needs no head start of the second.
    stage.expect_open(&listener);
    assert_eq!(hanging.connecting(), 0);
}

#[test]
fn cancelling_closes_every_attempt_under_way() {
    let hanging = [Hanging::new(), Hanging::new()];
    let mut stage = Stage::new(&hanging.each_ref().map(|it| it.address));
    stage.at(HEAD_START);
    assert_eq!(hanging.each_ref().map(Hanging::connecting), [1; 2]);
    let id = stage.dialler.dials.get_mut(stage.key).unwrap().id;
    Connections::new(&mut stage.core).cancel_connect(id);
    let mut driver = Driver::new(&mut stage.app, &mut stage.core, &mut stage.scratch);
    stage.dialler.work::<App, ()>(&mut driver);
    assert_eq!(stage.app.failed, [ConnectError::Cancelled]);
    assert_eq!(hanging.each_ref().map(Hanging::connecting), [0; 2]);
}

#[test]
fn the_last_error_is_the_one_that_is_reported() {
    let refused = ConnectError::Io(ErrorKind::ConnectionRefused);
    let unreached = ConnectError::Io(ErrorKind::NetworkUnreachable);
    let cases = [
        ([refusing(), refusing()], &refused),
        ([unreachable(), refusing()], &refused),
        ([refusing(), unreachable()], &unreached),
    ];
    for (addresses, error) in cases {
        assert_eq!(Stage::new(&addresses).expect_failed(), *error);
    }
}

#[test]
fn without_an_address_of_the_local_ones_family_nothing_is_tried() {
    let (listener, good) = listen(Ipv4Addr::LOCALHOST);
    let connect = Connect::to("ws://localhost").unwrap();
    let connect = connect.local_address(Ipv6Addr::LOCALHOST.into());
    let mut stage = Stage::with(&[good], connect);
    let unavailable = ConnectError::Io(ErrorKind::AddrNotAvailable);
    assert_eq!(stage.expect_failed(), unavailable);
    assert!(accepted(&listener).is_none());
}

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use wsloop::{
    Close, Config, Conn, ConnId, Connect, ConnectError, Connections, DialErrorKind, DialId,
    EventLoop, ListenAddr, ListenerId, Remote, Shutdown, Stats,
};

use super::{App, Client, DEADLINE, Event, Session, app::Job};

/// A server in a thread of its own. Dropping it shuts it down and fails the test if anything is left behind.
pub struct Server {
    pub addr: SocketAddr,
    /// All listeners, and what they are bound to.
    pub listeners: Vec<(ListenerId, ListenAddr)>,
    events: Receiver<Event>,
    remote: Remote<Job>,
    thread: Option<JoinHandle<Stopped>>,
}

/// What was left when the loop had stopped.
#[derive(Debug)]
pub struct Stopped {
    pub shutdown: Shutdown,
    pub stats: Stats,
}

/// Of the mask keys of every loop: the same run has the same keys.
pub const SEED: [u8; 32] = [7; 32];

impl Server {
    /// A loop to dial with, which keeps what it receives to itself.
    pub fn dialler(config: Config) -> Self {
        Self::start(config, |app| app.on_message = Some(Box::new(|_, _| {})))
    }

    /// Where our listener is.
    pub fn url(&self, target: &str) -> String {
        format!("ws://{}{target}", self.addr)
    }

    /// Starts to connect; the session gets `tag`.
    pub fn try_dial(&self, connect: Connect, tag: u64) -> Result<DialId, (DialErrorKind, Session)> {
        self.with(move |_, connections| {
            let session = Session {
                tag,
                ..Session::default()
            };
            connections
                .connect(connect, session)
                .map_err(|error| (error.kind, error.session))
        })
    }

    /// Starts to connect to a URL.
    pub fn dial(&self, url: &str) -> DialId {
        self.try_dial(Connect::to(url).unwrap(), 1).unwrap()
    }

    /// Connects to a URL.
    pub fn open(&self, url: &str) -> ConnId {
        self.dial(url);
        self.expect_dialled()
    }

    /// The connection that a dial becomes.
    pub fn expect_dialled(&self) -> ConnId {
        self.expect("on_open", |event| match event {
            Event::Open(id) => Some(*id),
            Event::ConnectFailed(_, error) => panic!("not connected: {error:?}"),
            _ => None,
        })
    }

    pub fn expect_failed(&self) -> ConnectError {
        self.expect("on_connect_failed", |event| match event {
            Event::ConnectFailed(_, error) => Some(error.clone()),
            Event::Open(_) => panic!("connected"),
            _ => None,
        })
    }

    /// Does something with a connection in the loop's thread.
    pub fn on<T: Send + 'static>(
        &self,
        id: ConnId,
        job: impl FnOnce(&mut Conn<'_, Session>) -> T + Send + 'static,
    ) -> T {
        self.with(move |_, connections| {
            job(&mut connections.get(id).expect("the connection is there"))
        })
    }

    /// An echo server with the default configuration.
    pub fn echo() -> Self {
        Self::start(Config::default(), |_| {})
    }

    /// A server on a port of its own; `setup` puts the hooks in.
    pub fn start(config: Config, setup: impl FnOnce(&mut App) + Send + 'static) -> Self {
        Self::start_on(config, vec![([127, 0, 0, 1], 0).into()], setup)
    }

    /// A server with listeners of the test's choice, the first of which is a TCP one.
    pub fn start_on(
        config: Config,
        addresses: Vec<ListenAddr>,
        setup: impl FnOnce(&mut App) + Send + 'static,
    ) -> Self {
        let (report, events) = channel();
        let (send_start, start) = channel();
        let thread = std::thread::spawn(move || {
            let mut app = App::new(report);
            setup(&mut app);
            let mut event_loop = EventLoop::new(config).unwrap();
            event_loop.set_rng(ChaCha20Rng::from_seed(SEED));
            let mut listeners = Vec::new();
            for address in addresses {
                let id = event_loop.listen(address).unwrap();
                listeners.push((id, event_loop.local_addr(id).unwrap()));
            }
            send_start.send((listeners, event_loop.remote())).unwrap();
            let shutdown = event_loop.run(&mut app).unwrap();
            drop(app);
            Stopped {
                shutdown,
                stats: event_loop.stats(),
            }
        });
        let (listeners, remote) = start.recv_timeout(DEADLINE).unwrap();
        let ListenAddr::Tcp(addr) = listeners[0].1 else {
            panic!("the first listener is a TCP one")
        };
        Self {
            addr,
            listeners,
            events,
            remote,
            thread: Some(thread),
        }
    }

    /// A client whose handshake is done.
    pub fn connect(&self) -> Client {
        Client::connect(self.addr)
    }

    /// Runs `job` in the loop's thread and returns what it returns.
    pub fn with<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut App, &mut Connections<'_, Session>) -> T + Send + 'static,
    ) -> T {
        let (send, receive) = channel();
        let job: Job = Box::new(move |app, connections| {
            let _ = send.send(job(app, connections));
        });
        self.remote.post(job).unwrap();
        receive.recv_timeout(DEADLINE).expect("the loop answers")
    }

    /// Makes the loop stand still until what is returned is dropped, so that what a client sends meanwhile is found all at once.
    pub fn hold(&self) -> Sender<()> {
        self.hold_then(|_, _| ())
    }

    /// As `hold`; before anything else the loop then does `job`.
    pub fn hold_then(
        &self,
        job: impl FnOnce(&mut App, &mut Connections<'_, Session>) + Send + 'static,
    ) -> Sender<()> {
        let (release, held) = channel();
        let (stand, stands) = channel();
        let job: Job = Box::new(move |app, connections| {
            stand.send(()).unwrap();
            let _ = held.recv_timeout(DEADLINE);
            job(app, connections);
        });
        self.remote().post(job).unwrap();
        stands.recv_timeout(DEADLINE).expect("the loop stands");
        release
    }

    /// A way to post jobs of the test's own.
    pub fn remote(&self) -> Remote<Job> {
        self.remote.clone()
    }

    pub fn stats(&self) -> Stats {
        self.with(|_, connections| connections.stats())
    }

    /// The next event for which `wanted` says yes; earlier ones are dropped.
    pub fn expect<T>(&self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => {
                    if let Some(found) = wanted(&event) {
                        return found;
                    }
                }
                Err(_) => panic!("no {what} within {DEADLINE:?}"),
            }
        }
    }

    /// Everything that was reported up to now.
    pub fn events(&self) -> Vec<Event> {
        // A job goes through the loop, so everything before it has been reported.
        self.with(|_, _| ());
        self.events.try_iter().collect()
    }

    /// Waits until `bytes` were read in all.
    pub fn expect_read(&self, bytes: usize) {
        let mut left = bytes;
        self.expect("on_bytes_read", |event| {
            if let Event::BytesRead(_, count) = event {
                left = left.saturating_sub(*count);
            }
            (left == 0).then_some(())
        });
    }

    pub fn expect_open(&self) -> ConnId {
        self.expect("on_open", |event| match event {
            Event::Open(id) => Some(*id),
            _ => None,
        })
    }

    pub fn expect_close(&self) -> Close {
        self.expect("on_close", |event| match event {
            Event::Close(_, close) => Some(close.clone()),
            _ => None,
        })
    }

    pub fn expect_message(&self) -> Vec<u8> {
        self.expect("on_message", |event| match event {
            Event::Message(_, _, payload) => Some(payload.clone()),
            _ => None,
        })
    }

    pub fn expect_note(&self, note: &str) {
        self.expect(note, |event| {
            matches!(event, Event::Note(text) if text == note).then_some(())
        });
    }

    /// Waits until `reached` holds of the statistics, asking the loop again and again.
    pub fn wait_for(&self, what: &str, mut reached: impl FnMut(&Stats) -> bool) -> Stats {
        let end = Instant::now() + DEADLINE;
        loop {
            let stats = self.stats();
            if reached(&stats) {
                return stats;
            }
            assert!(Instant::now() < end, "not reached: {what}; {stats:#?}");
            std::thread::yield_now();
        }
    }

    /// Asks for a shutdown and waits for its end.
    pub fn stop(mut self, deadline: Duration) -> Stopped {
        let stopped = self
            .join(deadline)
            .expect("the loop's thread did not panic");
        assert_nothing_left(&stopped.stats);
        stopped
    }

    fn join(&mut self, deadline: Duration) -> std::thread::Result<Stopped> {
        let job: Job = Box::new(move |_, connections| connections.shutdown(deadline));
        // A loop that has stopped by itself does not take it, and need not.
        let _ = self.remote.post(job);
        self.thread.take().expect("stopped once").join()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let stopped = self.join(Duration::ZERO);
            if !std::thread::panicking() {
                assert_nothing_left(&stopped.expect("the loop's thread did not panic").stats);
            }
        }
    }
}

/// Whatever a test did: in the end every slot and every buffer is back.
fn assert_nothing_left(stats: &Stats) {
    assert_eq!(
        stats.connections.current, 0,
        "connections are left: {stats:#?}"
    );
    assert_eq!(stats.dials.current, 0, "dials are left: {stats:#?}");
    assert_eq!(
        stats.handshakes.current, 0,
        "handshakes are left: {stats:#?}"
    );
    assert_eq!(
        stats.read_buffers.current, 0,
        "read buffers are left: {stats:#?}"
    );
    assert_eq!(
        stats.large_buffers.current, 0,
        "large buffers are left: {stats:#?}"
    );
}

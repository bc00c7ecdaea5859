use std::{
    error::Error,
    time::{Duration, Instant},
};

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use wsloop::{
    Close, Config, Conn, ConnId, Connect, ConnectError, Connections, EventLoop, Handler, Message,
    MessageKind, Progress,
};

use super::{
    DEADLINE, PAYLOAD,
    server::{Server, resident_bytes, with_all_descriptors},
};

/// Attempts to connect at a time, fewer than the server's backlog has room for; and connections on which the first message
/// is sent in one turn, so that not all need a buffer at once.
const AT_A_TIME: usize = 64;

/// The server in a process of its own, all clients in another.
pub fn clients(connections: usize, messages: usize) -> Result<(), Box<dyn Error>> {
    let server = Server::start(Some(with_all_descriptors()))?;
    let status = with_all_descriptors()
        .arg(std::env::current_exe()?)
        .args(["pool", &format!("ws://{}/", server.addr)])
        .args([connections.to_string(), messages.to_string()])
        .status()?;
    server.stop()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the clients: {status}").into())
    }
}

/// The process of the clients: opens them, has each echo so many messages, and closes them.
pub fn pool(url: &str, connections: usize, messages: usize) -> Result<(), Box<dyn Error>> {
    let config = Config::default().max_outbound(connections);
    let mut event_loop = EventLoop::new(config.max_dials(AT_A_TIME))?;
    // A fixed seed: the server is our own, on this machine.
    event_loop.set_rng(ChaCha20Rng::from_seed([9; 32]));
    let mut pool = Pool::new(messages);
    // One connection first, so that what any loop needs is there before the count starts.
    pool.open(&mut event_loop, url, 1)?;
    let before = resident_bytes("self")?;
    pool.open(&mut event_loop, url, connections)?;
    let idle = resident_bytes("self")?;
    let begin = Instant::now();
    pool.echo(&mut event_loop)?;
    let seconds = begin.elapsed().as_secs_f64();
    let used = resident_bytes("self")?;
    event_loop.connections().shutdown(DEADLINE);
    pool.turn_until(&mut event_loop, |pool| pool.closed == connections)?;
    let total = connections * messages;
    println!(
        "{connections} clients in one process, {total} echoes, none missing: {:.0} messages/s",
        total as f64 / seconds
    );
    let each = |after: u64| after.saturating_sub(before) as f64 / (connections - 1).max(1) as f64;
    println!(
        "{:.1} bytes per outbound connection, {:.1} after it has sent",
        each(idle),
        each(used)
    );
    Ok(())
}

struct Session {
    /// Tells the connections apart.
    number: usize,
    /// Messages that have come back.
    echoed: usize,
}

struct Pool {
    messages: usize,
    dialled: usize,
    open: Vec<ConnId>,
    /// Connections with all their messages back.
    finished: usize,
    closed: usize,
    failed: Option<String>,
}

impl Pool {
    fn new(messages: usize) -> Self {
        Self {
            messages,
            dialled: 0,
            open: Vec::new(),
            finished: 0,
            closed: 0,
            failed: None,
        }
    }

    /// Dials until `count` are open.
    fn open(
        &mut self,
        event_loop: &mut EventLoop<Session>,
        url: &str,
        count: usize,
    ) -> Result<(), Box<dyn Error>> {
        let connect = Connect::to(url)?;
        while self.open.len() < count {
            let wanted = count.min(self.open.len() + AT_A_TIME);
            for number in self.dialled..wanted {
                let session = Session { number, echoed: 0 };
                let begun = event_loop.connect(connect.clone(), session);
                begun.map_err(|error| error.to_string())?;
            }
            self.dialled = wanted;
            let before = self.open.len();
            self.turn_until(event_loop, |pool| pool.open.len() > before)?;
        }
        Ok(())
    }

    fn echo(&mut self, event_loop: &mut EventLoop<Session>) -> Result<(), Box<dyn Error>> {
        for ids in self.open.clone().chunks(AT_A_TIME) {
            let mut connections = event_loop.connections();
            for &id in ids {
                send(&mut connections.get(id).ok_or("a connection is gone")?);
            }
            let progress = event_loop.turn(self, Some(Duration::ZERO))?;
            assert_eq!(progress, Progress::Running);
        }
        let all = self.open.len();
        self.turn_until(event_loop, |pool| pool.finished == all)
    }

    fn turn_until(
        &mut self,
        event_loop: &mut EventLoop<Session>,
        reached: impl Fn(&Self) -> bool,
    ) -> Result<(), Box<dyn Error>> {
        let end = Instant::now() + DEADLINE;
        while !reached(self) {
            // A loop that has shut down has closed everything before.
            let _ = event_loop.turn(self, Some(Duration::from_secs(1)))?;
            if let Some(error) = self.failed.take() {
                return Err(error.into());
            }
            if Instant::now() > end {
                let (open, finished) = (self.open.len(), self.finished);
                return Err(format!("{open} connections open, {finished} finished").into());
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: String) {
        let open = self.open.len();
        self.failed
            .get_or_insert_with(|| format!("{error} (of {open} connections)"));
    }
}

/// No two messages are the same.
fn payload(session: &Session) -> [u8; PAYLOAD as usize] {
    let mut payload = [b'x'; PAYLOAD as usize];
    payload[..8].copy_from_slice(&(session.number as u64).to_be_bytes());
    payload[8..16].copy_from_slice(&(session.echoed as u64).to_be_bytes());
    payload
}

fn send(conn: &mut Conn<'_, Session>) {
    let payload = payload(conn.session());
    conn.send_copy(MessageKind::Binary, &payload).expect("room");
}

impl Handler for Pool {
    type Session = Session;

    fn on_open(&mut self, conn: &mut Conn<'_, Session>) {
        self.open.push(conn.id());
    }

    fn on_connect_failed(
        &mut self,
        _: &mut Connections<'_, Session>,
        _: Session,
        error: ConnectError,
    ) {
        self.fail(error.to_string());
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Session>, message: Message<'_>) {
        if message.as_bytes() != payload(conn.session()) {
            return self.fail("another message came back".to_owned());
        }
        conn.session_mut().echoed += 1;
        if conn.session().echoed < self.messages {
            send(conn);
        } else {
            self.finished += 1;
        }
    }

    fn on_close(&mut self, _: &mut Connections<'_, Session>, _: ConnId, _: Session, close: &Close) {
        self.closed += 1;
        if self.finished < self.open.len() || !close.clean {
            self.fail(format!("a connection was lost: {close:?}"));
        }
    }
}

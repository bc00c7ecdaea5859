//! The load: many connections from one thread, without any of the libraries under test.
//!
//! Messages go out in rounds: connections are sent their messages, each in one write, and a round is over when all of their
//! answers are there. So the other side finds the same work whoever it is, and one that is faster is not punished by finding
//! less to do at a time.

use std::{
    error::Error,
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    time::{Duration, Instant},
};

use rustix::event::epoll::EventFlags;

use crate::{frames::Counter, poller::Poller, servers::Deflate, slices::Done, upgrade};

/// How long an answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// What is read at a time, at most.
const SCRATCH_LEN: usize = 512 * 1024;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// What goes over one connection in a round.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// Sent, from the first byte to the last.
    pub(crate) wire: Vec<u8>,
    pub(crate) answer: Answer,
}

/// What ends a round on one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    Bytes(usize),
    /// However long they are.
    Frames(usize),
}

pub(crate) struct Load {
    poller: Poller,
    ready: Vec<(u64, EventFlags)>,
    conns: Vec<Conn>,
    scratch: Vec<u8>,
    /// Connections whose answers are not all there.
    busy: usize,
    /// The connection that the next round begins with.
    next: usize,
}

struct Conn {
    stream: TcpStream,
    /// Bytes of the round's wire that were sent.
    sent: usize,
    /// Bytes or frames of the answer that are still to come.
    missing: usize,
    counter: Counter,
    waits_to_write: bool,
}

impl Load {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            ready: Vec::new(),
            conns: Vec::new(),
            scratch: vec![0; SCRATCH_LEN],
            busy: 0,
            next: 0,
        })
    }

    /// Connections to a server.
    pub(crate) fn connect(
        &mut self,
        server: SocketAddr,
        count: usize,
        deflate: Deflate,
    ) -> Outcome<()> {
        for _ in 0..count {
            self.add(upgrade::ask(TcpStream::connect(server)?, deflate)?)?;
        }
        Ok(())
    }

    /// Connections from a client.
    pub(crate) fn accept(
        &mut self,
        listener: &TcpListener,
        count: usize,
        deflate: Deflate,
    ) -> Outcome<()> {
        for _ in 0..count {
            self.add(upgrade::answer(listener.accept()?.0, deflate)?)?;
        }
        Ok(())
    }

    fn add(&mut self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        self.poller
            .add(&stream, self.conns.len() as u64, EventFlags::IN)?;
        self.conns.push(Conn {
            stream,
            sent: 0,
            missing: 0,
            counter: Counter::default(),
            waits_to_write: false,
        });
        Ok(())
    }

    /// Rounds over the first `active` connections, `at_once` of them in each and then the next ones, until `time` has passed.
    /// Counts how often a connection was sent its messages.
    pub(crate) fn run(
        &mut self,
        active: usize,
        at_once: usize,
        traffic: &Traffic,
        time: Duration,
    ) -> Outcome<Done> {
        let begin = Instant::now();
        let mut done = Done::default();
        while done.within < time {
            let among = self.take_turn(active, at_once);
            done.count += among.len();
            self.round(among, traffic)?;
            done.within = begin.elapsed();
        }
        Ok(done)
    }

    /// Whose turn it is: `at_once` of the first `active` connections, or those that are left.
    fn take_turn(&mut self, active: usize, at_once: usize) -> Range<usize> {
        let from = self.next;
        let to = active.min(from + at_once);
        self.next = if to < active { to } else { 0 };
        from..to
    }

    /// One round over these connections.
    pub(crate) fn round(&mut self, among: Range<usize>, traffic: &Traffic) -> Outcome<()> {
        self.expect(among.clone(), traffic.answer);
        for index in among {
            self.send(index, &traffic.wire)?;
        }
        self.finish(&traffic.wire, traffic.answer)
    }

    /// The first connection is sent `wire`, and all `expected` connections get the answer.
    pub(crate) fn broadcast(
        &mut self,
        wire: &[u8],
        expected: usize,
        answer: Answer,
    ) -> Outcome<()> {
        self.expect(0..expected, answer);
        for conn in &mut self.conns[1..] {
            conn.sent = wire.len();
        }
        self.send(0, wire)?;
        self.finish(wire, answer)
    }

    fn expect(&mut self, among: Range<usize>, answer: Answer) {
        let (Answer::Bytes(missing) | Answer::Frames(missing)) = answer;
        self.busy = among.len();
        for conn in &mut self.conns[among] {
            conn.missing = missing;
            conn.sent = 0;
        }
    }

    fn send(&mut self, index: usize, wire: &[u8]) -> Outcome<()> {
        let conn = &mut self.conns[index];
        while conn.sent < wire.len() {
            match conn.stream.write(&wire[conn.sent..]) {
                Ok(count) => conn.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let waits_to_write = conn.sent < wire.len();
        if conn.waits_to_write != waits_to_write {
            conn.waits_to_write = waits_to_write;
            let flags = if waits_to_write {
                EventFlags::IN | EventFlags::OUT
            } else {
                EventFlags::IN
            };
            self.poller.modify(&conn.stream, index as u64, flags)?;
        }
        Ok(())
    }

    /// Sends what is left of `wire`, and reads until every connection has its answer.
    fn finish(&mut self, wire: &[u8], answer: Answer) -> Outcome<()> {
        let mut ready = std::mem::take(&mut self.ready);
        while self.busy > 0 {
            self.poller.wait(&mut ready, Some(PATIENCE))?;
            if ready.is_empty() {
                return Err(format!("{} connections wait in vain for an answer", self.busy).into());
            }
            for &(name, flags) in &ready {
                let index = usize::try_from(name)?;
                if flags.contains(EventFlags::OUT) {
                    self.send(index, wire)?;
                }
                if flags.contains(EventFlags::IN) {
                    self.receive(index, answer)?;
                }
            }
        }
        self.ready = ready;
        Ok(())
    }

    fn receive(&mut self, index: usize, answer: Answer) -> Outcome<()> {
        let conn = &mut self.conns[index];
        let count = match conn.stream.read(&mut self.scratch) {
            Ok(0) => return Err("the other side ended a connection".into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let count = match answer {
            Answer::Bytes(_) => count,
            Answer::Frames(_) => conn.counter.count(&self.scratch[..count]),
        };
        conn.missing = conn
            .missing
            .checked_sub(count)
            .ok_or("more was answered than was asked")?;
        self.busy -= usize::from(conn.missing == 0 && count > 0);
        Ok(())
    }

    /// Sends `wire` over the first connection alone, and returns the `len` bytes that come back.
    pub(crate) fn sample(&mut self, wire: &[u8], len: usize) -> Outcome<Vec<u8>> {
        let conn = &mut self.conns[0];
        conn.stream.set_nonblocking(false)?;
        conn.stream.set_read_timeout(Some(PATIENCE))?;
        conn.stream.write_all(wire)?;
        let mut answer = vec![0; len];
        conn.stream.read_exact(&mut answer)?;
        conn.stream.set_nonblocking(true)?;
        Ok(answer)
    }
}

/// Connections that may wait to be accepted: all of the largest scenario come at once, and the 128 of the standard library
/// would have the kernel turn most of them away, to try again seconds later or be reset.
const BACKLOG: i32 = 4096;

/// Listens for clients that are told the address.
pub(crate) fn listener() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_has_its_turn() -> io::Result<()> {
        let mut load = Load::new()?;
        let turns = [(); 4].map(|()| load.take_turn(5, 2));
        assert_eq!(turns, [0..2, 2..4, 4..5, 0..2]);
        load.next = 0;
        assert_eq!([(); 2].map(|()| load.take_turn(3, 3)), [0..3, 0..3]);
        Ok(())
    }
}

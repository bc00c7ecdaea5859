//! Messages that are sent by the clock, whether or not the server keeps up: a message that had to wait for its turn has waited
//! since it was due, so a server that stalls cannot hide it.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rustix::event::epoll::EventFlags;

use crate::{
    load::{Answer, Outcome, PATIENCE, Traffic},
    poller::Poller,
    servers::Deflate,
    upgrade,
};

/// A latency is at most this: a second is beyond all hope.
const LONGEST: Duration = Duration::from_secs(1);
const DIGITS: u8 = 3;

pub(crate) struct Load {
    poller: Poller,
    conns: Vec<Conn>,
    scratch: Vec<u8>,
}

struct Conn {
    stream: TcpStream,
    /// When the messages that are under way were due.
    due: VecDeque<Instant>,
    /// Bytes of the answer that is under way.
    received: usize,
}

impl Load {
    pub(crate) fn new(server: SocketAddr, count: usize) -> Outcome<Self> {
        let poller = Poller::new()?;
        let conns: Outcome<Vec<Conn>> = (0..count)
            .map(|index| {
                let stream = upgrade::ask(TcpStream::connect(server)?, Deflate::Off)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                poller.add(&stream, index as u64, EventFlags::IN)?;
                Ok(Conn {
                    stream,
                    due: VecDeque::new(),
                    received: 0,
                })
            })
            .collect();
        Ok(Self {
            poller,
            conns: conns?,
            scratch: vec![0; 64 * 1024],
        })
    }

    /// `pace` messages per second, one connection after the other; the latencies in nanoseconds.
    pub(crate) fn run(
        &mut self,
        traffic: &Traffic,
        pace: f64,
        time: Duration,
    ) -> Outcome<Histogram<u64>> {
        let Answer::Bytes(answer) = traffic.answer else {
            return Err("the answers' length has to be known".into());
        };
        let mut latencies = Histogram::new_with_max(LONGEST.as_nanos() as u64, DIGITS)?;
        let mut ready = Vec::new();
        let total = (pace * time.as_secs_f64()) as usize;
        let begin = Instant::now();
        let (mut sent, mut answered) = (0, 0);
        while answered < total {
            let now = Instant::now();
            if now - begin > time + PATIENCE {
                return Err(
                    format!("{} messages wait in vain for an answer", sent - answered).into(),
                );
            }
            while sent < total {
                let due = begin + Duration::from_secs_f64(sent as f64 / pace);
                if due > now || !self.send(sent, &traffic.wire, due)? {
                    break;
                }
                sent += 1;
            }
            self.poller.wait(&mut ready, Some(Duration::ZERO))?;
            for &(name, _) in &ready {
                answered += self.receive(usize::try_from(name)?, answer, &mut latencies)?;
            }
        }
        Ok(latencies)
    }

    /// False when the kernel takes no message whole: it stays due.
    fn send(&mut self, number: usize, wire: &[u8], due: Instant) -> Outcome<bool> {
        let index = number % self.conns.len();
        let conn = &mut self.conns[index];
        match conn.stream.write(wire) {
            Ok(count) if count == wire.len() => {
                conn.due.push_back(due);
                Ok(true)
            }
            Ok(_) => Err("half a message is on its way".into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns how many answers ended.
    fn receive(
        &mut self,
        index: usize,
        answer: usize,
        latencies: &mut Histogram<u64>,
    ) -> Outcome<usize> {
        let conn = &mut self.conns[index];
        match conn.stream.read(&mut self.scratch) {
            Ok(0) => return Err("the server ended a connection".into()),
            Ok(count) => conn.received += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error.into()),
        }
        let now = Instant::now();
        let count = conn.received / answer;
        conn.received %= answer;
        for _ in 0..count {
            let due = conn
                .due
                .pop_front()
                .ok_or("more was answered than was asked")?;
            latencies.saturating_record((now - due).as_nanos() as u64);
        }
        Ok(count)
    }
}

use std::{
    error::Error,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};

use super::{DEADLINE, PAYLOAD};

const SENT_LEN: usize = 2 + 4 + PAYLOAD as usize;
const ANSWER_LEN: usize = 2 + PAYLOAD as usize;

/// Clients in one thread.
pub struct Load {
    clients: Vec<Client>,
}

pub struct Client {
    pub stream: mio::net::TcpStream,
    /// Messages that are not answered yet, and those that are not sent yet.
    outstanding: usize,
    unsent: usize,
    /// Bytes of the answer under way.
    received: usize,
}

impl Load {
    pub fn connect(addr: SocketAddr, count: usize) -> Result<Self, Box<dyn Error>> {
        let clients: Result<Vec<Client>, Box<dyn Error>> =
            (0..count).map(|_| Client::connect(addr)).collect();
        Ok(Self { clients: clients? })
    }

    /// Resets all connections.
    pub fn reset(self) -> std::io::Result<()> {
        for client in &self.clients {
            // A linger time of zero makes closing a reset.
            socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO))?;
        }
        Ok(())
    }

    /// Keeps `in_flight` messages under way on every connection until each has had `messages` answers.
    pub fn run(&mut self, in_flight: usize, messages: usize) -> Result<(), Box<dyn Error>> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(1024);
        for (at, client) in self.clients.iter_mut().enumerate() {
            poll.registry()
                .register(&mut client.stream, Token(at), Interest::READABLE)?;
            client.unsent = messages;
            client.send(in_flight)?;
        }
        let mut busy = self.clients.len();
        let end = Instant::now() + DEADLINE;
        while busy > 0 {
            poll.poll(&mut events, Some(Duration::from_secs(1)))?;
            for event in &events {
                busy -= usize::from(self.clients[event.token().0].receive(in_flight)?);
            }
            if Instant::now() > end {
                return Err("the server does not answer".into());
            }
        }
        Ok(())
    }
}

impl Client {
    fn connect(addr: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.write_all(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        stream.set_nonblocking(true)?;
        let stream = mio::net::TcpStream::from_std(stream);
        Ok(Self {
            stream,
            outstanding: 0,
            unsent: 0,
            received: 0,
        })
    }

    /// Sends up to `count` messages in one write.
    fn send(&mut self, count: usize) -> Result<(), Box<dyn Error>> {
        let count = count.min(self.unsent);
        let mut wire = Vec::with_capacity(count * SENT_LEN);
        for _ in 0..count {
            wire.extend([0x82, 0x80 | PAYLOAD, 1, 2, 3, 4]);
            wire.extend([b'x'; PAYLOAD as usize]);
        }
        self.stream.write_all(&wire)?;
        self.unsent -= count;
        self.outstanding += count;
        Ok(())
    }

    /// Reads answers; when all that were under way are there, the next messages follow. True when that was the last.
    fn receive(&mut self, in_flight: usize) -> Result<bool, Box<dyn Error>> {
        let was_busy = self.outstanding > 0;
        let mut chunk = [0; 65_536];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("the server has ended a connection".into()),
                Ok(count) => self.received += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.outstanding -= self.received / ANSWER_LEN;
        self.received %= ANSWER_LEN;
        if self.outstanding == 0 && self.unsent > 0 {
            self.send(in_flight)?;
        }
        Ok(was_busy && self.outstanding == 0)
    }
}

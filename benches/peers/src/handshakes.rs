//! Crowds: many clients that arrive while the server is held up, and ask for an upgrade all at once when it goes on.
//!
//! A server that answers one client after the other as they come is bounded by how fast the load opens connections, and the sooner
//! it is done the more often it sleeps and has to be woken, for which the load pays: the slower server would seem to be the faster
//! one. Before a crowd all servers are the same.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::{event::epoll::EventFlags, net::sockopt};

use crate::{
    load::{Outcome, PATIENCE},
    poller::Poller,
    process::Server,
    servers::Deflate,
    slices::Done,
    upgrade,
};

pub(crate) struct Load {
    address: SocketAddr,
    /// Clients in a crowd.
    width: usize,
    poller: Poller,
    /// Those of the last crowd.
    clients: Vec<Client>,
}

struct Client {
    stream: TcpStream,
    /// Bytes of the head so far: its end is looked for over reads.
    head: Vec<u8>,
}

impl Load {
    pub(crate) fn new(address: SocketAddr, width: usize) -> Outcome<Self> {
        Ok(Self {
            address,
            width,
            poller: Poller::new()?,
            clients: Vec::new(),
        })
    }

    /// One crowd after the other. What counts is the time from when the server could go on to the last answer.
    pub(crate) fn run(&mut self, server: &Server, time: Duration) -> Outcome<Done> {
        let begin = Instant::now();
        let mut done = Done::default();
        while begin.elapsed() < time {
            done.within += self.crowd(server)?;
            done.count += self.width;
        }
        Ok(done)
    }

    /// The last crowd goes, and another one is there when the server looks next. Returns how long it takes until all of it is
    /// answered.
    fn crowd(&mut self, server: &Server) -> Outcome<Duration> {
        server.hold()?;
        self.clients.clear();
        for index in 0..self.width {
            let client = Client::ask(self.address)?;
            self.poller
                .add(&client.stream, index as u64, EventFlags::IN)?;
            self.clients.push(client);
        }
        let begin = Instant::now();
        server.release()?;
        let mut ready = Vec::new();
        let mut answered = 0;
        while answered < self.width {
            // Without sleep: a server would have to wake the load up, again and again if it is fast.
            self.poller.wait(&mut ready, Some(Duration::ZERO))?;
            for &(index, _) in &ready {
                answered += usize::from(self.clients[usize::try_from(index)?].is_answered()?);
            }
            if begin.elapsed() > PATIENCE {
                return Err("a handshake does not end".into());
            }
        }
        Ok(begin.elapsed())
    }
}

impl Client {
    /// The kernel takes connection and request, whether or not the server runs.
    fn ask(address: SocketAddr) -> Outcome<Self> {
        let mut stream = TcpStream::connect(address)?;
        // Reset when it is closed: the ports of connections that ended in good order would run out.
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        stream.write_all(upgrade::request(Deflate::Off).as_bytes())?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            head: Vec::new(),
        })
    }

    /// True when the answer has come to its end by this.
    fn is_answered(&mut self) -> Outcome<bool> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Err("the server ended a connection".into()),
            Ok(count) => self.head.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if !self.head.ends_with(b"\r\n\r\n") {
            return Ok(false);
        }
        if !self.head.starts_with(b"HTTP/1.1 101") {
            return Err("an upgrade was refused".into());
        }
        Ok(true)
    }
}

//! Connections that are opened, upgraded and reset, many at a time.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::{
    event::epoll::EventFlags,
    net::{AddressFamily, SocketFlags, SocketType, sockopt},
};

use crate::{
    load::{Outcome, PATIENCE},
    poller::Poller,
    servers::Deflate,
    upgrade,
};

pub(crate) struct Load {
    server: SocketAddr,
    poller: Poller,
    ready: Vec<(u64, EventFlags)>,
    attempts: Vec<Attempt>,
    request: String,
}

struct Attempt {
    stream: TcpStream,
    /// Bytes of the head so far: its end is looked for over reads.
    head: Vec<u8>,
}

impl Load {
    /// `width`: attempts at a time.
    pub(crate) fn new(server: SocketAddr, width: usize) -> Outcome<Self> {
        let mut load = Self {
            server,
            poller: Poller::new()?,
            ready: Vec::new(),
            attempts: Vec::new(),
            request: upgrade::request(Deflate::Off),
        };
        for index in 0..width {
            let attempt = load.begin(index)?;
            load.attempts.push(attempt);
        }
        Ok(load)
    }

    /// Returns how many handshakes ended.
    pub(crate) fn run(&mut self, time: Duration) -> Outcome<usize> {
        let end = Instant::now() + time;
        let mut done = 0;
        let mut ready = std::mem::take(&mut self.ready);
        while Instant::now() < end {
            self.poller.wait(&mut ready, Some(PATIENCE))?;
            if ready.is_empty() {
                return Err("no handshake ends".into());
            }
            for &(name, flags) in &ready {
                done += usize::from(self.handle(usize::try_from(name)?, flags)?);
            }
        }
        self.ready = ready;
        Ok(done)
    }

    fn begin(&self, index: usize) -> Outcome<Attempt> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        // Reset when it is closed: the ports of connections that ended in good order would run out.
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        match rustix::net::connect(&socket, &self.server) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        self.poller.add(&socket, index as u64, EventFlags::OUT)?;
        Ok(Attempt {
            stream: socket.into(),
            head: Vec::new(),
        })
    }

    /// True when that was the end of a handshake: the next one has begun.
    fn handle(&mut self, index: usize, flags: EventFlags) -> Outcome<bool> {
        let attempt = &mut self.attempts[index];
        if flags.contains(EventFlags::OUT) {
            attempt.stream.write_all(self.request.as_bytes())?;
            self.poller
                .modify(&attempt.stream, index as u64, EventFlags::IN)?;
            return Ok(false);
        }
        let mut chunk = [0; 4096];
        match attempt.stream.read(&mut chunk) {
            Ok(0) => return Err("the server ended a connection".into()),
            Ok(count) => attempt.head.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if !attempt.head.ends_with(b"\r\n\r\n") {
            return Ok(false);
        }
        if !attempt.head.starts_with(b"HTTP/1.1 101") {
            return Err("an upgrade was refused".into());
        }
        self.attempts[index] = self.begin(index)?;
        Ok(true)
    }
}

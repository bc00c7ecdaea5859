//! The least that is possible: epoll, one read and one write per message, and nothing around it. No handshake to speak of, no
//! checks, no limits, no timeouts, one key for all frames: not something to use.

use std::{
    error::Error,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    ops::Range,
    time::Duration,
};

use rustix::event::epoll::EventFlags;
use wsloop::protocol::apply_mask;

use super::{ANNOUNCEMENT, Deflate, Options, Peer, Role, Service, listen};
use crate::{
    frames::{KEY, MASK_LEN, client_header, client_header_len, server_frame, server_header},
    poller::Poller,
    upgrade,
};

/// What is read at a time where frames are not larger: sixteen of 16 KiB, headers included.
const SCRATCH_LEN: usize = 260 * 1024;
/// Processors tell addresses apart by their lowest twelve bits first. In the middle between two that look alike is where copying
/// from and to the start of one of the kernel's pages is not slow.
const ALIAS: usize = 4096;
/// Room for the keys of as many frames as can be read at a time.
const ROOM_TO_MASK: usize = 64 * 1024;
/// Epoll's name of the listener.
const LISTENER: u64 = u64::MAX;
/// Sent for whatever comes first on a connection.
const ANSWER: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

struct Conn {
    stream: TcpStream,
    open: bool,
    /// A frame that does not come at once.
    partial: Option<Room>,
    /// Bytes of it that are there.
    filled: usize,
    /// What the kernel did not take.
    unwritten: Vec<u8>,
    /// Epoll is to say when the kernel takes more, and not when something comes.
    waits_to_write: bool,
}

struct Server {
    poller: Poller,
    conns: Vec<Option<Conn>>,
    vacant: Vec<usize>,
    scratch: Room,
    /// What frames that did not come at once were in, for the next ones: the last first, which is still in the cache.
    spare: Vec<Room>,
    framing: Option<Framing>,
    /// The sixteen announcements that are sent at most.
    announcements: Option<Vec<u8>>,
}

/// Room that begins where it is copied to and from soonest.
struct Room {
    bytes: Vec<u8>,
    start: usize,
}

/// Frames of one size.
struct Framing {
    /// Bytes of the header of a frame that comes.
    incoming: usize,
    /// The header of one that goes.
    outgoing: Vec<u8>,
    payload: usize,
    /// The key that is masked with; that of the frame itself where it is unmasked.
    key: Option<[u8; MASK_LEN]>,
}

pub(super) fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(options)?;
    let listener = match options.dial {
        Some(address) => {
            for _ in 0..options.connections {
                let stream = upgrade::ask(TcpStream::connect(address)?, Deflate::Off)?;
                server.add(stream, true)?;
            }
            None
        }
        None => {
            let listener = listen()?;
            listener.set_nonblocking(true)?;
            server.poller.add(&listener, LISTENER, EventFlags::IN)?;
            Some(listener)
        }
    };
    let mut ready = Vec::new();
    let timeout = options.busy_poll.then_some(Duration::ZERO);
    loop {
        server.poller.wait(&mut ready, timeout)?;
        for &(name, flags) in &ready {
            match &listener {
                Some(listener) if name == LISTENER => server.accept(listener)?,
                _ => server.handle(usize::try_from(name)?, flags),
            }
        }
    }
}

impl Server {
    fn new(options: &Options) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            poller: Poller::new()?,
            conns: Vec::new(),
            vacant: Vec::new(),
            scratch: Room::new(SCRATCH_LEN + ROOM_TO_MASK),
            spare: Vec::new(),
            framing: (options.peer == Peer::RawFrames)
                .then(|| Framing::new(options.role, options.size)),
            announcements: (options.service == Service::Broadcast)
                .then(|| server_frame(&ANNOUNCEMENT, false).repeat(usize::from(u8::MAX))),
        })
    }

    fn accept(&mut self, listener: &TcpListener) -> Result<(), Box<dyn Error>> {
        while let Ok((stream, _)) = listener.accept() {
            self.add(stream, false)?;
        }
        Ok(())
    }

    fn add(&mut self, stream: TcpStream, open: bool) -> Result<(), Box<dyn Error>> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let index = self.vacant.pop().unwrap_or(self.conns.len());
        self.poller.add(&stream, index as u64, EventFlags::IN)?;
        let conn = Conn {
            stream,
            open,
            partial: None,
            filled: 0,
            unwritten: Vec::new(),
            waits_to_write: false,
        };
        if index == self.conns.len() {
            self.conns.push(Some(conn));
        } else {
            self.conns[index] = Some(conn);
        }
        Ok(())
    }

    fn handle(&mut self, index: usize, flags: EventFlags) {
        let Self {
            poller,
            conns,
            scratch,
            spare,
            framing,
            announcements,
            ..
        } = self;
        let Some(conn) = &mut conns[index] else {
            return;
        };
        let scratch = scratch.bytes();
        let alive = if flags.contains(EventFlags::OUT) {
            let unwritten = std::mem::take(&mut conn.unwritten);
            conn.write(&unwritten, index, poller)
        } else {
            match (framing, announcements) {
                _ if !conn.open => conn.shake_hands(scratch, index, poller),
                (_, Some(announcements)) => match conn.asked(scratch) {
                    Some(count) => {
                        let bytes = &announcements[..count * (2 + ANNOUNCEMENT.len())];
                        for (index, conn) in conns.iter_mut().enumerate() {
                            if let Some(conn) = conn {
                                conn.write(bytes, index, poller);
                            }
                        }
                        return;
                    }
                    None => false,
                },
                (None, _) => conn.echo_bytes(scratch, index, poller),
                (Some(framing), _) => conn.echo_frames(framing, scratch, spare, index, poller),
            }
        };
        if !alive {
            self.conns[index] = None;
            self.vacant.push(index);
        }
    }
}

impl Conn {
    fn shake_hands(&mut self, scratch: &mut [u8], index: usize, poller: &Poller) -> bool {
        self.open = true;
        matches!(self.stream.read(scratch), Ok(1..)) && self.write(ANSWER, index, poller)
    }

    /// How many announcements the peer asks for.
    fn asked(&mut self, scratch: &mut [u8]) -> Option<usize> {
        let count = self.stream.read(scratch).ok()?;
        let header = client_header_len(1);
        let key = scratch[header - MASK_LEN];
        (count > header).then(|| usize::from(scratch[header] ^ key))
    }

    fn echo_bytes(&mut self, scratch: &mut [u8], index: usize, poller: &Poller) -> bool {
        match self.stream.read(scratch) {
            Ok(0) => false,
            Ok(count) => self.write(&scratch[..count], index, poller),
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    /// Masks or unmasks what came, puts the answers' headers before it, in place, and writes it all at once. A frame that is
    /// larger than the scratch buffer is read into a buffer of its own.
    fn echo_frames(
        &mut self,
        framing: &Framing,
        scratch: &mut [u8],
        spare: &mut Vec<Room>,
        index: usize,
        poller: &Poller,
    ) -> bool {
        if self.filled > 0 || framing.incoming_len() > SCRATCH_LEN {
            return self.go_on(framing, spare, index, poller);
        }
        let room = framing.headroom();
        let count = match self.stream.read(&mut scratch[room..SCRATCH_LEN]) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let whole = count / framing.incoming_len();
        let end = room + whole * framing.incoming_len();
        let rest = &scratch[end..room + count];
        if !rest.is_empty() {
            let partial = self.partial.insert(framing.room(spare)).bytes();
            partial[room..room + rest.len()].copy_from_slice(rest);
            self.filled = rest.len();
            framing.mask(&mut partial[room..], 0..self.filled);
        }
        whole == 0 || self.write(framing.answer(scratch, whole), index, poller)
    }

    /// Reads on in a frame, and masks or unmasks what came.
    fn go_on(
        &mut self,
        framing: &Framing,
        spare: &mut Vec<Room>,
        index: usize,
        poller: &Poller,
    ) -> bool {
        let partial = self.partial.get_or_insert_with(|| framing.room(spare));
        let frame = &mut partial.bytes()[framing.headroom()..];
        let before = self.filled;
        match self.stream.read(&mut frame[before..]) {
            Ok(0) => return false,
            Ok(count) => self.filled += count,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
        framing.mask(frame, before..self.filled);
        if self.filled < framing.incoming_len() {
            return true;
        }
        let Some(mut partial) = self.partial.take() else {
            return false;
        };
        self.filled = 0;
        let answer = &mut partial.bytes()[framing.start()..];
        answer[..framing.outgoing.len()].copy_from_slice(&framing.outgoing);
        let alive = self.write(answer, index, poller);
        spare.push(partial);
        alive
    }

    fn write(&mut self, mut bytes: &[u8], index: usize, poller: &Poller) -> bool {
        if !self.unwritten.is_empty() {
            self.unwritten.extend_from_slice(bytes);
            return true;
        }
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        self.unwritten.extend_from_slice(bytes);
        let flags = match self.unwritten.is_empty() {
            true => EventFlags::IN,
            false => EventFlags::OUT,
        };
        if self.waits_to_write == self.unwritten.is_empty() {
            self.waits_to_write = !self.unwritten.is_empty();
            return poller.modify(&self.stream, index as u64, flags).is_ok();
        }
        true
    }
}

impl Room {
    fn new(len: usize) -> Self {
        let bytes = vec![0; ALIAS + len];
        let start = (ALIAS / 2).wrapping_sub(bytes.as_ptr().addr()) % ALIAS;
        let mut room = Self { bytes, start };
        room.bytes.truncate(start + len);
        room
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

impl Framing {
    fn new(role: Role, payload: usize) -> Self {
        match role {
            Role::Server => Self {
                incoming: client_header_len(payload),
                outgoing: server_header(payload),
                payload,
                key: None,
            },
            Role::Client => Self {
                incoming: server_header(payload).len(),
                outgoing: client_header(payload),
                payload,
                key: Some(KEY),
            },
        }
    }

    fn incoming_len(&self) -> usize {
        self.incoming + self.payload
    }

    /// Where a frame is read to, so that its answer's longer header has room before it.
    fn headroom(&self) -> usize {
        self.outgoing.len().saturating_sub(self.incoming)
    }

    /// What a frame that does not come at once is put in.
    fn room(&self, spare: &mut Vec<Room>) -> Room {
        let recent = spare.pop();
        recent.unwrap_or_else(|| Room::new(self.headroom() + self.incoming_len()))
    }

    /// Where the first answer begins.
    fn start(&self) -> usize {
        self.headroom() + self.incoming - self.outgoing.len()
    }

    /// The answers to the `whole` frames in `scratch`, one behind the other.
    fn answer<'a>(&self, scratch: &'a mut [u8], whole: usize) -> &'a [u8] {
        let len = self.outgoing.len() + self.payload;
        let mut one = |number: usize| {
            let from = self.headroom() + number * self.incoming_len();
            self.mask(
                &mut scratch[from..from + self.incoming_len()],
                0..self.incoming_len(),
            );
            let to = self.start() + number * len;
            let (header, payload) = (from + self.incoming, to + self.outgoing.len());
            if header != payload {
                scratch.copy_within(header..header + self.payload, payload);
            }
            scratch[to..payload].copy_from_slice(&self.outgoing);
        };
        // Each is moved before its place is taken: what gets longer from the last on, what gets shorter from the first.
        if self.outgoing.len() > self.incoming {
            (0..whole).rev().for_each(one);
        } else {
            (0..whole).for_each(&mut one);
        }
        &scratch[self.start()..self.start() + whole * len]
    }

    /// Masks or unmasks what of the payload lies in `range` of a frame.
    fn mask(&self, frame: &mut [u8], range: Range<usize>) {
        if range.end <= self.incoming {
            return;
        }
        let (header, payload) = frame.split_at_mut(self.incoming);
        let from = range.start.saturating_sub(self.incoming);
        let mut key = self.key.unwrap_or_default();
        if self.key.is_none() {
            key.copy_from_slice(&header[header.len() - MASK_LEN..]);
        }
        apply_mask(key, from, &mut payload[from..range.end - self.incoming]);
    }
}

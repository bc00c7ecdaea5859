use std::{
    collections::HashSet,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, TcpListener, TcpStream},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};
use socket2::SockRef;

use super::{DEADLINE, Frame, frame, wire::close_payload};

/// A listener without a library behind it: it answers what the test says.
pub struct RawServer {
    listener: TcpListener,
}

/// A connection of a client of the library's, as its server sees it.
pub struct Peer {
    pub stream: TcpStream,
    /// The request, up to the empty line.
    pub request: String,
    received: Vec<u8>,
    keys: HashSet<[u8; 4]>,
}

/// A frame as it came over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedFrame {
    pub frame: Frame,
    pub key: [u8; 4],
}

impl RawServer {
    pub fn bind() -> Self {
        Self::bind_to([127, 0, 0, 1])
    }

    pub fn bind_to(address: impl Into<IpAddr>) -> Self {
        let listener = TcpListener::bind((address.into(), 0)).unwrap();
        // Of a listener it is how long it waits for a connection.
        SockRef::from(&listener)
            .set_read_timeout(Some(DEADLINE))
            .unwrap();
        Self { listener }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    pub fn url(&self) -> String {
        format!("ws://{}/", self.listener.local_addr().unwrap())
    }

    /// The next connection, of which nothing is read.
    pub fn accept_silent(&self) -> Peer {
        let (stream, _) = self.listener.accept().expect("a client connects");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Peer {
            stream,
            request: String::new(),
            received: Vec::new(),
            keys: HashSet::new(),
        }
    }

    /// The next connection, with its request.
    pub fn accept(&self) -> Peer {
        let mut peer = self.accept_silent();
        peer.read_request();
        peer
    }

    /// The next connection, opened.
    pub fn open(&self) -> Peer {
        self.open_with(b"")
    }

    /// The next connection, opened, with bytes in the same segment as the 101.
    pub fn open_with(&self, behind: &[u8]) -> Peer {
        let mut peer = self.accept();
        let answer = [peer.switching("").as_bytes(), behind].concat();
        peer.write(&answer);
        peer
    }
}

impl Peer {
    pub fn read_request(&mut self) {
        let end = loop {
            let end = self.received.windows(4).position(|at| at == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            assert!(self.fill() > 0, "the client ended before its request");
        };
        let head = self.received.drain(..end).collect();
        self.request = String::from_utf8(head).unwrap();
    }

    /// The values of a field of the request, by its name.
    pub fn fields(&self, name: &str) -> Vec<&str> {
        self.request
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(field, _)| *field == name)
            .map(|(_, value)| value)
            .collect()
    }

    /// What the request asks `Sec-WebSocket-Accept` to be.
    pub fn accept_value(&self) -> String {
        let key = self.fields("Sec-WebSocket-Key")[0];
        STANDARD.encode(Sha1::digest(format!(
            "{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        )))
    }

    /// A good 101 with further header lines (each with its line end).
    pub fn switching(&self, more: &str) -> String {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n{more}\r\n",
            self.accept_value()
        )
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn send(&mut self, frame: &Frame) {
        self.write(&super::frame(
            u8::from(frame.fin) << 7 | frame.rsv | frame.opcode,
            &frame.payload,
        ));
    }

    pub fn send_text(&mut self, text: &str) {
        self.write(&frame(0x81, text.as_bytes()));
    }

    pub fn send_close(&mut self, code: u16, reason: &str) {
        self.write(&frame(0x88, &close_payload(code, reason)));
    }

    /// The next frame, unmasked. Asserts that it was masked, with a key that was not used before on this connection.
    pub fn read_frame(&mut self) -> Frame {
        self.read_masked().frame
    }

    /// The next frame, unmasked, and its key.
    pub fn read_masked(&mut self) -> MaskedFrame {
        let head = self.take(2);
        assert_eq!(head[1] & 0x80, 0x80, "a client masks");
        let len = match head[1] & 0x7F {
            126 => u64::from(u16::from_be_bytes(self.take(2).try_into().unwrap())),
            127 => u64::from_be_bytes(self.take(8).try_into().unwrap()),
            len => u64::from(len),
        };
        let key: [u8; 4] = self.take(4).try_into().unwrap();
        assert!(self.keys.insert(key), "the key {key:?} came before");
        let masked = self.take(len as usize);
        let payload = masked
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key)
            .collect();
        MaskedFrame {
            frame: Frame {
                fin: head[0] & 0x80 != 0,
                rsv: head[0] & 0x70,
                opcode: head[0] & 0x0F,
                payload,
            },
            key,
        }
    }

    /// Asserts that the client closes with `code`, sends nothing else before, and ends the connection.
    pub fn expect_close(&mut self, code: u16) -> Frame {
        let frame = self.read_frame();
        assert_eq!(frame.close_code(), Some(code), "{frame:?}");
        self.expect_end();
        frame
    }

    /// Ends our side, and asserts that the client ends its own, with nothing more to read.
    pub fn expect_end(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        assert_eq!(self.read_to_end(), b"", "the client sent more");
    }

    /// Asserts that nothing is here to be read, not even the end.
    pub fn expect_nothing_yet(&mut self) {
        self.stream.set_nonblocking(true).unwrap();
        let result = self.stream.read(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        let error = result.expect_err("the client has ended or sent more");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(self.received.is_empty(), "the client sent more");
    }

    /// Everything up to the end of the stream. A reset counts as an end.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.received)
    }

    /// The next bytes, as they are.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            assert!(self.fill() > 0, "the client ended too early");
        }
        self.received.drain(..count).collect()
    }

    fn fill(&mut self) -> usize {
        let mut chunk = vec![0; 65_536];
        match self.stream.read(&mut chunk) {
            Ok(count) => {
                self.received.extend_from_slice(&chunk[..count]);
                count
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("the client sends in time: {error}"),
        }
    }
}

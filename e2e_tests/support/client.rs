use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
};

use super::{
    DEADLINE, Frame, masked_frame,
    wire::{close_payload, upgrade_request},
};

/// A raw client over a blocking socket: it sends whatever the test wants, and checks what the server sends.
pub struct Client<S = TcpStream> {
    pub stream: S,
    /// Received and not looked at.
    received: Vec<u8>,
}

/// A blocking stream whose writing side can be ended.
pub trait Socket: Read + Write {
    fn end_writing(&self) -> std::io::Result<()>;
}

impl Socket for TcpStream {
    fn end_writing(&self) -> std::io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Socket for UnixStream {
    fn end_writing(&self) -> std::io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl HttpAnswer {
    /// The value of a header field, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Client {
    /// A socket without a handshake.
    pub fn raw(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, DEADLINE).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self::over(stream)
    }

    pub fn connect(addr: SocketAddr) -> Self {
        Self::connect_with(addr, "/", "").0
    }

    /// Does the handshake with further header lines.
    pub fn connect_with(addr: SocketAddr, path: &str, more: &str) -> (Self, HttpAnswer) {
        let mut client = Self::raw(addr);
        let answer = client.upgrade(path, more);
        (client, answer)
    }
}

impl<S: Socket> Client<S> {
    /// A client over a connected socket, without a handshake.
    pub fn over(stream: S) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Does the handshake with further header lines.
    pub fn upgrade(&mut self, path: &str, more: &str) -> HttpAnswer {
        self.write(upgrade_request(path, more).as_bytes());
        self.expect_upgrade()
    }

    /// Reads the 101.
    pub fn expect_upgrade(&mut self) -> HttpAnswer {
        let answer = self.read_head();
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(
            answer.header("sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        answer
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn send_text(&mut self, text: &str) {
        self.write(&masked_frame(0x81, text.as_bytes()));
    }

    pub fn send_binary(&mut self, payload: &[u8]) {
        self.write(&masked_frame(0x82, payload));
    }

    pub fn send_ping(&mut self, payload: &[u8]) {
        self.write(&masked_frame(0x89, payload));
    }

    pub fn send_close(&mut self, code: u16, reason: &str) {
        self.write(&masked_frame(0x88, &close_payload(code, reason)));
    }

    /// The next frame.
    pub fn read_frame(&mut self) -> Frame {
        let head = self.take(2);
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let len = match head[1] {
            126 => u64::from(u16::from_be_bytes(self.take(2).try_into().unwrap())),
            127 => u64::from_be_bytes(self.take(8).try_into().unwrap()),
            len => u64::from(len),
        };
        let payload = self.take(len as usize);
        Frame {
            fin: head[0] & 0x80 != 0,
            rsv: head[0] & 0x70,
            opcode: head[0] & 0x0F,
            payload,
        }
    }

    /// The frames of the next message, which may be in fragments: its opcode and its payload.
    pub fn read_message(&mut self) -> (u8, Vec<u8>) {
        let first = self.read_frame();
        let (opcode, mut payload, mut fin) = (first.opcode, first.payload, first.fin);
        while !fin {
            let frame = self.read_frame();
            assert_eq!(frame.opcode, 0, "{frame:?}");
            payload.extend(frame.payload);
            fin = frame.fin;
        }
        (opcode, payload)
    }

    /// The next frames.
    pub fn read_frames(&mut self, count: usize) -> Vec<Frame> {
        (0..count).map(|_| self.read_frame()).collect()
    }

    /// Asserts that the server closes with `code`, answers nothing else before, and ends the connection.
    pub fn expect_close(&mut self, code: u16) -> Frame {
        let frame = self.read_frame();
        assert_eq!(frame.close_code(), Some(code), "{frame:?}");
        self.expect_end();
        frame
    }

    /// Asserts that the server has ended its side, with nothing more to read. Ours is ended too.
    pub fn expect_end(&mut self) {
        // A connection that the server has cut already is as ended as can be.
        let _ = self.stream.end_writing();
        assert_eq!(
            self.read_to_end(),
            b"",
            "the server sent more before it ended"
        );
    }

    /// Everything up to the end of the stream. A reset counts as an end.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.received);
        let mut chunk = [0; 65_536];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return bytes,
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return bytes,
                Err(error) => panic!("the server did not end the connection: {error}"),
            }
        }
    }

    /// A head of an HTTP answer; what follows stays.
    pub fn read_head(&mut self) -> HttpAnswer {
        while !self.received.windows(4).any(|window| window == b"\r\n\r\n") {
            assert!(self.fill() > 0, "the server ended before its answer");
        }
        let end = self
            .received
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap()
            + 4;
        let head = String::from_utf8(self.received.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        HttpAnswer {
            status,
            head,
            body: String::new(),
        }
    }

    /// An HTTP answer with its body, behind which the server ends the connection.
    pub fn read_answer(&mut self) -> HttpAnswer {
        let answer = self.read_head();
        let body = String::from_utf8(self.read_to_end()).unwrap();
        HttpAnswer { body, ..answer }
    }

    /// Exactly `count` bytes.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            assert!(
                self.fill() > 0,
                "the server ended the connection inside a frame"
            );
        }
        self.received.drain(..count).collect()
    }

    fn fill(&mut self) -> usize {
        let mut chunk = vec![0; 65_536];
        let count = self
            .stream
            .read(&mut chunk)
            .expect("the server answers in time");
        self.received.extend_from_slice(&chunk[..count]);
        count
    }
}

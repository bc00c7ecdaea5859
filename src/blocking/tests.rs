use std::{collections::VecDeque, os::unix::net::UnixStream, thread};

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::*;
use crate::protocol::{ConnectionState, Limits};

fn client<S: Read + Write>(stream: S) -> WebSocket<S> {
    let rng = ChaCha8Rng::seed_from_u64(1);
    WebSocket::new(stream, Codec::client(Limits::default(), rng))
}

fn server<S: Read + Write>(stream: S) -> WebSocket<S> {
    WebSocket::new(stream, Codec::server(Limits::default()))
}

fn pair() -> (WebSocket<UnixStream>, WebSocket<UnixStream>) {
    let (here, there) = UnixStream::pair().unwrap();
    (client(here), server(there))
}

/// A stream that follows a script: pieces to be read, with a `WouldBlock` before each, and as many bytes per write.
struct Scripted {
    input: VecDeque<Vec<u8>>,
    ready: bool,
    written: Vec<u8>,
}

impl Read for Scripted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.ready = !self.ready;
        if self.ready {
            return Err(ErrorKind::WouldBlock.into());
        }
        let piece = self.input.pop_front().unwrap_or_default();
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.ready = !self.ready;
        if self.ready {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = bytes.len().min(3);
        self.written.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Repeats what would block.
fn insist<T>(mut call: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    loop {
        match call() {
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

#[test]
fn messages_go_both_ways() {
    let (mut client, mut server) = pair();
    let mut buffer = vec![0; 1 << 20];
    let echo = thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while let Received::Message(kind, len) = server.read_message(&mut buffer).unwrap() {
            server.write_message(kind, &buffer[..len]).unwrap();
        }
        server
    });
    for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let payload = vec![b'x'; len];
        client.write_message(MessageKind::Binary, &payload).unwrap();
        let received = client.read_message(&mut buffer).unwrap();
        assert_eq!(received, Received::Message(MessageKind::Binary, len));
        assert!(buffer[..len] == payload);
    }
    client
        .write_message_vectored(MessageKind::Text, &[b"a", b"", b"b"])
        .unwrap();
    let received = client.read_message(&mut buffer).unwrap();
    assert_eq!(received, Received::Message(MessageKind::Text, 2));
    client.close(CloseCode::NORMAL, "done").unwrap();
    let closed = Received::Closed {
        code: Some(CloseCode::NORMAL),
        reason: "done".to_owned(),
    };
    assert_eq!(client.read_message(&mut buffer).unwrap(), closed);
    let server = echo.join().unwrap();
    for state in [client.codec().state(), server.codec().state()] {
        assert_eq!(state, ConnectionState::Closed);
    }
    let refused = client.write_message(MessageKind::Text, b"late");
    assert!(matches!(refused, Err(Error::Encode(EncodeError::NotOpen))));
}

#[test]
fn pings_are_answered_and_pongs_skipped() {
    let (mut client, mut server) = pair();
    client.ping(b"there?").unwrap();
    client.write_message(MessageKind::Text, b"hello").unwrap();
    let mut buffer = [0; 10];
    let hello = Received::Message(MessageKind::Text, 5);
    assert_eq!(server.read_message(&mut buffer).unwrap(), hello);
    server.write_message(MessageKind::Text, b"world").unwrap();
    // The pong came before.
    assert_eq!(client.read_message(&mut buffer).unwrap(), hello);
    assert_eq!(buffer[..5], *b"world");
}

#[test]
fn a_ping_alone_is_answered_before_more_is_awaited() {
    let (mut client, mut server) = pair();
    client.ping(b"there?").unwrap();
    server.stream_mut().set_nonblocking(true).unwrap();
    assert!(matches!(server.read_message(&mut []), Err(Error::Io(_))));
    let mut pong = [0; 8];
    client.stream_mut().read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"\x8a\x06there?");
}

#[test]
fn unflushed_messages_wait_for_the_flush() {
    let (mut client, mut server) = pair();
    for _ in 0..3 {
        client
            .write_message_unflushed(MessageKind::Text, b"x")
            .unwrap();
    }
    server.stream_mut().set_nonblocking(true).unwrap();
    let mut buffer = [0; 10];
    let Err(Error::Io(error)) = server.read_message(&mut buffer) else {
        panic!("nothing was flushed");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    client.flush().unwrap();
    for _ in 0..3 {
        let received = server.read_message(&mut buffer).unwrap();
        assert_eq!(received, Received::Message(MessageKind::Text, 1));
    }
}

#[test]
fn a_message_that_does_not_fit_is_an_error_and_the_next_one_comes() {
    let (mut client, mut server) = pair();
    client
        .write_message(MessageKind::Text, b"too long")
        .unwrap();
    client.write_message(MessageKind::Text, b"fits").unwrap();
    let mut buffer = [0; 4];
    assert!(matches!(
        server.read_message(&mut buffer),
        Err(Error::TooBig(8))
    ));
    let received = server.read_message(&mut buffer).unwrap();
    assert_eq!(received, Received::Message(MessageKind::Text, 4));
}

#[test]
fn bytes_that_were_read_before_count() {
    let (here, mut there) = UnixStream::pair().unwrap();
    let codec = Codec::client(Limits::default(), ChaCha8Rng::seed_from_u64(1));
    let mut client = WebSocket::with_bytes(here, codec, b"\x81\x02hi\x82\x05be");
    let mut buffer = [0; 10];
    let received = client.read_message(&mut buffer).unwrap();
    assert_eq!(received, Received::Message(MessageKind::Text, 2));
    there.write_all(b"hin").unwrap();
    let received = client.read_message(&mut buffer).unwrap();
    assert_eq!(received, Received::Message(MessageKind::Binary, 5));
    assert_eq!(buffer[..5], *b"behin");
}

#[test]
fn a_broken_protocol_is_answered_with_its_code() {
    let (here, mut there) = UnixStream::pair().unwrap();
    let mut server = server(here);
    there.write_all(b"\x81\x01x").unwrap();
    let error = server.read_message(&mut []).unwrap_err();
    assert!(matches!(
        error,
        Error::Protocol(ProtocolError::UnmaskedFrame)
    ));
    let mut answer = [0; 4];
    there.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"\x88\x02\x03\xea");
}

#[test]
fn an_end_without_a_close_frame_is_told() {
    let (here, there) = UnixStream::pair().unwrap();
    drop(there);
    let Err(Error::Io(error)) = server(here).read_message(&mut []) else {
        panic!("the peer is gone");
    };
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn what_would_block_can_be_repeated() {
    let frames = b"\x81\x85\0\0\0\0hello\x89\x81\0\0\0\0p\x82\x81\0\0\0\0x";
    let stream = Scripted {
        input: frames.chunks(2).map(<[u8]>::to_vec).collect(),
        ready: false,
        written: Vec::new(),
    };
    let mut server = server(stream);
    let mut buffer = [0; 10];
    let received = insist(|| server.read_message(&mut buffer)).unwrap();
    assert_eq!(received, Received::Message(MessageKind::Text, 5));
    let received = insist(|| server.read_message(&mut buffer)).unwrap();
    assert_eq!(received, Received::Message(MessageKind::Binary, 1));
    assert_eq!(server.stream().written, b"\x8a\x01p");
    // Accepted once, written in pieces.
    let first = server.write_message(MessageKind::Text, b"answer");
    assert!(matches!(first, Err(Error::Io(_))));
    insist(|| server.flush()).unwrap();
    assert_eq!(server.stream().written, b"\x8a\x01p\x81\x06answer");
}

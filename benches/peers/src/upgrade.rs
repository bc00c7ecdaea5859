//! The opening handshake of the load, as one request and one answer of text.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use wsloop::protocol::handshake::accept_key;

use crate::{
    load::{Outcome, PATIENCE},
    servers::Deflate,
};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
/// As browsers offer it.
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
const MAX_HEAD: usize = 4096;

pub(crate) fn request(deflate: Deflate) -> String {
    let offer = if deflate == Deflate::Off { "" } else { OFFER };
    format!("{REQUEST}{offer}\r\n")
}

/// Asks for an upgrade; the connection if it was granted as asked for.
pub(crate) fn ask(mut stream: TcpStream, deflate: Deflate) -> Outcome<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request(deflate).as_bytes())?;
    let head = read_head(&mut stream)?;
    let compresses = head.to_ascii_lowercase().contains("permessage-deflate");
    if !head.starts_with("HTTP/1.1 101") || compresses != (deflate != Deflate::Off) {
        return Err(format!("not the answer that was asked for: {head}").into());
    }
    Ok(stream)
}

/// Answers the request of a client.
pub(crate) fn answer(mut stream: TcpStream, deflate: Deflate) -> Outcome<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = read_head(&mut stream)?;
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let key = field("Sec-WebSocket-Key").ok_or("a request without a key")?;
    let accept = accept_key(key.as_bytes());
    let extension = match deflate {
        Deflate::Off => "",
        _ if field("Sec-WebSocket-Extensions").is_none() => {
            return Err("the client does not compress".into());
        }
        Deflate::Shared => {
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
        }
        Deflate::Dedicated => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
    };
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n{extension}\r\n",
        std::str::from_utf8(&accept)?,
    )?;
    Ok(stream)
}

/// What comes behind the head, the other side's first message, stays in the kernel.
fn read_head(stream: &mut TcpStream) -> Outcome<String> {
    const END: &[u8] = b"\r\n\r\n";
    let mut head = Vec::new();
    let mut chunk = [0; MAX_HEAD];
    while !head.ends_with(END) {
        let count = match stream.peek(&mut chunk)? {
            0 => return Err("the connection ended within a head".into()),
            _ if head.len() > MAX_HEAD => return Err("a head without an end".into()),
            count => count,
        };
        let before = head.len();
        head.extend_from_slice(&chunk[..count]);
        if let Some(end) = head.windows(END.len()).position(|bytes| bytes == END) {
            head.truncate(end + END.len());
        }
        stream.read_exact(&mut chunk[..head.len() - before])?;
    }
    Ok(String::from_utf8(head)?)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_comes_with_the_head_is_not_lost() -> Outcome<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut one = TcpStream::connect(listener.local_addr()?)?;
        let (mut other, _) = listener.accept()?;
        other.set_read_timeout(Some(PATIENCE))?;
        one.write_all(b"HTTP/1.1 101 Fine\r\n\r\n\x82\x02\r\n")?;
        assert_eq!(read_head(&mut other)?, "HTTP/1.1 101 Fine\r\n\r\n");
        let mut frame = [0; 4];
        other.read_exact(&mut frame)?;
        assert_eq!(frame, *b"\x82\x02\r\n");
        Ok(())
    }
}

//! A host's name takes as long to look up as the system likes, and nobody else waits for it. The lookup is real and is made to
//! hang: glibc reads a list of aliases before it asks a name server, and here the list is a FIFO.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::channel,
    thread,
};

use super::support::{Client, DEADLINE, EchoServer, upgrade_request};

fn fifo() -> PathBuf {
    let path = std::env::temp_dir().join(format!("wsloop-aliases-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    let status = Command::new("mkfifo").arg(&path).status();
    assert!(status.unwrap().success());
    path
}

/// Returns when somebody has the FIFO open to read, and waits for what is written.
fn reader_of(path: &Path) -> File {
    let (send, receive) = channel();
    let path = path.to_owned();
    thread::spawn(move || send.send(OpenOptions::new().write(true).open(path)));
    let opened = receive.recv_timeout(DEADLINE);
    opened.expect("the lookup reads its aliases").unwrap()
}

fn is_answered(client: &mut Client) -> bool {
    client.stream.set_nonblocking(true).unwrap();
    let result = client.stream.read(&mut [0]);
    client.stream.set_nonblocking(false).unwrap();
    !matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn other_connections_are_served_while_a_lookup_hangs() {
    let aliases = fifo();
    let proxy = EchoServer::proxy_with_aliases("ws://wsloopslow:9", &aliases);
    let mut waiting = Client::raw(proxy.addr);
    waiting.write(upgrade_request("/", "").as_bytes());
    let lookup = reader_of(&aliases);

    // From here until `lookup` is dropped, the resolver hangs.
    for _ in 0..10 {
        let mut other = Client::raw(proxy.addr);
        other.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(other.read_answer().status, 426);
    }
    assert!(!is_answered(&mut waiting));

    fs::remove_file(&aliases).unwrap();
    drop(lookup);
    // There is no such host; or no name server that would say so in time.
    let status = waiting.read_answer().status;
    assert!([502, 504].contains(&status), "{status}");
}

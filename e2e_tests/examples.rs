//! The examples that dial, as processes of their own.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    net::SocketAddr,
    process::Output,
};

use socket2::{Domain, Socket, Type};
use wsloop::{CloseCause, CloseCode, Config, HttpResponse, Initiator, MessageKind, OriginPolicy};

#[cfg(target_os = "linux")]
use super::support::run_example_on_terminal;
use super::support::{
    Client, EchoServer, Frame, Server, masked_frame, pattern, run_example, run_example_on,
    upgrade_request,
};

#[test]
fn connections_of_an_http_server_are_taken_over_both_ways() {
    let server = EchoServer::http_upgrade();
    for path in ["/blocking", "/loop"] {
        let mut client = Client::raw(server.addr);
        // A message comes in the same packet as the request.
        let behind = masked_frame(0x81, b"early");
        client.write(&[upgrade_request(path, "").as_bytes(), &behind].concat());
        client.expect_upgrade();
        assert_eq!(client.read_frame(), Frame::text("early"), "{path}");
        client.send_ping(b"p");
        assert_eq!(client.read_frame(), Frame::pong(b"p"));
        let payload = pattern(200_000, 3);
        client.send_binary(&payload);
        assert_eq!(client.read_message(), (2, payload));
        client.send_close(1000, "bye");
        client.expect_close(1000);
    }
    for (path, more, status) in [("/", "", 404), ("/loop", "Upgrade: x\r\n", 426)] {
        let mut client = Client::raw(server.addr);
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n");
        client.write(request.as_bytes());
        assert_eq!(client.read_answer().status, status, "{path}");
    }
    let taken = server.addr.to_string();
    let output = run_example("http_upgrade", &["--listen", &taken], "");
    let expected = format!("http_upgrade: cannot listen on {taken}");
    assert!(complaint(&output, 1).starts_with(&expected));
}

fn url(addr: SocketAddr) -> String {
    format!("ws://{addr}/")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// The one line that says what is wrong.
fn complaint(output: &Output, code: i32) -> &str {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert_eq!(stdout(output), "");
    let text = std::str::from_utf8(&output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim_end()
}

/// A port that is taken and does not listen, as long as the socket lives.
fn deaf_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

#[test]
fn lines_come_back_and_the_end_of_the_input_closes() {
    let server = Server::echo();
    let output = run_example(
        "simple_client",
        &[&url(server.addr)],
        "one\n\n gr\u{fc}\u{df}e \nwithout an end",
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        stdout(&output),
        "one\n\n gr\u{fc}\u{df}e \nwithout an end\n"
    );
    assert_eq!(output.stderr, b"");
    let close = server.expect_close();
    assert_eq!(close.cause, CloseCause::Peer);
    assert_eq!(close.initiator, Initiator::Remote);
    assert_eq!(close.code, Some(CloseCode::NORMAL));
    assert!(close.clean);
}

#[test]
fn no_input_at_all_closes() {
    let server = Server::echo();
    let output = run_example("simple_client", &[&url(server.addr)], "");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stdout(&output), "");
    assert_eq!(server.expect_close().code, Some(CloseCode::NORMAL));
}

/// Far more than all buffers on the way hold, from a file, which no poll takes.
#[test]
fn a_large_file_comes_back() {
    let mut text = String::new();
    for at in 0..20 {
        text.push_str(&"x".repeat(400_000 + at));
        text.push_str("\nshort\n");
    }
    let path = std::env::temp_dir().join(format!("wsloop-lines-{}", std::process::id()));
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();

    let server = Server::echo();
    let output = run_example_on("simple_client", &[&url(server.addr)], file);
    assert_eq!(output.status.code(), Some(0), "{:?}", output.status);
    assert!(output.stdout == text.as_bytes(), "not what was sent");
}

#[test]
fn binary_messages_are_shown_by_their_beginning() {
    let server = Server::start(Config::default(), |app| {
        app.on_message = Some(Box::new(|conn, _| {
            conn.send_copy(MessageKind::Binary, &[0xAB; 20]).unwrap();
            conn.send_copy(MessageKind::Binary, &[]).unwrap();
        }));
    });
    let output = run_example("simple_client", &[&url(server.addr)], "x");
    assert_eq!(
        stdout(&output),
        format!(
            "binary, 20 bytes:{} ...\nbinary, 0 bytes:\n",
            " ab".repeat(16)
        )
    );
}

#[test]
fn the_request_says_what_the_options_say() {
    let config = Config::default().allowed_origins(OriginPolicy::Any);
    let server = Server::start(config, |app| {
        let events = app.reporter();
        app.on_upgrade = Some(Box::new(move |request, response| {
            for name in ["sec-websocket-protocol", "origin", "x-first", "x-second"] {
                let note = format!("{name}: {}", request.header(name).unwrap());
                events.send(super::support::Event::Note(note)).unwrap();
            }
            response.subprotocol("mqtt").unwrap();
            Ok(())
        }));
    });
    let address = url(server.addr);
    let options = "--subprotocol chat --subprotocol mqtt --origin http://localhost --timeout 20";
    let mut arguments: Vec<&str> = options.split(' ').collect();
    arguments.extend(["--header", "X-First: a: b", "--header", "x-second:"]);
    arguments.push(&address);
    let output = run_example("simple_client", &arguments, "");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "simple_client: the server has chosen mqtt\n"
    );
    server.expect_note("sec-websocket-protocol: chat, mqtt");
    server.expect_note("origin: http://localhost");
    server.expect_note("x-first: a: b");
    server.expect_note("x-second: ");
}

#[test]
fn a_refused_connection_is_one_line() {
    let (_socket, addr) = deaf_port();
    for (example, arguments) in [("simple_client", vec![]), ("load", vec!["--url"])] {
        let address = url(addr);
        let arguments = [arguments, vec![&*address]].concat();
        let output = run_example(example, &arguments, "line\n");
        let text = complaint(&output, 1);
        assert!(text.starts_with(&format!("{example}: {address}: ")));
        assert!(text.contains("connection refused"), "{text}");
    }
}

#[test]
fn a_refused_upgrade_is_one_line() {
    let server = Server::start(Config::default(), |app| {
        app.on_upgrade = Some(Box::new(|_, _| Err(HttpResponse::forbidden())));
    });
    let address = url(server.addr);
    let output = run_example("simple_client", &[&address], "line\n");
    assert!(complaint(&output, 1).contains("status 403"));
    let output = run_example("load", &["--url", &address], "");
    assert!(complaint(&output, 1).contains("status 403"));
}

#[test]
fn a_bad_url_is_one_line() {
    for bad in ["http://127.0.0.1:1", "ws://", "wss://localhost", ""] {
        complaint(&run_example("simple_client", &[bad], "line\n"), 1);
        complaint(&run_example("load", &["--url", bad], ""), 1);
    }
}

#[test]
fn input_that_is_no_text_is_one_line() {
    let server = Server::echo();
    let output = run_example("simple_client", &[&url(server.addr)], b"\xFF\n");
    assert!(complaint(&output, 1).contains("standard input"));
    assert_eq!(server.expect_close().code, Some(CloseCode::NORMAL));
}

#[test]
fn a_server_that_closes_is_one_line() {
    let server = Server::start(Config::default(), |app| {
        app.on_message = Some(Box::new(|conn, _| {
            conn.close(CloseCode::POLICY_VIOLATION, "not that").unwrap();
        }));
    });
    let address = url(server.addr);
    let output = run_example("simple_client", &[&address], "line\n");
    let text = complaint(&output, 1);
    assert!(text.contains("1008") && text.contains("not that"), "{text}");
    let output = run_example("load", &["--url", &address, "--connections", "2"], "");
    let text = complaint(&output, 1);
    assert!(text.contains("1008") && text.contains("not that"), "{text}");
}

#[test]
fn help_names_the_options_and_bad_usage_is_2() {
    for (example, options) in [
        (
            "simple_client",
            &["--subprotocol", "--header", "--origin", "--timeout"][..],
        ),
        (
            "load",
            &[
                "--url",
                "--connections",
                "--size",
                "--in-flight",
                "--seconds",
                "--busy-poll",
                "--json",
            ],
        ),
    ] {
        let output = run_example(example, &["--help"], "");
        assert_eq!(output.status.code(), Some(0));
        for option in options {
            assert!(stdout(&output).contains(option), "{option}");
        }
        let output = run_example(example, &["--absent"], "");
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(stdout(&output), "");
    }
    for bad in [
        ["--header", "no colon"],
        ["--header", "Upgrade: h2c"],
        ["--subprotocol", "two words"],
        ["--timeout", "0"],
    ] {
        let output = run_example("simple_client", &bad, "");
        assert_eq!(output.status.code(), Some(2), "{bad:?}: {output:?}");
    }
    for bad in [
        ["--connections", "0"],
        ["--connections", "99999999"],
        ["--in-flight", "0"],
        ["--seconds", "0"],
    ] {
        let output = run_example("load", &bad, "");
        assert_eq!(output.status.code(), Some(2), "{bad:?}: {output:?}");
    }
}

#[test]
fn load_measures() {
    let server = Server::echo();
    let address = url(server.addr);
    let mut arguments = vec!["--url", &address, "--json"];
    arguments.extend("--connections 100 --in-flight 3 --size 50 --seconds 1".split(' '));
    let output = run_example("load", &arguments, "");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stderr, b"");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["url"], address);
    assert_eq!(result["connections"], 100);
    assert_eq!(result["in_flight"], 3);
    assert_eq!(result["size"], 50);

    let seconds = result["seconds"].as_f64().unwrap();
    assert!((0.5..10.0).contains(&seconds), "{result}");
    let messages = result["messages"].as_f64().unwrap();
    assert!(messages >= 1.0, "{result}");
    let rate = result["messages_per_second"].as_f64().unwrap();
    assert!((rate * seconds - messages).abs() < 1.0, "{result}");
    let latencies = ["p50", "p99", "p99.9", "p99.99", "max"]
        .map(|name| result["latency_ns"][name].as_u64().unwrap());
    assert!(latencies.is_sorted() && latencies[0] > 0, "{result}");

    let stats = server.wait_for("all closed", |stats| stats.connections.current == 0);
    assert_eq!(stats.opened, 100);
    assert!(stats.received.messages as f64 >= messages);
    assert_eq!(server.expect_close().code, Some(CloseCode::GOING_AWAY));
}

#[test]
fn load_prints_a_table() {
    let server = Server::echo();
    let address = url(server.addr);
    let arguments = ["--url", &address, "--seconds", "1", "--busy-poll"];
    let output = run_example("load", &arguments, "");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // No terminal, no progress bar.
    assert_eq!(output.stderr, b"");
    for part in ["messages/s", "p50", "p99", "p99.9", "p99.99", "max"] {
        assert!(stdout(&output).contains(part), "{part}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn load_shows_its_progress_on_a_terminal() {
    let server = Server::echo();
    let address = url(server.addr);
    let arguments = ["--url", &address, "--seconds", "1", "--connections", "3"];
    let output = run_example_on_terminal("load", &arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = stdout(&output);
    for part in ["00:00:00 [", "█", " messages/s\r"] {
        assert!(shown.contains(part), "{part} in {shown:?}");
    }
    // The bar makes room for the result.
    let (_, result) = shown.rsplit_once("\u{1b}[2K").expect("the bar is cleared");
    assert!(result.contains("3 connections, 1 in flight"), "{shown:?}");

    let arguments = [&arguments[..], &["--json"]].concat();
    let output = run_example_on_terminal("load", &arguments);
    let line = stdout(&output);
    let json = serde_json::from_str::<serde_json::Value>(line.trim());
    assert!(json.is_ok(), "nothing but JSON: {line:?}");
}

#[test]
fn load_finds_out_that_the_server_does_not_echo() {
    let server = Server::start(Config::default(), |app| {
        app.on_message = Some(Box::new(|conn, _| {
            conn.send_copy(MessageKind::Binary, b"no").unwrap();
        }));
    });
    let address = url(server.addr);
    let output = run_example("load", &["--url", &address, "--connections", "1"], "");
    assert!(complaint(&output, 1).ends_with("the server does not echo"));
}

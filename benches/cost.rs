//! What a server and a client cost, counted rather than timed: system calls per message, memory per idle connection, what is
//! left after connections were reset, and CPU time while nothing happens.
//!
//! ```text
//! cargo bench --bench cost -- syscalls --in-flight 16
//! cargo bench --bench cost -- memory --connections 10000
//! cargo bench --bench cost -- churn --connections 5000
//! cargo bench --bench cost -- idle --connections 1000
//! cargo bench --bench cost -- client --messages 100000
//! ```
//!
//! Linux only; `syscalls` and `client` need strace. The server is a process of its own, the load runs in this one, both on the loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    error::Error,
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use mio::{Events, Interest, Poll, Token};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// Payload of the messages in bytes.
const PAYLOAD: u8 = 20;
const SENT_LEN: usize = 2 + 4 + PAYLOAD as usize;
const ANSWER_LEN: usize = 2 + PAYLOAD as usize;

#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    what: What,
    /// Passed by `cargo bench`; means nothing here
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// System calls per echoed message, counted with strace
    Syscalls {
        #[arg(long, default_value_t = 64)]
        connections: usize,
        #[arg(long, default_value_t = 1)]
        in_flight: usize,
        /// Messages per connection
        #[arg(long, default_value_t = 4000)]
        messages: usize,
    },
    /// Resident memory per idle connection
    Memory {
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
    },
    /// Connections that are opened, used and reset: what is left of them
    Churn {
        #[arg(long, default_value_t = 5000)]
        connections: usize,
    },
    /// System calls per message of one client that spins, counted with strace
    Client {
        #[arg(long, default_value_t = 100_000)]
        messages: usize,
    },
    /// The client that `client` counts
    #[command(hide = true)]
    Spin { url: String, messages: usize },
    /// CPU time of the server while its connections are silent
    Idle {
        #[arg(long, default_value_t = 1000)]
        connections: usize,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    match Options::parse().what {
        What::Syscalls {
            connections,
            in_flight,
            messages,
        } => syscalls(connections, in_flight, messages),
        What::Memory { connections } => memory(connections),
        What::Churn { connections } => churn(connections),
        What::Client { messages } => client(messages),
        What::Spin { url, messages } => spin(&url, messages),
        What::Idle {
            connections,
            seconds,
        } => idle(connections, Duration::from_secs(seconds)),
    }
}

fn syscalls(connections: usize, in_flight: usize, messages: usize) -> Result<(), Box<dyn Error>> {
    let table = std::env::temp_dir().join(format!("wsloop-strace-{}", std::process::id()));
    let mut strace = Command::new("strace");
    strace.args(["-c", "-f", "-o"]).arg(&table);
    let server = Server::start(Some(strace))?;
    let mut load = Load::connect(server.addr, connections)?;
    load.run(in_flight, messages)?;
    server.stop()?;
    let total = (connections * messages) as f64;
    let sum = print_calls(&table, total)?;
    println!(
        "{:.3} system calls per message, {:.3} per {in_flight} in flight ({connections} connections, {total} messages)",
        sum / total,
        sum / total * in_flight as f64,
    );
    Ok(())
}

/// Prints strace's table as calls per message, and returns the number of calls. Removes the file.
fn print_calls(table: &Path, messages: f64) -> Result<f64, Box<dyn Error>> {
    let text = fs::read_to_string(table)?;
    fs::remove_file(table)?;
    let mut sum = 0.0;
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(calls), Some(name)) = (fields.get(3), fields.last()) else {
            continue;
        };
        let Ok(calls) = calls.parse::<f64>() else {
            continue;
        };
        if *name == "total" {
            continue;
        }
        sum += calls;
        // The fifth column, if there is one, counts the calls that failed: reads that found nothing.
        let failed = if fields.len() > 5 { fields[4] } else { "0" };
        if calls / messages >= 0.001 {
            println!(
                "{name:>16} {calls:>10} {:.3} per message, {failed} in vain",
                calls / messages
            );
        }
    }
    Ok(sum)
}

/// One message in flight; a client that spins without a poll.
fn client(messages: usize) -> Result<(), Box<dyn Error>> {
    let server = Server::start(None)?;
    let table = std::env::temp_dir().join(format!("wsloop-strace-{}", std::process::id()));
    let status = Command::new("strace")
        .args(["-c", "-f", "-o"])
        .arg(&table)
        .arg(std::env::current_exe()?)
        .args([
            "spin",
            &format!("ws://{}/", server.addr),
            &messages.to_string(),
        ])
        .status()?;
    if !status.success() {
        return Err(format!("the client: {status}").into());
    }
    let sum = print_calls(&table, messages as f64)?;
    println!(
        "{:.3} system calls per message of a spinning client",
        sum / messages as f64
    );
    server.stop()
}

struct Spinner {
    left: usize,
}

impl wsloop::Handler for Spinner {
    type Session = ();

    fn on_open(&mut self, conn: &mut wsloop::Conn<'_, ()>) {
        conn.send_copy(wsloop::MessageKind::Binary, &[b'x'; PAYLOAD as usize])
            .expect("room");
    }

    fn on_message(&mut self, conn: &mut wsloop::Conn<'_, ()>, message: wsloop::Message<'_>) {
        self.left -= 1;
        if self.left == 0 {
            conn.close(wsloop::CloseCode::NORMAL, "")
                .expect("a valid code");
        } else {
            conn.send_copy(message.kind(), message.as_bytes())
                .expect("room");
        }
    }
}

fn spin(url: &str, messages: usize) -> Result<(), Box<dyn Error>> {
    // A fixed seed: the server is our own, on this machine.
    let rng = ChaCha20Rng::from_seed([9; 32]);
    let mut client = wsloop::Client::new(wsloop::Config::default(), rng)?;
    client
        .connect(wsloop::Connect::to(url)?, ())
        .map_err(|error| error.to_string())?;
    let mut app = Spinner { left: messages };
    while client.turn(&mut app, Some(Duration::ZERO))? != wsloop::ClientState::Idle {}
    if app.left == 0 {
        Ok(())
    } else {
        Err(format!("{} messages are missing", app.left).into())
    }
}

fn memory(connections: usize) -> Result<(), Box<dyn Error>> {
    let server = Server::start(None)?;
    // One connection first, so that what any server needs is there before the count starts.
    let first = Load::connect(server.addr, 1)?;
    let before = server.resident_bytes()?;
    let load = Load::connect(server.addr, connections)?;
    let after = server.resident_bytes()?;
    println!("resident with 1 connection: {before} bytes, with {connections} more: {after} bytes");
    println!(
        "{:.1} bytes per idle connection",
        (after - before) as f64 / connections as f64
    );
    drop((first, load));
    server.stop()
}

fn churn(connections: usize) -> Result<(), Box<dyn Error>> {
    let server = Server::start(None)?;
    let descriptors_before = server.descriptors()?;
    for batch in 0..connections.div_ceil(500) {
        let mut load = Load::connect(server.addr, 500.min(connections - batch * 500))?;
        load.run(1, 1)?;
        for client in &load.clients {
            // A linger time of zero makes closing a reset.
            socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO))?;
        }
    }
    let end = Instant::now() + DEADLINE;
    while server.descriptors()? > descriptors_before && Instant::now() < end {
        std::thread::yield_now();
    }
    println!(
        "{connections} connections opened, used and reset: {} descriptors before, {} after",
        descriptors_before,
        server.descriptors()?
    );
    server.stop()
}

fn idle(connections: usize, time: Duration) -> Result<(), Box<dyn Error>> {
    let server = Server::start(None)?;
    let load = Load::connect(server.addr, connections)?;
    let before = server.cpu_ticks()?;
    std::thread::sleep(time);
    println!(
        "{connections} silent connections for {time:?}: {} ticks of CPU time (of 10 ms)",
        server.cpu_ticks()? - before
    );
    drop(load);
    server.stop()
}

/// The echo server in a process of its own.
struct Server {
    child: Child,
    addr: SocketAddr,
    /// The server itself, which is not `child` under strace.
    pid: u32,
}

impl Server {
    fn start(wrapper: Option<Command>) -> Result<Self, Box<dyn Error>> {
        let binary = echo_server()?;
        let mut command = match wrapper {
            Some(mut wrapper) => {
                wrapper.arg(&binary);
                wrapper
            }
            None => Command::new(&binary),
        };
        command
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line)?;
        let addr = line
            .trim()
            .strip_prefix("listening on ws://")
            .ok_or("the server does not say where it listens")?
            .parse()?;
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let pid = fs::read_to_string(children)?
            .split_whitespace()
            .next()
            .map_or(Ok(child.id()), str::parse)?;
        Ok(Self { child, addr, pid })
    }

    fn stop(mut self) -> Result<(), Box<dyn Error>> {
        Command::new("kill")
            .args(["-TERM", &self.pid.to_string()])
            .status()?;
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the server: {status}").into())
        }
    }

    fn resident_bytes(&self) -> Result<u64, Box<dyn Error>> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS"))
            .ok_or("no VmRSS")?;
        let kib: u64 = line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?;
        Ok(kib * 1024)
    }

    fn descriptors(&self) -> Result<usize, Box<dyn Error>> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid))?.count())
    }

    /// User and system time.
    fn cpu_ticks(&self) -> Result<u64, Box<dyn Error>> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .collect();
        Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
    }
}

/// Builds the example and returns its path.
fn echo_server() -> Result<PathBuf, Box<dyn Error>> {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--example", "echo_server"])
        .status()?;
    if !status.success() {
        return Err("the echo server does not build".into());
    }
    // This binary lies in target/release/deps.
    let deps = std::env::current_exe()?;
    Ok(deps
        .ancestors()
        .nth(2)
        .ok_or("no target folder")?
        .join("examples/echo_server"))
}

/// Clients in one thread.
struct Load {
    clients: Vec<Client>,
}

struct Client {
    stream: mio::net::TcpStream,
    /// Messages that are not answered yet, and those that are not sent yet.
    outstanding: usize,
    unsent: usize,
    /// Bytes of the answer under way.
    received: usize,
}

impl Load {
    fn connect(addr: SocketAddr, count: usize) -> Result<Self, Box<dyn Error>> {
        let clients: Result<Vec<Client>, Box<dyn Error>> =
            (0..count).map(|_| Client::connect(addr)).collect();
        Ok(Self { clients: clients? })
    }

    /// Keeps `in_flight` messages under way on every connection until each has had `messages` answers.
    fn run(&mut self, in_flight: usize, messages: usize) -> Result<(), Box<dyn Error>> {
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

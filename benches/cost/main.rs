//! What a server and a client cost, counted rather than timed: system calls per message and per handshake, instructions per
//! message, memory per idle connection, what is left after connections were reset, and CPU time while nothing happens.
//!
//! ```text
//! cargo bench --bench cost -- syscalls --in-flight 16
//! cargo bench --bench cost -- instructions --in-flight 16
//! cargo bench --bench cost -- handshakes
//! cargo bench --bench cost -- memory --connections 10000
//! cargo bench --bench cost -- churn --connections 5000
//! cargo bench --bench cost -- idle --connections 1000
//! cargo bench --bench cost -- client --messages 100000
//! cargo bench --bench cost -- clients --connections 10000
//! ```
//!
//! With `--at-most` a count above it is an error. Of a client that spins only those calls count that were not in vain: how many
//! come too early depends on what else the machine does.
//!
//! Linux only; `syscalls`, `handshakes` and `client` need strace, `instructions` needs valgrind. The server is a process of its
//! own, the load runs in this one, both on the loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub
)]

mod calls;
mod clients;
mod instructions;
mod load;
mod server;
mod spin;

use std::{
    error::Error,
    process::ExitCode,
    time::{Duration, Instant},
};

use calls::{Calls, check, strace};
use clap::{Args, Parser, Subcommand};
use load::Load;
use server::Server;

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// Payload of the messages in bytes.
const PAYLOAD: u8 = 20;

#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    what: What,
    /// Passed by `cargo bench`; means nothing here
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

/// What is echoed on each connection.
#[derive(Args)]
struct Echoes {
    /// Messages at a time
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Messages in all
    #[arg(long, default_value_t = 4000)]
    messages: usize,
}

#[derive(Subcommand)]
enum What {
    /// System calls per echoed message, counted with strace
    Syscalls {
        #[arg(long, default_value_t = 64)]
        connections: usize,
        #[command(flatten)]
        echoes: Echoes,
        /// Fail when there are more, per as many messages as are in flight
        #[arg(long)]
        at_most: Option<f64>,
    },
    /// Instructions in user space per echoed message, counted with callgrind
    Instructions {
        /// One alone: how many are ready at a time, and share what a turn costs, depends on the machine
        #[arg(long, default_value_t = 1)]
        connections: usize,
        #[command(flatten)]
        echoes: Echoes,
        /// Fail when there are more per message
        #[arg(long)]
        at_most: Option<f64>,
    },
    /// System calls per opening handshake, those of the reset that ends the connection included, counted with strace
    Handshakes {
        #[arg(long, default_value_t = 5000)]
        connections: usize,
        /// Fail when there are more, polls aside
        #[arg(long)]
        at_most: Option<f64>,
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
        /// Fail when there are more per message
        #[arg(long)]
        at_most: Option<f64>,
    },
    /// The client that `client` counts
    #[command(hide = true)]
    Spin { url: String, messages: usize },
    /// Clients in one process and one loop, the server in another, all echoing: memory per outbound connection
    Clients {
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
        connections: u32,
        /// Messages per connection
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        messages: u32,
    },
    /// The process of the clients of `clients`
    #[command(hide = true)]
    Pool {
        url: String,
        connections: usize,
        messages: usize,
    },
    /// CPU time of the server while its connections are silent
    Idle {
        #[arg(long, default_value_t = 1000)]
        connections: usize,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    match run(Options::parse().what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: What) -> Result<(), Box<dyn Error>> {
    match what {
        What::Syscalls {
            connections,
            echoes,
            at_most,
        } => syscalls(connections, &echoes, at_most),
        What::Instructions {
            connections,
            echoes,
            at_most,
        } => instructions(connections, &echoes, at_most),
        What::Handshakes {
            connections,
            at_most,
        } => handshakes(connections, at_most),
        What::Memory { connections } => memory(connections),
        What::Churn { connections } => churn(connections),
        What::Client { messages, at_most } => client(messages, at_most),
        What::Spin { url, messages } => spin::spin(&url, messages),
        What::Clients {
            connections,
            messages,
        } => clients::clients(connections as usize, messages as usize),
        What::Pool {
            url,
            connections,
            messages,
        } => clients::pool(&url, connections, messages),
        What::Idle {
            connections,
            seconds,
        } => idle(connections, Duration::from_secs(seconds)),
    }
}

fn syscalls(
    connections: usize,
    &Echoes {
        in_flight,
        messages,
    }: &Echoes,
    at_most: Option<f64>,
) -> Result<(), Box<dyn Error>> {
    let (strace, table) = strace();
    let server = Server::start(Some(strace))?;
    let mut load = Load::connect(server.addr, connections)?;
    load.run(in_flight, messages)?;
    server.stop()?;
    let total = (connections * messages) as f64;
    let calls = Calls::take(&table)?;
    calls.print("message", total);
    let (each, in_vain) = (calls.made() / total, calls.in_vain() / total);
    println!(
        "{each:.3} system calls per message, {in_vain:.3} in vain, {:.3} per {in_flight} in flight ({connections} connections, \
         {total} messages)",
        each * in_flight as f64,
    );
    // Also those in vain: a server that is told by a poll does not read too early.
    check("system calls", each * in_flight as f64, at_most)
}

fn instructions(
    connections: usize,
    &Echoes {
        in_flight,
        messages,
    }: &Echoes,
    at_most: Option<f64>,
) -> Result<(), Box<dyn Error>> {
    let count = |messages| {
        let (callgrind, file) = instructions::callgrind();
        let server = Server::start(Some(callgrind))?;
        let mut load = Load::connect(server.addr, connections)?;
        load.run(in_flight, messages)?;
        drop(load);
        server.stop()?;
        instructions::take(&file)
    };
    // What is not done for each message is in both.
    let more = count(2 * messages)?
        .checked_sub(count(messages)?)
        .filter(|more| *more > 0)
        .ok_or("twice the messages took no more instructions")?;
    let each = more as f64 / (connections * messages) as f64;
    println!(
        "{each:.1} instructions in user space per message ({connections} connections, {in_flight} in flight)"
    );
    check("instructions", each, at_most)
}

/// One after the other, so that none shares with another: each connection is reset as soon as it is open.
fn handshakes(connections: usize, at_most: Option<f64>) -> Result<(), Box<dyn Error>> {
    let (strace, table) = strace();
    let server = Server::start(Some(strace))?;
    for _ in 0..connections {
        Load::connect(server.addr, 1)?.reset()?;
    }
    server.stop()?;
    let total = connections as f64;
    let calls = Calls::take(&table)?;
    calls.print("handshake", total);
    // How often a poll finds two things at once depends on the machine.
    let each = (calls.made() - calls.polls() as f64) / total;
    println!("{each:.3} system calls per handshake, polls aside ({connections} handshakes)");
    check("system calls per handshake", each, at_most)
}

/// One message in flight; a client that spins without a poll.
fn client(messages: usize, at_most: Option<f64>) -> Result<(), Box<dyn Error>> {
    let server = Server::start(None)?;
    let (mut strace, table) = strace();
    let status = strace
        .arg(std::env::current_exe()?)
        .args(["spin", &format!("ws://{}/", server.addr)])
        .arg(messages.to_string())
        .status()?;
    if !status.success() {
        return Err(format!("the client: {status}").into());
    }
    server.stop()?;
    let total = messages as f64;
    let calls = Calls::take(&table)?;
    calls.print("message", total);
    let (each, in_vain) = (calls.made() / total, calls.in_vain() / total);
    println!(
        "{each:.3} system calls per message of a spinning client, {in_vain:.3} in vain; {} polls",
        calls.polls()
    );
    // Whoever spins has asked for a core instead of a poll.
    check("polls", calls.polls() as f64, at_most.and(Some(0.0)))?;
    check("system calls not in vain", each - in_vain, at_most)
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
        load.reset()?;
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

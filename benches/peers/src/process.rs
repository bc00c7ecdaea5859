//! A server's process: started on a core of its own, looked at from outside, ended.

use std::{
    error::Error,
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    ops::Sub,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::ValueEnum;
use rustix::{
    process::{
        Pid, Resource, Rlimit, Signal, WaitOptions, getrlimit, kill_process, setrlimit, waitpid,
    },
    thread::{CpuSet, sched_setaffinity},
};

use crate::servers::{Options, Peer, Role};

/// uWebSockets' server, if it could be built.
pub(crate) const UWEBSOCKETS: Option<&str> = option_env!("UWEBSOCKETS_SERVER");
/// The same without instructions that valgrind does not know.
const UWEBSOCKETS_COUNTED: Option<&str> = option_env!("UWEBSOCKETS_SERVER_COUNTED");
/// The core of the servers, and that of the load.
const SERVER_CORE: usize = 0;
pub(crate) const LOAD_CORE: usize = 1;

/// The unit of `/proc/stat`.
const TICK: Duration = Duration::from_millis(10);

pub(crate) struct Server {
    child: Child,
    /// The process that serves: `child`, or what runs under it.
    pid: u32,
    /// Where it listens; a client does not.
    pub(crate) address: Option<SocketAddr>,
}

/// What a server runs under.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Under<'a> {
    Nothing,
    /// Counts instructions into this file.
    Callgrind(&'a Path),
    /// Counts system calls into this file.
    Strace(&'a Path),
}

/// What the scheduler has given a process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ran {
    /// On a core.
    pub(crate) cpu: Duration,
    /// Ready to run, while something else ran.
    pub(crate) waited: Duration,
}

/// Has this thread, and what it starts, run on one core.
pub(crate) fn pin(core: usize) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// As many descriptors as the system allows, for this process and those that it starts.
pub(crate) fn allow_descriptors() -> std::io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?)
}

/// Time that the machine's cores were taken away by whatever runs the machine.
pub(crate) fn stolen() -> Result<Duration, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/stat")?;
    let ticks = text
        .lines()
        .next()
        .and_then(|line| line.split_whitespace().nth(8));
    Ok(TICK * ticks.unwrap_or("0").parse()?)
}

impl Server {
    pub(crate) fn start(options: &Options, under: Under<'_>) -> Result<Self, Box<dyn Error>> {
        let mut command = match under {
            Under::Nothing => server(options, UWEBSOCKETS)?,
            Under::Callgrind(out) => {
                let mut command = Command::new("valgrind");
                command
                    .args(["--quiet", "--tool=callgrind"])
                    .arg(format!("--callgrind-out-file={}", out.display()));
                append(command, &server(options, UWEBSOCKETS_COUNTED)?)
            }
            Under::Strace(out) => {
                let mut command = Command::new("strace");
                command.args(["-f", "-c", "-S", "calls", "-o"]).arg(out);
                append(command, &server(options, UWEBSOCKETS)?)
            }
        };
        pin(SERVER_CORE)?;
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        pin(LOAD_CORE)?;
        let mut child = child.map_err(|error| format!("{command:?}: {error}"))?;
        let address = match options.role {
            Role::Server => Some(address(&mut child).ok_or(format!("{command:?} did not start"))?),
            Role::Client => None,
        };
        let pid = match under {
            Under::Strace(_) => first_child(child.id())?,
            _ => child.id(),
        };
        Ok(Self {
            child,
            pid,
            address,
        })
    }

    pub(crate) fn ran(&self) -> Result<Ran, Box<dyn Error>> {
        ran(&format!("/proc/{}/schedstat", self.pid))
    }

    /// Resident memory of the server's own in bytes: what is mapped from files is not of its making.
    pub(crate) fn resident(&self) -> Result<u64, Box<dyn Error>> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        Ok(kilobytes.ok_or("no RssAnon")?.parse::<u64>()? * 1024)
    }

    /// It does not run until it is released.
    pub(crate) fn hold(&self) -> Result<(), Box<dyn Error>> {
        kill_process(self.pid()?, Signal::STOP)?;
        let (_, status) = waitpid(Some(self.pid()?), WaitOptions::UNTRACED)?.ok_or("no server")?;
        if status.stopped() {
            Ok(())
        } else {
            Err("the server has ended".into())
        }
    }

    pub(crate) fn release(&self) -> Result<(), Box<dyn Error>> {
        Ok(kill_process(self.pid()?, Signal::CONT)?)
    }

    /// Ends the server in a way that lets what it runs under write its figures.
    pub(crate) fn stop(mut self) -> Result<(), Box<dyn Error>> {
        kill_process(self.pid()?, Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }

    fn pid(&self) -> Result<Pid, Box<dyn Error>> {
        Ok(Pid::from_raw(self.pid.try_into()?).ok_or("no server")?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port that a server announces.
fn address(server: &mut Child) -> Option<SocketAddr> {
    let mut line = String::new();
    BufReader::new(server.stdout.take()?)
        .read_line(&mut line)
        .ok()?;
    Some(SocketAddr::from((
        Ipv4Addr::LOCALHOST,
        line.trim().parse().ok()?,
    )))
}

/// What the scheduler has given this thread.
pub(crate) fn own_ran() -> Result<Ran, Box<dyn Error>> {
    ran("/proc/thread-self/schedstat")
}

fn ran(file: &str) -> Result<Ran, Box<dyn Error>> {
    let text = fs::read_to_string(file)?;
    let mut numbers = text.split_whitespace().map(str::parse);
    let mut next = || numbers.next().ok_or("schedstat is short");
    Ok(Ran {
        cpu: Duration::from_nanos(next()??),
        waited: Duration::from_nanos(next()??),
    })
}

impl Sub for Ran {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(other.cpu),
            waited: self.waited.saturating_sub(other.waited),
        }
    }
}

/// `uwebsockets`: the program that is uWebSockets' server.
fn server(options: &Options, uwebsockets: Option<&str>) -> Result<Command, Box<dyn Error>> {
    let name = |value: Option<clap::builder::PossibleValue>| {
        value
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    };
    let service = name(options.service.to_possible_value());
    let deflate = name(options.deflate.to_possible_value());
    if options.peer == Peer::Uwebsockets {
        let mut command = Command::new(uwebsockets.ok_or("uWebSockets was not built")?);
        command.args([service, deflate]);
        return Ok(command);
    }
    let mut command = Command::new(own_program()?);
    command
        .args(["serve", "--role", &name(options.role.to_possible_value())])
        .args(["--peer", &name(options.peer.to_possible_value())])
        .args(["--service", &service, "--deflate", &deflate])
        .args(["--size", &options.size.to_string()])
        .args(["--connections", &options.connections.to_string()])
        .args(options.dial.map(|address| format!("--dial={address}")))
        .args(options.batch.then_some("--batch"))
        .args(options.busy_poll.then_some("--busy-poll"));
    Ok(command)
}

fn own_program() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}

fn append(mut command: Command, server: &Command) -> Command {
    command.arg(server.get_program()).args(server.get_args());
    command
}

fn first_child(pid: u32) -> Result<u32, Box<dyn Error>> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(children
        .split_whitespace()
        .next()
        .ok_or("no child")?
        .parse()?)
}

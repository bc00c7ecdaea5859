use std::{
    error::Error,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// The echo server in a process of its own.
pub struct Server {
    child: Child,
    pub addr: SocketAddr,
    /// The server itself, which is not `child` under strace.
    pid: u32,
}

impl Server {
    pub fn start(wrapper: Option<Command>) -> Result<Self, Box<dyn Error>> {
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

    pub fn stop(mut self) -> Result<(), Box<dyn Error>> {
        self.signal("-TERM")?;
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the server: {status}").into())
        }
    }

    fn signal(&self, name: &str) -> std::io::Result<()> {
        let mut kill = Command::new("kill");
        kill.args([name, &self.pid.to_string()]);
        kill.status().map(drop)
    }

    pub fn resident_bytes(&self) -> Result<u64, Box<dyn Error>> {
        resident_bytes(&self.pid.to_string())
    }

    pub fn descriptors(&self) -> Result<usize, Box<dyn Error>> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid))?.count())
    }

    /// User and system time.
    pub fn cpu_ticks(&self) -> Result<u64, Box<dyn Error>> {
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

/// A measurement that failed leaves no server behind.
impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.signal("-KILL");
            let _ = self.child.wait();
        }
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

/// Of a process, by its id or `self`.
pub fn resident_bytes(process: &str) -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .ok_or("no VmRSS")?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?;
    Ok(kib * 1024)
}

/// A command to put another one behind, which then may open as many descriptors as the system lets it.
pub fn with_all_descriptors() -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -S -n "$(ulimit -H -n)" && exec "$0" "$@""#]);
    shell
}

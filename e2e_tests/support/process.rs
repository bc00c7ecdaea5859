use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::channel,
    time::Instant,
};

use super::DEADLINE;

/// An example server as a process of its own.
pub struct EchoServer {
    pub addr: SocketAddr,
    child: Child,
}

impl EchoServer {
    /// Starts it on a port of its own, with at most `descriptors` open descriptors if that is said.
    pub fn start(descriptors: Option<u32>) -> Self {
        let limit = descriptors.map_or(String::new(), |count| format!("ulimit -n {count}; "));
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{limit}exec \"$0\" --listen 127.0.0.1:0")])
            .arg(example("echo_server"));
        Self::spawn(command)
    }

    /// Starts the proxy on a port of its own.
    pub fn proxy(upstream: &str, arguments: &[&str]) -> Self {
        Self::spawn(proxy(upstream, arguments))
    }

    /// As `proxy`; names without a dot are looked up in a list of aliases first, as glibc does when it is told to.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    pub fn proxy_with_aliases(upstream: &str, aliases: &std::path::Path) -> Self {
        let mut command = proxy(upstream, &["--connect-timeout", "10"]);
        command.env("HOSTALIASES", aliases);
        Self::spawn(command)
    }

    /// Starts the HTTP server that upgrades, on a port of its own.
    pub fn http_upgrade() -> Self {
        let mut command = Command::new(example("http_upgrade"));
        command.args(["--listen", "127.0.0.1:0"]);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let (_, address) = line.trim().split_once("://").expect(&line);
        Self {
            addr: address.parse().unwrap(),
            child,
        }
    }

    /// Runs it to its end, which comes by itself.
    pub fn run(arguments: &[&str]) -> Output {
        run_example("echo_server", arguments, "")
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.unwrap().success());
    }

    /// Processor time that it has used so far, in clock ticks of 10 ms.
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the name in brackets: state is the first field, user and system time are the 12th and 13th.
        let fields = stat.rsplit(')').next().unwrap();
        let mut times = fields.split_whitespace().skip(11);
        let mut next = || times.next().unwrap().parse::<u64>().unwrap();
        next() + next()
    }

    /// Bytes of memory that it has resident.
    pub fn resident(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
        pages * 4096
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(directory).unwrap().count()
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the server does not end");
            std::thread::yield_now();
        }
    }

    /// What it has written to its output since the first line. It must have ended.
    pub fn output(&mut self) -> String {
        let mut text = String::new();
        let stdout = self.child.stdout.as_mut().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        text
    }
}

fn proxy(upstream: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(example("proxy"));
    command
        .args(["--listen", "127.0.0.1:0", "--upstream", upstream])
        .args(arguments);
    command
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        // Of use only when a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs an example to its end, which comes by itself, with `input` on its standard input.
pub fn run_example(name: &str, arguments: &[&str], input: impl Into<Vec<u8>>) -> Output {
    let mut child = start_example(name, arguments, Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    let input = input.into();
    // It need not read all of it.
    std::thread::spawn(move || stdin.write_all(&input));
    finish(child)
}

/// As `run_example`, with a file on its standard input.
pub fn run_example_on(name: &str, arguments: &[&str], input: File) -> Output {
    finish(start_example(name, arguments, input.into()))
}

/// As `run_example`, on a terminal, with nothing on its standard input. What it writes to either output is in the first.
#[cfg(target_os = "linux")]
pub fn run_example_on_terminal(name: &str, arguments: &[&str]) -> Output {
    let command = format!("{} {}", example(name).display(), arguments.join(" "));
    let child = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("script, of every Linux system's bsdutils or util-linux");
    finish(child)
}

fn start_example(name: &str, arguments: &[&str], stdin: Stdio) -> Child {
    Command::new(example(name))
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn finish(child: Child) -> Output {
    let id = child.id().to_string();
    let (send, receive) = channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    let Ok(output) = receive.recv_timeout(DEADLINE) else {
        let _ = Command::new("kill").args(["-s", "KILL", &id]).status();
        panic!("it does not end within {DEADLINE:?}");
    };
    output.unwrap()
}

/// The examples lie beside the tests. Cargo builds them with the tests, unless this test target alone is asked for.
fn example(name: &str) -> PathBuf {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap();
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--quiet"])
            .args(["--example", "echo_server"])
            .args(["--example", "simple_client"])
            .args(["--example", "load"])
            .args(["--example", "proxy"])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success());
        profile.join("examples")
    });
    folder.join(name)
}

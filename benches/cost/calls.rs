use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The system calls of a process, as strace counts them.
pub struct Calls {
    calls: Vec<Call>,
}

struct Call {
    name: String,
    made: u64,
    /// Those that failed: reads that found nothing.
    in_vain: u64,
}

/// A command to put another one behind, and the file that will have its calls.
pub fn strace() -> (Command, PathBuf) {
    let table = std::env::temp_dir().join(format!("wsloop-strace-{}", std::process::id()));
    let mut strace = Command::new("strace");
    strace.args(["-c", "-f", "-o"]).arg(&table);
    (strace, table)
}

impl Calls {
    /// Takes strace's table, and removes the file.
    pub fn take(table: &Path) -> Result<Self, Box<dyn Error>> {
        let text = fs::read_to_string(table)?;
        fs::remove_file(table)?;
        let calls: Vec<Call> = text.lines().filter_map(Call::parse).collect();
        if calls.is_empty() {
            return Err(format!("strace has counted nothing: {text}").into());
        }
        Ok(Self { calls })
    }

    /// Prints the calls that matter, per `what` of which there were `count`.
    pub fn print(&self, what: &str, count: f64) {
        for call in &self.calls {
            let each = call.made as f64 / count;
            if each >= 0.001 {
                println!(
                    "{:>16} {:>10} {each:.3} per {what}, {} in vain",
                    call.name, call.made, call.in_vain
                );
            }
        }
    }

    pub fn made(&self) -> f64 {
        self.calls.iter().map(|call| call.made as f64).sum()
    }

    pub fn in_vain(&self) -> f64 {
        self.calls.iter().map(|call| call.in_vain as f64).sum()
    }

    /// How often a poll was asked.
    pub fn polls(&self) -> u64 {
        let polls = self.calls.iter().filter(|it| it.name.starts_with("epoll_"));
        let waits = polls.filter(|call| call.name.contains("wait"));
        waits.map(|call| call.made).sum()
    }
}

impl Call {
    /// A line of the table: share of the time, seconds, µs per call, calls, errors if there were any, name.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (name, in_vain) = match fields[..] {
            [_, _, _, _, name] => (name, 0),
            [_, _, _, _, errors, name] => (name, errors.parse().ok()?),
            _ => return None,
        };
        (name != "total").then_some(Self {
            name: name.to_owned(),
            made: fields[3].parse().ok()?,
            in_vain,
        })
    }
}

/// An error when `what` is above the bound, if there is one.
pub fn check(what: &str, figure: f64, at_most: Option<f64>) -> Result<(), Box<dyn Error>> {
    match at_most {
        Some(bound) if figure > bound => {
            Err(format!("{what}: {figure:.3}, and at most {bound} are allowed").into())
        }
        _ => Ok(()),
    }
}

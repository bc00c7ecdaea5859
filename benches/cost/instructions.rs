use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A command to put another one behind, and the file that will have what callgrind counted of it.
pub fn callgrind() -> (Command, PathBuf) {
    let file = std::env::temp_dir().join(format!("wsloop-callgrind-{}", std::process::id()));
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--callgrind-out-file={}", file.display()));
    (valgrind, file)
}

/// Instructions in user space. Removes the file.
pub fn take(file: &Path) -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string(file)?;
    fs::remove_file(file)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(total
        .ok_or("callgrind has counted nothing")?
        .trim()
        .parse()?)
}

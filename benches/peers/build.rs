//! Builds uWebSockets' echo server: a program of its own, with its own recommended compiler flags and its epoll loop.
//!
//! It is built twice: for this machine's processor, as its authors recommend, and for counting instructions without AVX-512,
//! which valgrind does not know. The source comes out of the package `libuwebsockets-sys`, which cargo fetches for its metadata. Without a C++ compiler or
//! zlib's header there is no server, and a warning says so.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rerun-if-changed=src/servers/uwebsockets.cpp");
    println!("cargo::rerun-if-changed=build.rs");
    for (variable, processor) in [
        ("UWEBSOCKETS_SERVER", "native"),
        ("UWEBSOCKETS_SERVER_COUNTED", "x86-64-v3"),
    ] {
        match build(processor) {
            Ok(program) => println!("cargo::rustc-env={variable}={}", program.display()),
            Err(error) => {
                println!("cargo::warning=uWebSockets for {processor} is left out: {error}")
            }
        }
    }
}

fn build(processor: &str) -> Result<PathBuf, Box<dyn Error>> {
    let source = source()?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join(processor);
    fs::create_dir_all(&out)?;
    let processor = format!("-march={processor}");
    let (include, sockets) = (source.join("src"), source.join("uSockets/src"));
    let mut objects = Vec::new();
    for folder in [&sockets, &sockets.join("eventing"), &sockets.join("crypto")] {
        for entry in folder.read_dir()? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "c") {
                let object = out.join(file.with_extension("o").file_name().unwrap_or_default());
                run(Command::new("cc")
                    .args([
                        "-std=c11",
                        "-O3",
                        "-flto",
                        "-DLIBUS_NO_SSL",
                        "-w",
                        "-c",
                        &processor,
                    ])
                    .arg("-I")
                    .arg(&sockets)
                    .arg(&file)
                    .arg("-o")
                    .arg(&object))?;
                objects.push(object);
            }
        }
    }
    let program = out.join("uwebsockets");
    run(Command::new("c++")
        .args([
            "-std=c++20",
            "-O3",
            "-flto=auto",
            "-DLIBUS_NO_SSL",
            "-w",
            &processor,
        ])
        .arg("-I")
        .arg(include)
        .arg("-I")
        .arg(sockets)
        .arg("src/servers/uwebsockets.cpp")
        .args(objects)
        .arg("-lz")
        .arg("-o")
        .arg(&program))?;
    Ok(program)
}

/// Where cargo keeps uWebSockets' source.
fn source() -> Result<PathBuf, Box<dyn Error>> {
    let output = Command::new(env::var("CARGO")?)
        .args([
            "metadata",
            "--format-version=1",
            "--features=libuwebsockets-sys",
        ])
        .output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    metadata["packages"]
        .as_array()
        .and_then(|packages| {
            let mut packages = packages.iter();
            packages.find(|package| package["name"] == "libuwebsockets-sys")
        })
        .and_then(|package| package["manifest_path"].as_str())
        .and_then(|manifest| Path::new(manifest).parent())
        .map(|folder| folder.join("uWebSockets"))
        .ok_or_else(|| "cargo does not know the package libuwebsockets-sys".into())
}

fn run(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let first = errors.lines().find(|line| line.contains("error"));
    Err(first.unwrap_or("the compiler failed").to_owned().into())
}

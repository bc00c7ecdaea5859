//! Keeps the map in `lib.rs` true.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Longest file without its tests, in lines.
const MAX_LINES: usize = 400;

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Folders in the order of the map, the highest first, with their floors.
fn map() -> Vec<(u32, String)> {
    let lib = fs::read_to_string(src().join("lib.rs")).unwrap();
    lib.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("//! |")?.split('|').map(str::trim);
            let floor = cells.next()?.parse().ok()?;
            Some((floor, cells.next()?.trim_matches('`').to_owned()))
        })
        .collect()
}

/// Pages of the guide, and tests in files of their own, are none.
fn is_code(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.ends_with(".rs") && !name.ends_with("_tests.rs") && !name.ends_with("/tests.rs")
}

/// All source files of a folder, with their text up to their tests and without comments.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if is_code(&path) {
            let text = fs::read_to_string(&path).unwrap();
            let code: Vec<&str> = text
                .lines()
                .take_while(|line| !line.starts_with("#[cfg(test)]"))
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            files.push((path, code.join("\n")));
        }
    }
    files
}

/// First segments of all paths that start with `crate::`, also in groups.
fn imports(code: &str) -> Vec<String> {
    let ident = |text: &str| -> String {
        text.chars()
            .take_while(|&c| c.is_alphanumeric() || c == '_')
            .collect()
    };
    let mut found = Vec::new();
    for (at, prefix) in code.match_indices("crate::") {
        let rest = &code[at + prefix.len()..];
        if !rest.starts_with('{') {
            found.push(ident(rest));
            continue;
        }
        let (mut depth, mut fresh) = (0, false);
        for (at, c) in rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            match c {
                _ if depth == 0 => break,
                '{' | ',' => fresh = depth == 1,
                c if c.is_alphabetic() && fresh => {
                    found.push(ident(&rest[at..]));
                    fresh = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn imports_are_found_in_every_form() {
    let code = "use crate::{a::{b, c}, d,\n  e::f};\nlet x = crate::g::h();";
    assert_eq!(imports(code), ["a", "d", "e", "g"]);
}

#[test]
fn the_map_names_every_folder_and_floors_descend() {
    let map = map();
    let mut folders: Vec<String> = fs::read_dir(src())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let mut named: Vec<String> = map.iter().map(|(_, folder)| folder.clone()).collect();
    folders.sort();
    named.sort();
    assert_eq!(folders, named);
    assert!(map.is_sorted_by(|above, below| above.0 >= below.0));
}

#[test]
fn nothing_imports_from_above() {
    let map = map();
    for (rank, (_, folder)) in map.iter().enumerate() {
        for (path, code) in sources(&src().join(folder)) {
            for import in imports(&code) {
                let imported = map.iter().position(|(_, folder)| *folder == import);
                assert!(
                    imported.is_some_and(|imported| imported >= rank),
                    "{} imports crate::{import}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn each_floor_knows_only_what_the_map_says() {
    let forbidden = |floor: u32, folder: &str| {
        let mut words = Vec::new();
        if floor < 5 {
            words.push("Instant::now");
        }
        if floor < 2 {
            words.extend(["std::net", "mio::", "socket2", "TcpStream"]);
        }
        if folder != "driver" {
            words.push("app.on_");
        }
        words
    };
    for (floor, folder) in map() {
        for (path, code) in sources(&src().join(&folder)) {
            for word in forbidden(floor, &folder) {
                assert!(!code.contains(word), "{} says {word}", path.display());
            }
        }
    }
}

#[test]
fn files_are_short_and_finished() {
    for (path, code) in sources(&src()) {
        let lines = code.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines", path.display());
        for word in ["todo!", "unimplemented!", "FIXME", "dbg!"] {
            let here = path.ends_with("house.rs");
            assert!(
                here || !code.contains(word),
                "{} says {word}",
                path.display()
            );
        }
    }
}

/// A number as documentation or source have it: `262,144`, `512 KiB`, `256 * KIB`.
fn number(text: &str) -> u64 {
    let (digits, unit) = text.split_once(' ').unwrap_or((text, ""));
    let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
    let shift = match unit.trim_start_matches("* ") {
        "KiB" | "KIB" => 10,
        "MiB" | "MIB" => 20,
        "GiB" => 30,
        _ => 0,
    };
    digits.parse::<u64>().unwrap() << shift
}

/// The README's table of settings says what the documentation of `Config` says.
#[test]
fn the_readme_lists_every_setting_with_its_default() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let source = fs::read_to_string(src().join("config/mod.rs")).unwrap();
    let (_, settings) = source.split_once("settings! {\n").unwrap();
    let mut doc = String::new();
    let mut count = 0;
    for line in settings
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with('}'))
    {
        if let Some(text) = line.strip_prefix("///") {
            doc.push_str(text);
        } else if let Some((name, value)) = line.split_once(": ").filter(|_| line.ends_with(';')) {
            let (_, default) = doc.split_once(" Default ").expect(name);
            let default = default.split(['.', ';']).next().unwrap();
            let row = format!("| `{name}` | {default} | ");
            assert!(readme.contains(&row), "no row {row:?}");
            if let Some(bytes) = value.strip_prefix("usize = ") {
                assert_eq!(
                    number(default),
                    number(bytes.trim_end_matches(';')),
                    "{name}"
                );
            }
            doc.clear();
            count += 1;
        }
    }
    assert!(count > 40, "only {count} settings were found");
}

//! Cookies of a request (RFC 6265 §4.2).

use super::token::trim;

/// The value of the first cookie of that name in the values of `Cookie` lines. Case counts. A value in quotes keeps them: they
/// are a part of it (RFC 6265 §4.1.1). `None` also for a value that is not UTF-8.
pub fn cookie<'a>(lines: impl IntoIterator<Item = &'a [u8]>, name: &str) -> Option<&'a str> {
    let pairs = lines
        .into_iter()
        .flat_map(|line| line.split(|&byte| byte == b';'));
    let mut values = pairs.filter_map(|pair| {
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        (trim(&pair[..equals]) == name.as_bytes()).then(|| trim(&pair[equals + 1..]))
    });
    core::str::from_utf8(values.next()?).ok()
}

#[cfg(test)]
mod tests {
    use super::cookie;

    #[test]
    fn cookies_are_found_by_name_over_all_lines() {
        let lines = [
            &b"a=1; b=\"2\"; c="[..],
            b" d = 4 ;e=x=y;nothing",
            b"a=5; f=\xff",
        ];
        for (name, expected) in [
            ("a", Some("1")),
            ("b", Some("\"2\"")),
            ("c", Some("")),
            ("d", Some("4")),
            ("e", Some("x=y")),
            ("f", None),
            ("A", None),
            ("nothing", None),
            ("", None),
        ] {
            assert_eq!(cookie(lines, name), expected, "{name}");
        }
    }
}

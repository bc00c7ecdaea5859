use super::{DeflateParams, DeflatePolicy, ExtensionError, accept_deflate, check_deflate_answer};
use crate::protocol::Role;

const WILLING: DeflatePolicy = DeflatePolicy {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};
const ALONE: DeflatePolicy = DeflatePolicy {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    ..WILLING
};
const SMALL: DeflatePolicy = DeflatePolicy {
    server_max_window_bits: 10,
    client_max_window_bits: 11,
    ..WILLING
};

fn answer(policy: &DeflatePolicy, lines: &[&str]) -> Option<String> {
    let lines = lines.iter().map(|line| line.as_bytes());
    accept_deflate(lines, policy).map(|params| params.to_string())
}

#[test]
fn a_server_confirms_what_is_asked_for() {
    for (offer, expected) in [
        ("", ""),
        (
            "; server_no_context_takeover",
            "; server_no_context_takeover",
        ),
        (
            "; client_no_context_takeover",
            "; client_no_context_takeover",
        ),
        ("; server_max_window_bits=10", "; server_max_window_bits=10"),
        (
            "; server_max_window_bits=\"10\"",
            "; server_max_window_bits=10",
        ),
        ("; server_max_window_bits=15", "; server_max_window_bits=15"),
        ("; server_max_window_bits=8", "; server_max_window_bits=8"),
        ("; client_max_window_bits", ""),
        ("; client_max_window_bits=15", ""),
        ("; client_max_window_bits=9", "; client_max_window_bits=9"),
    ] {
        let offer = format!("permessage-deflate{offer}");
        let expected = format!("permessage-deflate{expected}");
        assert_eq!(answer(&WILLING, &[&offer]), Some(expected), "{offer}");
    }
}

#[test]
fn a_server_adds_what_it_insists_on() {
    let alone = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(
        answer(&ALONE, &["permessage-deflate"]).as_deref(),
        Some(alone)
    );
    for (offer, expected) in [
        ("", "; server_max_window_bits=10"),
        ("; server_max_window_bits=12", "; server_max_window_bits=10"),
        ("; server_max_window_bits=9", "; server_max_window_bits=9"),
        (
            "; client_max_window_bits",
            "; server_max_window_bits=10; client_max_window_bits=11",
        ),
        (
            "; client_max_window_bits=9",
            "; server_max_window_bits=10; client_max_window_bits=9",
        ),
    ] {
        let offer = format!("permessage-deflate{offer}");
        let expected = format!("permessage-deflate{expected}");
        assert_eq!(answer(&SMALL, &[&offer]), Some(expected), "{offer}");
    }
}

#[test]
fn a_server_declines_what_it_does_not_understand() {
    for params in [
        "; x",
        "; x=1",
        "; server_no_context_takeover=1",
        "; client_no_context_takeover=true",
        "; server_no_context_takeover; server_no_context_takeover",
        "; client_no_context_takeover; client_no_context_takeover",
        "; server_max_window_bits",
        "; server_max_window_bits=7",
        "; server_max_window_bits=16",
        "; server_max_window_bits=08",
        "; server_max_window_bits=+9",
        "; server_max_window_bits=1e1",
        "; server_max_window_bits=256",
        "; server_max_window_bits=10; server_max_window_bits=10",
        "; client_max_window_bits=7",
        "; client_max_window_bits=16",
        "; client_max_window_bits; client_max_window_bits=10",
        ";",
        "; x=\"",
    ] {
        let offer = format!("permessage-deflate{params}");
        assert_eq!(answer(&WILLING, &[&offer]), None, "{offer}");
    }
    assert_eq!(answer(&WILLING, &[]), None);
    assert_eq!(
        answer(&WILLING, &["x-webkit-deflate-frame, permessage-bzip2"]),
        None
    );
}

#[test]
fn the_first_acceptable_offer_counts() {
    let lines = [
        "permessage-deflate; x, x-other; y=1",
        "permessage-deflate; server_max_window_bits=9, permessage-deflate",
    ];
    let expected = Some("permessage-deflate; server_max_window_bits=9".to_owned());
    assert_eq!(answer(&WILLING, &lines), expected);
    // Not what stands behind a mistake in the grammar of its line.
    let lines = [
        "bad bad, permessage-deflate",
        "Permessage-Deflate; Server_Max_Window_Bits=9",
    ];
    assert_eq!(answer(&WILLING, &lines), expected);
}

fn check(
    policy: Option<&DeflatePolicy>,
    lines: &[&str],
) -> Result<Option<DeflateParams>, ExtensionError> {
    check_deflate_answer(lines.iter().map(|line| line.as_bytes()), policy)
}

#[test]
fn an_offer_says_what_a_client_wants() {
    assert_eq!(
        WILLING.to_string(),
        "permessage-deflate; client_max_window_bits"
    );
    assert_eq!(
        ALONE.to_string(),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
    );
    assert_eq!(
        SMALL.to_string(),
        "permessage-deflate; server_max_window_bits=10; client_max_window_bits=11"
    );
    // Every one of our offers is acceptable to every one of our servers, and the answer to the client.
    for client in [WILLING, ALONE, SMALL] {
        for server in [WILLING, ALONE, SMALL] {
            let agreed = accept_deflate([client.to_string().as_bytes()], &server).unwrap();
            assert_eq!(
                check(Some(&client), &[&agreed.to_string()]),
                Ok(Some(agreed))
            );
        }
    }
}

#[test]
fn a_client_takes_what_it_offered() {
    assert_eq!(check(Some(&WILLING), &[]), Ok(None));
    assert_eq!(check(None, &["", " , "]), Ok(None));
    let agreed = check(
        Some(&WILLING),
        &["permessage-deflate; client_no_context_takeover; server_max_window_bits=9; client_max_window_bits=\"8\""],
    )
    .unwrap()
    .unwrap();
    let server = agreed.direction(Role::Server);
    assert_eq!((server.window_bits, server.context_takeover), (9, true));
    let client = agreed.direction(Role::Client);
    assert_eq!((client.window_bits, client.context_takeover), (8, false));
}

#[test]
fn a_client_refuses_every_other_answer() {
    use ExtensionError::{Malformed, NotGranted, NotOffered, Parameter, Repeated};
    for (policy, line, expected) in [
        (None, "permessage-deflate", NotOffered),
        (Some(&WILLING), "x", NotOffered),
        (Some(&WILLING), "permessage-deflate, x", NotOffered),
        (
            Some(&WILLING),
            "permessage-deflate, permessage-deflate",
            Repeated,
        ),
        (Some(&WILLING), "permessage-deflate;", Malformed),
        (Some(&WILLING), "permessage-deflate; x", Parameter),
        (
            Some(&WILLING),
            "permessage-deflate; client_max_window_bits",
            Parameter,
        ),
        (
            Some(&WILLING),
            "permessage-deflate; client_max_window_bits=16",
            Parameter,
        ),
        (
            Some(&WILLING),
            "permessage-deflate; server_max_window_bits=7",
            Parameter,
        ),
        (
            Some(&WILLING),
            "permessage-deflate; server_no_context_takeover=1",
            Parameter,
        ),
        (
            Some(&WILLING),
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            Parameter,
        ),
        (Some(&ALONE), "permessage-deflate", NotGranted),
        (
            Some(&ALONE),
            "permessage-deflate; client_no_context_takeover",
            NotGranted,
        ),
        (Some(&SMALL), "permessage-deflate", NotGranted),
        (
            Some(&SMALL),
            "permessage-deflate; server_max_window_bits=11",
            NotGranted,
        ),
    ] {
        assert_eq!(check(policy, &[line]), Err(expected), "{line}");
    }
    assert_eq!(
        check(
            Some(&WILLING),
            &["permessage-deflate", "permessage-deflate"]
        ),
        Err(Repeated)
    );
}

//! A peer that is started and put under load, and what one run of it says.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    frames::{self, client_frame, server_frame},
    handshakes,
    load::{Answer, Load, Outcome, Traffic, listener},
    pace,
    process::{Server, Under},
    results::median,
    scenario::{Measure, Metric, Scenario},
    servers::{ANNOUNCEMENT_LEN, Deflate, Peer, Role},
    slices::{Done, Session, Work},
    watch::Watch,
};

/// How long a peer is put under load before anything counts, and while it counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// What came out of a run, or of a slice of it.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) figures: Vec<(Metric, f64)>,
    /// The share of the time in which the server or the load was ready to run, and did not.
    pub(crate) disturbed: f64,
}

impl Run {
    /// The medians of several, of which each has the same figures.
    pub(crate) fn median(runs: &[Self]) -> Option<Self> {
        let figure = |index: usize| {
            let metric = runs.first()?.figures.get(index)?.0;
            let values = runs.iter().map(|run| run.figures[index].1).collect();
            Some((metric, median(values)?))
        };
        Some(Self {
            figures: (0..).map_while(figure).collect(),
            disturbed: median(runs.iter().map(|run| run.disturbed).collect())?,
        })
    }
}

/// Rounds of the two runs under callgrind or strace, whose difference counts.
const COUNTED_ROUNDS: (usize, usize) = (20, 220);
const COUNTED_MESSAGES: usize = 4000;
/// Messages of each connection before its memory is looked at.
const TRAFFIC_ROUNDS: usize = 2;
const TRAFFIC_SIZE: usize = 16 * 1024;
/// Time that passes before it is looked at.
const UNTIL_IDLE: Duration = Duration::from_secs(1);

/// One run by itself, of what is not measured in slices.
pub(crate) fn run(scenario: &Scenario, peer: Peer, times: Times, pace: f64) -> Outcome<Run> {
    match scenario.measure {
        Measure::Latency => latency(scenario, peer, times, pace),
        Measure::Memory => memory(scenario, peer),
        Measure::Instructions => instructions(scenario, peer),
        Measure::Calls => calls(scenario, peer),
        measure => Err(format!("{} is measured in slices", measure.name()).into()),
    }
}

/// A server and its load, of what is measured in slices.
pub(crate) fn session(scenario: &Scenario, peer: Peer) -> Outcome<Session> {
    let (server, work) = match scenario.measure {
        Measure::Broadcast => broadcast(scenario, peer),
        Measure::Handshakes => handshakes(scenario, peer),
        _ => messages(scenario, peer),
    }?;
    Ok(Session::new(peer, server, work))
}

// --- In slices ------------------------------------------------------------------------------------------------------

fn messages(scenario: &Scenario, peer: Peer) -> Outcome<(Server, Work)> {
    let (server, mut load) = start(scenario, peer, Under::Nothing)?;
    let traffic = traffic(scenario, peer)?;
    check(scenario, peer, &mut load)?;
    let (active, at_once, in_flight) =
        (scenario.connections, scenario.at_once(), scenario.in_flight);
    let work = move |_: &Server, time| {
        let mut done = load.run(active, at_once, &traffic, time)?;
        done.count *= in_flight;
        Ok(done)
    };
    Ok((server, Box::new(work)))
}

fn broadcast(scenario: &Scenario, peer: Peer) -> Outcome<(Server, Work)> {
    let (server, mut load) = start(scenario, peer, Under::Nothing)?;
    let wire = client_frame(&[u8::try_from(scenario.in_flight)?], false);
    let answer = Answer::Bytes(scenario.in_flight * frames::server_frame_len(ANNOUNCEMENT_LEN));
    let (receivers, in_flight) = (scenario.connections, scenario.in_flight);
    let work = move |_: &Server, time| {
        let begin = Instant::now();
        let mut done = Done::default();
        while done.within < time {
            load.broadcast(&wire, receivers, answer)?;
            done.count += receivers * in_flight;
            done.within = begin.elapsed();
        }
        Ok(done)
    };
    Ok((server, Box::new(work)))
}

fn handshakes(scenario: &Scenario, peer: Peer) -> Outcome<(Server, Work)> {
    let server = Server::start(&scenario.options(peer), Under::Nothing)?;
    let address = server.address.ok_or("handshakes are a server's")?;
    let mut load = handshakes::Load::new(address, scenario.connections)?;
    let work = move |server: &Server, time| load.run(server, time);
    Ok((server, Box::new(work)))
}

// --- By itself ------------------------------------------------------------------------------------------------------

fn latency(scenario: &Scenario, peer: Peer, times: Times, pace: f64) -> Outcome<Run> {
    let server = Server::start(&scenario.options(peer), Under::Nothing)?;
    let address = server.address.ok_or("latency is a server's")?;
    let traffic = traffic(scenario, peer)?;
    let mut load = pace::Load::new(address, scenario.connections)?;
    load.run(&traffic, pace, times.warm_up)?;
    let watch = Watch::start(&server)?;
    let latencies = load.run(&traffic, pace, times.measured)?;
    let passed = watch.stop(&server)?;
    let at = |quantile| latencies.value_at_quantile(quantile) as f64;
    Ok(Run {
        figures: vec![
            (Metric::P50, at(0.5)),
            (Metric::P99, at(0.99)),
            (Metric::P999, at(0.999)),
        ],
        disturbed: passed.disturbed(),
    })
}

// --- Counts -----------------------------------------------------------------------------------------------------------

fn memory(scenario: &Scenario, peer: Peer) -> Outcome<Run> {
    // What every server needs is there before the first look: one connection that has been used.
    let one = Scenario {
        connections: 1,
        size: TRAFFIC_SIZE,
        ..*scenario
    };
    let used = Scenario {
        size: TRAFFIC_SIZE,
        ..*scenario
    };
    let (server, mut load) = start(&one, peer, Under::Nothing)?;
    let traffic = traffic(&used, peer)?;
    load.round(0..1, &traffic)?;
    let before = server.resident()?;
    let address = server.address.ok_or("memory is a server's")?;
    load.connect(address, scenario.connections, scenario.deflate)?;
    let idle = server.resident()?;
    for _ in 0..TRAFFIC_ROUNDS {
        load.round(0..scenario.connections, &traffic)?;
    }
    std::thread::sleep(UNTIL_IDLE);
    let after = server.resident()?;
    let per = |bytes: u64| bytes.saturating_sub(before) as f64 / scenario.connections as f64;
    Ok(Run {
        figures: vec![
            (Metric::Idle, per(idle)),
            (Metric::AfterTraffic, per(after)),
        ],
        disturbed: 0.0,
    })
}

fn instructions(scenario: &Scenario, peer: Peer) -> Outcome<Run> {
    let file = temporary("callgrind");
    let count = |rounds| {
        rounds_under(scenario, peer, Under::Callgrind(&file), rounds)?;
        let text = fs::read_to_string(&file)?;
        fs::remove_file(&file)?;
        let totals = text.lines().find_map(|line| {
            line.strip_prefix("totals: ")
                .or_else(|| line.strip_prefix("summary: "))
        });
        Ok(totals
            .ok_or("callgrind wrote no sum")?
            .trim()
            .parse::<f64>()?)
    };
    difference(scenario, Metric::Instructions, count)
}

fn calls(scenario: &Scenario, peer: Peer) -> Outcome<Run> {
    let file = temporary("strace");
    let count = |rounds| {
        rounds_under(scenario, peer, Under::Strace(&file), rounds)?;
        let text = fs::read_to_string(&file)?;
        fs::remove_file(&file)?;
        let total = text.lines().find(|line| line.ends_with(" total"));
        let calls = total.and_then(|line| line.split_whitespace().nth(3));
        Ok(calls.ok_or("strace wrote no sum")?.parse::<f64>()?)
    };
    difference(scenario, Metric::Calls, count)
}

/// What more rounds cost more.
fn difference(
    scenario: &Scenario,
    metric: Metric,
    count: impl Fn(usize) -> Outcome<f64>,
) -> Outcome<Run> {
    let per_round = scenario.connections * scenario.in_flight;
    let few = COUNTED_ROUNDS.0.min(COUNTED_MESSAGES.div_ceil(per_round));
    let many =
        few + (COUNTED_ROUNDS.1 - COUNTED_ROUNDS.0).min(COUNTED_MESSAGES.div_ceil(per_round));
    let more = count(many)? - count(few)?;
    Ok(Run {
        figures: vec![(metric, more / ((many - few) * per_round) as f64)],
        disturbed: 0.0,
    })
}

fn rounds_under(scenario: &Scenario, peer: Peer, under: Under<'_>, rounds: usize) -> Outcome<()> {
    let (server, mut load) = start(scenario, peer, under)?;
    let traffic = traffic(scenario, peer)?;
    for _ in 0..rounds {
        load.round(0..scenario.connections, &traffic)?;
    }
    server.stop()
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("wsloop-peers-{name}-{}", std::process::id()))
}

// --- Both sides -------------------------------------------------------------------------------------------------------

/// The peer with all its connections.
fn start(scenario: &Scenario, peer: Peer, under: Under<'_>) -> Outcome<(Server, Load)> {
    let mut options = scenario.options(peer);
    let mut load = Load::new()?;
    let server = match scenario.role {
        Role::Server => {
            let server = Server::start(&options, under)?;
            let address = server.address.ok_or("a server without an address")?;
            load.connect(address, options.connections, scenario.deflate)?;
            server
        }
        Role::Client => {
            let listener = listener()?;
            options.dial = Some(listener.local_addr()?);
            let server = Server::start(&options, under)?;
            load.accept(&listener, options.connections, scenario.deflate)?;
            server
        }
    };
    Ok((server, load))
}

fn traffic(scenario: &Scenario, peer: Peer) -> Outcome<Traffic> {
    let compressed = scenario.deflate != Deflate::Off;
    let payload = payload(scenario.size);
    let sent = if compressed {
        frames::compress(&payload)?
    } else {
        payload
    };
    let frame = match scenario.role {
        Role::Server => client_frame(&sent, compressed),
        Role::Client => server_frame(&sent, compressed),
    };
    let answer = match scenario.role {
        // Masked, as they came.
        Role::Server if peer == Peer::RawBytes => Answer::Bytes(scenario.in_flight * frame.len()),
        _ if compressed => Answer::Frames(scenario.in_flight),
        Role::Server => Answer::Bytes(scenario.in_flight * frames::server_frame_len(sent.len())),
        Role::Client => Answer::Bytes(scenario.in_flight * frames::client_frame_len(sent.len())),
    };
    Ok(Traffic {
        wire: frame.repeat(scenario.in_flight),
        answer,
    })
}

/// Text, as a program would send it: JSON of readings that differ.
fn payload(size: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(size + 64);
    let mut number: u32 = 1;
    while text.len() < size {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend_from_slice(
            format!(
                r#"{{"sensor":{},"value":{},"unit":"kPa","valid":true}},"#,
                number >> 24,
                number >> 12
            )
            .as_bytes(),
        );
    }
    text.truncate(size);
    text
}

/// Whether a peer sends back what it was sent.
fn check(scenario: &Scenario, peer: Peer, load: &mut Load) -> Outcome<()> {
    if scenario.deflate != Deflate::Off || peer == Peer::RawBytes {
        return Ok(());
    }
    let payload = payload(scenario.size);
    let came_back = match scenario.role {
        Role::Server => {
            let frame = client_frame(&payload, false);
            load.sample(&frame, frames::server_frame_len(payload.len()))?
                == server_frame(&payload, false)
        }
        Role::Client => {
            let frame = server_frame(&payload, false);
            let answer = load.sample(&frame, frames::client_frame_len(payload.len()))?;
            frames::unmasked(&answer).as_ref() == Some(&frame)
        }
    };
    if came_back {
        Ok(())
    } else {
        Err("what came back is not what was sent".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_runs_is_that_of_each_figure() {
        let run = |cpu, rate, disturbed| Run {
            figures: vec![(Metric::Cpu, cpu), (Metric::Rate, rate)],
            disturbed,
        };
        let runs = [
            run(1.0, 30.0, 0.2),
            run(3.0, 10.0, 0.0),
            run(2.0, 20.0, 0.1),
        ];
        let median = Run::median(&runs).unwrap();
        assert_eq!(
            (median.figures, median.disturbed),
            (vec![(Metric::Cpu, 2.0), (Metric::Rate, 20.0)], 0.1)
        );
        assert!(Run::median(&[]).is_none());
    }
}

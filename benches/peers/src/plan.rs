//! Which scenarios there are, and in which order they are run: the peers in turn, A B C A B C, so that whatever changes on the
//! machine meanwhile meets all of them.

use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    load::Outcome,
    results::{Machine, Results},
    run::{self, Run, Times},
    scenario::{Measure, Metric, Scenario},
    servers::{Deflate, Peer, Role},
    slices, watch,
};

/// As `slices::MAX_DISTURBED`, of latencies: what is lost of the time is lost by as many answers, and a thousandth of them is all
/// that p99.9 looks at. About one run in three is that quiet.
const MAX_DISTURBED_LATENCY: f64 = 0.0012;
/// So it is tried more often.
const MORE_LATENCY_TRIES: u32 = 6;
/// Messages a second where uWebSockets cannot be asked for half of what it bears.
const DEFAULT_PACE: f64 = 50_000.0;
/// Memory is taken this often, at most: it hardly changes.
const MEMORY_REPEATS: usize = 3;

/// Which scenarios are run; those of all kinds unless something is chosen.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',')]
    measure: Vec<Measure>,
    /// Who takes part
    #[arg(long, value_enum, value_delimiter = ',')]
    peer: Vec<Peer>,
    /// Payloads of the messages in bytes
    #[arg(long, value_delimiter = ',')]
    size: Vec<usize>,
    /// Connections that messages go over
    #[arg(long, value_delimiter = ',')]
    connections: Vec<usize>,
    /// Messages that are under way on each at a time
    #[arg(long, value_delimiter = ',')]
    in_flight: Vec<usize>,
    /// Which side the peers are
    #[arg(long, value_enum, value_delimiter = ',')]
    role: Vec<Role>,
    /// What is compressed
    #[arg(long, value_enum, value_delimiter = ',')]
    deflate: Vec<Deflate>,
    /// Runs of each peer, of which the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Milliseconds that a run is measured for at least, after a quarter of it for warming up
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..))]
    milliseconds: u64,
    /// How often a run is tried that others disturb
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,
}

fn max_disturbed(measure: Measure) -> f64 {
    match measure {
        Measure::Latency => MAX_DISTURBED_LATENCY,
        _ => slices::MAX_DISTURBED,
    }
}

impl Selection {
    /// Runs everything that was chosen. What there is so far is saved after each scenario: the whole takes more than an hour.
    pub(crate) fn run(
        &self,
        machine: Machine,
        save: impl Fn(&Results) -> Outcome<()>,
    ) -> Outcome<Results> {
        let peers = or_all(&self.peer);
        let scenarios = self.scenarios();
        let total: usize = scenarios
            .iter()
            .map(|scenario| scenario.peers(&peers).len() * self.repeats(scenario))
            .sum();
        let bar = ProgressBar::new(total as u64).with_style(ProgressStyle::with_template(
            "{bar:30} {pos}/{len} {elapsed}, {eta} left: {wide_msg}",
        )?);
        let mut results = Results::new(machine, self.repeats);
        for scenario in &scenarios {
            self.run_one(scenario, &scenario.peers(&peers), &bar, &mut results)?;
            save(&results)?;
        }
        bar.finish_and_clear();
        Ok(results)
    }

    fn run_one(
        &self,
        scenario: &Scenario,
        peers: &[Peer],
        bar: &ProgressBar,
        results: &mut Results,
    ) -> Outcome<()> {
        let pace = match scenario.measure {
            Measure::Latency => self.pace(scenario)?,
            _ => DEFAULT_PACE,
        };
        let mut peers = peers.to_vec();
        let side_by_side = scenario.measure.is_sliced() && scenario.fits_side_by_side();
        let at_a_time = if side_by_side { peers.len().max(1) } else { 1 };
        for _ in 0..self.repeats(scenario) {
            for group in peers.clone().chunks(at_a_time) {
                let names: Vec<&str> = group.iter().map(|peer| peer.name()).collect();
                bar.set_message(format!(
                    "{}: {scenario}, {}",
                    scenario.measure.name(),
                    names.join(", ")
                ));
                for (peer, runs) in self.run_group(scenario, group, pace) {
                    match runs {
                        Ok(runs) => {
                            for run in runs {
                                let disturbed = run.disturbed > max_disturbed(scenario.measure);
                                results.add(scenario, peer, &run, disturbed);
                            }
                        }
                        Err(error) => {
                            let error = format!("{}, {scenario}: {error}", peer.name());
                            if peer.is_ours() {
                                return Err(error.into());
                            }
                            // The others can be measured all the same.
                            results.failures.push(error);
                            peers.retain(|other| *other != peer);
                        }
                    }
                    bar.inc(1);
                }
            }
        }
        Ok(())
    }

    /// One run of each; each slice is one where they are side by side, and all together where they come one after the other.
    fn run_group(
        &self,
        scenario: &Scenario,
        peers: &[Peer],
        pace: f64,
    ) -> Vec<(Peer, Outcome<Vec<Run>>)> {
        if !scenario.measure.is_sliced() {
            let run = |&peer| {
                let run = self.undisturbed(scenario, peer, pace);
                (peer, run.map(|run| vec![run]))
            };
            return peers.iter().map(run).collect();
        }
        let mut sessions = Vec::new();
        let mut runs = Vec::new();
        for &peer in peers {
            match run::session(scenario, peer) {
                Ok(session) => sessions.push(session),
                Err(error) => runs.push((peer, Err(error))),
            }
        }
        slices::run(&mut sessions, self.times(), self.tries);
        let side_by_side = sessions.len() > 1;
        runs.extend(sessions.into_iter().map(|session| {
            let (peer, slices) = (session.peer, session.end());
            let of_all = |slices: Vec<Run>| Run::median(&slices).into_iter().collect();
            (
                peer,
                if side_by_side {
                    slices
                } else {
                    slices.map(of_all)
                },
            )
        }));
        runs
    }

    /// Half of the messages per second that uWebSockets can answer.
    fn pace(&self, scenario: &Scenario) -> Outcome<f64> {
        let closed = Scenario {
            measure: Measure::Messages,
            ..*scenario
        };
        let peers = closed.peers(&[Peer::Uwebsockets]);
        let runs = self.run_group(&closed, &peers, DEFAULT_PACE);
        let Some((_, runs)) = runs.into_iter().next() else {
            return Ok(DEFAULT_PACE);
        };
        let rate = runs?
            .into_iter()
            .flat_map(|run| run.figures)
            .find(|(metric, _)| *metric == Metric::Rate);
        Ok(rate.map_or(DEFAULT_PACE, |(_, rate)| rate / 2.0))
    }

    fn times(&self) -> Times {
        let measured = Duration::from_millis(self.milliseconds);
        Times {
            warm_up: measured / 4,
            measured,
        }
    }

    /// One run, or the best of several tries.
    fn undisturbed(&self, scenario: &Scenario, peer: Peer, pace: f64) -> Outcome<Run> {
        let tries = match scenario.measure {
            Measure::Latency => self.tries * MORE_LATENCY_TRIES,
            _ => self.tries,
        };
        watch::undisturbed(
            tries,
            max_disturbed(scenario.measure),
            || run::run(scenario, peer, self.times(), pace),
            |run| run.disturbed,
        )
    }

    fn repeats(&self, scenario: &Scenario) -> usize {
        let repeats = self.repeats as usize;
        match scenario.measure {
            measure if measure.is_counted() => 1,
            Measure::Memory => repeats.min(MEMORY_REPEATS),
            _ => repeats,
        }
    }

    fn scenarios(&self) -> Vec<Scenario> {
        let measures = or_all(&self.measure);
        let chosen = |scenario: &Scenario| {
            let holds = |list: &[usize], value| list.is_empty() || list.contains(&value);
            (self.role.is_empty() || self.role.contains(&scenario.role))
                && (self.deflate.is_empty() || self.deflate.contains(&scenario.deflate))
                && (!scenario.measure.has_sizes() || holds(&self.size, scenario.size))
                && holds(&self.connections, scenario.connections)
                && holds(&self.in_flight, scenario.in_flight)
        };
        measures
            .into_iter()
            .flat_map(|measure| self.all(measure))
            .filter(chosen)
            .collect()
    }

    /// The scenarios of a table. Sizes and counts that were asked for are measured even where the usual table has not got them.
    fn all(&self, measure: Measure) -> Vec<Scenario> {
        let or = |asked: &[usize], usual: &[usize]| {
            if asked.is_empty() {
                usual.to_vec()
            } else {
                asked.to_vec()
            }
        };
        let sizes = |usual: &[usize]| or(&self.size, usual);
        let connections = |usual: &[usize]| or(&self.connections, usual);
        let in_flight = |usual: &[usize]| or(&self.in_flight, usual);
        let plain = [(Role::Server, Deflate::Off)];
        match measure {
            Measure::Messages => {
                let mut all = Vec::new();
                for deflate in or_all::<Deflate>(&[]) {
                    let usual: &[usize] = match deflate {
                        Deflate::Off => &[20, 512, 16 << 10, 1 << 20],
                        _ => &[20, 512, 1 << 10, 16 << 10, 1 << 20],
                    };
                    let kinds = [(Role::Server, deflate), (Role::Client, deflate)];
                    all.extend(matrix(
                        measure,
                        &kinds,
                        &sizes(usual),
                        &connections(&[1, 64, 1000]),
                        &in_flight(&[1, 16]),
                    ));
                }
                all
            }
            Measure::Growth => {
                let active = connections(&[10]);
                let mut all = Vec::new();
                for total in [10, 100, 1000, 10_000] {
                    let idle = |scenario: Scenario| Scenario {
                        idle: total - scenario.connections.min(total),
                        ..scenario
                    };
                    all.extend(
                        matrix(measure, &plain, &sizes(&[20]), &active, &in_flight(&[1]))
                            .into_iter()
                            .map(idle),
                    );
                }
                all
            }
            Measure::Broadcast => matrix(
                measure,
                &plain,
                &[1],
                &connections(&[1000]),
                &in_flight(&[1, 16]),
            ),
            Measure::Handshakes => matrix(measure, &plain, &[0], &connections(&[64]), &[1]),
            Measure::Latency => matrix(measure, &plain, &sizes(&[20]), &connections(&[64]), &[1]),
            Measure::Memory => {
                let compressed = [
                    (Role::Server, Deflate::Shared),
                    (Role::Server, Deflate::Dedicated),
                ];
                let mut all = matrix(measure, &plain, &[0], &connections(&[10_000]), &[1]);
                all.extend(matrix(
                    measure,
                    &compressed,
                    &[0],
                    &connections(&[1000]),
                    &[1],
                ));
                all
            }
            Measure::Instructions => matrix(
                measure,
                &plain,
                &sizes(&[20, 512, 16 << 10]),
                &connections(&[64]),
                &in_flight(&[1, 16]),
            ),
            Measure::Calls => matrix(
                measure,
                &plain,
                &sizes(&[20, 16 << 10]),
                &connections(&[64]),
                &in_flight(&[1, 16]),
            ),
        }
    }
}

fn matrix(
    measure: Measure,
    kinds: &[(Role, Deflate)],
    sizes: &[usize],
    connections: &[usize],
    in_flight: &[usize],
) -> Vec<Scenario> {
    let mut all = Vec::new();
    for &(role, deflate) in kinds {
        for &size in sizes {
            for &connections in connections {
                all.extend(in_flight.iter().map(|&in_flight| Scenario {
                    measure,
                    role,
                    deflate,
                    size,
                    connections,
                    idle: 0,
                    in_flight,
                }));
            }
        }
    }
    all
}

fn or_all<T: ValueEnum + Clone>(chosen: &[T]) -> Vec<T> {
    if chosen.is_empty() {
        T::value_variants().to_vec()
    } else {
        chosen.to_vec()
    }
}

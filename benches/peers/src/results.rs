//! What came out: the median of every figure, and what it is to the least possible and to uWebSockets in the same turn.

use std::{collections::BTreeMap, fs, time::SystemTime};

use serde::Serialize;

use crate::{
    run::Run,
    scenario::{Measure, Metric, Scenario},
    servers::Peer,
};

/// What a WebSocket server has to do at the least.
pub(crate) const LEAST: Peer = Peer::RawFrames;

#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) repeats: u32,
    /// Runs, or slices of runs, that were disturbed each time they were tried.
    pub(crate) disturbed: usize,
    /// What peers could not do, and why.
    pub(crate) failures: Vec<String>,
    #[serde(serialize_with = "cells")]
    values: BTreeMap<(Scenario, Metric, Peer), Vec<f64>>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// How the kernel finds out how fast it may send.
    pub(crate) congestion_control: String,
    /// Seconds since 1970.
    pub(crate) time: u64,
}

/// A figure with its place.
#[derive(Debug, Serialize)]
struct Cell {
    scenario: Scenario,
    metric: Metric,
    peer: &'static str,
    median: f64,
    to_least: Option<f64>,
    to_uwebsockets: Option<f64>,
    values: Vec<f64>,
}

impl Results {
    pub(crate) fn new(machine: Machine, repeats: u32) -> Self {
        Self {
            machine,
            repeats,
            disturbed: 0,
            failures: Vec::new(),
            values: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, scenario: &Scenario, peer: Peer, run: &Run, disturbed: bool) {
        self.disturbed += usize::from(disturbed);
        for &(metric, value) in &run.figures {
            self.values
                .entry((*scenario, metric, peer))
                .or_default()
                .push(value);
        }
    }

    pub(crate) fn median(&self, scenario: &Scenario, metric: Metric, peer: Peer) -> Option<f64> {
        median(self.values.get(&(*scenario, metric, peer))?.clone())
    }

    /// The median of the ratios of each turn: what disturbed both has no say in it.
    pub(crate) fn ratio(
        &self,
        scenario: &Scenario,
        metric: Metric,
        peer: Peer,
        to: Peer,
    ) -> Option<f64> {
        ratio(&self.values, (scenario, metric), peer, to)
    }

    /// What was measured, each measure's scenarios and figures.
    pub(crate) fn tables(&self) -> BTreeMap<(Measure, Metric), Vec<Scenario>> {
        let mut tables: BTreeMap<_, Vec<Scenario>> = BTreeMap::new();
        for (scenario, metric, _) in self.values.keys() {
            let table = tables.entry((scenario.measure, *metric)).or_default();
            if table.last() != Some(scenario) && !table.contains(scenario) {
                table.push(*scenario);
            }
        }
        tables
    }

    /// Those that took part in any of the scenarios.
    pub(crate) fn peers(&self, scenarios: &[Scenario]) -> Vec<Peer> {
        let mut peers: Vec<Peer> = self
            .values
            .keys()
            .filter(|(scenario, ..)| scenarios.contains(scenario))
            .map(|(_, _, peer)| *peer)
            .collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }
}

impl Machine {
    /// What makes the figures something else than what the peers cost.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        (self.congestion_control == "bbr").then_some(
            "The kernel paces what it sends (bbr), and large messages cost its timers. \
             `sysctl -w net.ipv4.tcp_congestion_control=cubic` ends that.",
        )
    }

    pub(crate) fn this() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let processor = read("/proc/cpuinfo").lines().find_map(|line| {
            Some(
                line.strip_prefix("model name")?
                    .split_once(':')?
                    .1
                    .trim()
                    .to_owned(),
            )
        });
        Self {
            processor: processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control")
                .trim()
                .to_owned(),
            time: SystemTime::UNIX_EPOCH
                .elapsed()
                .map_or(0, |time| time.as_secs()),
        }
    }
}

type Values = BTreeMap<(Scenario, Metric, Peer), Vec<f64>>;

fn ratio(
    values: &Values,
    (scenario, metric): (&Scenario, Metric),
    peer: Peer,
    to: Peer,
) -> Option<f64> {
    let of = |peer| values.get(&(*scenario, metric, peer));
    let ratios = of(peer)?.iter().zip(of(to)?).map(|(value, to)| value / to);
    median(ratios.filter(|ratio| ratio.is_finite()).collect())
}

pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 0 => Some(f64::midpoint(values[middle - 1], values[middle])),
        _ => Some(values[middle]),
    }
}

fn cells<S: serde::Serializer>(values: &Values, out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(values.iter().map(|((scenario, metric, peer), list)| Cell {
        scenario: *scenario,
        metric: *metric,
        peer: peer.name(),
        median: median(list.clone()).unwrap_or(f64::NAN),
        to_least: ratio(values, (scenario, *metric), *peer, LEAST),
        to_uwebsockets: ratio(values, (scenario, *metric), *peer, Peer::Uwebsockets),
        values: list.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::{Deflate, Role};

    #[test]
    fn only_a_kernel_that_paces_is_warned_of() {
        let warns = |control: &str| {
            let machine = Machine {
                congestion_control: control.to_owned(),
                ..Machine::this()
            };
            machine.warning().is_some()
        };
        assert!(warns("bbr") && !warns("cubic") && !warns("reno"));
    }

    #[test]
    fn a_ratio_is_that_of_each_turn() {
        let scenario = Scenario {
            measure: Measure::Messages,
            role: Role::Server,
            deflate: Deflate::Off,
            size: 20,
            connections: 1,
            idle: 0,
            in_flight: 1,
        };
        let mut results = Results::new(Machine::this(), 3);
        // The machine was three times slower in the second turn.
        for (least, wsloop) in [(100.0, 110.0), (300.0, 330.0), (100.0, 120.0)] {
            for (peer, value) in [(LEAST, least), (Peer::Wsloop, wsloop)] {
                let run = Run {
                    figures: vec![(Metric::Cpu, value)],
                    disturbed: 0.0,
                };
                results.add(&scenario, peer, &run, false);
            }
        }
        assert_eq!(
            results.median(&scenario, Metric::Cpu, Peer::Wsloop),
            Some(120.0)
        );
        let ratio = results
            .ratio(&scenario, Metric::Cpu, Peer::Wsloop, LEAST)
            .expect("measured");
        assert!((ratio - 1.1).abs() < 1e-9);
        assert_eq!(
            results.ratio(&scenario, Metric::Cpu, Peer::Wsloop, Peer::Yawc),
            None
        );
    }
}

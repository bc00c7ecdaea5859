//! What is aimed at, and how far it is reached.

use std::cmp::Ordering;

use crate::{
    report::table::markdown,
    results::{LEAST, Results},
    scenario::{Measure, Metric, Scenario},
    servers::{Deflate, Peer, Role},
};

/// Bytes that an idle connection may take.
const MAX_IDLE_BYTES: f64 = 160.0;
/// `max_idle_buffer_memory` of a loop, by default.
const POOL_BYTES: f64 = (64 << 20) as f64;
const SMALL: usize = 20;
const LARGE: usize = 16 << 10;
const HUGE: usize = 1 << 20;

struct Goal {
    what: &'static str,
    scenarios: fn(&Scenario) -> bool,
    metric: Metric,
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    /// Times another.
    Times(f64, Peer),
    /// No more than any peer.
    Best,
    /// No less than any peer.
    Most,
    /// Not above this.
    Figure(f64),
    /// No more than while idle, beside what the pools may keep.
    IdleAndPools,
}

const fn goal(
    what: &'static str,
    metric: Metric,
    bound: Bound,
    scenarios: fn(&Scenario) -> bool,
) -> Goal {
    Goal {
        what,
        scenarios,
        metric,
        bound,
    }
}

const fn least(times: f64) -> Bound {
    Bound::Times(times, LEAST)
}

const fn uwebsockets(times: f64) -> Bound {
    Bound::Times(times, Peer::Uwebsockets)
}

fn goals() -> Vec<Goal> {
    let one = |scenario: &Scenario| plain(scenario) && many(scenario) && scenario.in_flight == 1;
    let sixteen =
        |scenario: &Scenario| plain(scenario) && many(scenario) && scenario.in_flight == 16;
    let huge = |scenario: &Scenario| plain(scenario) && scenario.size == HUGE;
    let broadcast = |scenario: &Scenario| scenario.measure == Measure::Broadcast;
    let handshakes = |scenario: &Scenario| scenario.measure == Measure::Handshakes;
    vec![
        goal(
            "one in flight, 64 and 1,000 connections, 20 B to 16 KiB: CPU",
            Metric::Cpu,
            least(1.02),
            one,
        ),
        goal("the same", Metric::Cpu, Bound::Best, one),
        goal("sixteen in flight: CPU", Metric::Cpu, least(1.05), sixteen),
        goal(
            "the same, 20 B",
            Metric::Cpu,
            uwebsockets(0.87),
            |scenario| {
                plain(scenario)
                    && many(scenario)
                    && scenario.in_flight == 16
                    && scenario.size == SMALL
            },
        ),
        goal(
            "the same, 16 KiB",
            Metric::Cpu,
            uwebsockets(0.70),
            |scenario| {
                plain(scenario)
                    && many(scenario)
                    && scenario.in_flight == 16
                    && scenario.size == LARGE
            },
        ),
        goal("1 MiB: CPU", Metric::Cpu, least(1.05), huge),
        goal("the same", Metric::Cpu, Bound::Best, huge),
        goal(
            "20 B: instructions in user space",
            Metric::Instructions,
            uwebsockets(0.5),
            |scenario| scenario.size == SMALL,
        ),
        goal(
            "memory of an idle connection",
            Metric::Idle,
            Bound::Figure(MAX_IDLE_BYTES),
            |scenario| scenario.deflate == Deflate::Off,
        ),
        goal(
            "memory after 16 KiB messages",
            Metric::AfterTraffic,
            Bound::IdleAndPools,
            |scenario| scenario.deflate == Deflate::Off,
        ),
        goal(
            "opening handshakes: CPU",
            Metric::Cpu,
            Bound::Best,
            handshakes,
        ),
        goal(
            "the same, per second",
            Metric::Rate,
            Bound::Most,
            handshakes,
        ),
        goal(
            "broadcast to 1,000, one per round: CPU",
            Metric::Cpu,
            least(1.03),
            |scenario| scenario.measure == Measure::Broadcast && scenario.in_flight == 1,
        ),
        goal("sixteen per round", Metric::Cpu, least(1.10), |scenario| {
            scenario.measure == Measure::Broadcast && scenario.in_flight == 16
        }),
        goal("the same", Metric::Cpu, Bound::Best, broadcast),
        goal("latency p99.9", Metric::P999, Bound::Best, |scenario| {
            scenario.measure == Measure::Latency
        }),
        goal(
            "compressed 1 KiB: CPU",
            Metric::Cpu,
            Bound::Best,
            |scenario| compressed(scenario) && scenario.size == 1024,
        ),
        goal(
            "compressed: memory of an idle connection",
            Metric::Idle,
            Bound::Best,
            compressed,
        ),
        goal(
            "compressed: memory after 16 KiB messages",
            Metric::AfterTraffic,
            Bound::Best,
            compressed,
        ),
    ]
}

fn plain(scenario: &Scenario) -> bool {
    scenario.measure == Measure::Messages
        && scenario.role == Role::Server
        && scenario.deflate == Deflate::Off
}

fn many(scenario: &Scenario) -> bool {
    scenario.connections > 1 && scenario.size <= LARGE
}

fn compressed(scenario: &Scenario) -> bool {
    scenario.role == Role::Server && scenario.deflate != Deflate::Off
}

/// Every goal with the scenario in which it is farthest from being reached.
pub(super) fn table(results: &Results) -> String {
    let mut table = markdown();
    table.set_header(["goal", "bound", "figure", "", "where it is worst"]);
    let tables = results.tables();
    let mut rows = 0;
    for goal in goals() {
        let scenarios = tables
            .iter()
            .filter(|((_, metric), _)| *metric == goal.metric)
            .flat_map(|(_, scenarios)| scenarios)
            .filter(|scenario| (goal.scenarios)(scenario));
        let worst = scenarios
            .filter_map(|scenario| {
                Some((goal.bound.figure(results, scenario, goal.metric)?, scenario))
            })
            .max_by(|(one, _), (other, _)| goal.bound.worse(one.0, other.0));
        if let Some(((figure, than), scenario)) = worst {
            let bound = goal.bound.limit(results, scenario);
            let verdict = match goal.bound.worse(figure, bound) {
                Ordering::Greater => "missed",
                Ordering::Less | Ordering::Equal => "reached",
            };
            table.add_row([
                goal.what.to_owned(),
                goal.bound.to_string(),
                goal.bound.show(figure, than),
                verdict.to_owned(),
                scenario.to_string(),
            ]);
            rows += 1;
        }
    }
    if rows == 0 {
        String::new()
    } else {
        format!("## Goals\n\n{table}\n")
    }
}

impl Bound {
    /// `Greater`: `one` is farther from what is aimed at than `other`.
    fn worse(self, one: f64, other: f64) -> Ordering {
        match self {
            Self::Most => other.total_cmp(&one),
            Self::Times(..) | Self::Best | Self::Figure(_) | Self::IdleAndPools => {
                one.total_cmp(&other)
            }
        }
    }

    /// What is held against the bound, and whom it was compared with.
    fn figure(
        self,
        results: &Results,
        scenario: &Scenario,
        metric: Metric,
    ) -> Option<(f64, Option<Peer>)> {
        let ratio = |to| results.ratio(scenario, metric, Peer::Wsloop, to);
        match self {
            Self::Times(_, to) => Some((ratio(to)?, Some(to))),
            Self::Best | Self::Most => {
                let peers = results.peers(&[*scenario]).into_iter();
                let others = peers.filter(|peer| !peer.is_ours());
                let ratios = others.filter_map(|peer| Some((ratio(peer)?, Some(peer))));
                ratios.max_by(|(one, _), (other, _)| self.worse(*one, *other))
            }
            Self::Figure(_) | Self::IdleAndPools => {
                Some((results.median(scenario, metric, Peer::Wsloop)?, None))
            }
        }
    }

    fn limit(self, results: &Results, scenario: &Scenario) -> f64 {
        match self {
            Self::Times(times, _) => times,
            Self::Best | Self::Most => 1.0,
            Self::Figure(bound) => bound,
            Self::IdleAndPools => {
                let idle = results
                    .median(scenario, Metric::Idle, Peer::Wsloop)
                    .unwrap_or_default();
                idle + POOL_BYTES / scenario.connections as f64
            }
        }
    }

    fn show(self, figure: f64, than: Option<Peer>) -> String {
        match than {
            Some(peer) => format!("{figure:.3} × {}", peer.name()),
            None => format!("{figure:.0} B"),
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Times(times, peer) => write!(out, "≤ {times:.2} × {}", peer.name()),
            Self::Best => write!(out, "≤ every peer"),
            Self::Most => write!(out, "≥ every peer"),
            Self::Figure(bound) => write!(out, "≤ {bound:.0} B"),
            Self::IdleAndPools => write!(out, "≤ idle and the pools' bounds"),
        }
    }
}

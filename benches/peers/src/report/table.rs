//! One table a figure: a line for each scenario, a column for each peer.

use comfy_table::{Table, presets::ASCII_MARKDOWN};

use crate::{
    results::{LEAST, Results},
    scenario::{Metric, Scenario},
    servers::Peer,
};

pub(super) fn all(results: &Results) -> String {
    let machine = &results.machine;
    let mut text = format!(
        "{}, {} cores, Linux {}, {}. Medians of {} runs; in parentheses: times the least possible (with frames), times uWebSockets.\n",
        machine.processor,
        machine.cores,
        machine.kernel,
        machine.congestion_control,
        results.repeats,
    );
    if let Some(warning) = machine.warning() {
        text.push_str(&format!("{warning}\n"));
    }
    if results.disturbed > 0 {
        text.push_str(&format!(
            "{} runs, or slices of runs, were disturbed however often they were tried.\n",
            results.disturbed
        ));
    }
    for failure in &results.failures {
        text.push_str(&format!("Left out: {failure}.\n"));
    }
    for ((measure, metric), scenarios) in results.tables() {
        text.push_str(&format!(
            "\n## {}: {}\n\n{}\n",
            measure.title(),
            metric.title(),
            one(results, metric, &scenarios)
        ));
    }
    text
}

fn one(results: &Results, metric: Metric, scenarios: &[Scenario]) -> Table {
    let peers = results.peers(scenarios);
    let mut table = markdown();
    table.set_header(std::iter::once("").chain(peers.iter().map(|peer| peer.name())));
    for scenario in scenarios {
        let cells = peers
            .iter()
            .map(|&peer| cell(results, scenario, metric, peer));
        table.add_row(std::iter::once(scenario.to_string()).chain(cells));
    }
    table
}

pub(super) fn markdown() -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table
}

fn cell(results: &Results, scenario: &Scenario, metric: Metric, peer: Peer) -> String {
    let Some(value) = results.median(scenario, metric, peer) else {
        return String::new();
    };
    let ratio = |to| match results.ratio(scenario, metric, peer, to) {
        Some(ratio) => format!("{ratio:.2}"),
        None => "–".to_owned(),
    };
    format!(
        "{} ({}, {})",
        metric.show(value),
        ratio(LEAST),
        ratio(Peer::Uwebsockets)
    )
}

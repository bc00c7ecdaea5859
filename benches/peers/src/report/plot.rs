//! One plot a table: bars for the peers, as times the least possible.

use std::path::Path;

use plotters::{
    prelude::*,
    style::{
        Color, RGBColor,
        text_anchor::{HPos, Pos, VPos},
    },
};

use crate::{
    load::Outcome,
    results::{LEAST, Results},
    scenario::{Metric, Scenario},
    servers::{Deflate, Peer, Role},
};

/// Pixels of a plot without its bars.
const FRAME: u32 = 140;
const HEIGHT: u32 = 460;
const BAR: u32 = 11;
const GAP: u32 = 24;
/// A scenario's label.
const LABEL: u32 = 80;
/// The names of the peers, and the title above them.
const LEGEND: u32 = 680;
const HEAD: u32 = 38;
/// Bars that are longer are cut off, and carry their number.
const LONGEST: f64 = 3.0;

/// Returns how many there are.
pub(super) fn all(results: &Results, folder: &Path) -> Outcome<usize> {
    let mut plots = 0;
    for ((measure, metric), scenarios) in results.tables() {
        for (suffix, role, deflate) in kinds() {
            let part: Vec<Scenario> = scenarios
                .iter()
                .copied()
                .filter(|scenario| scenario.role == role && scenario.deflate == deflate)
                .collect();
            let base = base(results, metric, &part);
            let Some(base) = base else { continue };
            let title = metric.title().replace([' ', '.'], "-");
            let file = folder.join(format!("{}-{title}{suffix}.svg", measure.name()));
            let name = format!(
                "{}: {}, times {}",
                measure.title(),
                metric.title(),
                base.name()
            );
            draw(results, metric, &part, base, &file, &name)?;
            plots += 1;
        }
    }
    Ok(plots)
}

fn kinds() -> [(&'static str, Role, Deflate); 6] {
    [
        ("", Role::Server, Deflate::Off),
        ("-shared", Role::Server, Deflate::Shared),
        ("-dedicated", Role::Server, Deflate::Dedicated),
        ("-client", Role::Client, Deflate::Off),
        ("-client-shared", Role::Client, Deflate::Shared),
        ("-client-dedicated", Role::Client, Deflate::Dedicated),
    ]
}

/// Whom all are compared with: who compresses has no least.
fn base(results: &Results, metric: Metric, scenarios: &[Scenario]) -> Option<Peer> {
    let known = |peer| {
        scenarios
            .iter()
            .all(|scenario| results.median(scenario, metric, peer).is_some())
    };
    let candidates = [LEAST, Peer::Uwebsockets, Peer::Wsloop];
    if scenarios.is_empty() {
        None
    } else {
        candidates.into_iter().find(|&peer| known(peer))
    }
}

fn draw(
    results: &Results,
    metric: Metric,
    scenarios: &[Scenario],
    base: Peer,
    file: &Path,
    title: &str,
) -> Outcome<()> {
    let peers: Vec<Peer> = results
        .peers(scenarios)
        .into_iter()
        .filter(|peer| *peer != base)
        .collect();
    let group = (peers.len() as u32 * BAR + GAP).max(LABEL);
    let width = (FRAME + group * scenarios.len() as u32).max(LEGEND);
    let area = SVGBackend::new(file, (width, HEIGHT)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 16))
        .margin(10)
        .margin_top(HEAD)
        .x_label_area_size(60)
        .y_label_area_size(45)
        .build_cartesian_2d(0.0..scenarios.len() as f64, 0.0..LONGEST)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_desc(format!("times {}", base.name()))
        .light_line_style(WHITE)
        .draw()?;
    // In pixels, for the bars of a group stand side by side.
    let plot = chart.plotting_area().clone();
    let (left, right) = (
        plot.get_x_axis_pixel_range().start,
        plot.get_x_axis_pixel_range().end,
    );
    let group = f64::from(right - left) / scenarios.len() as f64;
    let bar = (group - f64::from(GAP) / 2.0) / peers.len().max(1) as f64;
    let y = |value: f64| plot.map_coordinate(&(0.0, value)).1;
    for (place, scenario) in scenarios.iter().enumerate() {
        for (number, &peer) in peers.iter().enumerate() {
            let Some(ratio) = results.ratio(scenario, metric, peer, base) else {
                continue;
            };
            let from =
                f64::from(left) + place as f64 * group + f64::from(GAP) / 4.0 + number as f64 * bar;
            let corners = [
                (from as i32, y(ratio.min(LONGEST))),
                ((from + bar) as i32 - 1, y(0.0)),
            ];
            area.draw(&Rectangle::new(corners, color(peer).filled()))?;
            if ratio > LONGEST {
                let style = ("sans-serif", 9)
                    .into_font()
                    .transform(FontTransform::Rotate90)
                    .color(&BLACK);
                area.draw(&Text::new(
                    format!("{ratio:.1}"),
                    ((from + bar) as i32, y(LONGEST) + 2),
                    style,
                ))?;
            }
        }
    }
    area.draw(&PathElement::new([(left, y(1.0)), (right, y(1.0))], BLACK))?;
    for (place, scenario) in scenarios.iter().enumerate() {
        let x = (f64::from(left) + (place as f64 + 0.5) * group) as i32;
        for (line, text) in scenario.label().into_iter().enumerate() {
            let style = ("sans-serif", 11)
                .into_font()
                .color(&BLACK)
                .pos(Pos::new(HPos::Center, VPos::Top));
            area.draw(&Text::new(text, (x, y(0.0) + 6 + 13 * line as i32), style))?;
        }
    }
    for (number, &peer) in peers.iter().enumerate() {
        let (column, row) = (number as i32 / 2, number as i32 % 2);
        let (x, top) = (60 + column * 135, 34 + row * 15);
        area.draw(&Rectangle::new(
            [(x, top), (x + 10, top + 10)],
            color(peer).filled(),
        ))?;
        area.draw(&Text::new(
            peer.name(),
            (x + 14, top),
            ("sans-serif", 11).into_font(),
        ))?;
    }
    area.present()?;
    Ok(())
}

fn color(peer: Peer) -> RGBColor {
    match peer {
        Peer::RawBytes => RGBColor(190, 190, 190),
        Peer::RawFrames => RGBColor(130, 130, 130),
        Peer::Wsloop => RGBColor(214, 39, 40),
        Peer::Uwebsockets => RGBColor(31, 119, 180),
        Peer::Fastwebsockets => RGBColor(44, 160, 44),
        Peer::SockudoWs => RGBColor(255, 127, 14),
        Peer::TokioTungstenite => RGBColor(148, 103, 189),
        Peer::TokioWebsockets => RGBColor(140, 86, 75),
        Peer::Yawc => RGBColor(227, 119, 194),
    }
}

//! What is shown of the results: tables, plots, the goals, and everything as JSON.

mod goals;
mod plot;
mod table;

use std::{fs, path::Path};

use crate::{load::Outcome, results::Results};

/// Writes the tables, the goals and a file of all figures into a folder.
pub(crate) fn save(results: &Results, folder: &Path) -> Outcome<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("results.md"), text(results))?;
    fs::write(
        folder.join("results.json"),
        serde_json::to_string_pretty(results)?,
    )?;
    Ok(())
}

fn text(results: &Results) -> String {
    format!("{}\n{}", table::all(results), goals::table(results))
}

/// Prints the tables and the goals, and writes them, beside plots.
pub(crate) fn show(results: &Results, folder: &Path) -> Outcome<()> {
    println!("{}", text(results));
    save(results, folder)?;
    let plots = plot::all(results, folder)?;
    println!(
        "results.md, results.json and {plots} plots are in {}",
        folder.display()
    );
    Ok(())
}

//! What is shown of the results: tables, plots, the goals, and everything as JSON.

mod goals;
mod plot;
mod table;

use std::{fs, path::Path};

use crate::{load::Outcome, results::Results};

/// Prints the tables and the goals, and writes them into a folder, beside plots and a file of all figures.
pub(crate) fn write(results: &Results, folder: &Path) -> Outcome<()> {
    fs::create_dir_all(folder)?;
    let text = format!("{}\n{}", table::all(results), goals::table(results));
    println!("{text}");
    fs::write(folder.join("results.md"), text)?;
    fs::write(
        folder.join("results.json"),
        serde_json::to_string_pretty(results)?,
    )?;
    let plots = plot::all(results, folder)?;
    println!(
        "results.md, results.json and {plots} plots are in {}",
        folder.display()
    );
    Ok(())
}

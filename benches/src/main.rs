//! The program that measures; see `cqrs-benches --help`.

mod cli;
mod raw;
mod report;
mod rounds;
mod server;
mod workloads;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;

use crate::{
    cli::{Cli, Options, Task},
    report::{Machine, Report},
};

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("cqrs-benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    let workloads = match cli.task {
        Task::All => workloads::ALL.to_vec(),
        Task::One(workload) => vec![workload],
        Task::Growth { orders, cached } => {
            println!("{}", workloads::core::growth(orders, cached).await?);
            return Ok(());
        }
        Task::Report { results, markdown, picture } => {
            return show(&results, markdown.as_deref(), picture.as_deref());
        }
    };
    measure(&workloads, &cli.options).await
}

/// Shows earlier results, those of all files together.
fn show(files: &[PathBuf], markdown: Option<&Path>, picture: Option<&Path>) -> Result<()> {
    let mut all: Option<Report> = None;
    for file in files {
        let unreadable = || format!("{} has no results", file.display());
        let json = fs::read(file).with_context(unreadable)?;
        let report: Report = serde_json::from_slice(&json).with_context(unreadable)?;
        match &mut all {
            Some(all) => all.groups.extend(report.groups),
            None => all = Some(report),
        }
    }
    let report = all.context("no results")?;
    if let Some(file) = picture {
        fs::write(file, report.picture()).with_context(|| file.display().to_string())?;
    }
    match markdown {
        Some(file) => put_between(file, &report.markdown())?,
        None if picture.is_none() => anstream::print!("{}", report.markdown()),
        None => {}
    }
    Ok(())
}

/// Replaces the text between two lines of a file.
fn put_between(file: &Path, text: &str) -> Result<()> {
    const BEGIN: &str = "<!-- results -->\n";
    const END: &str = "<!-- end -->\n";
    let named = || file.display().to_string();
    let old = fs::read_to_string(file).with_context(named)?;
    let (before, rest) = old.split_once(BEGIN).with_context(|| format!("{} has no {BEGIN}", named()))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{} has no {END}", named()))?;
    fs::write(file, format!("{before}{BEGIN}\n{text}\n{END}{after}")).with_context(named)
}

async fn measure(workloads: &[cli::Workload], options: &Options) -> Result<()> {
    ensure!(
        !cfg!(debug_assertions),
        "this is a debug build, whose figures mean nothing: use cargo run --release -p cqrs-benches"
    );
    let machine = Machine::here(options.rounds, options.seconds.as_secs_f64());
    let mut report = Report { machine, groups: Vec::new() };
    for workload in workloads {
        let group = workloads::run(*workload, options).await?;
        anstream::println!("{}\n", group.table());
        report.groups.push(group);
        // After each workload, so that an early end loses little.
        if let Some(file) = &options.json {
            let json = serde_json::to_vec_pretty(&report)?;
            fs::write(file, json).with_context(|| format!("{} cannot be written", file.display()))?;
        }
    }
    Ok(())
}

//! The `hoptrace` command.

use anyhow::{Context, Result};
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use clap_mangen::Man;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use tracer_user::cli::{Cli, Command, RecordCommand, ReplayCommand, VERSION};
use tracer_user::config::{AgentArgs, Config, Interval, Resolved};
use tracer_user::recording::replay::exposition;
use tracer_user::{agent, doctor, logging, privilege, report, requests, top};

/// A report is written, and its coverage does not carry one of its conclusions.
const REFUSED: u8 = 3;

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    match Cli::from_arg_matches(&matches) {
        Ok(cli) => run(cli, &matches).unwrap_or_else(|error| complain(&error)),
        Err(error) => error.exit(),
    }
}

fn run(cli: Cli, matches: &ArgMatches) -> Result<ExitCode> {
    // Before any thread is started: capabilities belong to threads.
    privilege::raise()?;
    // A subcommand is required, so there are matches of one.
    let matches = matches
        .subcommand()
        .map_or(matches, |(_name, matches)| matches);
    match cli.command {
        Command::Agent(agent) if agent.print_config => print_config(agent.args, matches),
        Command::Agent(agent) => run_agent(agent.args, matches),
        Command::Top(asked) => {
            top::run(&asked.into())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Requests(asked) => {
            requests::run(&asked.into())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Report(asked) => Ok(match report::run(&asked.into())? {
            report::Told::All => ExitCode::SUCCESS,
            report::Told::Refused => ExitCode::from(REFUSED),
        }),
        Command::Record(record) => run_record(record, matches),
        Command::Replay(asked) => run_replay(&asked),
        Command::Config(asked) if asked.output.is_json() => {
            print(&Config::resolve(asked.args, matches)?.to_json())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Config(asked) => print_config(asked.args, matches),
        Command::Doctor(asked) => {
            let Resolved { config, .. } = Config::resolve(asked.args, matches)?;
            let report = doctor::examine(&config);
            print(&if asked.output.is_json() {
                report.to_json()
            } else {
                report.to_text()
            })?;
            Ok(ExitCode::from(report.exit_code()))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "hoptrace", &mut script);
            print(&String::from_utf8(script).context("the script is not text")?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { directory } => manual(directory.as_deref()),
    }
}

fn run_agent(args: AgentArgs, matches: &ArgMatches) -> Result<ExitCode> {
    let Resolved { config, .. } = Config::resolve(args, matches)?;
    logging::init(&config.log, config.log_format)?;
    agent::run(&config)?;
    Ok(ExitCode::SUCCESS)
}

fn run_record(record: RecordCommand, matches: &ArgMatches) -> Result<ExitCode> {
    let Resolved { mut config, .. } = Config::resolve(record.args, matches)?;
    config.record = Some(record.file);
    logging::init(&config.log, config.log_format)?;
    agent::record(&config, record.time.map(Interval::get))?;
    Ok(ExitCode::SUCCESS)
}

fn run_replay(asked: &ReplayCommand) -> Result<ExitCode> {
    let (text, replayed) = exposition(&asked.file, |settings| asked.change(settings))?;
    print(&text)?;
    let mut lines = format!("hoptrace: {replayed}\n");
    let broken = replayed.broken.is_some();
    if let Some(error) = replayed.broken {
        lines.push_str(&format!("hoptrace: {error}\n"));
    }
    let _unheard = io::stderr().lock().write_all(lines.as_bytes());
    Ok(if broken {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn print_config(args: AgentArgs, matches: &ArgMatches) -> Result<ExitCode> {
    print(&Config::resolve(args, matches)?.to_toml())?;
    Ok(ExitCode::SUCCESS)
}

/// The manual page of the whole, or that of each command as a file.
fn manual(directory: Option<&Path>) -> Result<ExitCode> {
    // Pages are of a version, whatever commit it was built from.
    let command = Cli::command().version(VERSION);
    if let Some(directory) = directory {
        clap_mangen::generate_to(command, directory)
            .with_context(|| format!("cannot write to {}", directory.display()))?;
    } else {
        let mut page = Vec::new();
        Man::new(command)
            .render(&mut page)
            .context("cannot make the page")?;
        print(&String::from_utf8(page).context("the page is not text")?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes to standard output; a reader that left early (`| head`) is no error.
fn print(text: &str) -> Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot write to standard output"),
    }
}

/// One line for the error and one for each of its causes.
fn complain(error: &anyhow::Error) -> ExitCode {
    let mut lines = format!("hoptrace: {error}\n");
    for cause in error.chain().skip(1) {
        lines.push_str(&format!("  because: {cause}\n"));
    }
    // Without standard error there is nobody left to tell.
    let _unheard = io::stderr().lock().write_all(lines.as_bytes());
    ExitCode::FAILURE
}

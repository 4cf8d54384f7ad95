//! `hoptrace report` on the command line.

use crate::config::Interval;
use crate::report::{self, Asked, Format, Load, Outputs};
use clap::{ArgGroup, Args, ValueEnum};
use std::path::PathBuf;
use std::str::FromStr;

pub(super) const ABOUT: &str = "\
Measure what the mesh costs: runs of load with and without the sidecars, what they add, and where.

Calls a URL that has sidecars on its way and one that has none, in turns, and reads the agents' /metrics \
before and after each run. With --load none nothing is called: what others call meanwhile is watched. One of \
the two targets may come from an earlier report.

Exits with 0 when the report is whole; with 1 when there is none, and says why; with 2 when the options are \
wrong; with 3 when the report is written but the coverage does not carry one of its conclusions, which then \
says what is missing in its place.";

pub(super) const EXAMPLES: &str = "\
Examples:
  hoptrace report --with http://10.0.1.7/capitols --without http://10.0.2.7/capitols
  hoptrace report --without http://10.0.2.7/capitols --out bare.json
  hoptrace report --with http://10.0.1.7/capitols --baseline bare.json --out mesh.html --out mesh.md
  hoptrace report --with http://shop.mesh/ --without http://shop.bare/ --body '{\"a\": 1}' \\
      --agent http://10.0.0.1:9465 --agent http://10.0.0.2:9465
  hoptrace report --load none --with shop.mesh --without shop.bare --time 60s";

/// Arguments of `hoptrace report`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("targets").args(["with", "without"]).required(true).multiple(true))]
pub struct ReportCommand {
    /// The target with sidecars: http://HOST:PORT/PATH; with --load none a text in the names of its pairs
    #[arg(long, value_name = "URL", help_heading = "Targets")]
    pub with: Option<String>,
    /// The target without
    #[arg(long, value_name = "URL", help_heading = "Targets")]
    pub without: Option<String>,
    /// An earlier report in JSON that has the target which is not measured now
    #[arg(long, value_name = "FILE", help_heading = "Targets")]
    pub baseline: Option<PathBuf>,
    /// How the target with sidecars is called in the report
    #[arg(
        long,
        value_name = "NAME",
        default_value = "with sidecars",
        help_heading = "Targets"
    )]
    pub with_name: String,
    /// How the other one is called
    #[arg(
        long,
        value_name = "NAME",
        default_value = "without sidecars",
        help_heading = "Targets"
    )]
    pub without_name: String,
    /// Only pairs with this in the name of a workload, a namespace or a service
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        help_heading = "Targets"
    )]
    pub filter: String,

    /// Whose load it is
    #[arg(long, value_enum, default_value = "own", help_heading = "Load")]
    pub load: Whose,
    /// Runs of each method and target
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000), help_heading = "Load")]
    pub runs: u16,
    /// Calls in a run
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000), help_heading = "Load")]
    pub calls: u64,
    /// Connections, each with one call in flight
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_024), help_heading = "Load")]
    pub connections: u16,
    /// Calls of each method and target before anything is measured
    #[arg(long, value_name = "N", default_value_t = 300, help_heading = "Load")]
    pub warm_up: u64,
    /// Call POST too, with this body. GET is called alone without it
    #[arg(long, value_name = "TEXT", help_heading = "Load")]
    pub body: Option<String>,
    /// A header of each call; can be given several times
    #[arg(long = "header", value_name = "NAME: VALUE", help_heading = "Load")]
    pub headers: Vec<Header>,
    /// How long to watch in each run, with --load none
    #[arg(
        long,
        value_name = "TIME",
        default_value = "30s",
        help_heading = "Load"
    )]
    pub time: Interval,

    /// Where an agent answers; once for each node on the load's way
    #[arg(
        long = "agent",
        value_name = "URL",
        env = "HOPTRACE_AGENT",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:9465",
        help_heading = "Agents"
    )]
    pub agents: Vec<String>,
    /// A file with the token to show, where /metrics asks for one
    #[arg(long, value_name = "FILE", help_heading = "Agents")]
    pub token_file: Option<PathBuf>,
    /// How long after a run agents are asked; more than twice their --hold, so that all of it is told
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1s",
        help_heading = "Agents"
    )]
    pub settle: Interval,

    /// Least share of calls, exchanges and requests that a conclusion needs
    #[arg(
        long,
        value_name = "PERCENT",
        default_value = "99%",
        help_heading = "Report"
    )]
    pub min_coverage: Percent,
    /// Of the intervals
    #[arg(
        long,
        value_name = "PERCENT",
        default_value = "95%",
        help_heading = "Report"
    )]
    pub confidence: Percent,
    /// The form of standard output, and of files whose ending says nothing [default: markdown]
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Report")]
    pub output: Option<Format>,
    /// A file instead of standard output, by its ending .md, .html or .json; can be given several times
    #[arg(long = "out", value_name = "FILE", help_heading = "Report")]
    pub files: Vec<PathBuf>,
}

/// Whose load it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Whose {
    /// Calls in batches, made by this command.
    Own,
    /// Yours: nothing is called, what others call is watched.
    None,
}

/// `99%`, as a share of 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(f64);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').map(str::trim_end);
        let number = number.and_then(|number| number.parse::<f64>().ok());
        number
            .filter(|percent| *percent > 0.0 && *percent < 100.0)
            .map(|percent| Self(percent / 100.0))
            .ok_or_else(|| format!("`{text}` is no percentage between 0% and 100%, like 99%"))
    }
}

/// `name: value`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header(String, String);

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once(':')
            .ok_or_else(|| format!("`{text}` is no header, like `accept: text/html`"))?;
        Ok(Self(name.trim().to_owned(), value.trim().to_owned()))
    }
}

impl From<ReportCommand> for report::Options {
    fn from(asked: ReportCommand) -> Self {
        let target =
            |name: String, target: Option<String>| target.map(|target| Asked { name, target });
        let headers = asked.headers.into_iter();
        let load = match asked.load {
            Whose::Own => Load::Own {
                calls: asked.calls,
                connections: asked.connections.into(),
                warm_up: asked.warm_up,
                headers: headers.map(|Header(name, value)| (name, value)).collect(),
                body: asked.body,
            },
            Whose::None => Load::Yours(asked.time.get()),
        };
        Self {
            with: target(asked.with_name, asked.with),
            without: target(asked.without_name, asked.without),
            baseline: asked.baseline,
            agents: asked.agents,
            token_file: asked.token_file,
            load,
            runs: asked.runs.into(),
            settle: asked.settle.get(),
            min_coverage: asked.min_coverage.0,
            confidence: asked.confidence.0,
            filter: asked.filter,
            outputs: Outputs {
                format: asked.output,
                files: asked.files,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn percentages_say_that_they_are() {
        assert_eq!("99%".parse(), Ok(Percent(0.99)));
        assert_eq!("99.5 %".parse(), Ok(Percent(0.995)));
        for text in ["0.99", "99", "100%", "0%", "x%", "-1%", "NaN%"] {
            let error = text.parse::<Percent>().unwrap_err();
            assert!(error.contains("like 99%"), "{text}: {error}");
        }
    }

    #[test]
    fn one_target_is_asked_for() {
        let parse = |args: &[&str]| {
            let args = ["hoptrace", "report"].iter().chain(args);
            crate::cli::Cli::try_parse_from(args).map(|_| ())
        };
        parse(&["--with", "http://a/"]).unwrap();
        parse(&["--with", "http://a/", "--without", "http://b/"]).unwrap();
        for args in [&[][..], &["--agent", "a:1"], &["--runs", "2"]] {
            let error = parse(args).unwrap_err().to_string();
            assert!(error.contains("<--with <URL>|--without <URL>>"), "{error}");
        }
    }

    #[test]
    fn headers_have_a_colon() {
        let header = Header("host".to_owned(), "shop:80".to_owned());
        assert_eq!("host: shop:80".parse(), Ok(header));
        assert!("host".parse::<Header>().is_err());
    }
}

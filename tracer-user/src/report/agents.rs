//! Several agents as one, looked at before and after.

use anyhow::{Result, ensure};
use hoptrace_exposition::{Coverage, Exposition, Totals};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::client::Agent;

/// Of the `prometheus` crate.
const BORN: &str = "process_start_time_seconds";

/// Agents by their addresses.
pub(super) struct Agents {
    agents: Vec<(String, Agent)>,
    settle: Duration,
}

impl Agents {
    /// # Errors
    /// An address is none, or nobody answers there.
    pub(super) fn new(
        urls: &[String],
        token_file: Option<&PathBuf>,
        settle: Duration,
    ) -> Result<Self> {
        let agent = |url: &String| Ok((url.clone(), Agent::new(url, token_file.cloned())?));
        let agents = urls.iter().map(agent).collect::<Result<_>>()?;
        let agents = Self { agents, settle };
        agents.look()?;
        Ok(agents)
    }

    /// What they have counted so far.
    ///
    /// # Errors
    /// One of them does not answer.
    pub(super) fn look(&self) -> Result<Look> {
        let seen = self.agents.iter().map(|(url, agent)| {
            let exposition = agent.metrics()?;
            Ok(Seen::of(url, &exposition))
        });
        Ok(Look(seen.collect::<Result<_>>()?))
    }

    /// The same once exchanges have had the time to find their neighbours. Agents are asked once and not
    /// until they have settled: asking from a pod is an exchange too.
    ///
    /// # Errors
    /// One of them does not answer.
    pub(super) fn settled(&self) -> Result<Look> {
        thread::sleep(self.settle);
        self.look()
    }
}

/// What all of them had counted at a moment.
pub(super) struct Look(Vec<Seen>);

/// What one of them had.
struct Seen {
    url: String,
    born: f64,
    totals: Totals,
    coverage: Coverage,
}

impl Seen {
    fn of(url: &str, exposition: &Exposition) -> Self {
        Self {
            url: url.to_owned(),
            born: exposition.sum_where(BORN, &[]),
            totals: Totals::of(exposition),
            coverage: Coverage::of(exposition),
        }
    }
}

impl Look {
    /// What came between the two.
    ///
    /// # Errors
    /// An agent was started again meanwhile, so that its counters began again.
    pub(super) fn since(&self, before: &Self) -> Result<(Totals, Coverage)> {
        let (mut totals, mut coverage) = (Totals::default(), Coverage::default());
        for (now, was) in self.0.iter().zip(&before.0) {
            ensure!(
                now.born == was.born && now.coverage.all() >= was.coverage.all(),
                "the agent at {} was started again meanwhile, and what it had counted is gone: see why \
                 (its log, `kubectl describe pod`), then measure again",
                now.url
            );
            totals.add(&now.totals.since(&was.totals));
            coverage.add(&now.coverage.since(&was.coverage));
        }
        Ok((totals, coverage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(born: f64, paired: u64) -> Look {
        let text = format!(
            "{BORN} {born}\nhoptrace_exchanges_total{{method=\"tuple\",result=\"paired\"}} {paired}\n"
        );
        Look(vec![Seen::of("http://a:1", &Exposition::parse(&text))])
    }

    #[test]
    fn differences_are_of_one_life() {
        let (_, coverage) = look(1.0, 30).since(&look(1.0, 10)).unwrap();
        assert_eq!(coverage.paired(), 20);
        for again in [look(2.0, 30), look(1.0, 9)] {
            let error = again.since(&look(1.0, 10)).unwrap_err().to_string();
            assert!(
                error.contains("http://a:1") && error.contains("started again"),
                "{error}"
            );
        }
    }
}

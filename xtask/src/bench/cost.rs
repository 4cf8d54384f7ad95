//! The kernel's accounting of the agent's programs, less that of the empty ones in their place.

use anyhow::Result;
use serde::Serialize;

use super::yardstick::HookCosts;
use hoptrace_exposition::Exposition;

/// What the kernel has accounted to one program.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) runs: f64,
    pub(super) run_ns: f64,
}

impl Cost {
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            runs: self.runs - earlier.runs,
            run_ns: self.run_ns - earlier.run_ns,
        }
    }

    /// A program that never ran cost nothing.
    pub(super) fn ns_per_run(self) -> f64 {
        if self.runs > 0.0 {
            self.run_ns / self.runs
        } else {
            0.0
        }
    }
}

/// The accounting of every program at one moment.
pub(super) struct Accounts(Vec<Account>);

struct Account {
    program: String,
    ours: Cost,
}

impl Accounts {
    /// # Errors
    /// The agent exports no accounting: it was started without `--bpf-stats`.
    pub(super) fn read(agent: &Exposition) -> Result<Self> {
        // An agent without accounting has no such series at all.
        agent.sum("hoptrace_bpf_runs_total")?;
        let seconds: Vec<_> = agent
            .by_label("hoptrace_bpf_run_seconds_total", "program")
            .collect();
        agent
            .by_label("hoptrace_bpf_runs_total", "program")
            .map(|(program, runs)| {
                let time = seconds.iter().find(|(name, _)| *name == program);
                Ok(Account {
                    program: program.to_owned(),
                    ours: Cost {
                        runs,
                        run_ns: time.map_or(0.0, |(_, seconds)| seconds * 1e9),
                    },
                })
            })
            .collect::<Result<_>>()
            .map(Self)
    }

    /// What was accounted between two moments, in which so many requests were answered, beside what
    /// the empty programs cost.
    ///
    /// # Errors
    /// A program has no empty one on its hook.
    pub(super) fn since(
        &self,
        earlier: &Self,
        empty: &HookCosts,
        requests: f64,
    ) -> Result<Vec<Hook>> {
        let both = self.0.iter().filter_map(|now| {
            let then = earlier.0.iter().find(|it| it.program == now.program)?;
            Some((now, then))
        });
        both.map(|(now, then)| {
            let ours = now.ours.since(then.ours);
            Ok(Hook {
                program: now.program.clone(),
                raw_ns: ours.ns_per_run(),
                empty_ns: empty.on_hook_of(&now.program)?.ns_per_run(),
                runs_per_request: ours.runs / requests,
            })
        })
        .collect()
    }
}

/// The cost of one program of the agent's.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Hook {
    /// As the agent's metrics name it.
    pub(super) program: String,
    /// One run of it, as accounted.
    pub(super) raw_ns: f64,
    /// One run of an empty program on the same hook, without the agent.
    pub(super) empty_ns: f64,
    pub(super) runs_per_request: f64,
}

impl Hook {
    pub(super) fn net_ns(&self) -> f64 {
        self.raw_ns - self.empty_ns
    }

    pub(super) fn raw_us_per_request(&self) -> f64 {
        self.raw_ns * self.runs_per_request / 1e3
    }

    /// A program that did not run is not cheaper than nothing.
    pub(super) fn net_us_per_request(&self) -> f64 {
        self.net_ns() * self.runs_per_request / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(program: &str, runs: f64, run_ns: f64) -> Account {
        Account {
            program: program.to_owned(),
            ours: Cost { runs, run_ns },
        }
    }

    #[test]
    fn costs_are_of_the_time_between() {
        let empty = Cost {
            runs: 600.0,
            run_ns: 12_000.0,
        };
        let empty = HookCosts {
            egress: empty,
            ingress: empty,
            read: empty,
        };
        let then = Accounts(vec![
            account("read", 100.0, 9e9),
            account("close", 1.0, 50.0),
        ]);
        let now = Accounts(vec![
            account("read", 700.0, 9e9 + 60_000.0),
            account("close", 1.0, 50.0),
        ]);
        let hooks = now.since(&then, &empty, 100.0).unwrap();
        let [read, close] = hooks.as_slice() else {
            panic!("{hooks:?}")
        };
        assert_eq!(
            (read.raw_ns, read.empty_ns, read.runs_per_request),
            (100.0, 20.0, 6.0)
        );
        assert_eq!(read.net_ns(), 80.0);
        assert!((read.raw_us_per_request() - 0.6).abs() < 1e-9);
        assert!((read.net_us_per_request() - 0.48).abs() < 1e-9);
        assert_eq!(close.raw_us_per_request(), 0.0);
        assert_eq!(close.net_us_per_request(), 0.0);
    }
}

//! The steps of `docs/troubleshooting.md` by which a slow hop is found, followed to the letter: what is not
//! written there is not done, and a step that cannot be followed fails.

use std::fmt::Write;

use crate::markdown;
use crate::panels::{Band, Page};

const PAGE: &str = "docs/troubleshooting.md";
const HEADING: &str = "## A service is slow";
/// More workloads than this in a row are a circle.
const FARTHEST: usize = 8;

/// One step, as its words say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// `*Panel*: note the widest band.`, or the widest whose name begins with what another step noted.
    Note {
        panel: String,
        begins_as: Option<usize>,
    },
    /// `If the band of step 2 is wider than that of step 1, choose its name as *Slow workload*, and go back to
    /// step 1.`
    Choose {
        wide: usize,
        narrow: usize,
        variable: String,
        back: usize,
    },
    /// `The slow hop is the band of step 1, of requests to *Slow workload*; step 4 says whether it waits or
    /// works.`
    Name {
        hop: usize,
        variable: String,
        how: usize,
    },
}

/// What the page leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The workload that requests with the slow hop go to.
    pub(crate) workload: String,
    pub(crate) hop: String,
    pub(crate) part: String,
}

/// The procedure.
#[derive(Debug)]
pub(crate) struct Procedure {
    /// Title of the dashboard.
    dashboard: String,
    steps: Vec<Step>,
}

impl Procedure {
    /// As it is printed.
    pub(crate) fn read() -> Self {
        let page = markdown::page(PAGE);
        let section = page.text.split_once(&format!("{HEADING}\n")).unwrap().1;
        let section = section.split("\n## ").next().unwrap();
        Self::of(section)
    }

    fn of(section: &str) -> Self {
        let dashboard = section.split("dashboard *").nth(1).unwrap();
        let dashboard = dashboard.split('*').next().unwrap().to_owned();
        let steps: Vec<_> = items(section).iter().map(|text| Step::of(text)).collect();
        assert!(
            matches!(steps.last(), Some(Step::Name { .. })),
            "{PAGE}: the steps lead nowhere: {steps:?}"
        );
        Self { dashboard, steps }
    }

    /// Does what they say, beginning with a workload; also returns what was seen on the way, in lines.
    pub(crate) fn follow<'a>(
        &self,
        open: impl FnOnce(&str) -> Page<'a>,
        slow: &str,
    ) -> Result<(Answer, String), String> {
        let mut page = open(&self.dashboard);
        page.choose_only(slow);
        let mut noted: Vec<Option<Band>> = vec![None; self.steps.len()];
        let (mut at, mut seen, mut chosen) = (0, String::new(), 0);
        loop {
            // A step is not the last: the procedure ends with what returns.
            match &self.steps[at] {
                Step::Note { panel, begins_as } => {
                    let start = begins_as.map(|step| name(&noted, step)).transpose()?;
                    let start = start.map_or(String::new(), |name| format!("{name} "));
                    noted[at] = page.widest(panel, &start);
                    let told = noted[at].as_ref().map_or_else(
                        || "nothing".to_owned(),
                        |band| format!("{} {:.2} ms", band.name, 1e3 * band.value),
                    );
                    let _done = write!(seen, "{}. {told}; ", at + 1);
                }
                Step::Choose {
                    wide,
                    narrow,
                    variable,
                    back,
                } => {
                    let width = |step: usize| noted[step].as_ref().map_or(0.0, |band| band.value);
                    if width(*wide) > width(*narrow) {
                        chosen += 1;
                        if chosen > FARTHEST {
                            return Err(format!("round in circles: {seen}"));
                        }
                        let next = name(&noted, *wide)?;
                        let _done = write!(seen, "{}. on to {next}; ", at + 1);
                        page.choose(variable, &next);
                        at = *back;
                        continue;
                    }
                }
                Step::Name { hop, variable, how } => {
                    let hop = name(&noted, *hop)?;
                    let part = name(&noted, *how)?;
                    let part = part.strip_prefix(&hop).unwrap_or(&part).trim().to_owned();
                    let workload = page.chosen(variable).to_owned();
                    let answer = Answer {
                        workload,
                        hop,
                        part,
                    };
                    return Ok((answer, seen));
                }
            }
            at += 1;
        }
    }
}

/// What a step noted.
fn name(noted: &[Option<Band>], step: usize) -> Result<String, String> {
    let band = noted[step].as_ref();
    let band = band.ok_or_else(|| format!("step {} shows nothing", step + 1))?;
    Ok(band.name.clone())
}

/// The numbered items of a text: their first paragraphs, on one line each, in order.
fn items(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let number = format!("{}. ", items.len() + 1);
        if let Some(first) = line.strip_prefix(&number) {
            items.push(first.to_owned());
            open = true;
        } else if line.starts_with("   ") && open {
            let item = items.last_mut().unwrap();
            item.push(' ');
            item.push_str(line.trim());
        } else {
            open = false;
        }
    }
    items
}

impl Step {
    fn of(text: &str) -> Self {
        Self::note(text)
            .or_else(|| Self::choose(text))
            .or_else(|| Self::name(text))
            .unwrap_or_else(|| panic!("{PAGE}: nobody can follow this to the letter: {text}"))
    }

    fn note(text: &str) -> Option<Self> {
        let (panel, what) = text.strip_prefix('*')?.split_once("*: note the widest ")?;
        let begins_as = match what {
            "band." => None,
            what => Some(number(what.strip_prefix(
                "of the bands whose names begin with that of step ",
            )?)?),
        };
        let panel = panel.to_owned();
        Some(Self::Note { panel, begins_as })
    }

    fn choose(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("If the band of step ")?;
        let (wide, rest) = rest.split_once(" is wider than that of step ")?;
        let (narrow, rest) = rest.split_once(", choose its name as *")?;
        let (variable, back) = rest.split_once("*, and go back to step ")?;
        Some(Self::Choose {
            wide: number(wide)?,
            narrow: number(narrow)?,
            variable: variable.to_owned(),
            back: number(back)?,
        })
    }

    fn name(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("The slow hop is the band of step ")?;
        let (hop, rest) = rest.split_once(", of requests to *")?;
        let (variable, rest) = rest.split_once("*; step ")?;
        let how = rest.strip_suffix(" says whether it waits or works.")?;
        Some(Self::Name {
            hop: number(hop)?,
            variable: variable.to_owned(),
            how: number(how)?,
        })
    }
}

/// The index of the step with a number, which a full stop may follow.
fn number(text: &str) -> Option<usize> {
    text.trim_end_matches('.')
        .parse::<usize>()
        .ok()?
        .checked_sub(1)
}

#[test]
fn the_steps_can_be_followed() {
    let printed = Procedure::read();
    assert_eq!(printed.dashboard, "Troubleshoot a slow service");
    let notes = printed.steps.iter();
    let notes = notes.filter(|step| matches!(step, Step::Note { .. }));
    assert!(notes.count() >= 3, "{printed:?}");
}

#[test]
#[should_panic(expected = "nobody can follow this")]
fn a_step_of_other_words_is_not_guessed() {
    Procedure::of("dashboard *A*\n\n1. *B*: look for something odd.\n");
}

//! What a dashboard is made of.

/// One dashboard.
#[derive(Debug)]
pub(crate) struct Dashboard {
    /// Its name in links, and of its file.
    pub(crate) uid: &'static str,
    pub(crate) title: &'static str,
    /// What it is for, in a sentence or two.
    pub(crate) about: &'static str,
    pub(crate) variables: Vec<Variable>,
    pub(crate) rows: Vec<Row>,
}

#[cfg(test)]
impl Dashboard {
    /// Every panel, from top to bottom.
    pub(crate) fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|row| &row.panels)
    }
}

/// Something the reader chooses: values of a label.
#[derive(Debug)]
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    /// What the reader sees beside it.
    pub(crate) shown: &'static str,
    /// Series that are looked at.
    pub(crate) series: String,
    /// The label whose values are offered.
    pub(crate) label: &'static str,
    /// Several or all may be chosen; all is the default.
    pub(crate) many: bool,
}

/// Panels under a heading.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) title: &'static str,
    pub(crate) panels: Vec<Panel>,
}

/// One picture.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    /// How it is read.
    pub(crate) about: String,
    pub(crate) look: Look,
    pub(crate) unit: Unit,
    pub(crate) queries: Vec<Query>,
    /// In 24ths of the page.
    pub(crate) width: u32,
    /// In rows of about 30 pixels.
    pub(crate) height: u32,
    /// From which value on which colour; below the first one green.
    pub(crate) steps: Vec<Step>,
    /// Page of `docs/runbooks/`, without `.md`.
    pub(crate) runbook: Option<&'static str>,
    /// Values below 0 are to be seen too.
    pub(crate) signed: bool,
    /// Why nothing may be shown although all is well.
    pub(crate) may_be_empty: Option<&'static str>,
}

/// A value, and the colour from there on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) from: f64,
    pub(crate) colour: &'static str,
}

/// What is written behind a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    /// 0 to 1, shown as 0 to 100 %.
    Share,
    RequestsPerSecond,
    PerSecond,
    Bytes,
    /// Processors: 1 is one core.
    Cores,
    Count,
}

/// How it is drawn.
#[derive(Debug)]
pub(crate) enum Look {
    /// The last value, large.
    Stat,
    Lines,
    /// Areas on top of each other.
    Stacked,
    /// One bar for each value of `pair`, a piece for each hop.
    Bars {
        /// Every bar is as long as the other: shares.
        percent: bool,
    },
    /// One column for each label and each query.
    Table(Vec<Column>),
    /// Buckets over time.
    Heatmap,
}

/// The column of a table that a query fills.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
}

/// A question to Prometheus.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) expr: String,
    /// Name of a line; `{{label}}` stands for a label's value.
    pub(crate) legend: &'static str,
}

impl Panel {
    /// A panel of half the page's width.
    pub(crate) fn new(
        title: &'static str,
        look: Look,
        unit: Unit,
        about: impl Into<String>,
    ) -> Self {
        Self {
            title,
            about: about.into(),
            look,
            unit,
            queries: Vec::new(),
            width: 12,
            height: 8,
            steps: Vec::new(),
            runbook: None,
            signed: false,
            may_be_empty: None,
        }
    }

    /// One more query.
    pub(crate) fn ask(mut self, legend: &'static str, expr: impl Into<String>) -> Self {
        self.queries.push(Query {
            expr: expr.into(),
            legend,
        });
        self
    }

    /// Another size: 24ths of the page, and rows.
    pub(crate) fn size(mut self, width: u32, height: u32) -> Self {
        (self.width, self.height) = (width, height);
        self
    }

    /// Orange from one value on, red from another.
    pub(crate) fn warn(mut self, orange: f64, red: f64) -> Self {
        let step = |from, colour| Step { from, colour };
        self.steps = vec![step(orange, "orange"), step(red, "red")];
        self
    }

    /// Red below one value, orange below another.
    pub(crate) fn at_least(mut self, red: f64, orange: f64) -> Self {
        let step = |from, colour| Step { from, colour };
        self.steps = vec![
            step(f64::NEG_INFINITY, "red"),
            step(red, "orange"),
            step(orange, "green"),
        ];
        self
    }

    /// What to do when it is red.
    pub(crate) fn runbook(mut self, page: &'static str) -> Self {
        self.runbook = Some(page);
        self
    }

    /// Its values may be below 0, and then that is to be seen.
    pub(crate) fn signed(mut self) -> Self {
        self.signed = true;
        self
    }

    /// It may show nothing, for a reason.
    pub(crate) fn may_be_empty(mut self, reason: &'static str) -> Self {
        self.may_be_empty = Some(reason);
        self
    }

    /// Whether its queries are for one moment, over the whole time that the page shows.
    pub(crate) fn is_instant(&self) -> bool {
        matches!(self.look, Look::Bars { .. } | Look::Table(_))
    }
}

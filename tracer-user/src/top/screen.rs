//! The terminal: pairs in a table with a bar of hops each, and one pair with its steps.

use super::rows::{Column, Row};
use super::text::{duration, heading, letter, wants_colours};
use super::{Looks, Options};
use crate::model::Hop;
use anyhow::{Context, Result};
use hoptrace_exposition::Pair;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row as Cells, Table, TableState};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// How soon a key is answered, and a look is shown.
const STEP: Duration = Duration::from_millis(50);
/// Cells of a bar.
const BAR: usize = 30;
const KEYS: &str = "↑↓ choose  ⏎ details  ⎋ back  s sort  / filter  p pause  q quit";

/// Shows looks until the user leaves.
///
/// # Errors
/// The terminal refuses.
pub(super) fn run(options: &Options, mut looks: Looks) -> Result<()> {
    let (sender, receiver) = mpsc::channel();
    let interval = options.interval;
    // It ends with the process: whoever waits for an agent must still be able to leave.
    thread::spawn(move || {
        loop {
            thread::sleep(interval);
            if sender.send(looks.next()).is_err() {
                return;
            }
        }
    });
    let view = View {
        agent: options.agent.clone(),
        sort: options.sort,
        filter: options.filter.clone(),
        colours: wants_colours(),
        ..View::default()
    };
    let mut terminal = ratatui::try_init().context("the terminal refuses")?;
    let done = shown(&mut terminal, view, &receiver);
    // Also after an error the terminal is the user's again.
    ratatui::restore();
    done
}

fn shown(
    terminal: &mut ratatui::DefaultTerminal,
    mut view: View,
    looks: &Receiver<Result<Vec<Row>>>,
) -> Result<()> {
    let mut changed = true;
    loop {
        while let Ok(look) = looks.try_recv() {
            view.look(look);
            changed = true;
        }
        if changed {
            terminal.draw(|frame| view.draw(frame))?;
        }
        // A key, or another size of the terminal.
        changed = event::poll(STEP)?;
        if changed
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
            && view.key(key)
        {
            return Ok(());
        }
    }
}

/// What is on the screen.
struct View {
    agent: String,
    sort: Column,
    filter: String,
    /// The filter is being typed.
    typing: bool,
    paused: bool,
    colours: bool,
    /// The pair whose steps are shown.
    detail: Option<Pair>,
    rows: Vec<Row>,
    selected: TableState,
    /// Looks so far.
    looks: u64,
    /// Why the last look failed.
    error: Option<String>,
}

impl Default for View {
    fn default() -> Self {
        Self {
            agent: String::new(),
            sort: Column::Rate,
            filter: String::new(),
            typing: false,
            paused: false,
            colours: true,
            detail: None,
            rows: Vec::new(),
            selected: TableState::default().with_selected(0),
            looks: 0,
            error: None,
        }
    }
}

impl View {
    fn look(&mut self, look: Result<Vec<Row>>) {
        if self.paused {
            return;
        }
        match look {
            Ok(rows) => {
                self.rows = rows;
                self.looks += 1;
                self.error = None;
            }
            // What was shown stays, and the next look may succeed.
            Err(error) => self.error = Some(format!("{error:#}")),
        }
    }

    /// The rows that are asked for, in their order.
    fn shown(&self) -> Vec<&Row> {
        self.sort.sorted(&self.rows, &self.filter)
    }

    /// Returns whether the user leaves.
    fn key(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return true;
        }
        if self.typing {
            match key.code {
                KeyCode::Char(letter) => self.filter.push(letter),
                KeyCode::Backspace => drop(self.filter.pop()),
                KeyCode::Esc => {
                    self.filter.clear();
                    self.typing = false;
                }
                KeyCode::Enter => self.typing = false,
                _ => {}
            }
            return false;
        }
        match key.code {
            KeyCode::Char('q') => return true,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Down | KeyCode::Char('j') => self.selected.select_next(),
            KeyCode::Up | KeyCode::Char('k') => self.selected.select_previous(),
            KeyCode::Enter => {
                let at = self.selected.selected().unwrap_or(0);
                self.detail = self.shown().get(at).map(|row| row.pair.clone());
            }
            KeyCode::Esc | KeyCode::Backspace => self.detail = None,
            _ => {}
        }
        false
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let [head, body, foot] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(self.head(), head);
        let detail = self.detail.as_ref();
        let detail = detail.and_then(|pair| self.rows.iter().find(|row| row.pair == *pair));
        if let Some(row) = detail {
            frame.render_widget(steps(row), body);
        } else {
            self.draw_pairs(frame, body);
        }
        frame.render_widget(Paragraph::new(KEYS).style(dim()), foot);
    }

    fn head(&self) -> Paragraph<'_> {
        let state = match (&self.error, self.paused, self.looks) {
            (Some(error), _, _) => error.clone(),
            (None, true, _) => "paused".to_owned(),
            (None, false, 0) => "the first look is not over yet".to_owned(),
            (None, false, _) => {
                let rate: f64 = self.rows.iter().map(|row| row.rate).sum();
                format!("{:.0} requests/s, {} pairs", rate, self.rows.len())
            }
        };
        let mut legend = vec![Span::raw("hops: ")];
        for hop in Hop::ALL {
            let style = self.style(hop);
            legend.push(Span::styled(format!(" {} ", letter(hop)), style));
            legend.push(Span::raw(format!(" {}  ", heading(hop))));
        }
        if self.typing || !self.filter.is_empty() {
            let cursor = if self.typing { "▏" } else { "" };
            legend.push(Span::raw(format!("filter: {}{cursor}", self.filter)));
        }
        Paragraph::new(vec![
            Line::from(vec![
                Span::styled("hoptrace top ", Style::new().add_modifier(Modifier::BOLD)),
                Span::raw(format!("{}: {state}", self.agent)),
            ]),
            Line::from(legend),
        ])
    }

    fn draw_pairs(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let rows = self.shown();
        let headings = [
            ("source", Column::Source),
            ("destination", Column::Destination),
            ("req/s", Column::Rate),
            ("mean", Column::Mean),
            ("p50", Column::P50),
            ("p99", Column::P99),
            ("sidecars", Column::Sidecars),
        ];
        let marked = headings.map(|(heading, column)| {
            if column == self.sort {
                format!("{heading}▾")
            } else {
                heading.to_owned()
            }
        });
        let header = marked.into_iter().chain(["where the time goes".to_owned()]);
        let cells = rows.iter().map(|row| {
            let figures = [
                row.pair.source.clone(),
                row.pair.destination.clone(),
                format!("{:.1}", row.rate),
                duration(row.whole.mean()),
                duration(row.whole.quantile(0.5)),
                duration(row.whole.quantile(0.99)),
                duration(Some(row.sidecars())),
            ];
            Cells::new(
                figures
                    .into_iter()
                    .map(Line::from)
                    .chain([self.bar(row)])
                    .collect::<Vec<_>>(),
            )
        });
        let widths = [
            Constraint::Fill(2),
            Constraint::Fill(2),
            Constraint::Length(9),
            Constraint::Length(9),
            Constraint::Length(9),
            Constraint::Length(9),
            Constraint::Length(10),
            Constraint::Length(u16::try_from(BAR).unwrap_or(u16::MAX)),
        ];
        let table = Table::new(cells, widths)
            .header(Cells::new(header.collect::<Vec<_>>()).style(dim()))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        frame.render_stateful_widget(table, area, &mut self.selected);
    }

    /// One letter a cell, so that it can be read without colours too.
    fn bar(&self, row: &Row) -> Line<'static> {
        let mut spans = Vec::new();
        let (mut share, mut drawn) = (0.0, 0);
        for hop in Hop::ALL {
            share += row.share(hop);
            let until = (share * BAR as f64).round() as usize;
            let letters = letter(hop).repeat(until.saturating_sub(drawn));
            spans.push(Span::styled(letters, self.style(hop)));
            drawn = until.max(drawn);
        }
        Line::from(spans)
    }

    fn style(&self, hop: Hop) -> Style {
        if !self.colours {
            return Style::new();
        }
        let colour = match hop {
            Hop::App => Color::Green,
            Hop::SidecarInbound => Color::Yellow,
            Hop::SidecarOutbound => Color::Magenta,
            Hop::Network => Color::Cyan,
            Hop::Loopback => Color::Gray,
        };
        Style::new().fg(Color::Black).bg(colour)
    }
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

/// One pair: every hop, its legs and their parts.
fn steps(row: &Row) -> Table<'static> {
    let whole = [
        "whole request".to_owned(),
        String::new(),
        String::new(),
        duration(row.whole.mean()),
        duration(row.whole.quantile(0.5)),
        duration(row.whole.quantile(0.99)),
        String::new(),
    ];
    let mut cells = vec![Cells::new(whole).style(Style::new().add_modifier(Modifier::BOLD))];
    for hop in Hop::ALL {
        let Some(mean) = row.hops.get(&hop) else {
            continue;
        };
        cells.push(Cells::new([
            heading(hop).to_owned(),
            String::new(),
            String::new(),
            duration(Some(*mean)),
            String::new(),
            String::new(),
            format!("{:.1} %", row.share(hop) * 100.0),
        ]));
        for ((_, leg, part), histogram) in row.steps.iter().filter(|((of, _, _), _)| *of == hop) {
            cells.push(
                Cells::new([
                    String::new(),
                    leg.as_str().to_owned(),
                    part.as_str().to_owned(),
                    duration(histogram.mean()),
                    duration(histogram.quantile(0.5)),
                    duration(histogram.quantile(0.99)),
                    String::new(),
                ])
                .style(dim()),
            );
        }
    }
    let names = format!(
        "{} → {}, {:.1} requests/s",
        row.pair.source, row.pair.destination, row.rate
    );
    let widths = [14, 10, 12, 10, 10, 10, 8].map(Constraint::Length);
    let header = ["hop", "leg", "part", "mean", "p50", "p99", "share"];
    Table::new(cells, widths)
        .header(Cells::new(header).style(dim()))
        .block(ratatui::widgets::Block::bordered().title(names))
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::two_looks;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn drawn(view: &mut View) -> String {
        let mut terminal = Terminal::new(TestBackend::new(120, 24)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    fn press(view: &mut View, code: KeyCode) -> bool {
        view.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn pairs_are_shown_with_bars_and_their_steps_on_demand() {
        let mut view = View::default();
        assert!(drawn(&mut view).contains("the first look is not over yet"));
        view.look(Ok(two_looks()));
        let screen = drawn(&mut view);
        assert!(screen.contains("110 requests/s, 2 pairs"), "{screen}");
        // 1, 2, 2 and 1 of 6 ms.
        assert!(
            screen.contains("aaaaaiiiiiiiiiioooooooooolllll"),
            "{screen}"
        );
        press(&mut view, KeyCode::Enter);
        let screen = drawn(&mut view);
        assert!(screen.contains("client.shop → orders.shop"), "{screen}");
        assert!(screen.contains("33.3 %"), "{screen}");
        assert!(screen.contains("queue"), "{screen}");
        press(&mut view, KeyCode::Esc);
        assert!(drawn(&mut view).contains("stock.shop"));
    }

    #[test]
    fn keys_filter_sort_pause_and_leave() {
        let mut view = View::default();
        view.look(Ok(two_looks()));
        press(&mut view, KeyCode::Char('/'));
        for letter in "stoq".chars() {
            press(&mut view, KeyCode::Char(letter));
        }
        press(&mut view, KeyCode::Backspace);
        press(&mut view, KeyCode::Enter);
        let screen = drawn(&mut view);
        assert!(screen.contains("stock.shop"), "{screen}");
        assert!(!screen.contains("orders.shop"), "{screen}");
        press(&mut view, KeyCode::Char('s'));
        assert_eq!(view.sort, Column::Mean);
        press(&mut view, KeyCode::Char('p'));
        view.look(Ok(Vec::new()));
        assert_eq!(view.rows.len(), 2);
        press(&mut view, KeyCode::Char('p'));
        view.look(Err(anyhow::anyhow!("the agent is away")));
        let screen = drawn(&mut view);
        assert!(screen.contains("the agent is away"), "{screen}");
        assert!(screen.contains("stock.shop"), "{screen}");
        assert!(press(&mut view, KeyCode::Char('q')));
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(view.key(interrupt));
    }
}

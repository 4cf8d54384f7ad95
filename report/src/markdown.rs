//! Blocks as Markdown.

use crate::document::{Block, Table};

/// A page of blocks. Charts are left out: each has its table beside it.
#[must_use]
pub fn markdown(blocks: &[Block]) -> String {
    let texts = blocks.iter().filter_map(|block| match block {
        Block::Heading(level, text) => {
            Some(format!("{} {text}\n", "#".repeat(usize::from(*level))))
        }
        Block::Text(text) => Some(format!("{text}\n")),
        Block::Answer(text) => Some(format!("**{text}**\n")),
        Block::Refused(text, reasons) => {
            let reasons = reasons.iter().map(|reason| format!("> - {reason}\n"));
            Some(format!("> **{text}**\n>\n{}", reasons.collect::<String>()))
        }
        Block::Table(rows) => Some(table(rows)),
        Block::Chart(_) => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn table(table: &Table) -> String {
    let cell = |text: &String| text.replace('|', "\\|");
    let line = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(cell).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule =
        (0..table.head.len()).map(|column| if column < table.texts { "---|" } else { "--:|" });
    let rows = table.rows.iter().map(|row| line(row));
    line(&table.head) + "|" + &rule.collect::<String>() + "\n" + &rows.collect::<String>()
}

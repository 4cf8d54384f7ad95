//! Blocks as one HTML file: nothing is fetched, colours follow the reader's, and it can be printed.

use crate::document::{Block, Table};

const STYLE: &str = include_str!("html.css");

/// A whole page of blocks.
#[must_use]
pub fn html(blocks: &[Block]) -> String {
    let title = blocks.iter().find_map(|block| match block {
        Block::Heading(1, text) => Some(text.as_str()),
        _ => None,
    });
    let body: String = blocks.iter().map(block).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n\
         </html>\n",
        escaped(title.unwrap_or("hoptrace"))
    )
}

fn block(block: &Block) -> String {
    match block {
        Block::Heading(level, text) => format!("<h{level}>{}</h{level}>\n", inline(text)),
        Block::Text(text) => format!("<p>{}</p>\n", inline(text)),
        Block::Answer(text) => format!("<p class=\"answer\">{}</p>\n", inline(text)),
        Block::Refused(text, reasons) => {
            let reasons = reasons
                .iter()
                .map(|reason| format!("<li>{}</li>\n", inline(reason)));
            format!(
                "<div class=\"refused\" role=\"note\"><p>{}</p>\n<ul>\n{}</ul></div>\n",
                inline(text),
                reasons.collect::<String>()
            )
        }
        Block::Table(rows) => table(rows),
        Block::Chart(svg) => format!("<figure>{svg}</figure>\n"),
    }
}

fn table(table: &Table) -> String {
    let cell = |tag: &str, column: usize, text: &str| {
        let class = if column < table.texts {
            ""
        } else {
            " class=\"figure\""
        };
        format!("<{tag}{class}>{}</{tag}>", inline(text))
    };
    let head = table.head.iter().enumerate();
    let head: String = head
        .map(|(column, text)| {
            cell("th scope=\"col\"", column, text).replace("</th scope=\"col\">", "</th>")
        })
        .collect();
    let row = |row: &Vec<String>| {
        let cells = row
            .iter()
            .enumerate()
            .map(|(column, text)| cell("td", column, text));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let rows: String = table.rows.iter().map(row).collect();
    format!(
        "<div class=\"table\" tabindex=\"0\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n\
         </table></div>\n"
    )
}

/// Text with `code` in it.
fn inline(text: &str) -> String {
    let pieces = text.split('`').enumerate();
    let pieces = pieces.map(|(number, piece)| match number % 2 {
        0 => escaped(piece),
        _ => format!("<code>{}</code>", escaped(piece)),
    });
    pieces.collect()
}

/// What stands for itself in HTML and in SVG.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

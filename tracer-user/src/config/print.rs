//! The effective configuration as TOML or JSON, with the source of each value.

use super::{Resolved, Source};
use serde_json::json;
use std::fmt::Write;
use toml::Value;

fn table(resolved: &Resolved) -> toml::Table {
    // The configuration is made of texts, numbers and lists of them; TOML has them all.
    match Value::try_from(&resolved.config) {
        Ok(Value::Table(table)) => table,
        _ => toml::Table::new(),
    }
}

pub(super) fn to_json(resolved: &Resolved) -> String {
    let table = table(resolved);
    let options = resolved.sources.iter().map(|(&key, &source)| {
        let option = json!({"value": table.get(key), "source": describe(source, key)});
        (key.to_owned(), option)
    });
    format!("{:#}\n", serde_json::Value::Object(options.collect()))
}

pub(super) fn to_toml(resolved: &Resolved) -> String {
    let table = table(resolved);
    let mut text = String::new();
    for (&key, &source) in &resolved.sources {
        let line = match table.get(key) {
            Some(value) => format!("{key} = {value}"),
            None => format!("# {key} is not set"),
        };
        // Writing to a String cannot fail.
        let _done = writeln!(text, "{line} # {}", describe(source, key));
    }
    text
}

fn describe(source: Source, key: &str) -> String {
    match source {
        Source::Default => "default".to_owned(),
        Source::File => "file".to_owned(),
        Source::Environment => format!("environment HOPTRACE_{}", key.to_uppercase()),
        Source::Flag => format!("flag --{}", key.replace('_', "-")),
    }
}

//! The effective configuration as TOML with the source of each value.

use super::{Resolved, Source};
use std::fmt::Write;
use toml::Value;

pub(super) fn to_toml(resolved: &Resolved) -> String {
    // The configuration is made of texts, numbers and lists of them; TOML has them all.
    let table = match Value::try_from(&resolved.config) {
        Ok(Value::Table(table)) => table,
        _ => toml::Table::new(),
    };
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

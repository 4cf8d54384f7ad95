//! The repository's pages as tests read them: fenced blocks, shell lines, links, headings.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap().to_path_buf()
}

/// One page.
pub(crate) struct Page {
    /// Where it is, from the root.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A fenced block.
pub(crate) struct Block {
    /// What stands behind the opening fence.
    pub(crate) language: String,
    /// Line of the opening fence, from 1.
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// The pages a person reads.
pub(crate) fn pages() -> Vec<Page> {
    let mut paths = vec![PathBuf::from("README.md"), PathBuf::from("ARCHITECTURE.md")];
    for directory in [
        "docs",
        "docs/platforms",
        "docs/runbooks",
        "deploy",
        "deploy/demo",
        "deploy/helm/hoptrace",
        "deploy/kustomize",
    ] {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            let name = entry.unwrap().file_name();
            let path = Path::new(directory).join(name);
            if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    paths.into_iter().map(page).collect()
}

/// The page at a path from the root.
pub(crate) fn page(path: impl Into<PathBuf>) -> Page {
    let path = path.into();
    let text = fs::read_to_string(root().join(&path)).unwrap();
    Page { path, text }
}

impl Page {
    /// Its fenced blocks.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (at, line) in self.text.lines().enumerate() {
            match (line.trim_start().strip_prefix("```"), open.as_mut()) {
                (Some(language), None) => {
                    open = Some(Block {
                        language: language.trim().to_owned(),
                        line: at + 1,
                        text: String::new(),
                    });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some(block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(
            open.is_none(),
            "{}: a block stays open",
            self.path.display()
        );
        blocks
    }

    /// Its text without the fenced blocks, lines numbered from 1.
    fn prose(&self) -> Vec<(usize, &str)> {
        let mut inside = false;
        let numbered = self.text.lines().enumerate();
        numbered
            .filter(|(_, line)| {
                let fence = line.trim_start().starts_with("```");
                inside ^= fence;
                !inside && !fence
            })
            .map(|(at, line)| (at + 1, line))
            .collect()
    }

    /// Commands in its shell blocks whose program is `program`: place and words behind it.
    pub(crate) fn commands(&self, program: &[&str]) -> Vec<(String, Vec<String>)> {
        let mut found = Vec::new();
        for block in self.blocks() {
            if !matches!(block.language.as_str(), "sh" | "console") {
                continue;
            }
            let text = block.text.replace("\\\n", " ");
            for line in text.lines() {
                // In a console block only what stands behind a prompt was typed.
                let line = match (block.language.as_str(), line.strip_prefix("$ ")) {
                    (_, Some(typed)) => typed,
                    ("sh", None) => line,
                    _ => continue,
                };
                let mut words = words(line);
                while words
                    .first()
                    .is_some_and(|word| word == "sudo" || is_variable(word))
                {
                    words.remove(0);
                }
                if let Some(first) = words.first_mut() {
                    // `target/release/hoptrace` is the same program.
                    *first = first.rsplit('/').next().unwrap_or_default().to_owned();
                }
                if words.len() >= program.len()
                    && program.iter().zip(&words).all(|(one, other)| one == other)
                {
                    let place = format!("{}:{}: {line}", self.path.display(), block.line);
                    found.push((place, words.split_off(program.len())));
                }
            }
        }
        found
    }

    /// Its headings, without their marks.
    pub(crate) fn headings(&self) -> Vec<&str> {
        let lines = self.prose().into_iter();
        lines
            .filter(|(_, line)| line.starts_with('#'))
            .map(|(_, line)| line.trim_start_matches('#').trim())
            .collect()
    }

    /// Targets of its links that lead to a file of the repository: line and target.
    pub(crate) fn links(&self) -> Vec<(usize, &str)> {
        let mut found = Vec::new();
        for (at, line) in self.prose() {
            for piece in line.split("](").skip(1) {
                let target = piece.split(')').next().unwrap_or_default();
                if !target.starts_with("http") {
                    found.push((at, target));
                }
            }
        }
        found
    }

    /// What stands in backticks outside of the fenced blocks: line and text.
    pub(crate) fn inline_code(&self) -> Vec<(usize, &str)> {
        let mut found = Vec::new();
        for (at, line) in self.prose() {
            found.extend(line.split('`').skip(1).step_by(2).map(|code| (at, code)));
        }
        found
    }

    /// Whether it has the heading that a link's fragment names.
    pub(crate) fn has_fragment(&self, fragment: &str) -> bool {
        self.headings()
            .iter()
            .any(|heading| slug(heading) == fragment)
    }

    /// Compares what stands between two marks with what should, or writes it there when
    /// `UPDATE_DOCS` is set.
    pub(crate) fn check_generated(&self, name: &str, expected: &str) {
        let (open, close) = (
            format!("<!-- generated: {name} -->\n"),
            format!("<!-- /generated: {name} -->\n"),
        );
        let shown = self.path.display();
        for mark in [&open, &close] {
            assert!(self.text.contains(mark), "{shown} has no mark {mark}");
        }
        let (before, rest) = self.text.split_once(&open).unwrap();
        let (found, after) = rest.split_once(&close).unwrap();
        let expected = format!("\n{}\n\n", expected.trim());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let text = format!("{before}{open}{expected}{close}{after}");
            fs::write(root().join(&self.path), text).unwrap();
            return;
        }
        assert_eq!(
            found, expected,
            "{shown}, {name}: run this test again with UPDATE_DOCS=1 to write it"
        );
    }
}

fn is_variable(word: &str) -> bool {
    let name = word.split('=').next().unwrap_or_default();
    let fits = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    word.contains('=') && !name.is_empty() && name.bytes().all(fits)
}

/// Words of a command as a shell splits them, up to a comment, a pipe or the next command.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.chars() {
        match (letter, quote) {
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, Some(open)) if letter == open => quote = None,
            (letter, Some(_)) => word.get_or_insert_default().push(letter),
            (' ' | '\t', None) => words.extend(word.take()),
            ('#', None) if word.is_none() => break,
            ('|' | '&' | ';' | '>' | '<', None) => break,
            (letter, None) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// A heading as the fragment of a link: lower case, blanks as hyphens, other signs left out.
fn slug(heading: &str) -> String {
    let letters = heading.chars().filter_map(|letter| match letter {
        ' ' => Some('-'),
        '-' | '_' => Some(letter),
        letter if letter.is_alphanumeric() => Some(letter.to_ascii_lowercase()),
        _ => None,
    });
    letters.collect()
}

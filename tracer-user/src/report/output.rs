//! Where a report goes, and in which form.

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use hoptrace_report::{Report, document, html, markdown};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables for people and for repositories.
    Markdown,
    /// One page with charts, which needs nothing else.
    Html,
    /// Every figure, and a baseline for another report.
    Json,
}

impl Format {
    /// By the ending of a file.
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "md" => Some(Self::Markdown),
            "html" => Some(Self::Html),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn text(self, report: &Report) -> Result<String> {
        Ok(match self {
            Self::Markdown => markdown(&document(report)),
            Self::Html => html(&document(report)),
            Self::Json => serde_json::to_string_pretty(report)? + "\n",
        })
    }
}

/// Standard output and files.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// Of standard output; where there are files, of those whose ending says nothing.
    pub format: Option<Format>,
    /// Files; none is standard output.
    pub files: Vec<PathBuf>,
}

impl Outputs {
    /// Makes sure, before minutes are spent, that all of them can be written.
    ///
    /// # Errors
    /// A file cannot be there, or its form is not known.
    pub fn check(&self) -> Result<()> {
        for file in &self.files {
            self.format(file)?;
            let absolute = std::path::absolute(file).context("--out")?;
            let directory = absolute.parent().unwrap_or(Path::new("/"));
            ensure!(
                directory.is_dir() && !file.is_dir(),
                "--out: {} cannot be written: name a file in a directory that is there",
                file.display()
            );
        }
        Ok(())
    }

    /// Writes the report everywhere.
    ///
    /// # Errors
    /// Something cannot be written.
    pub fn write(&self, report: &Report) -> Result<()> {
        if self.files.is_empty() {
            let text = self.format.unwrap_or(Format::Markdown).text(report)?;
            return match io::stdout().lock().write_all(text.as_bytes()) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                done => done.context("cannot write to standard output"),
            };
        }
        for file in &self.files {
            let text = self.format(file)?.text(report)?;
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
            eprintln!("✓ {}", file.display());
        }
        Ok(())
    }

    fn format(&self, file: &Path) -> Result<Format> {
        Format::of(file).or(self.format).with_context(|| {
            format!(
                "--out: the ending of {} says no form: end it in .md, .html or .json, or give --output",
                file.display()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(file: &str, format: Option<Format>) -> Outputs {
        Outputs {
            format,
            files: vec![file.into()],
        }
    }

    #[test]
    fn files_are_looked_at_first() {
        let directory = tempfile::tempdir().unwrap();
        let inside = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        outputs(&inside("a.md"), None).check().unwrap();
        outputs(&inside("a"), Some(Format::Html)).check().unwrap();
        for (file, words) in [
            (inside("a.txt"), "says no form"),
            (inside("none/a.md"), "a directory that is there"),
        ] {
            let error = outputs(&file, None).check().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}

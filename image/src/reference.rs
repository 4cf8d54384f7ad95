//! Full names of images.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A registry, a repository and a tag, as in `docker.io/hoptrace/hoptrace:0.1.0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    repository: String,
    tag: String,
}

impl Reference {
    /// What follows the colon.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

impl FromStr for Reference {
    type Err = Error;

    /// Nothing is filled in: engines disagree on what a short name means.
    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::Reference {
            text: text.to_owned(),
        };
        let (repository, tag) = text.rsplit_once(':').ok_or_else(refused)?;
        let (registry, path) = repository.split_once('/').ok_or_else(refused)?;
        // Docker's rule: only then is the first part a registry.
        let is_registry = registry.contains(['.', ':']) || registry == "localhost";
        let is_path = !path.is_empty() && path.split('/').all(is_component);
        let is_tag = (1..=128).contains(&tag.len())
            && !tag.starts_with(['.', '-'])
            && tag
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if is_registry && is_path && is_tag {
            Ok(Self {
                repository: repository.to_owned(),
                tag: tag.to_owned(),
            })
        } else {
            Err(refused())
        }
    }
}

fn is_component(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.bytes().all(|b| is_inner(b) || b"._-".contains(&b))
        && text.bytes().next().is_some_and(is_inner)
        && text.bytes().next_back().is_some_and(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_names_are_taken() {
        for good in [
            "docker.io/hoptrace/hoptrace:0.1.0",
            "localhost/x:latest",
            "10.0.0.1:5000/a/b-c:v1",
        ] {
            assert_eq!(good.parse::<Reference>().unwrap().to_string(), good);
        }
        for bad in [
            "hoptrace",
            "hoptrace:1",
            "hoptrace/hoptrace:1",
            "docker.io/Hoptrace:1",
            "docker.io/a",
            "docker.io/a:",
            "docker.io//a:1",
            "docker.io/a:-1",
            "docker.io/a:1/b",
        ] {
            let error = bad.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
    }
}

//! All labs of this machine: names, and labs whose creators are gone.

use anyhow::{Result, bail};

use crate::lab::Lab;
use crate::state::{self, Claim, LabState};
use crate::{host, signals, teardown};

impl Lab {
    /// Takes a lab down, whoever made it.
    ///
    /// # Errors
    /// There is none of this name, or something stays.
    pub fn down_by_name(name: &str) -> Result<()> {
        host::need_root()?;
        match state::load(name)? {
            Some(state) => teardown::all(&state),
            None => {
                let others = state::names();
                let there_are = if others.is_empty() {
                    "there is no lab at all".to_owned()
                } else {
                    format!("there are {}", others.join(", "))
                };
                bail!("no lab is named `{name}`; {there_are}")
            }
        }
    }

    /// Every lab there is.
    ///
    /// # Errors
    /// A state cannot be read.
    pub fn list() -> Result<Vec<LabState>> {
        let names = state::names();
        names
            .iter()
            .filter_map(|name| state::load(name).transpose())
            .collect()
    }
}

/// Takes the name, and what a dead creator left under it away.
pub(crate) fn claim(state: &LabState) -> Result<()> {
    let _lock = state::lock()?;
    for _ in 0..2 {
        if state.claim()? == Claim::Ours {
            return Ok(());
        }
        match state::load(&state.name)? {
            None => {}
            Some(old) if old.is_stale() => teardown::all(&old)?,
            Some(old) => bail!(
                "a lab named `{}` is already up (made by process {}): choose another name, or \
                 `cargo xtask lab down --name {}`",
                old.name,
                old.creator.pid,
                old.name
            ),
        }
    }
    bail!("the name `{}` cannot be claimed: try again", state.name)
}

/// Takes down every lab whose creator is dead and that was not meant to outlive it; returns their
/// names.
///
/// # Errors
/// Something of one stays.
pub fn clean_stale() -> Result<Vec<String>> {
    host::need_root()?;
    let _lock = state::lock()?;
    let mut cleaned = Vec::new();
    for lab in Lab::list()?.into_iter().filter(LabState::is_stale) {
        signals::check()?;
        teardown::all(&lab)?;
        cleaned.push(lab.name);
    }
    Ok(cleaned)
}

//! The redirection rules of a meshed pod, as `istio-init` sets them.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::host;
use crate::spawn::{self, Place, SIDECAR_USER};

/// `LOCAL` is the loopback address, `SIDECAR` the one Envoy reaches its app from. In order: what
/// Envoy sends to its own app passes; what it sends to its own pod by another address turns
/// around to its inbound side; what the app sends to itself and what Envoy sends elsewhere pass;
/// the rest is the app's, and goes to Envoy.
const RULES: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:ISTIO_INBOUND - [0:0]
:ISTIO_REDIRECT - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A OUTPUT -p tcp -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -s SIDECAR -o lo -j RETURN
-A ISTIO_OUTPUT ! -d LOCAL -o lo -p tcp ! --dport 15008 -m owner --uid-owner USER -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner USER -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner USER -j RETURN
-A ISTIO_OUTPUT ! -d LOCAL -o lo -p tcp ! --dport 15008 -m owner --gid-owner USER -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner USER -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner USER -j RETURN
-A ISTIO_OUTPUT -d LOCAL -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
COMMIT
";

/// Redirects IPv4 to the sidecar.
///
/// # Errors
/// The rules cannot be set.
pub(crate) fn ipv4(netns: &str) -> Result<()> {
    restore(netns, "iptables-restore", "127.0.0.1/32", "127.0.0.6/32")
}

/// Redirects IPv6 to the sidecar.
///
/// # Errors
/// The rules cannot be set; some kernels cannot translate IPv6 addresses.
pub(crate) fn ipv6(netns: &str) -> Result<()> {
    restore(netns, "ip6tables-restore", "::1/128", "::6/128")
}

fn restore(netns: &str, program: &str, local: &str, sidecar: &str) -> Result<()> {
    let rules = rules(local, sidecar);
    let mut command = Command::new(host::program(program)?);
    // Where there is a lock on the rules, it is one for the whole machine.
    command
        .args(["--wait", "10"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let place = Place {
        netns,
        cgroup: None,
        user: 0,
    };
    let mut child = spawn::spawn(&mut command, place)?;
    if let Some(mut stdin) = child.stdin.take() {
        // When it died early, its own complaint below says more than a broken pipe.
        let _broken = stdin.write_all(rules.as_bytes());
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("waiting for {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} cannot redirect traffic in {netns}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// The rules for IPv4, as iptables-restore takes them.
pub(crate) fn rules_ipv4() -> String {
    rules("127.0.0.1/32", "127.0.0.6/32")
}

fn rules(local: &str, sidecar: &str) -> String {
    RULES
        .replace("LOCAL", local)
        .replace("SIDECAR", sidecar)
        .replace("USER", &SIDECAR_USER.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_placeholder_is_left() {
        let text = rules("::1/128", "::6/128");
        assert!(text.contains("-s ::6/128 -o lo -j RETURN"));
        assert!(text.contains("--uid-owner 1337"));
        assert!(
            !["LOCAL", "SIDECAR", "USER"]
                .iter()
                .any(|word| text.contains(word))
        );
    }
}

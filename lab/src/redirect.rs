//! The redirection rules of a meshed pod, as `istio-init` sets them, or as Linkerd's `proxy-init` does.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::host;
use crate::options::Convention;
use crate::spawn::{self, Place, SIDECAR_USER};

/// `LOCAL` is the loopback address, `SIDECAR` the one Envoy reaches its app from. In order: what
/// Envoy sends to its own app passes; what it sends to its own pod by another address turns
/// around to its inbound side; what the app sends to itself and what Envoy sends elsewhere pass;
/// the rest is the app's, and goes to Envoy.
const ISTIO: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:ISTIO_INBOUND - [0:0]
:ISTIO_REDIRECT - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports OUT_PORT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports IN_PORT
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

/// In order: what the sidecar sends passes, to its app and elsewhere; so does what stays on the
/// loopback interface; the rest is the app's. The sidecar's own ports are not redirected: here they are
/// those of the lab's Envoy.
const LINKERD: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:PROXY_INIT_REDIRECT - [0:0]
:PROXY_INIT_OUTPUT - [0:0]
-A PROXY_INIT_REDIRECT -p tcp -m multiport --dports 15021,15090 -j RETURN
-A PROXY_INIT_REDIRECT -p tcp -j REDIRECT --to-ports IN_PORT
-A PREROUTING -j PROXY_INIT_REDIRECT
-A PROXY_INIT_OUTPUT -m owner --uid-owner USER -j RETURN
-A PROXY_INIT_OUTPUT -o lo -j RETURN
-A PROXY_INIT_OUTPUT -p tcp -j REDIRECT --to-ports OUT_PORT
-A OUTPUT -j PROXY_INIT_OUTPUT
COMMIT
";

/// Redirects IPv4 to the sidecar.
///
/// # Errors
/// The rules cannot be set.
pub(crate) fn ipv4(netns: &str, convention: Convention) -> Result<()> {
    let rules = rules(convention, "127.0.0.1/32", "127.0.0.6/32");
    restore(netns, "iptables-restore", &rules)
}

/// Redirects IPv6 to the sidecar.
///
/// # Errors
/// The rules cannot be set; some kernels cannot translate IPv6 addresses.
pub(crate) fn ipv6(netns: &str, convention: Convention) -> Result<()> {
    let rules = rules(convention, "::1/128", "::6/128");
    restore(netns, "ip6tables-restore", &rules)
}

fn restore(netns: &str, program: &str, rules: &str) -> Result<()> {
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

/// Istio's rules for IPv4, as iptables-restore takes them.
pub(crate) fn rules_ipv4() -> String {
    rules(Convention::Istio, "127.0.0.1/32", "127.0.0.6/32")
}

fn rules(convention: Convention, local: &str, sidecar: &str) -> String {
    let rules = match convention {
        Convention::Istio => ISTIO,
        Convention::Linkerd => LINKERD,
    };
    rules
        .replace("OUT_PORT", &convention.outbound_port().to_string())
        .replace("IN_PORT", &convention.inbound_port().to_string())
        .replace("LOCAL", local)
        .replace("SIDECAR", sidecar)
        .replace("USER", &SIDECAR_USER.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_placeholder_is_left() {
        for convention in [Convention::Istio, Convention::Linkerd] {
            let text = rules(convention, "::1/128", "::6/128");
            assert!(text.contains("--uid-owner 1337"));
            assert!(
                !["LOCAL", "SIDECAR", "USER", "_PORT"]
                    .iter()
                    .any(|word| text.contains(word))
            );
        }
        assert!(rules_ipv4().contains("-s 127.0.0.6/32 -o lo -j RETURN"));
    }
}

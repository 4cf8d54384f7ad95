//! The sidecars of a mesh: what is known of them beforehand, and options for those that are otherwise.

use super::values::InvalidValue;
use crate::roles::AppSource;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

/// The word for an address that sidecar and app share.
const OWN_ADDRESS: &str = "own-address";

/// A mesh whose sidecars are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mesh {
    /// Istio: `ENVOY_PORT`, `INBOUND_CAPTURE_PORT` and `ENVOY_USER` of istio-iptables.
    #[default]
    Istio,
    /// Linkerd 2.11 or newer: `proxy.ports`, `proxy.uid` of its chart.
    Linkerd,
}

/// What one mesh's sidecars have in common.
pub(super) struct Preset {
    pub(super) process: &'static str,
    pub(super) inbound_port: NonZeroU16,
    pub(super) outbound_port: NonZeroU16,
    pub(super) uid: u32,
    pub(super) app_source: ProxyAppSource,
}

impl Mesh {
    pub(super) fn preset(self) -> Preset {
        match self {
            Self::Istio => Preset {
                process: "envoy",
                inbound_port: const { NonZeroU16::new(15006).unwrap() },
                outbound_port: const { NonZeroU16::new(15001).unwrap() },
                uid: 1337,
                app_source: ProxyAppSource(AppSource::istio()),
            },
            Self::Linkerd => Preset {
                process: "linkerd2-proxy",
                inbound_port: const { NonZeroU16::new(4143).unwrap() },
                outbound_port: const { NonZeroU16::new(4140).unwrap() },
                uid: 2102,
                app_source: ProxyAppSource(AppSource::Own),
            },
        }
    }
}

/// The address from which a sidecar reaches its own app: some of their own, or the pod's, as
/// everybody's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProxyAppSource(AppSource);

impl ProxyAppSource {
    /// For the stage that tells sockets apart.
    #[must_use]
    pub fn get(&self) -> AppSource {
        self.0.clone()
    }
}

impl FromStr for ProxyAppSource {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == OWN_ADDRESS {
            return Ok(Self(AppSource::Own));
        }
        let addresses = text.split(',').map(|part| part.trim().parse::<IpAddr>());
        match addresses.collect::<Result<Vec<_>, _>>() {
            Ok(addresses) => Ok(Self(AppSource::Addresses(addresses))),
            Err(_) => Err(InvalidValue::new(format!(
                "`{text}` is no source address; write addresses such as 127.0.0.6,::6, or \
                 `{OWN_ADDRESS}`"
            ))),
        }
    }
}

impl fmt::Display for ProxyAppSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            AppSource::Own => f.write_str(OWN_ADDRESS),
            AppSource::Addresses(addresses) => {
                let texts: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
                f.write_str(&texts.join(","))
            }
        }
    }
}

impl TryFrom<String> for ProxyAppSource {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ProxyAppSource> for String {
    fn from(source: ProxyAppSource) -> Self {
        source.to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "an error is the result of the test")]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_addresses_or_the_own_one() {
        for text in ["own-address", "127.0.0.6,::6", "10.0.0.1"] {
            let source: ProxyAppSource = text.parse().unwrap();
            assert_eq!(source.to_string(), text);
        }
        assert_eq!(
            Mesh::Istio.preset().app_source,
            "127.0.0.6, ::6".parse().unwrap()
        );
        for text in ["", "own", "127.0.0.6,", "127.0.0.6:80", "lo"] {
            let error = text.parse::<ProxyAppSource>().unwrap_err();
            assert!(error.to_string().contains("own-address"), "{text}: {error}");
        }
    }
}

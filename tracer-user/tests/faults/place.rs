//! Where in the chain a request spends its time.

/// A place that can be held up, or the rest of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `app` of capitol-client.
    Client,
    /// `sidecar_outbound` between the two.
    Outbound,
    /// `network` between the two.
    Network,
    /// `sidecar_inbound` between the two.
    Inbound,
    /// `app` of capitol-info.
    Server,
    /// `app` of what capitol-info asks.
    Database,
    /// `loopback` between the two.
    Loopback,
    /// What comes before capitol-client, its sidecar's inbound side too.
    WayIn,
    /// Between capitol-info and its database, its sidecar's outbound side too.
    WayOn,
}

impl Place {
    /// All that a request passes.
    pub(crate) const ALL: [Self; 9] = [
        Self::Client,
        Self::Outbound,
        Self::Network,
        Self::Inbound,
        Self::Server,
        Self::Database,
        Self::Loopback,
        Self::WayIn,
        Self::WayOn,
    ];

    /// Those that are held up.
    pub(crate) const FAULTY: [Self; 6] = [
        Self::Client,
        Self::Outbound,
        Self::Network,
        Self::Inbound,
        Self::Server,
        Self::Database,
    ];

    /// As in the header `x-fault`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Outbound => "outbound",
            Self::Network => "network",
            Self::Inbound => "inbound",
            Self::Server => "server",
            Self::Database => "database",
            Self::Loopback => "loopback",
            Self::WayIn => "way-in",
            Self::WayOn => "way-on",
        }
    }

    /// For a reader.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Client => "client app",
            Self::Outbound => "outbound sidecar",
            Self::Network => "network",
            Self::Inbound => "inbound sidecar",
            Self::Server => "server app",
            Self::Database => "database",
            Self::Loopback => "loopback",
            Self::WayIn => "way to the client app",
            Self::WayOn => "way to the database",
        }
    }
}

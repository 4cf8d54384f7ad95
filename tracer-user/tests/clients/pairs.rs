//! Which client asks which server.

use hoptrace_lab::Pod;

use crate::ends::{Asked, Bench};
use crate::mesh::truth::Sidecar;
use crate::programs::{NGINX, Server};
use crate::row::Case;
use crate::sidecars::{NODE, TOMCAT};

const TO_TOMCAT: Server = Server {
    port: TOMCAT,
    path: "index.jsp?delay=50",
};
const TO_NODE: Server = Server {
    port: NODE,
    path: "?delay=50&size=500",
};

/// The load pod's sidecar and that of NGINX.
const TO_CLIENT: &[(Sidecar, Pod)] = &[
    (Sidecar::Outbound, Pod::Load),
    (Sidecar::Inbound, Pod::Client),
];

const fn nginx(client: &'static str, work: fn(&Bench<'_>) -> Vec<Asked>) -> Case {
    Case {
        logs: TO_CLIENT,
        app: false,
        ..Case::new("NGINX 1.22", client, work)
    }
}

pub(crate) const ALL: &[Case] = &[
    nginx("curl", |bench| bench.curls(NGINX)),
    nginx("oha", |bench| bench.oha(NGINX)),
    nginx("h2load --h1", |bench| bench.h2load(NGINX)),
    nginx("k6", |bench| bench.k6(NGINX)),
    Case::new("Tomcat 10.1", "curl", |bench| bench.curls(TO_TOMCAT)),
    Case::new("Tomcat 10.1", "oha", |bench| bench.oha(TO_TOMCAT)),
    Case::new("Tomcat 10.1", "h2load --h1", |bench| {
        bench.h2load(TO_TOMCAT)
    }),
    Case::new("Tomcat 10.1", "k6", |bench| bench.k6(TO_TOMCAT)),
    Case::new("Node.js 24", "curl", |bench| bench.curls(TO_NODE)),
    Case::new("Node.js 24", "oha", |bench| bench.oha(TO_NODE)),
    Case::new("Node.js 24", "h2load --h1", |bench| bench.h2load(TO_NODE)),
    Case::new("Node.js 24", "k6", |bench| bench.k6(TO_NODE)),
    Case {
        from: Some(Pod::Load),
        // newman's clock has milliseconds.
        timed: false,
        app: false,
        // What NGINX asks capitol-info for each request that it forwards.
        beside: Some(|shape| shape == "111111"),
        logs: &[
            (Sidecar::Outbound, Pod::Load),
            (Sidecar::Inbound, Pod::Client),
            (Sidecar::Outbound, Pod::Client),
            (Sidecar::Inbound, Pod::Info),
        ],
        ..Case::new(
            "NGINX, then capitol-info",
            "newman, the article's collection",
            |bench| bench.newman(),
        )
    },
];

//! The rows.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hoptrace_lab::wire::{Kind, Wish};
use hoptrace_lab::{Pod, Target};
use tracer_user::model::Fate;

use crate::ends::{Asked, Bench};
use crate::mesh::truth::Sidecar;
use crate::row::{Case, Expect};

/// Connections and exchanges on each, for most cases: enough for a quantile.
const SIZE: (u64, u64) = (4, 50);
/// So long that what a client or server needs to stamp is nothing beside it.
const DELAY: &str = "delay=25";
const LARGE: u64 = 100 << 20;

fn base(bench: &Bench<'_>, target: Target) -> String {
    let url = bench.lab.url(Pod::Load, target);
    url.trim_end_matches('/').to_owned()
}

fn address(bench: &Bench<'_>, target: Target) -> SocketAddr {
    let url = base(bench, target);
    url.trim_start_matches("http://").parse().unwrap()
}

fn wish(bench: &Bench<'_>, kind: Kind, path: &str) -> Wish {
    Wish {
        address: address(bench, Target::Info),
        host: "capitol-info:8080".to_owned(),
        path: path.to_owned(),
        kind,
        connections: SIZE.0,
        count: SIZE.1,
        bytes: 0,
    }
}

fn ask(bench: &Bench<'_>, kind: Kind, path: &str) -> Vec<Asked> {
    bench.ask(Pod::Load, &wish(bench, kind, path))
}

fn curl(bench: &Bench<'_>, path: &str, args: &[&str]) -> Vec<Asked> {
    let url = format!("{}{path}", base(bench, Target::Info));
    bench.curl(Pod::Load, &url, (4, 50), args)
}

/// Answered by the sidecar itself, unless it is a 200.
const LOCAL: fn(u16) -> &'static str = |status| {
    if status == 200 { "111111" } else { "110000" }
};

/// What a server did for a client that was gone: its sidecar has no answer then.
fn server_alone(shape: &str) -> bool {
    shape.starts_with("00") && shape.ends_with('1')
}

pub(crate) const MESHED: &[Case] = &[
    Case::new("HTTP/1.1 keep-alive, VIP", "curl", |bench| {
        curl(bench, &format!("/plain?{DELAY}&size=500"), &[])
    }),
    Case::new("`Connection: close`", "wire", |bench| {
        ask(bench, Kind::Close, &format!("/plain?{DELAY}&size=500"))
    }),
    Case::new("headless: the pod's address", "curl", |bench| {
        let url = format!("http://{}:8080/plain?{DELAY}", Pod::Info.ip_v4());
        bench.curl(Pod::Load, &url, (4, 50), &[])
    }),
    Case::new("chunked answer", "curl", |bench| {
        curl(bench, &format!("/chunked?{DELAY}&size=20000"), &[])
    }),
    Case::new("chunked request", "wire", |bench| {
        let path = format!("/plain?{DELAY}");
        let wish = Wish {
            bytes: 20_000,
            ..wish(bench, Kind::ChunkedBody, &path)
        };
        bench.ask(Pod::Load, &wish)
    }),
    Case::new("HEAD", "curl", |bench| {
        curl(bench, &format!("/plain?{DELAY}&size=500"), &["--head"])
    }),
    Case::new("`Expect: 100-continue`", "wire", |bench| {
        let path = format!("/plain?{DELAY}");
        let wish = Wish {
            bytes: 5_000,
            ..wish(bench, Kind::Expect, &path)
        };
        bench.ask(Pod::Load, &wish)
    }),
    Case {
        expect: Expect::NotSupported(Fate::Continuation),
        ..Case::new("103 before the answer", "wire", |bench| {
            ask(bench, Kind::KeepAlive, &format!("/hints?{DELAY}"))
        })
    },
    Case::new("answer before the request's end", "wire", |bench| {
        let wish = Wish {
            bytes: 20_000,
            ..wish(bench, Kind::Early, &format!("/early?{DELAY}"))
        };
        bench.ask(Pod::Load, &wish)
    }),
    Case::new("100 MB up", "wire", |bench| {
        let wish = Wish {
            bytes: LARGE,
            connections: 1,
            count: 3,
            ..wish(bench, Kind::ChunkedBody, "/plain")
        };
        bench.ask(Pod::Load, &wish)
    }),
    Case::new("100 MB down", "curl", |bench| {
        let url = format!("{}/plain?{DELAY}&size={LARGE}", base(bench, Target::Info));
        bench.curl(Pod::Load, &url, (1, 3), &[])
    }),
    Case::new("server-sent events", "curl", |bench| {
        let url = format!(
            "{}/events?{DELAY}&count=5&gap=20",
            base(bench, Target::Info)
        );
        bench.curl(Pod::Load, &url, (10, 5), &[])
    }),
    Case {
        expect: Expect::NotSupported(Fate::Unpaired),
        ..Case::new("pipelining", "wire", |bench| {
            ask(bench, Kind::Pipeline, &format!("/plain?{DELAY}"))
        })
    },
    Case {
        expect: Expect::Counted(Fate::NoResponse, 4),
        beside: Some(server_alone),
        ..Case::new("client hangs up", "wire", |bench| {
            let wish = Wish {
                count: 25,
                ..wish(bench, Kind::Abort, "/plain?delay=300")
            };
            let asked = bench.ask(Pod::Load, &wish);
            // Its server is still at it.
            std::thread::sleep(std::time::Duration::from_millis(400));
            asked
        })
    },
    Case::new("50 connections at once, cold pools", "wire", |bench| {
        // What was kept for an earlier case is used up by the first of these.
        let wish = Wish {
            connections: 50,
            count: 6,
            ..wish(bench, Kind::Close, &format!("/plain?{DELAY}"))
        };
        bench.ask(Pod::Load, &wish)
    }),
    Case {
        // Of an upgraded connection there is one entry.
        logs: &[],
        ..Case::new("WebSocket upgrade, then turns as `tcp`", "wire", |bench| {
            ask(bench, Kind::Upgrade, &format!("/upgrade?{DELAY}"))
        })
    },
    Case {
        beside: Some(|shape| shape == "001111"),
        logs: &[],
        ..Case::new("retry after a 503", "wire", |bench| {
            let path = format!("/flaky?{DELAY}");
            let wish = Wish {
                connections: 1,
                count: 100,
                ..wish(bench, Kind::KeepAlive, &path)
            };
            bench.ask(Pod::Load, &wish)
        })
    },
    Case {
        shape: LOCAL,
        beside: Some(server_alone),
        logs: &[],
        ..Case::new("timeout: 504 by the sidecar", "curl", |bench| {
            curl(bench, "/timeout?delay=100", &[])
        })
    },
    Case {
        shape: LOCAL,
        logs: &[],
        ..Case::new("503, no upstream", "wire", |bench| {
            ask(bench, Kind::KeepAlive, "/nowhere")
        })
    },
    Case {
        shape: LOCAL,
        ..Case::new("circuit breaker: some 503", "curl", |bench| {
            let wish = Wish {
                connections: 12,
                count: 20,
                ..wish(bench, Kind::KeepAlive, &format!("/narrow?{DELAY}"))
            };
            bench.ask(Pod::Load, &wish)
        })
    },
    Case {
        shape: LOCAL,
        logs: &[],
        ..Case::new("fault filter: abort", "wire", |bench| {
            ask(bench, Kind::KeepAlive, "/abort")
        })
    },
    Case {
        beside: Some(|shape| shape == "001111"),
        ..Case::new("mirrored", "curl", |bench| {
            curl(bench, &format!("/mirror?{DELAY}"), &[])
        })
    },
    Case {
        logs: &[(Sidecar::Outbound, Pod::Info)],
        ..Case::new("app calls itself through its sidecars", "wire", |bench| {
            let path = format!("/plain?{DELAY}");
            bench.ask(Pod::Info, &wish(bench, Kind::KeepAlive, &path))
        })
    },
    Case::new("second port of the app", "curl", |bench| {
        let url = format!("{}/plain?{DELAY}", base(bench, Target::Info));
        bench.curl(Pod::Load, &url.replace("8080", "8081"), (4, 50), &[])
    }),
    Case::new("IPv6", "curl", |bench| {
        let url = format!("{}/plain?{DELAY}", base(bench, Target::InfoV6));
        bench.curl(Pod::Load, &url, (4, 50), &[])
    }),
    Case {
        logs: &[],
        ..Case::new("raw TCP by turns, `tcp`", "wire", |bench| {
            let wish = Wish {
                address: SocketAddr::new(Pod::Info.ip_v4().into(), 9000),
                ..wish(bench, Kind::Raw, "")
            };
            bench.ask(Pod::Load, &wish)
        })
    },
];

/// Port of what the tests serve by themselves.
const PORT: u16 = 8080;
const GATEWAY_PORT: u16 = 8888;
/// The node's own address: nobody is traced there.
const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));

/// From the app of the meshed pod capitol-client.
fn from_client(bench: &Bench<'_>, address: SocketAddr) -> Vec<Asked> {
    let wish = Wish {
        address,
        host: address.to_string(),
        ..wish(bench, Kind::KeepAlive, &format!("/plain?{DELAY}"))
    };
    bench.ask(Pod::Client, &wish)
}

fn direct(bench: &Bench<'_>) -> Vec<Asked> {
    let url = format!("http://{}:8080/plain?{DELAY}", Pod::Info.ip_v4());
    bench.curl(Pod::Load, &url, (4, 50), &[])
}

pub(crate) const EDGE: &[Case] = &[
    Case {
        shape: |_status| "100111",
        logs: &[(Sidecar::Inbound, Pod::Info)],
        ..Case::new("unmeshed client, meshed server", "curl", direct)
    },
    Case {
        shape: |_status| "100111",
        // What NGINX asks for each request that it forwards.
        beside: Some(|shape| shape == "111111"),
        one_in: 2,
        logs: &[
            (Sidecar::Inbound, Pod::Info),
            (Sidecar::Inbound, Pod::Client),
            (Sidecar::Outbound, Pod::Client),
        ],
        ..Case::new(
            "permissive: plaintext and mutual TLS at once",
            "curl, NGINX",
            |bench| {
                let gateway = base(bench, Target::Gateway);
                let gateway = format!("{gateway}/plain?{DELAY}");
                std::thread::scope(|scope| {
                    let plain = scope.spawn(|| direct(bench));
                    let mut asked = bench.curl(Pod::Load, &gateway, (4, 50), &[]);
                    asked.extend(plain.join().unwrap());
                    asked
                })
            },
        )
    },
    Case {
        shape: |_status| "111001",
        logs: &[(Sidecar::Outbound, Pod::Client)],
        ..Case::new("meshed client, unmeshed server", "wire", |bench| {
            let _server = bench.serve(Some(Pod::Load), PORT);
            from_client(bench, SocketAddr::new(Pod::Load.ip_v4().into(), PORT))
        })
    },
    Case {
        shape: |_status| "111000",
        app: false,
        logs: &[(Sidecar::Outbound, Pod::Client)],
        ..Case::new("egress: server outside the node's pods", "wire", |bench| {
            let _server = bench.serve(None, PORT);
            from_client(bench, SocketAddr::new(NODE, PORT))
        })
    },
    Case {
        logs: &[
            (Sidecar::Outbound, Pod::Client),
            (Sidecar::Inbound, Pod::Info),
        ],
        ..Case::new(
            "ingress gateway: an Envoy without an app",
            "curl",
            |bench| {
                let _envoy = bench.gateway(GATEWAY_PORT);
                let url = format!("http://{NODE}:{GATEWAY_PORT}/plain?delay=50");
                bench.curl(Pod::Load, &url, (4, 50), &[])
            },
        )
    },
];

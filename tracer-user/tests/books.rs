//! What the kernel side saw is what was attributed plus what was lost, to the integer.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

mod mesh;

use hoptrace_lab::Mode;
use hoptrace_lab::load::Schedule;
use mesh::{Tracing, load, spec, trace};
use tracer_user::model::Fate;

#[test]
fn balance_with_tables_too_small() {
    let Some(lab) = mesh::lab("books", Mode::Mtls, |_| {}) else {
        return;
    };
    let spec = spec(&lab, 16, Schedule::Count(4_000));
    let cases = [
        ("enough of everything", Tracing::default()),
        // A ring of a page holds about forty records.
        (
            "a small ring",
            Tracing {
                ring_bytes: 4096,
                ..Tracing::default()
            },
        ),
        (
            "a small table",
            Tracing {
                max_pending: 64,
                ..Tracing::default()
            },
        ),
    ];
    for (what, tracing) in cases {
        let traced = trace(&lab, &tracing, || load(&lab, &spec));
        let books = traced.books;
        println!("{what}: {books}");
        assert!(books.balance(), "{what}: {books}");
        // Six sockets an exchange each, whatever became of the records. Handshakes lost in the
        // ring cannot be told apart, so their number is a bound there.
        let requests = 6 * traced.result.succeeded;
        let settled_handshakes = books.fate(Fate::Handshake);
        assert!(
            books.completed() >= requests + settled_handshakes,
            "{what}: {books}"
        );
        match what {
            "enough of everything" => {
                assert_eq!(books.completed(), requests + settled_handshakes, "{books}");
                assert_eq!((books.lost(), books.missed), (0, 0), "{books}");
            }
            "a small ring" => {
                assert!(books.ring_full > 1_000, "{books}");
                assert!(books.missed > 1_000, "{books}");
            }
            _ => assert!(books.fate(Fate::Evicted) > 1_000, "{books}"),
        }
    }
}

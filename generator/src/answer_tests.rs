//! Answers in one piece, byte by byte, cut short and broken.

use super::*;

fn answer(status: u16, keep_alive: bool) -> Answer {
    Answer { status, keep_alive }
}

/// Feeds an answer in one piece and byte by byte: it ends with its last byte both times.
fn check(head_only: bool, text: &str, expected: Answer) {
    let mut reader = AnswerReader::new(head_only);
    for _ in 0..2 {
        assert!(reader.is_untouched());
        assert_eq!(reader.feed(text.as_bytes()), Ok(Some(expected)), "{text:?}");
        reader.reset();
    }
    let (last, rest) = text.as_bytes().split_last().unwrap();
    for byte in rest {
        assert_eq!(reader.feed(&[*byte]), Ok(None), "{text:?}");
        assert_eq!(reader.close(), None, "{text:?}");
    }
    assert_eq!(reader.feed(&[*last]), Ok(Some(expected)), "{text:?}");
}

fn check_wrong(text: &str, error: AnswerError) {
    let mut reader = AnswerReader::new(false);
    assert_eq!(reader.feed(text.as_bytes()), Err(error), "{text:?}");
}

#[test]
fn answers_end_where_they_say() {
    let cases = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, true),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, true),
        (
            "HTTP/1.1 503 No\r\nconnection: x, Close\r\ncontent-length: 1\r\n\r\na",
            503,
            false,
        ),
        ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", 200, false),
        (
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\na",
            200,
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
            200,
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na: b\r\nc: d\r\n\r\n",
            200,
            true,
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nhi",
            201,
            true,
        ),
    ];
    for (text, status, keep_alive) in cases {
        check(false, text, answer(status, keep_alive));
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n";
    check(true, head, answer(200, true));
}

#[test]
fn a_close_ends_an_answer_without_a_length() {
    let mut reader = AnswerReader::new(false);
    assert_eq!(reader.feed(b"HTTP/1.1 200 OK\r\n\r\nsome"), Ok(None));
    assert_eq!(reader.feed(b" more"), Ok(None));
    assert_eq!(reader.close(), Some(answer(200, false)));
}

#[test]
fn broken_answers_are_refused() {
    let head = "HTTP/1.1 200 OK\r\n";
    let cases = [
        (
            "content-length: 1\r\n\r\nab".to_owned(),
            AnswerError::Unexpected,
        ),
        ("content-length: x\r\n\r\n".to_owned(), AnswerError::Length),
        (
            "content-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(),
            AnswerError::Length,
        ),
        (
            "transfer-encoding: gzip\r\n\r\n".to_owned(),
            AnswerError::Coding,
        ),
        (
            "transfer-encoding: chunked\r\n\r\nxyz\r\n".to_owned(),
            AnswerError::ChunkSize,
        ),
        (format!("a: {}", "x".repeat(70_000)), AnswerError::TooLong),
    ];
    for (rest, error) in cases {
        check_wrong(&format!("{head}{rest}"), error);
    }
    check_wrong("SSH-2.0\r\n", httparse::Error::Version.into());
    check_wrong("HTTP/1.1 101 Switch\r\n\r\n", AnswerError::Unexpected);
}

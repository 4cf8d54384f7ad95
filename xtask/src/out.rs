//! What is said on standard output and error. `println!` panics when nobody reads on, as with
//! `cargo xtask cluster status | head -1`; here what is left to say is dropped, and what is left to
//! do, above all taking things down, is done.

use std::fmt::Arguments;
use std::io::{self, Write};

/// In place of the standard library's, in the whole program.
macro_rules! println {
    () => { $crate::out::line(::std::io::stdout(), format_args!("")) };
    ($($text:tt)*) => { $crate::out::line(::std::io::stdout(), format_args!($($text)*)) };
}

/// In place of the standard library's, in the whole program.
macro_rules! eprintln {
    () => { $crate::out::line(::std::io::stderr(), format_args!("")) };
    ($($text:tt)*) => { $crate::out::line(::std::io::stderr(), format_args!($($text)*)) };
}

/// Writes a line, if somebody takes it.
pub(crate) fn line(mut stream: impl Write, text: Arguments<'_>) {
    let written = writeln!(stream, "{text}");
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        // A full disk, perhaps: standard error may be elsewhere.
        let _lost = writeln!(io::stderr(), "cannot write what there is to say: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_to_listen() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        line(writer, format_args!("lost"));
        let mut said = Vec::new();
        line(&mut said, format_args!("{}", 1));
        assert_eq!(said, b"1\n");
    }
}

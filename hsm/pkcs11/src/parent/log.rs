//! A worker's standard output and error become lines of our log: short, printable, and not too many.

use std::io::{BufRead as _, BufReader, Read};
use std::time::Instant;

use crate::limits::{LOG_LINE_BYTES_MAX, LOG_LINES_MAX, LOG_PERIOD};

/// Reads until every writer is gone.
pub(crate) fn pass_on(backend: &str, from: impl Read) {
    let mut from = BufReader::new(from);
    let (mut since, mut lines, mut suppressed) = (Instant::now(), 0, 0_u64);
    while let Some(line) = next_line(&mut from) {
        if since.elapsed() >= LOG_PERIOD {
            if suppressed > 0 {
                tracing::warn!(backend, suppressed, "the PKCS#11 worker said more than is logged");
            }
            (since, lines, suppressed) = (Instant::now(), 0, 0);
        }
        if lines < LOG_LINES_MAX {
            tracing::warn!(backend, line = %line, "the PKCS#11 worker says");
            lines += 1;
        } else {
            suppressed += 1;
        }
    }
}

/// The next line that says something, cut and made printable; `None` at the end.
fn next_line(from: &mut impl std::io::BufRead) -> Option<String> {
    loop {
        let mut line = Vec::new();
        let read = from.by_ref().take(LOG_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).ok()?;
        if read == 0 {
            return None;
        }
        if line.last() != Some(&b'\n') {
            skip_line(from);
        }
        let text = String::from_utf8_lossy(&line);
        let clean: String =
            text.trim_end().chars().map(|it| if it.is_control() { '?' } else { it }).collect();
        if !clean.is_empty() {
            return Some(clean);
        }
    }
}

/// Reads on to the end of the line without keeping it.
fn skip_line(from: &mut impl std::io::BufRead) {
    loop {
        let (used, done) = match from.fill_buf() {
            Ok([]) | Err(_) => return,
            Ok(bytes) => match bytes.iter().position(|byte| *byte == b'\n') {
                Some(place) => (place + 1, true),
                None => (bytes.len(), false),
            },
        };
        from.consume(used);
        if done {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_printable() {
        let long = "x".repeat(100_000);
        let text = format!("plain\n\n\x1b[31mred\r\n{long}\nafter\nno end");
        let mut from = text.as_bytes();
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut from) {
            lines.push(line);
        }
        let cut = "x".repeat(LOG_LINE_BYTES_MAX);
        assert_eq!(lines, ["plain", "?[31mred", cut.as_str(), "after", "no end"]);
    }
}

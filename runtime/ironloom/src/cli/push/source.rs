//! Lines of a file or a pipe, as they come.

use std::io::{self, BufRead as _, BufReader, Read};

use tokio::sync::mpsc;

use crate::api::readings::MAX_LINE;

/// Bytes that are read at once.
const AT_ONCE: usize = 64 << 10;
/// Parts that are read ahead.
const AHEAD: usize = 16;

/// Whole lines, each with its line feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    pub bytes: Vec<u8>,
    pub count: u64,
}

/// The source of lines.
pub(super) struct Source(mpsc::Receiver<io::Result<Lines>>);

impl Source {
    /// Reads on a thread of its own, which ends with its source or with the process.
    pub(super) fn new(from: impl Read + Send + 'static, name: String) -> Self {
        let (to, lines) = mpsc::channel(AHEAD);
        std::thread::spawn(move || {
            let mut from = BufReader::with_capacity(AT_ONCE, from);
            loop {
                let told =
                    |error: io::Error| io::Error::new(error.kind(), format!("{name} can't be read: {error}"));
                let lines = read(&mut from).map_err(told);
                let is_last = !matches!(&lines, Ok(lines) if lines.count > 0);
                if matches!(&lines, Ok(lines) if lines.count == 0) || to.blocking_send(lines).is_err() {
                    return;
                }
                if is_last {
                    return;
                }
            }
        });
        Self(lines)
    }

    /// The next lines; `None` at the end. Nothing is lost where the wait is given up.
    pub(super) async fn next(&mut self) -> Option<io::Result<Lines>> {
        self.0.recv().await
    }

    /// Ends it; the number of lines that were read and not fetched.
    pub(super) fn left(&mut self) -> u64 {
        let mut left = 0;
        while let Ok(Ok(lines)) = self.0.try_recv() {
            left += lines.count;
        }
        left
    }
}

/// Waits for a line, and takes the whole ones behind it that have come already; none at the end.
fn read(from: &mut BufReader<impl Read>) -> io::Result<Lines> {
    let mut bytes = Vec::new();
    line(from, &mut bytes)?;
    let mut count = u64::from(!bytes.is_empty());
    let there = from.buffer();
    if let Some(last) = there.iter().rposition(|byte| *byte == b'\n') {
        let whole = &there[..=last];
        count += whole.iter().filter(|byte| **byte == b'\n').count() as u64;
        bytes.extend_from_slice(whole);
        from.consume(last + 1);
    }
    Ok(Lines { bytes, count })
}

/// Reads a line, and gives the last one the line feed that it may lack. One that is too long is cut, and refused by the
/// server as it stands then.
fn line(from: &mut BufReader<impl Read>, line: &mut Vec<u8>) -> io::Result<()> {
    from.take(MAX_LINE as u64 + 1).read_until(b'\n', line)?;
    if line.last().is_none_or(|last| *last == b'\n') {
        return Ok(());
    }
    line.push(b'\n');
    loop {
        let rest = from.fill_buf()?;
        if rest.is_empty() {
            return Ok(());
        }
        match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                from.consume(end + 1);
                return Ok(());
            }
            None => {
                let skipped = rest.len();
                from.consume(skipped);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn all(bytes: &[u8]) -> Vec<Lines> {
        let mut from = BufReader::with_capacity(AT_ONCE, bytes);
        let mut found = Vec::new();
        loop {
            let lines = read(&mut from).unwrap();
            if lines.count == 0 {
                return found;
            }
            found.push(lines);
        }
    }

    #[test]
    fn whole_lines_come_together_and_the_last_one_gets_its_end() {
        let lines = all(b"a\n\nbc\nd");
        let expected = [(&b"a\n\nbc\n"[..], 3), (b"d\n", 1)];
        assert_eq!(lines, expected.map(|(bytes, count)| Lines { bytes: bytes.to_vec(), count }));
        assert_eq!(all(b""), []);
    }

    #[test]
    fn a_line_that_is_too_long_stays_one_line() {
        let long = [&b"a\n"[..], &vec![b'x'; 3 * MAX_LINE], b"\nb\n"].concat();
        let lines = all(&long);
        assert_eq!(lines.iter().map(|lines| lines.count).sum::<u64>(), 3);
        let bytes = lines.iter().flat_map(|lines| lines.bytes.clone()).collect::<Vec<_>>();
        assert_eq!(bytes.len(), 2 + MAX_LINE + 2 + 2);
        assert!(bytes.ends_with(b"x\nb\n"));
    }

    #[tokio::test]
    async fn lines_of_a_pipe_dont_wait_for_its_end() {
        let (read, mut write) = io::pipe().unwrap();
        let mut source = Source::new(read, "a pipe".to_owned());
        write.write_all(b"a\nb\n").unwrap();
        // The pipe is still open.
        let lines = source.next().await.unwrap().unwrap();
        assert_eq!(lines, Lines { bytes: b"a\nb\n".to_vec(), count: 2 });
        write.write_all(b"c").unwrap();
        drop(write);
        let lines = source.next().await.unwrap().unwrap();
        assert_eq!(lines, Lines { bytes: b"c\n".to_vec(), count: 1 });
        assert!(source.next().await.is_none());
    }
}

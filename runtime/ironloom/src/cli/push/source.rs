//! Lines of a file or a pipe, gathered into the bodies of requests.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// The most lines of one request.
const MAX_LINES: usize = 10_000;
/// The most bytes of one request but for its last line: far below the server's limit.
const MAX_BYTES: usize = 4 << 20;
/// The longest line. A longer one is cut, and refused by the server as it stands then.
const MAX_LINE: u64 = 1 << 20;
/// The time that lines of a pipe wait for more: somebody who watches a live feed wants to see it arrive.
const GATHER: Duration = Duration::from_millis(200);
/// Lines that are read ahead of a pipe.
const AHEAD: usize = 1_024;

/// The source of lines.
pub(super) enum Source {
    /// A file: always cut into the same bodies.
    File(BufReader<File>),
    /// Something that may go on for ever: what has come is sent soon.
    Live(Receiver<io::Result<Vec<u8>>>),
}

/// The body of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Body {
    /// Its lines, each with its line feed.
    pub bytes: Vec<u8>,
    pub lines: u64,
}

impl Body {
    fn is_full(&self) -> bool {
        self.lines >= MAX_LINES as u64 || self.bytes.len() >= MAX_BYTES
    }

    fn add(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.lines += 1;
    }
}

impl Source {
    /// Opens a file.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        Ok(Self::File(BufReader::new(File::open(path)?)))
    }

    /// Reads on a thread of its own, which ends with its source or with the process.
    pub(super) fn live(mut from: impl BufRead + Send + 'static) -> Self {
        let (to, lines) = sync_channel(AHEAD);
        std::thread::spawn(move || {
            loop {
                let line = read_line(&mut from);
                let ends = !matches!(&line, Ok(line) if !line.is_empty());
                if matches!(&line, Ok(line) if line.is_empty()) || to.send(line).is_err() || ends {
                    return;
                }
            }
        });
        Self::Live(lines)
    }

    /// The lines of the next request; none at the end.
    pub(super) fn gather(&mut self) -> io::Result<Body> {
        let mut body = Body::default();
        match self {
            Self::File(file) => {
                while !body.is_full() {
                    let line = read_line(file)?;
                    if line.is_empty() {
                        break;
                    }
                    body.add(&line);
                }
            }
            Self::Live(lines) => {
                let Ok(first) = lines.recv() else { return Ok(body) };
                body.add(&first?);
                let until = Instant::now() + GATHER;
                while !body.is_full() {
                    match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                        Ok(line) => body.add(&line?),
                        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                    }
                }
            }
        }
        Ok(body)
    }
}

/// A line with its line feed, but for the last one; nothing at the end.
fn read_line(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.take(MAX_LINE).read_until(b'\n', &mut line)?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_file_is_cut_after_as_many_lines_as_a_request_has() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all("x\n".repeat(MAX_LINES + 1).as_bytes()).unwrap();
        let mut source = Source::file(file.path()).unwrap();
        let lines = [MAX_LINES as u64, 1, 0].map(|_| source.gather().unwrap().lines);
        assert_eq!(lines, [MAX_LINES as u64, 1, 0]);
    }

    #[test]
    fn lines_of_a_pipe_dont_wait_for_its_end() {
        let (read, mut write) = io::pipe().unwrap();
        let mut source = Source::live(BufReader::new(read));
        write.write_all(b"a\nb\n").unwrap();
        // The pipe is still open.
        assert_eq!(source.gather().unwrap(), Body { bytes: b"a\nb\n".to_vec(), lines: 2 });
        write.write_all(b"c").unwrap();
        drop(write);
        assert_eq!(source.gather().unwrap(), Body { bytes: b"c".to_vec(), lines: 1 });
        assert_eq!(source.gather().unwrap(), Body::default());
    }
}

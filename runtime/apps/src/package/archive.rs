//! The tar of a package: strict ustar, and nothing in it that could mean two things.

use bytes::Bytes;

use super::PackageError;
use crate::ustar::{self, BLOCK};
use ironloom_types::ids::Digest;

/// The most members of a package.
const MAX_MEMBERS: usize = 1024;

/// The file that says which version of the image layout it is.
pub(super) const LAYOUT: &str = "oci-layout";
/// The file that names the manifests.
pub(super) const INDEX: &str = "index.json";
/// The prefix before the 64 digits in the name of a blob.
const BLOBS: &str = "blobs/sha256/";

/// The contents of the tar: the two files, and the blobs in the order of their digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) layout: Bytes,
    pub(super) index: Bytes,
    pub(super) blobs: Vec<(Digest, Bytes)>,
}

/// Writes the tar.
pub(super) fn write(contents: &Contents) -> Vec<u8> {
    let mut tar = Vec::new();
    write_member(&mut tar, LAYOUT, &contents.layout);
    write_member(&mut tar, INDEX, &contents.index);
    for (digest, bytes) in &contents.blobs {
        write_member(&mut tar, &format!("{BLOBS}{}", digest.hex()), bytes);
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    tar
}

fn write_member(tar: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    tar.extend_from_slice(&ustar::header(name, bytes.len() as u64));
    tar.extend_from_slice(bytes);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
}

fn refuse(place: impl Into<String>, problem: impl Into<String>) -> PackageError {
    PackageError::Archive { place: place.into(), problem: problem.into() }
}

/// Reads the tar, without copying what is in it, and checks each blob against its name.
pub(super) fn read(tar: &Bytes) -> Result<Contents, PackageError> {
    if let Some(said) = super::not_packed(tar) {
        return Err(refuse("byte 0", said));
    }
    let mut reader = Reader { tar, at: 0 };
    let layout = reader.expect(LAYOUT)?;
    let index = reader.expect(INDEX)?;
    let mut blobs: Vec<(Digest, Bytes)> = Vec::new();
    while let Some((name, bytes)) = reader.next()? {
        let digest = blob_digest(&name)?;
        match blobs.last() {
            Some((last, _)) if *last == digest => return Err(refuse(name, "comes twice")),
            Some((last, _)) if *last > digest => {
                return Err(refuse(
                    name,
                    "is out of place; each blob comes once, in the order of the digests",
                ));
            }
            _ => {}
        }
        if Digest::of(&bytes) != digest {
            return Err(refuse(name, format!("its bytes have a different digest, {}", Digest::of(&bytes))));
        }
        if blobs.len() == MAX_MEMBERS {
            return Err(refuse(name, format!("there are more than {MAX_MEMBERS} blobs")));
        }
        blobs.push((digest, bytes));
    }
    Ok(Contents { layout, index, blobs })
}

fn blob_digest(name: &str) -> Result<Digest, PackageError> {
    let digest = name.strip_prefix(BLOBS).and_then(|hex| format!("sha256:{hex}").parse().ok());
    digest.ok_or_else(|| {
        let twice = name == LAYOUT || name == INDEX;
        let problem = if twice {
            "comes twice".to_owned()
        } else {
            format!("only {LAYOUT}, {INDEX} and {BLOBS}<64 hexadecimal digits> may be in a package")
        };
        refuse(format!("{name:?}"), problem)
    })
}

struct Reader<'a> {
    tar: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn expect(&mut self, name: &str) -> Result<Bytes, PackageError> {
        match self.next()? {
            Some((found, bytes)) if found == name => Ok(bytes),
            Some((found, _)) => {
                Err(refuse(format!("{found:?}"), format!("{name} was expected in its place")))
            }
            None => Err(refuse(name, "is missing")),
        }
    }

    /// The next member, or `None` at the end of the archive, which must be the end of the file.
    fn next(&mut self) -> Result<Option<(String, Bytes)>, PackageError> {
        let Some(header) = self.block() else { return Err(self.cut_off()) };
        if header.iter().all(|byte| *byte == 0) {
            return self.end().map(|()| None);
        }
        let (name, size) =
            ustar::read_header(&header).map_err(|problem| self.header_problem(&header, problem))?;
        let start = self.at;
        let end = usize::try_from(size).ok().and_then(|size| start.checked_add(size));
        let Some(end) = end.filter(|end| *end <= self.tar.len()) else {
            return Err(refuse(
                format!("{name:?}"),
                format!("has {size} bytes according to its header, but the file ends earlier"),
            ));
        };
        let padded = end.next_multiple_of(BLOCK);
        let Some(padding) = self.tar.get(end..padded) else { return Err(self.cut_off()) };
        if padding.iter().any(|byte| *byte != 0) {
            return Err(refuse(format!("{name:?}"), "the padding after it is not zero"));
        }
        self.at = padded;
        Ok(Some((name, self.tar.slice(start..end))))
    }

    fn block(&mut self) -> Option<[u8; BLOCK]> {
        let block = self.tar.get(self.at..self.at + BLOCK)?.try_into().ok()?;
        self.at += BLOCK;
        Some(block)
    }

    fn end(&mut self) -> Result<(), PackageError> {
        match self.block() {
            None => Err(self.cut_off()),
            Some(second) if second.iter().any(|byte| *byte != 0) => Err(refuse(
                self.here(),
                "an archive ends with two blocks of zeros, and this one has only one",
            )),
            Some(_) if self.at < self.tar.len() => Err(refuse(self.here(), "there are bytes after the end")),
            Some(_) => Ok(()),
        }
    }

    fn here(&self) -> String {
        format!("byte {}", self.at)
    }

    fn cut_off(&self) -> PackageError {
        refuse(format!("byte {}", self.tar.len()), "the file is cut off")
    }

    fn header_problem(&self, header: &[u8; BLOCK], problem: String) -> PackageError {
        let name = header[..100].split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name);
        refuse(format!("the header of {name:?} at byte {}", self.at - BLOCK), problem)
    }
}

//! The messages of a stream: where each begins and ends, checked before anything of it is read.
//!
//! ```text
//! ff ff ff ff | length of the metadata i32 | metadata: a flatbuffer | body
//! ```
//! The first message is the schema. Behind it come dictionaries and batches; a length of 0, or the end of the bytes,
//! ends the stream. Only what lies within the bytes at hand is read, and nothing is allocated for what is
//! announced.

use std::ops::Range;

use arrow_ipc::{Message, MessageHeader, MetadataVersion, RecordBatch};
use bytes::Bytes;
use flatbuffers::VerifierOptions;

use super::schema::Schema;
use crate::api::explain;
use crate::api::facade::{Detail, Place};
use ironloom_types::limits::{MAX_BODY, MAX_POINTS};

/// The longest metadata of a message, in bytes.
const MAX_METADATA: usize = 64 << 10;
/// The most messages of a stream.
const MAX_MESSAGES: usize = 10_000;
/// Bytes that a reading takes in memory besides a text or blob: a row of a stream may have far fewer.
pub(super) const ROW_BYTES: usize = 20;
/// The most rows of a stream: readings in memory have no more bytes than a body may have.
pub(super) const MAX_ROWS: usize = MAX_BODY / ROW_BYTES;
/// Bytes that an entry of a dictionary takes in memory.
const ENTRY_BYTES: usize = 24;

const CONTINUATION: [u8; 4] = [0xff; 4];

/// A part of the metadata that several others share is read for each of them, so there is a bound on that.
const VERIFIER: VerifierOptions = VerifierOptions {
    max_depth: 16,
    max_tables: 1_000,
    max_apparent_size: 2 * MAX_METADATA,
    ignore_missing_null_terminator: true,
};

/// A stream whose messages are known.
#[derive(Debug)]
pub(crate) struct Stream {
    body: Bytes,
    pub(super) schema: Schema,
    /// The messages behind the schema.
    messages: Vec<Framed>,
    /// The rows of all batches.
    pub(super) rows: usize,
    /// The entries of all dictionaries.
    entries: usize,
    /// The bytes of values that several rows may have in common.
    viewed: usize,
}

/// Where a message is.
#[derive(Clone, Debug)]
struct Framed {
    metadata: Range<usize>,
    body: Range<usize>,
}

/// Columns, and the bytes that they lie in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub head: RecordBatch<'a>,
    pub body: &'a [u8],
    pub rows: usize,
}

/// A message behind the schema.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'a> {
    Dictionary { id: i64, is_delta: bool, texts: Record<'a> },
    Batch(Record<'a>),
}

impl Stream {
    /// Finds the messages of a body, or says what is wrong.
    pub(crate) fn open(body: Bytes) -> Result<Self, Vec<Detail>> {
        let broken = |detail: String| vec![not_arrow(detail)];
        let first = Framed::at(&body, 0).map_err(broken)?.ok_or_else(|| broken("it is empty".into()))?;
        let message = first.message(&body).map_err(broken)?;
        let schema =
            message.header_as_schema().ok_or_else(|| broken("it doesn't begin with a schema".into()))?;
        let schema = Schema::of(schema)?;
        if schema.has_union() && message.version() < MetadataVersion::V5 {
            return Err(broken("a union needs version V5 of the metadata".into()));
        }
        let mut at = first.body.end;
        let mut stream = Self { body, schema, messages: Vec::new(), rows: 0, entries: 0, viewed: 0 };
        while let Some(framed) = Framed::at(&stream.body, at).map_err(broken)? {
            at = framed.body.end;
            stream.count(&framed).map_err(|detail| vec![detail])?;
            stream.messages.push(framed);
        }
        Ok(stream)
    }

    fn count(&mut self, framed: &Framed) -> Result<(), Detail> {
        if self.messages.len() >= MAX_MESSAGES {
            let detail = format!("the stream has more than {MAX_MESSAGES} messages; write larger batches");
            return Err(explain::detail_of("too-many-batches", detail, Place::default()));
        }
        match framed.part(&self.body).map_err(not_arrow)? {
            Part::Dictionary { texts, .. } => {
                self.entries = self.entries.saturating_add(texts.rows);
                if self.entries > MAX_POINTS {
                    let detail = format!("the dictionaries have more than {MAX_POINTS} entries");
                    return Err(explain::detail_of("too-many-entries", detail, Place::default()));
                }
            }
            Part::Batch(record) => {
                self.rows = self.rows.saturating_add(record.rows);
                if self.rows > MAX_ROWS {
                    let detail =
                        format!("the stream has more than {MAX_ROWS} rows; send it in smaller parts");
                    return Err(explain::detail_of("too-many-rows", detail, Place::default()));
                }
                self.viewed = self.viewed.saturating_add(super::viewed(&self.schema.columns, record));
                if self.viewed > MAX_BODY {
                    let detail = format!(
                        "the values have more than {MAX_BODY} bytes, those that rows have in common counted for \
                         each; send it in smaller parts"
                    );
                    return Err(explain::detail_of("too-long", detail, Place::default()));
                }
            }
        }
        Ok(())
    }

    /// The bytes of memory that reading it takes, besides those of the body.
    pub(crate) fn memory(&self) -> usize {
        self.rows * ROW_BYTES + self.entries * ENTRY_BYTES + self.viewed
    }

    /// The bytes of the body, which the names of new points can't exceed.
    pub(super) fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// The most bytes that texts and blobs have: they are a part of the body, or rows have them in common.
    pub(super) fn text_bytes(&self) -> usize {
        self.body.len() + self.viewed
    }

    /// The dictionaries and batches in their order.
    pub(super) fn parts(&self) -> impl Iterator<Item = Result<Part<'_>, Detail>> {
        self.messages.iter().map(|framed| framed.part(&self.body).map_err(not_arrow))
    }
}

impl Framed {
    /// The message that begins at this byte; `None` at the end.
    fn at(bytes: &[u8], at: usize) -> Result<Option<Self>, String> {
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let head = rest.first_chunk::<8>().ok_or_else(|| cut_off(bytes))?;
        let (marker, length) = head.split_at(4);
        if marker != CONTINUATION {
            return Err(format!("no message begins at byte {at}: there is no ff ff ff ff"));
        }
        let length = i32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        if length == 0 {
            return if rest.len() == 8 {
                Ok(None)
            } else {
                Err(format!("there are bytes behind its end at {at}"))
            };
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_METADATA);
        let length =
            length.ok_or_else(|| format!("the metadata at byte {at} have more than {MAX_METADATA} bytes"))?;
        let metadata = at + 8..at + 8 + length;
        let mut framed = Self { body: metadata.end..metadata.end, metadata };
        let body = framed.message(bytes)?.bodyLength();
        let body = usize::try_from(body).ok().filter(|body| *body <= bytes.len() - framed.metadata.end);
        framed.body.end += body.ok_or_else(|| cut_off(bytes))?;
        Ok(Some(framed))
    }

    fn message<'a>(&self, bytes: &'a [u8]) -> Result<Message<'a>, String> {
        let metadata = bytes.get(self.metadata.clone()).ok_or_else(|| cut_off(bytes))?;
        let at = self.metadata.start;
        arrow_ipc::root_as_message_with_opts(&VERIFIER, metadata)
            .map_err(|error| format!("the metadata at byte {at} can't be read: {error}"))
    }

    fn part<'a>(&self, bytes: &'a [u8]) -> Result<Part<'a>, String> {
        let message = self.message(bytes)?;
        let body = bytes.get(self.body.clone()).ok_or_else(|| cut_off(bytes))?;
        let at = self.metadata.start;
        let lacking = || format!("the message at byte {at} lacks its columns");
        if let Some(head) = message.header_as_record_batch() {
            return Record::of(head, body, at).map(Part::Batch);
        }
        let dictionary = message.header_as_dictionary_batch().ok_or_else(|| match message.header_type() {
            MessageHeader::Schema => format!("there is a second schema at byte {at}"),
            _ => format!("the message at byte {at} is neither a dictionary nor a batch"),
        })?;
        let texts = Record::of(dictionary.data().ok_or_else(lacking)?, body, at)?;
        Ok(Part::Dictionary { id: dictionary.id(), is_delta: dictionary.isDelta(), texts })
    }
}

impl<'a> Record<'a> {
    fn of(head: RecordBatch<'a>, body: &'a [u8], at: usize) -> Result<Self, String> {
        if head.compression().is_some() {
            return Err(format!(
                "the message at byte {at} is compressed; write the stream without compression"
            ));
        }
        let rows = usize::try_from(head.length());
        let rows = rows.map_err(|_| format!("the message at byte {at} has fewer than no rows"))?;
        Ok(Self { head, body, rows })
    }
}

fn cut_off(bytes: &[u8]) -> String {
    format!("it is cut off at byte {}", bytes.len())
}

/// A body that is no stream.
pub(super) fn not_arrow(reason: String) -> Detail {
    explain::detail_of(
        "not-arrow",
        format!("the body is not an Arrow IPC stream: {reason}"),
        Place::default(),
    )
}

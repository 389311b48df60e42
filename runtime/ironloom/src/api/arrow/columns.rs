//! The columns of a batch as they lie in the body. Each is held against the number of its rows once; what a row says
//! of another place, an offset or a key, is checked where it is read.

use arrow_ipc::{Buffer, FieldNode};
use flatbuffers::Vector;

use super::messages::Record;
use super::schema::{Int, Layout, Scalar, Union, Values};
use crate::api::explain;
use crate::api::facade::{Detail, Place};
use ironloom_types::limits::MAX_READING_BYTES;
use ironloom_types::readings::ValueRef;

/// What is wrong with a column, or with a row of it.
#[derive(Debug)]
pub(super) enum Fault {
    /// The row can't be taken.
    Row(Box<Detail>),
    /// The body is no stream.
    Broken(&'static str),
}

impl From<Box<Detail>> for Fault {
    fn from(detail: Box<Detail>) -> Self {
        Self::Row(detail)
    }
}

/// Gives the parts of a record one after the other, in the order of the schema.
pub(super) struct Parts<'a> {
    nodes: Option<Vector<'a, FieldNode>>,
    buffers: Option<Vector<'a, Buffer>>,
    body: &'a [u8],
    /// The number of buffers of texts that each column of views has.
    counts: Option<Vector<'a, i64>>,
    node: usize,
    buffer: usize,
    count: usize,
}

impl<'a> Parts<'a> {
    pub(super) fn of(record: Record<'a>) -> Self {
        let Record { head, body, .. } = record;
        let (nodes, buffers, counts) = (head.nodes(), head.buffers(), head.variadicBufferCounts());
        Self { nodes, buffers, body, counts, node: 0, buffer: 0, count: 0 }
    }

    /// The rows of the next column, and whether some of them are null.
    fn node(&mut self) -> Result<(usize, bool), Fault> {
        let nodes = self.nodes.filter(|nodes| self.node < nodes.len());
        let node = nodes.ok_or(Fault::Broken("a batch has fewer columns than the schema"))?.get(self.node);
        self.node += 1;
        let rows =
            usize::try_from(node.length()).map_err(|_| Fault::Broken("a column has fewer than no rows"))?;
        Ok((rows, node.null_count() != 0))
    }

    fn node_of(&mut self, rows: usize) -> Result<bool, Fault> {
        match self.node()? {
            (found, has_nulls) if found == rows => Ok(has_nulls),
            _ => Err(Fault::Broken("the columns of a batch differ in length")),
        }
    }

    fn buffer(&mut self) -> Result<&'a [u8], Fault> {
        let buffers = self.buffers.filter(|buffers| self.buffer < buffers.len());
        let buffer =
            buffers.ok_or(Fault::Broken("a batch has fewer buffers than its columns need"))?.get(self.buffer);
        self.buffer += 1;
        bytes_of(buffer, self.body)
    }

    fn buffer_of(&mut self, bytes: usize) -> Result<&'a [u8], Fault> {
        self.buffer()?.get(..bytes).ok_or(Fault::Broken("a buffer is shorter than its column"))
    }

    fn validity(&mut self, rows: usize, has_nulls: bool) -> Result<Validity<'a>, Fault> {
        // Without nulls there may be no bits.
        let bits =
            if has_nulls { Some(self.buffer_of(rows.div_ceil(8))?) } else { self.buffer().map(|_| None)? };
        Ok(Validity(bits))
    }

    /// The next column, of integers.
    pub(super) fn ints(&mut self, int: Int, rows: usize) -> Result<Nullable<'a, Ints<'a>>, Fault> {
        let has_nulls = self.node_of(rows)?;
        let validity = self.validity(rows, has_nulls)?;
        Ok(Nullable {
            validity,
            values: Ints { bytes: self.buffer_of(rows.saturating_mul(int.bytes))?, int },
        })
    }

    /// The next column, of texts or blobs.
    pub(super) fn texts(&mut self, layout: Layout, rows: usize) -> Result<TextColumn<'a>, Fault> {
        let has_nulls = self.node_of(rows)?;
        let validity = self.validity(rows, has_nulls)?;
        let texts = match layout {
            Layout::View => Texts::Views(self.views(rows)?),
            Layout::Small => Texts::Ordered(self.ordered(4, rows)?),
            Layout::Large => Texts::Ordered(self.ordered(8, rows)?),
        };
        Ok(TextColumn { validity, texts })
    }

    fn ordered(&mut self, width: usize, rows: usize) -> Result<Ordered<'a>, Fault> {
        // None at all needs no offset either.
        let bytes = if rows == 0 { 0 } else { rows.saturating_add(1).saturating_mul(width) };
        Ok(Ordered { offsets: self.buffer_of(bytes)?, width, data: self.buffer()?, next: 0 })
    }

    fn views(&mut self, rows: usize) -> Result<Views<'a>, Fault> {
        let views = self.buffer_of(rows.saturating_mul(VIEW_BYTES))?;
        let counts = self.counts.filter(|counts| self.count < counts.len());
        let count = counts.map(|counts| counts.get(self.count));
        let count = count.and_then(|count| usize::try_from(count).ok());
        let count =
            count.ok_or(Fault::Broken("a batch doesn't say how many buffers a column of views has"))?;
        self.count += 1;
        let first = self.buffer;
        let end = first.checked_add(count).filter(|end| {
            // The metadata, which are short, have each of them.
            self.buffers.is_some_and(|buffers| *end <= buffers.len())
        });
        self.buffer = end.ok_or(Fault::Broken("a batch has fewer buffers than its columns need"))?;
        Ok(Views { views, buffers: self.buffers, body: self.body, first, count })
    }

    /// The next column, which has nothing but its rows.
    pub(super) fn nulls(&mut self, rows: usize) -> Result<(), Fault> {
        self.node_of(rows).map(drop)
    }

    /// The next column, of values.
    pub(super) fn values(&mut self, values: &'a Values, rows: usize) -> Result<ValueColumn<'a>, Fault> {
        let Union { dense, types } = match values {
            Values::One(scalar) => return self.scalars(*scalar, rows).map(ValueColumn::One),
            Values::Union(union) => union,
        };
        self.node_of(rows)?;
        let ids = self.buffer_of(rows)?;
        let offsets = if *dense { Some(self.buffer_of(rows.saturating_mul(4))?) } else { None };
        let mut children = Vec::with_capacity(types.len());
        for (id, scalar) in types {
            // The rows of a dense union's child stand in its own node, where they may be any number.
            let of_child = if *dense { self.rows_of_next()? } else { rows };
            children.push(Child {
                id: *id,
                rows: of_child,
                values: self.scalars(*scalar, of_child)?,
                next: 0,
            });
        }
        Ok(ValueColumn::Union(UnionColumn { ids, offsets, children }))
    }

    /// The rows of the next column, which stays the next.
    fn rows_of_next(&mut self) -> Result<usize, Fault> {
        let (rows, _) = self.node()?;
        self.node -= 1;
        Ok(rows)
    }

    fn scalars(&mut self, scalar: Scalar, rows: usize) -> Result<Scalars<'a>, Fault> {
        Ok(match scalar {
            Scalar::Null => {
                self.nulls(rows)?;
                Scalars::Null
            }
            Scalar::Int(int) => Scalars::Ints(self.ints(int, rows)?),
            Scalar::Text(width) => Scalars::Texts(self.texts(width, rows)?),
            Scalar::Blob(width) => Scalars::Blobs(self.texts(width, rows)?),
            Scalar::Boolean | Scalar::Float32 | Scalar::Float64 => {
                let has_nulls = self.node_of(rows)?;
                let validity = self.validity(rows, has_nulls)?;
                match scalar {
                    Scalar::Float32 => Scalars::Float32(Nullable {
                        validity,
                        values: self.buffer_of(rows.saturating_mul(4))?,
                    }),
                    Scalar::Float64 => Scalars::Float64(Nullable {
                        validity,
                        values: self.buffer_of(rows.saturating_mul(8))?,
                    }),
                    _ => Scalars::Booleans(Nullable { validity, values: self.buffer_of(rows.div_ceil(8))? }),
                }
            }
        })
    }
}

fn bytes_of<'a>(buffer: &Buffer, body: &'a [u8]) -> Result<&'a [u8], Fault> {
    let found = match (usize::try_from(buffer.offset()), usize::try_from(buffer.length())) {
        (Ok(start), Ok(length)) => start.checked_add(length).and_then(|end| body.get(start..end)),
        _ => None,
    };
    found.ok_or(Fault::Broken("a buffer doesn't lie within its message"))
}

/// Which rows aren't null; all without bits.
#[derive(Clone, Copy, Debug)]
struct Validity<'a>(Option<&'a [u8]>);

/// A column some of whose rows may be null.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nullable<'a, T> {
    validity: Validity<'a>,
    values: T,
}

impl Validity<'_> {
    fn has(self, row: usize) -> bool {
        self.0.is_none_or(|bits| bit(bits, row))
    }
}

impl<T> Nullable<'_, T> {
    fn at(&self, row: usize) -> Option<&T> {
        self.validity.has(row).then_some(&self.values)
    }
}

fn bit(bits: &[u8], row: usize) -> bool {
    bits.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1)
}

/// The bytes of a row. That the column has them was checked when it was found.
fn cell<const N: usize>(bytes: &[u8], row: usize) -> [u8; N] {
    bytes.get(row * N..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// A column of integers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ints<'a> {
    bytes: &'a [u8],
    int: Int,
}

impl Ints<'_> {
    fn value(&self, row: usize) -> i128 {
        let Int { bytes, signed } = self.int;
        match (bytes, signed) {
            (1, true) => i8::from_le_bytes(cell(self.bytes, row)).into(),
            (1, false) => u8::from_le_bytes(cell(self.bytes, row)).into(),
            (2, true) => i16::from_le_bytes(cell(self.bytes, row)).into(),
            (2, false) => u16::from_le_bytes(cell(self.bytes, row)).into(),
            (4, true) => i32::from_le_bytes(cell(self.bytes, row)).into(),
            (4, false) => u32::from_le_bytes(cell(self.bytes, row)).into(),
            (_, true) => i64::from_le_bytes(cell(self.bytes, row)).into(),
            (_, false) => u64::from_le_bytes(cell(self.bytes, row)).into(),
        }
    }
}

impl Nullable<'_, Ints<'_>> {
    /// The integer of this row.
    pub(super) fn int(&self, row: usize) -> Option<i128> {
        self.at(row).map(|ints| ints.value(row))
    }
}

/// A column of texts, or of blobs, some of whose rows may be null.
#[derive(Debug)]
pub(super) struct TextColumn<'a> {
    validity: Validity<'a>,
    texts: Texts<'a>,
}

#[derive(Debug)]
enum Texts<'a> {
    Ordered(Ordered<'a>),
    Views(Views<'a>),
}

/// Texts that lie one after the other.
#[derive(Debug)]
struct Ordered<'a> {
    offsets: &'a [u8],
    /// The bytes of an offset: 4 or 8.
    width: usize,
    data: &'a [u8],
    /// The first byte that has not been read.
    next: usize,
}

/// Texts that lie anywhere in some buffers: several rows may have the same bytes.
#[derive(Debug)]
struct Views<'a> {
    views: &'a [u8],
    /// All buffers of the batch, and which of them are this column's.
    buffers: Option<Vector<'a, Buffer>>,
    body: &'a [u8],
    first: usize,
    count: usize,
}

/// The bytes of a view: a length of 4 bytes, and then the text itself, or its first 4 bytes, a buffer and an offset.
const VIEW_BYTES: usize = 16;
/// The longest text that lies in its view.
const INLINE_BYTES: usize = 12;

impl<'a> TextColumn<'a> {
    /// The bytes of this row; rows are read in their order.
    pub(super) fn bytes(&mut self, row: usize) -> Result<Option<&'a [u8]>, Fault> {
        let is_there = self.validity.has(row);
        match &mut self.texts {
            // A null row moves on as well.
            Texts::Ordered(ordered) => ordered.bytes(row).map(|bytes| is_there.then_some(bytes)),
            Texts::Views(views) if is_there => views.bytes(row).map(Some),
            Texts::Views(_) => Ok(None),
        }
    }
}

impl TextColumn<'_> {
    /// The bytes of all rows that lie in buffers and that several rows may have in common.
    fn viewed(&self, rows: usize) -> usize {
        let Texts::Views(views) = &self.texts else { return 0 };
        let lengths = (0..rows).filter(|row| self.validity.has(*row)).map(|row| {
            let length = i32::from_le_bytes(cell(views.views, row * (VIEW_BYTES / 4)));
            usize::try_from(length).unwrap_or(0)
        });
        lengths.filter(|length| *length > INLINE_BYTES).fold(0, usize::saturating_add)
    }
}

impl<'a> Ordered<'a> {
    /// The bytes come in order, as the format says: none is read twice.
    fn bytes(&mut self, row: usize) -> Result<&'a [u8], Fault> {
        let offset = |row| match self.width {
            4 => i64::from(i32::from_le_bytes(cell(self.offsets, row))),
            _ => i64::from_le_bytes(cell(self.offsets, row)),
        };
        let found = match (usize::try_from(offset(row)), usize::try_from(offset(row + 1))) {
            (Ok(start), Ok(end)) if start >= self.next => self.data.get(start..end).map(|bytes| (bytes, end)),
            _ => None,
        };
        let (bytes, end) =
            found.ok_or(Fault::Broken("the offsets of a column of texts don't lie within it in order"))?;
        self.next = end;
        Ok(bytes)
    }
}

impl<'a> Views<'a> {
    fn bytes(&self, row: usize) -> Result<&'a [u8], Fault> {
        let outside = || Fault::Broken("a view of a text doesn't lie within its buffers");
        let view = self.views.get(row * VIEW_BYTES..).and_then(|rest| rest.first_chunk::<VIEW_BYTES>());
        let view = view.ok_or_else(outside)?;
        let part = |at: usize| usize::try_from(i32::from_le_bytes(cell(view, at))).map_err(|_| outside());
        let length = part(0)?;
        if length <= INLINE_BYTES {
            return view.get(4..4 + length).ok_or_else(outside);
        }
        let (buffer, start) = (part(2)?, part(3)?);
        let buffers = self.buffers.filter(|_| buffer < self.count).ok_or_else(outside)?;
        let bytes = bytes_of(buffers.get(self.first + buffer), self.body)?;
        start.checked_add(length).and_then(|end| bytes.get(start..end)).ok_or_else(outside)
    }
}

/// Reads a text of this field, whose length has been looked at.
pub(super) fn text<'a>(bytes: &'a [u8], field: &str) -> Result<&'a str, Fault> {
    std::str::from_utf8(bytes).map_err(|error| {
        let detail = format!("`{field}` is not valid UTF-8 at byte {}", error.valid_up_to() + 1);
        Fault::Row(explain::detail_of("not-utf-8", detail, Place::field(field)).into())
    })
}

/// A column of values of one type.
#[derive(Debug)]
pub(super) enum Scalars<'a> {
    Null,
    Booleans(Nullable<'a, &'a [u8]>),
    Ints(Nullable<'a, Ints<'a>>),
    Float32(Nullable<'a, &'a [u8]>),
    Float64(Nullable<'a, &'a [u8]>),
    Texts(TextColumn<'a>),
    Blobs(TextColumn<'a>),
}

impl<'a> Scalars<'a> {
    fn value(&mut self, row: usize) -> Result<ValueRef<'a>, Fault> {
        let value = match self {
            Self::Null => None,
            Self::Booleans(bits) => bits.at(row).map(|bits| ValueRef::Boolean(bit(bits, row))),
            // One that doesn't fit is a real, as in JSON.
            Self::Ints(ints) => ints
                .int(row)
                .map(|int| i64::try_from(int).map_or(ValueRef::Real(int as f64), ValueRef::Integer)),
            Self::Float32(reals) => {
                reals.at(row).map(|bytes| ValueRef::Real(f32::from_le_bytes(cell(bytes, row)).into()))
            }
            Self::Float64(reals) => {
                reals.at(row).map(|bytes| ValueRef::Real(f64::from_le_bytes(cell(bytes, row))))
            }
            Self::Texts(texts) => match texts.bytes(row)? {
                Some(bytes) if bytes.len() > MAX_READING_BYTES => {
                    return Err(Fault::Row(explain::too_long(bytes.len()).into()));
                }
                Some(bytes) => Some(ValueRef::Text(text(bytes, "value")?)),
                None => None,
            },
            Self::Blobs(blobs) => blobs.bytes(row)?.map(ValueRef::Blob),
        };
        Ok(value.unwrap_or(ValueRef::Missing))
    }
}

/// The column of values.
#[derive(Debug)]
pub(super) enum ValueColumn<'a> {
    One(Scalars<'a>),
    Union(UnionColumn<'a>),
}

/// Values of several types.
#[derive(Debug)]
pub(super) struct UnionColumn<'a> {
    ids: &'a [u8],
    offsets: Option<&'a [u8]>,
    children: Vec<Child<'a>>,
}

#[derive(Debug)]
struct Child<'a> {
    id: i8,
    rows: usize,
    values: Scalars<'a>,
    /// The first row that has not been read, of a dense union.
    next: usize,
}

impl ValueColumn<'_> {
    /// The bytes of texts and blobs that several rows may have in common.
    pub(super) fn viewed(&self, rows: usize) -> usize {
        let of = |scalars: &Scalars<'_>, rows| match scalars {
            Scalars::Texts(texts) | Scalars::Blobs(texts) => texts.viewed(rows),
            _ => 0,
        };
        match self {
            Self::One(scalars) => of(scalars, rows),
            Self::Union(union) => union.children.iter().map(|child| of(&child.values, child.rows)).sum(),
        }
    }
}

impl<'a> ValueColumn<'a> {
    /// The value of this row; rows are read in their order.
    pub(super) fn value(&mut self, row: usize) -> Result<ValueRef<'a>, Fault> {
        let union = match self {
            Self::One(scalars) => return scalars.value(row),
            Self::Union(union) => union,
        };
        let id = i8::from_le_bytes(cell(union.ids, row));
        let child = union.children.iter_mut().find(|child| child.id == id);
        let child = child.ok_or(Fault::Broken("a row of the union has a type that the union lacks"))?;
        let Some(offsets) = union.offsets else { return child.values.value(row) };
        // In order, as the format says: so no row of a child is read twice.
        let offset = usize::try_from(i32::from_le_bytes(cell(offsets, row)));
        let offset = offset.ok().filter(|offset| (child.next..child.rows).contains(offset));
        let offset = offset.ok_or(Fault::Broken("the offsets of a union don't lie within it in order"))?;
        child.next = offset + 1;
        child.values.value(offset)
    }
}

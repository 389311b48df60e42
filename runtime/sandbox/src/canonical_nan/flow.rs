//! Where the numbers of one function come from and go to, and with that, where they are made canonical.
//!
//! Values are followed through the operand stack and through local variables, these without regard to the
//! order in which they are set. A number that is looked at bit by bit is made canonical right before, where
//! it lies on top of the stack; else right after each operator that may have made it. What blocks take and
//! give counts as looked at.

use wasm_encoder::{Encode as _, Instruction};
use wasmparser::{FuncValidator, FunctionBody, Operator, OperatorsReader, ValType, ValidatorResources};

use super::Problem;
use super::operators::{Effect, Width, effect, is_known};

/// The limits of validators for a function: variables, and bytes.
const MAX_LOCALS: u64 = 50_000;
const MAX_BODY: usize = 7_654_321;

/// The known facts about a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// No NaN, or the canonical one: to make it canonical changes nothing.
    Plain,
    /// May be a NaN that the app itself has made, bit by bit: that one has to stay.
    Bits,
    /// May be an open NaN. The number in [`Graph`] of a variable, of what an operator made, or of what was
    /// chosen from others.
    Open(u32),
}

/// Values, and which may be which.
#[derive(Default)]
struct Graph {
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    /// The values that may be this one.
    from: Vec<u32>,
    /// The values that this one may be.
    into: Vec<u32>,
    /// The place and the width with which it was made, if it was.
    made: Option<Made>,
    /// [`Width`]s of the numbers that it may hold, as bits.
    widths: u8,
    /// It is made canonical where it is made.
    canonical: bool,
    /// It may be an open NaN.
    open: bool,
    /// It may be a NaN that the app itself has made.
    bits: bool,
}

#[derive(Clone, Copy)]
struct Made {
    after: usize,
    form: Form,
}

/// The floating-point numbers that a value on the stack consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    F32,
    F64,
    F32x4,
    F64x2,
}

impl Form {
    fn of(of: ValType, width: Width) -> Option<Self> {
        match (of, width) {
            (ValType::F32, _) => Some(Self::F32),
            (ValType::F64, _) => Some(Self::F64),
            (ValType::V128, Width::Single) => Some(Self::F32x4),
            (ValType::V128, Width::Double) => Some(Self::F64x2),
            _ => None,
        }
    }
}

impl Graph {
    fn node(&mut self) -> u32 {
        self.nodes.push(Node::default());
        self.nodes.len() as u32 - 1
    }

    fn make(&mut self, after: usize, form: Form, width: Width) -> Value {
        let number = self.node();
        let node = &mut self.nodes[number as usize];
        node.made = Some(Made { after, form });
        node.widths = width as u8;
        Value::Open(number)
    }

    fn link(&mut self, from: Value, into: u32) {
        match from {
            Value::Plain => {}
            Value::Bits => self.nodes[into as usize].bits = true,
            Value::Open(from) => {
                self.nodes[from as usize].into.push(into);
                self.nodes[into as usize].from.push(from);
            }
        }
    }

    /// One of several.
    fn join(&mut self, values: &[Value]) -> Value {
        let mut others = values.iter().filter(|value| **value != Value::Plain);
        match (others.next(), others.next()) {
            (None, _) => Value::Plain,
            (Some(only), None) => *only,
            _ if values.iter().all(|value| !matches!(value, Value::Open(_))) => Value::Bits,
            _ => {
                let node = self.node();
                values.iter().for_each(|value| self.link(*value, node));
                Value::Open(node)
            }
        }
    }

    /// Goes from all nodes that `start` is true for to all that they may become, as `visit` says whether.
    fn spread(&mut self, start: impl Fn(&Node) -> bool, mut visit: impl FnMut(&mut Node) -> bool) {
        let mut todo: Vec<u32> = (0..).zip(&self.nodes).filter(|(_, n)| start(n)).map(|(i, _)| i).collect();
        while let Some(node) = todo.pop() {
            for place in 0..self.nodes[node as usize].into.len() {
                let next = self.nodes[node as usize].into[place];
                if visit(&mut self.nodes[next as usize]) {
                    todo.push(next);
                }
            }
        }
    }

    /// Finds what each value may hold besides open NaNs: numbers of which widths, and the app's own bits. Where lanes of one
    /// width were moved out of numbers of the other, halves of two numbers are the app's own bits.
    fn find_contents(&mut self, moved: &[(u32, Width)]) {
        for width in [Width::Single as u8, Width::Double as u8] {
            self.spread(
                |node| node.made.is_some() && node.widths == width,
                |node| {
                    node.widths & width == 0 && {
                        node.widths |= width;
                        true
                    }
                },
            );
        }
        for (value, width) in moved {
            let node = &mut self.nodes[*value as usize];
            node.bits |= node.widths & !(*width as u8) != 0;
        }
        self.spread(|node| node.bits, |node| !std::mem::replace(&mut node.bits, true));
    }

    /// Has all that a value may be made canonical where it is made.
    fn close(&mut self, value: u32, seen: &mut [bool]) {
        let mut todo = vec![value];
        while let Some(node) = todo.pop() {
            if std::mem::replace(&mut seen[node as usize], true) {
                continue;
            }
            let node = &mut self.nodes[node as usize];
            node.canonical = node.made.is_some();
            todo.extend(&node.from);
        }
    }

    /// Finds the values that still may be open NaNs.
    fn find_open(&mut self) {
        for node in &mut self.nodes {
            node.open = node.made.is_some() && !node.canonical;
        }
        self.spread(|node| node.open, |node| !std::mem::replace(&mut node.open, true));
    }
}

/// A place where bits are looked at.
struct Look {
    value: u32,
    /// Before which operator, and the type; `None` where the value doesn't lie on top.
    top: Option<(usize, ValType)>,
}

/// The known facts about a function that was read.
#[derive(Default)]
struct Flow {
    graph: Graph,
    looks: Vec<Look>,
    /// Values that were taken for numbers of one width.
    taken: Vec<(u32, Width)>,
    /// Values that consist of moved lanes of one width.
    moved: Vec<(u32, Width)>,
    /// The beginning of each operator.
    offsets: Vec<u64>,
}

/// The places where numbers are made canonical: before the operator of this number.
type Places = Vec<(usize, Form)>;

/// Validates a function, and writes its body anew where numbers have to be made canonical in it.
pub(super) fn rewrite(
    validator: &mut FuncValidator<ValidatorResources>,
    body: &FunctionBody<'_>,
) -> Result<Option<Vec<u8>>, Problem> {
    let parameters = validator.len_locals();
    let mut reader = body.get_binary_reader();
    validator.read_locals(&mut reader)?;
    let Flow { graph, looks, taken, moved, offsets } =
        read(validator, OperatorsReader::new(reader), parameters)?;
    let places = places(graph, looks, taken, &moved);
    if places.is_empty() {
        return Ok(None);
    }
    write(body, &offsets, &places, validator.len_locals()).map(Some)
}

fn read(
    validator: &mut FuncValidator<ValidatorResources>,
    mut reader: OperatorsReader<'_>,
    parameters: u32,
) -> Result<Flow, Problem> {
    let mut flow = Flow::default();
    for local in 0..validator.len_locals() {
        let node = flow.graph.node();
        flow.graph.nodes[node as usize].bits = local < parameters;
    }
    let mut stack: Vec<Value> = Vec::new();
    while !reader.eof() {
        let (operator, offset) = reader.read_with_offset()?;
        let number = flow.offsets.len();
        flow.offsets.push(offset);
        // Code that is never reached has no values.
        let reached = validator.get_control_frame(0).is_some_and(|frame| !frame.unreachable);
        let arity = operator.operator_arity(validator);
        let top = validator.get_operand_type(0).flatten();
        validator.op(offset, &operator)?;
        if !is_known(&operator) {
            return Err(Problem::Operator(offset));
        }
        if let (true, Some((takes, gives))) = (reached, arity) {
            let operands = stack.split_off(stack.len().saturating_sub(takes as usize));
            let result =
                flow.step(&operator, number, &operands, top, validator.get_operand_type(0).flatten());
            stack.extend(std::iter::repeat_n(Value::Bits, (gives as usize).saturating_sub(1)));
            stack.extend((gives > 0).then_some(result));
        } else if reached {
            return Err(Problem::Operator(offset));
        }
        stack.resize(validator.operand_stack_height() as usize, Value::Bits);
    }
    reader.finish()?;
    flow.offsets.push(reader.original_position());
    Ok(flow)
}

impl Flow {
    /// Follows the values through one operator, and gives its result.
    fn step(
        &mut self,
        operator: &Operator<'_>,
        number: usize,
        operands: &[Value],
        top: Option<ValType>,
        result: Option<ValType>,
    ) -> Value {
        match effect(operator) {
            Effect::Makes { from, to } => {
                self.take(operands, from);
                match result.and_then(|result| Form::of(result, to)) {
                    Some(form) => self.graph.make(number, form, to),
                    None => Value::Bits,
                }
            }
            Effect::MakesNone => Value::Plain,
            Effect::Asks(width) => {
                self.take(operands, width);
                Value::Bits
            }
            Effect::Moves(width) => self.shift(operands, width),
            // The last operand is what it chooses by.
            Effect::Selects => self.graph.join(&operands[..2]),
            Effect::Shuffles(8) => self.graph.join(operands),
            Effect::Shuffles(4) => self.shift(operands, Width::Single),
            Effect::Gets(local) => match result.and_then(|of| Form::of(of, Width::Double)) {
                Some(_) => Value::Open(local),
                None => Value::Bits,
            },
            Effect::Sets(local) | Effect::Tees(local) => {
                self.graph.link(operands[0], local);
                operands[0]
            }
            Effect::Shuffles(_) | Effect::Other => {
                self.look(operands, number, top);
                Value::Bits
            }
        }
    }

    /// Lanes of values are moved to others.
    fn shift(&mut self, operands: &[Value], width: Width) -> Value {
        self.take(operands, width);
        let moved = self.graph.join(operands);
        if let Value::Open(value) = moved {
            self.moved.push((value, width));
        }
        moved
    }

    /// Values are taken for numbers of a width: those of another are looked at bit by bit.
    fn take(&mut self, values: &[Value], width: Width) {
        for value in values {
            if let Value::Open(value) = *value {
                self.taken.push((value, width));
            }
        }
    }

    /// Values are looked at bit by bit; the last of them lies on top of the stack.
    fn look(&mut self, values: &[Value], number: usize, top: Option<ValType>) {
        let last = values.len().saturating_sub(1);
        for (place, value) in values.iter().enumerate() {
            if let Value::Open(value) = *value {
                let top = top.filter(|_| place == last).map(|top| (number, top));
                self.looks.push(Look { value, top });
            }
        }
    }
}

/// Decides where numbers are made canonical.
fn places(mut graph: Graph, looks: Vec<Look>, taken: Vec<(u32, Width)>, moved: &[(u32, Width)]) -> Places {
    graph.find_contents(moved);
    let mut seen = vec![false; graph.nodes.len()];
    // At its use, numbers of two widths can't be told apart, nor an open NaN from the app's own.
    let both = Width::Single as u8 | Width::Double as u8;
    let mixed = |node: &Node| node.widths == both || node.bits;
    for (value, width) in taken {
        if graph.nodes[value as usize].widths & !(width as u8) != 0 {
            graph.close(value, &mut seen);
        }
    }
    for look in &looks {
        if look.top.is_none() || mixed(&graph.nodes[look.value as usize]) {
            graph.close(look.value, &mut seen);
        }
    }
    graph.find_open();

    let mut places = Places::new();
    for node in &graph.nodes {
        if let (Some(made), true) = (node.made, node.canonical) {
            places.push((made.after + 1, made.form));
        }
    }
    for look in looks {
        let node = &graph.nodes[look.value as usize];
        let width = if node.widths == Width::Single as u8 { Width::Single } else { Width::Double };
        if let (true, Some((before, of))) = (node.open, look.top)
            && let Some(form) = Form::of(of, width)
        {
            places.push((before, form));
        }
    }
    places.sort_unstable();
    places.dedup();
    places
}

/// Writes the body with the places in it.
fn write(body: &FunctionBody<'_>, offsets: &[u64], places: &Places, locals: u32) -> Result<Vec<u8>, Problem> {
    // One more variable for each form, in which a number stands while it is looked at.
    let mut forms: Vec<Form> = places.iter().map(|(_, form)| *form).collect();
    forms.sort_unstable();
    forms.dedup();
    let variable = |form: Form| locals + forms.iter().position(|other| *other == form).unwrap_or(0) as u32;

    let begin = body.range().start;
    let bytes = |from: u64, to: u64| &body.as_bytes()[(from - begin) as usize..(to - begin) as usize];
    let mut out = Vec::with_capacity(body.as_bytes().len() + places.len() * 32);
    let mut declared = body.get_binary_reader();
    let groups = declared.read_var_u32()?;
    (groups + forms.len() as u32).encode(&mut out);
    out.extend_from_slice(bytes(declared.original_position(), offsets[0]));
    for form in &forms {
        let of = match form {
            Form::F32 => wasm_encoder::ValType::F32,
            Form::F64 => wasm_encoder::ValType::F64,
            Form::F32x4 | Form::F64x2 => wasm_encoder::ValType::V128,
        };
        1u32.encode(&mut out);
        of.encode(&mut out);
    }
    let mut at = offsets[0];
    for &(before, form) in places {
        out.extend_from_slice(bytes(at, offsets[before]));
        at = offsets[before];
        make_canonical(form, variable(form), &mut out);
    }
    out.extend_from_slice(bytes(at, body.range().end));
    if u64::from(locals) + forms.len() as u64 > MAX_LOCALS || out.len() > MAX_BODY {
        return Err(Problem::Function(begin));
    }
    Ok(out)
}

/// The canonical NaNs of the specification: positive, and only the first bit of the payload set.
const NAN_32: u32 = 0x7fc0_0000;
const NAN_64: u64 = 0x7ff8_0000_0000_0000;

/// Replaces the number on top of the stack by the canonical NaN, unless it equals itself.
fn make_canonical(form: Form, variable: u32, out: &mut Vec<u8>) {
    let quad = u128::from(NAN_32) << 32 | u128::from(NAN_32);
    let (nan, equal, choose) = match form {
        Form::F32 => {
            (Instruction::F32Const(f32::from_bits(NAN_32).into()), Instruction::F32Eq, Instruction::Select)
        }
        Form::F64 => {
            (Instruction::F64Const(f64::from_bits(NAN_64).into()), Instruction::F64Eq, Instruction::Select)
        }
        Form::F32x4 => (
            Instruction::V128Const((quad << 64 | quad) as i128),
            Instruction::F32x4Eq,
            Instruction::V128Bitselect,
        ),
        Form::F64x2 => (
            Instruction::V128Const((u128::from(NAN_64) << 64 | u128::from(NAN_64)) as i128),
            Instruction::F64x2Eq,
            Instruction::V128Bitselect,
        ),
    };
    Instruction::LocalTee(variable).encode(out);
    nan.encode(out);
    Instruction::LocalGet(variable).encode(out);
    Instruction::LocalGet(variable).encode(out);
    equal.encode(out);
    choose.encode(out);
}

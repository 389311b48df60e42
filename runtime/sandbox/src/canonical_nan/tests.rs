//! Random functions, run twice: with the compiler's own canonicalization, which does it after each operation,
//! and rewritten, without it. Memory, global and result must be the same to the bit.

use std::fmt::Write as _;

use proptest::prelude::*;
use wasmtime::{Config, Engine, Instance, Module, Store, Val};

use super::operators::{Effect, effect, is_known};
use super::{Problem, rewrite};

const F64S: u32 = 4;
const F32S: u32 = 3;
const V128S: u32 = 4;
/// Bytes of memory that functions read and write.
const MEMORY: usize = 256;

/// An expression as text, of the type that its maker says.
type Text = BoxedStrategy<String>;

fn binary(name: &'static [&'static str], operand: Text) -> Text {
    (prop::sample::select(name), operand.clone(), operand)
        .prop_map(|(name, a, b)| format!("({name} {a} {b})"))
        .boxed()
}

fn unary(name: &'static [&'static str], operand: Text) -> Text {
    (prop::sample::select(name), operand).prop_map(|(name, a)| format!("({name} {a})")).boxed()
}

/// Expressions of one depth: f64, f32, v128, i32.
#[derive(Clone)]
struct Expressions {
    f64: Text,
    f32: Text,
    v128: Text,
    i32: Text,
}

fn leaves() -> Expressions {
    let address = || (0..MEMORY as u32 / 16).prop_map(|place| place * 16);
    Expressions {
        f64: prop_oneof![
            (0..F64S).prop_map(|local| format!("(local.get $d{local})")),
            address().prop_map(|at| format!("(f64.load (i32.const {at}))")),
            prop::sample::select(vec!["0", "1.5", "inf", "-inf", "nan:0x4000000000001", "-nan"])
                .prop_map(|value| format!("(f64.const {value})")),
        ]
        .boxed(),
        f32: prop_oneof![
            (0..F32S).prop_map(|local| format!("(local.get $s{local})")),
            address().prop_map(|at| format!("(f32.load (i32.const {at}))")),
            prop::sample::select(vec!["0", "-2", "inf", "-nan:0x200001"])
                .prop_map(|value| format!("(f32.const {value})")),
        ]
        .boxed(),
        v128: prop_oneof![
            (0..V128S).prop_map(|local| format!("(local.get $v{local})")),
            address().prop_map(|at| format!("(v128.load (i32.const {at}))")),
        ]
        .boxed(),
        i32: prop_oneof![
            (0..2u32).prop_map(|value| format!("(i32.const {value})")),
            Just("(local.get $n)".to_owned()),
        ]
        .boxed(),
    }
}

fn grow(e: Expressions) -> Expressions {
    let shuffle = prop::sample::select(vec![
        "8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23",
        "4 5 6 7 0 1 2 3 28 29 30 31 24 25 26 27",
        "1 0 3 2 5 4 7 6 9 8 11 10 13 12 15 14",
    ]);
    let f64 = prop_oneof![
        2 => e.f64.clone(),
        4 => binary(&["f64.add", "f64.sub", "f64.mul", "f64.div", "f64.min", "f64.max"], e.f64.clone()),
        2 => unary(&["f64.sqrt", "f64.floor", "f64.nearest"], e.f64.clone()),
        1 => unary(&["f64.neg", "f64.abs", "call $double"], e.f64.clone()),
        1 => binary(&["f64.copysign"], e.f64.clone()),
        1 => unary(&["f64.promote_f32"], e.f32.clone()),
        1 => unary(&["f64x2.extract_lane 1", "f64x2.extract_lane 0"], e.v128.clone()),
        1 => (e.f64.clone(), e.f64.clone(), e.i32.clone())
            .prop_map(|(a, b, c)| format!("(select {a} {b} {c})")),
        1 => (0..F64S, e.f64.clone()).prop_map(|(local, a)| format!("(local.tee $d{local} {a})")),
        1 => e.f64.clone().prop_map(|a| format!("(f64.reinterpret_i64 (i64.xor (i64.const 1) (i64.reinterpret_f64 {a})))")),
        1 => (e.i32.clone(), e.f64.clone(), e.f64.clone())
            .prop_map(|(c, a, b)| format!("(if (result f64) {c} (then {a}) (else {b}))")),
        1 => (e.i32.clone(), e.f64.clone(), e.f64.clone())
            .prop_map(|(c, a, b)| format!("(block (result f64) (drop (br_if 0 {a} {c})) {b})")),
        // What blocks take as parameters, and give by a table of branches.
        1 => (e.f64.clone(), e.f64.clone()).prop_map(|(a, b)| {
            format!("{a} (block (param f64) (result f64) {b} (f64.mul))")
        }),
        1 => (e.i32.clone(), e.f64.clone()).prop_map(|(c, a)| {
            format!("(block (result f64) (block (result f64) (br_table 0 1 0 {a} {c})) (f64.const 1) (f64.add))")
        }),
        1 => (e.f64.clone(), e.i32.clone())
            .prop_map(|(a, c)| format!("(call_indirect (type $number) {a} (i32.and (i32.const 1) {c}))")),
        1 => (e.f64.clone(), e.i32.clone()).prop_map(|(a, c)| format!("(call $early {a} {c})")),
        1 => Just("(global.get $g)".to_owned()),
    ];
    let f32 = prop_oneof![
        2 => e.f32.clone(),
        3 => binary(&["f32.add", "f32.div", "f32.mul", "f32.max"], e.f32.clone()),
        1 => unary(&["f32.sqrt", "f32.neg", "f32.trunc"], e.f32.clone()),
        1 => unary(&["f32.demote_f64"], e.f64.clone()),
        1 => unary(&["f32x4.extract_lane 2"], e.v128.clone()),
        1 => unary(&["call $half"], e.f32.clone()),
        1 => Just("(global.get $gs)".to_owned()),
    ];
    let v128 = prop_oneof![
        2 => e.v128.clone(),
        4 => binary(&["f64x2.add", "f64x2.div", "f64x2.sub", "f64x2.mul", "f64x2.min", "f64x2.pmax"], e.v128.clone()),
        2 => binary(&["f32x4.add", "f32x4.div", "f32x4.max", "f32x4.pmin"], e.v128.clone()),
        1 => unary(&["f64x2.sqrt", "f64x2.neg", "f32x4.abs", "f64x2.promote_low_f32x4", "f32x4.demote_f64x2_zero"], e.v128.clone()),
        1 => binary(&["v128.and", "v128.xor", "i64x2.add", "f64x2.lt", "f32x4.ne"], e.v128.clone()),
        1 => (shuffle, e.v128.clone(), e.v128.clone())
            .prop_map(|(lanes, a, b)| format!("(i8x16.shuffle {lanes} {a} {b})")),
        1 => (e.v128.clone(), e.v128.clone(), e.v128.clone())
            .prop_map(|(a, b, c)| format!("(v128.bitselect {a} {b} {c})")),
        1 => (e.v128.clone(), e.v128.clone(), e.i32.clone())
            .prop_map(|(a, b, c)| format!("(select {a} {b} {c})")),
        1 => unary(&["f64x2.splat"], e.f64.clone()),
        1 => unary(&["f32x4.splat"], e.f32.clone()),
        1 => (e.v128.clone(), e.f64.clone()).prop_map(|(a, b)| format!("(f64x2.replace_lane 1 {a} {b})")),
        1 => (e.v128.clone(), e.f32.clone()).prop_map(|(a, b)| format!("(f32x4.replace_lane 3 {a} {b})")),
        1 => unary(&["call $vector"], e.v128.clone()),
        1 => Just("(global.get $gv)".to_owned()),
    ];
    Expressions { f64: f64.boxed(), f32: f32.boxed(), v128: v128.boxed(), i32: grow_i32(&e) }
}

fn grow_i32(e: &Expressions) -> Text {
    prop_oneof![
        2 => e.i32.clone(),
        2 => binary(&["f64.lt", "f64.ne", "f64.ge"], e.f64.clone()),
        1 => binary(&["f32.eq", "f32.gt"], e.f32.clone()),
        1 => unary(&["i32.trunc_sat_f64_s"], e.f64.clone()),
        1 => unary(&["i32.reinterpret_f32"], e.f32.clone()),
        1 => unary(&["v128.any_true", "i32x4.extract_lane 1"], e.v128.clone()),
    ]
    .boxed()
}

fn statement() -> Text {
    let e = grow(grow(grow(leaves())));
    let address = || (0..MEMORY as u32 / 16).prop_map(|place| place * 16);
    let plain = prop_oneof![
        3 => (0..F64S, e.f64.clone()).prop_map(|(local, a)| format!("(local.set $d{local} {a})")),
        2 => (0..F32S, e.f32.clone()).prop_map(|(local, a)| format!("(local.set $s{local} {a})")),
        3 => (0..V128S, e.v128.clone()).prop_map(|(local, a)| format!("(local.set $v{local} {a})")),
        1 => (address(), e.f64.clone()).prop_map(|(at, a)| format!("(f64.store (i32.const {at}) {a})")),
        1 => (address(), e.f32.clone()).prop_map(|(at, a)| format!("(f32.store (i32.const {at}) {a})")),
        1 => (address(), e.v128.clone()).prop_map(|(at, a)| format!("(v128.store (i32.const {at}) {a})")),
        1 => (address(), e.v128.clone()).prop_map(|(at, a)| format!("(v128.store64_lane 1 (i32.const {at}) {a})")),
        1 => e.f64.clone().prop_map(|a| format!("(global.set $g {a})")),
        1 => e.f32.clone().prop_map(|a| format!("(global.set $gs {a})")),
        1 => e.v128.clone().prop_map(|a| format!("(global.set $gv {a})")),
    ];
    plain
        .prop_recursive(2, 12, 4, move |inner| {
            let several = prop::collection::vec(inner, 1..4).prop_map(|all| all.join("\n"));
            prop_oneof![
                (several.clone(), several.clone(), e.i32.clone())
                    .prop_map(|(a, b, c)| format!("(if {c} (then {a}) (else {b}))")),
                // Two rounds: what is set late in the first one is read early in the second.
                several.clone().prop_map(|a| {
                    format!(
                        "(local.set $n (i32.const 0)) (loop {a} (local.set $n (i32.add (local.get $n) (i32.const 1)))
                         (br_if 0 (i32.lt_u (local.get $n) (i32.const 2))))"
                    )
                }),
                (several.clone(), e.i32.clone())
                    .prop_map(|(a, c)| format!("(block (br_if 0 {c}) {a} (br 0) (unreachable))")),
            ]
        })
        .boxed()
}

/// A module with the statements in its function, and some of all that one may have around them.
fn module(statements: &[String]) -> Vec<u8> {
    let mut locals = String::from("(local $n i32)");
    for (of, prefix, count) in [("f64", "d", F64S), ("f32", "s", F32S), ("v128", "v", V128S)] {
        for local in 0..count {
            let _ = write!(locals, "(local ${prefix}{local} {of})");
        }
    }
    let text = format!(
        r#"(module
          (memory (export "memory") 1)
          (type $number (func (param f64) (result f64)))
          (global $g (export "global") (mut f64) (f64.const 0))
          (global $gs (mut f32) (f32.const 0))
          (global $gv (mut v128) (v128.const i64x2 0 0))
          (table funcref (elem $double $less))
          (func $double (param f64) (result f64) (f64.add (local.get 0) (local.get 0)))
          (func $less (param f64) (result f64) (f64.sub (local.get 0) (f64.const inf)))
          (func $half (param f32) (result f32) (f32.div (local.get 0) (f32.const 2)))
          (func $vector (param v128) (result v128) (f32x4.div (local.get 0) (f32x4.sub (local.get 0) (local.get 0))))
          (func $early (param f64 i32) (result f64)
            (if (local.get 1) (then (return (f64.sqrt (local.get 0)))))
            (f64.mul (local.get 0) (f64.const 0)))
          (func (export "run") (param $first f64) (param $second f32) (param $third v128) (result f64) {locals}
            (local.set $d0 (f64.sub (f64.const inf) (local.get $first)))
            (local.set $s0 (local.get $second)) (local.set $v0 (local.get $third))
            {}
            (f32.store (i32.const 244) (global.get $gs)) (v128.store (i32.const 192) (global.get $gv))
            (v128.store (i32.const 208) (local.get $v0)) (v128.store (i32.const 224) (local.get $v1))
            (f32.store (i32.const 240) (local.get $s0)) (f64.store (i32.const 248) (local.get $d1))
            (local.get $d2)))"#,
        statements.join("\n")
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn engine(canonicalizes: bool) -> Engine {
    let mut config = Config::new();
    config.cranelift_nan_canonicalization(canonicalizes).relaxed_simd_deterministic(true);
    Engine::new(&config).unwrap()
}

/// Runs a module on a memory: what is in it afterwards, and the bits of global and result.
fn run(engine: &Engine, wasm: &[u8], begin: &[u8]) -> (Vec<u8>, u64, u64) {
    let module = Module::new(engine, wasm).unwrap();
    let mut store = Store::new(engine, ());
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let memory = instance.get_memory(&mut store, "memory").unwrap();
    memory.write(&mut store, 0, begin).unwrap();
    let mut results = [Val::I32(0)];
    let run = instance.get_func(&mut store, "run").unwrap();
    // The second and the third are NaNs with a payload of their own.
    let own = [Val::F64(f64::INFINITY.to_bits()), Val::F32(0xff80_0005), Val::V128(u128::MAX.into())];
    run.call(&mut store, &own, &mut results).unwrap();
    let global = instance.get_global(&mut store, "global").unwrap().get(&mut store);
    let mut end = vec![0; MEMORY];
    memory.read(&store, 0, &mut end).unwrap();
    (end, global.unwrap_f64().to_bits(), results[0].unwrap_f64().to_bits())
}

/// Memory with numbers of all kinds in it: NaNs with a payload of their own above all.
fn memory() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![
        any::<f64>().prop_map(f64::to_bits),
        (0u64..1 << 51).prop_map(|payload| 0xfff8_0000_0000_0000 | payload),
        (0u32..1 << 22).prop_map(|payload| u64::from(0xffc0_0000 | payload) << 32 | 0x7f80_0001),
        Just(0),
    ];
    prop::collection::vec(number, MEMORY / 8)
        .prop_map(|numbers| numbers.into_iter().flat_map(u64::to_le_bytes).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 500, ..ironloom_mutate::cases(2000) })]

    #[test]
    fn the_same_bits_as_with_every_operation_made_canonical(
        statements in prop::collection::vec(statement(), 1..8),
        begin in memory(),
    ) {
        let wasm = module(&statements);
        let rewritten = rewrite(&wasm).unwrap();
        let expected = run(&engine(true), &wasm, &begin);
        prop_assert_eq!(run(&engine(false), &rewritten, &begin), expected, "{}", statements.join("\n"));
    }
}

/// What this machine makes of the function as it is, and rewritten.
fn both(statement: &str) -> [(Vec<u8>, u64, u64); 3] {
    let wasm = module(&[statement.to_owned()]);
    let begin = [0; MEMORY];
    let rewritten = rewrite(&wasm).unwrap();
    [
        run(&engine(false), &wasm, &begin),
        run(&engine(false), &rewritten, &begin),
        run(&engine(true), &wasm, &begin),
    ]
}

#[test]
#[cfg(target_arch = "x86_64")]
fn this_processor_has_a_nan_of_its_own() {
    // Infinity less infinity is negative here, and positive elsewhere: so the comparison can fail.
    let [as_it_is, rewritten, expected] = both("(global.set $g (local.get $d0))");
    assert_eq!(as_it_is.1, 0xfff8_0000_0000_0000);
    assert_eq!(rewritten.1, 0x7ff8_0000_0000_0000);
    assert_eq!(rewritten, expected);
}

#[test]
fn both_widths_in_one_variable_are_kept_apart() {
    let [_, rewritten, expected] = both(
        "(local.set $v0 (f64x2.splat (local.get $d0)))
         (if (i32.load (i32.const 0)) (then (local.set $v0 (f32x4.add (local.get $v0) (local.get $v1)))))
         (v128.store (i32.const 16) (local.get $v0))",
    );
    assert_eq!(rewritten, expected);
}

#[test]
fn arithmetic_alone_is_left_as_it_is() {
    // Made canonical once, on its way into memory, and once as the result.
    let sum = module(&[
        "(f64.store (i32.const 0) (f64.add (f64.mul (local.get $d0) (local.get $d1)) (local.get $d3)))"
            .to_owned(),
    ]);
    let inserted = |wasm: &[u8]| {
        let mut count = 0;
        for payload in wasmparser::Parser::new(0).parse_all(wasm) {
            if let wasmparser::Payload::CodeSectionEntry(body) = payload.unwrap() {
                let operators = body.get_operators_reader().unwrap().into_iter();
                count += operators.filter(|o| matches!(o, Ok(wasmparser::Operator::F64Eq))).count();
            }
        }
        count
    };
    assert_eq!(inserted(&sum), 0);
    // The store above, the results of `$double` and `$less`, and both of `$early`; `$d1` and `$d2` are never computed.
    assert_eq!(inserted(&rewrite(&sum).unwrap()), 5);
}

#[test]
fn what_has_no_arithmetic_stays_byte_for_byte() {
    let wasm =
        wat::parse_str("(component (core module (func (param f64) (result f64) (local.get 0))))").unwrap();
    assert_eq!(rewrite(&wasm).unwrap(), wasm);
}

#[test]
fn a_component_keeps_all_but_the_bodies() {
    let wasm = wat::parse_str(
        r#"(component
          (core module $m (func (export "add") (param f64) (result f64) (f64.add (local.get 0) (local.get 0))))
          (component (core module (func (result f32) (f32.sqrt (f32.const 2)))))
          (core instance $i (instantiate $m))
          (func (export "add") (param "x" f64) (result f64) (canon lift (core func $i "add")))
          (@custom "note" "kept"))"#,
    )
    .unwrap();
    let rewritten = rewrite(&wasm).unwrap();
    assert!(rewritten.len() > wasm.len());
    wasmparser::Validator::new().validate_all(&rewritten).unwrap();
    let sections = |wasm: &[u8]| -> Vec<_> {
        let payloads = wasmparser::Parser::new(0).parse_all(wasm).map(Result::unwrap);
        payloads
            .filter_map(|payload| payload.as_section())
            .filter(|(id, _)| *id != 10)
            .map(|(id, range)| (id, wasm[range.start as usize..range.end as usize].to_vec()))
            .collect()
    };
    // Modules and components within have another length; what is in them is listed as well.
    let outer = |(id, _): &(u8, Vec<u8>)| !matches!(id, 1 | 4);
    let kept: Vec<_> = sections(&wasm).into_iter().filter(outer).collect();
    assert_eq!(sections(&rewritten).into_iter().filter(outer).collect::<Vec<_>>(), kept);
    assert!(kept.iter().any(|(_, bytes)| bytes.ends_with(b"kept")));
    // Nothing is left to do the second time but to look at what was put in.
    assert!(rewrite(b"\0asm\x0d\0\x01\0\x01\x05").is_err(), "cut off");
}

/// All operators without immediates, by name: arithmetic has none.
macro_rules! operators {
    (@one $op:ident) => { Some((stringify!($op), wasmparser::Operator::$op)) };
    (@one $op:ident $($immediates:tt)+) => { None };
    ($(@$proposal:ident $op:ident $({ $($field:ident: $type:ty),* })? => $visit:ident ($($arity:tt)*))*) => {
        [$(operators!(@one $op $({ $($field)* })?)),*]
    };
}

#[test]
fn every_operator_that_makes_numbers_is_known() {
    let known: [Option<(&str, wasmparser::Operator<'_>)>; _] = wasmparser::for_each_operator!(operators);
    let mut makers = 0;
    for (name, operator) in known.into_iter().flatten() {
        let of_numbers = ["F16", "F32", "F64"].iter().any(|prefix| name.starts_with(prefix));
        // These take or give bits, or numbers that are none of them a NaN.
        let of_bits =
            ["Neg", "Abs", "Copysign", "Reinterpret", "Convert"].iter().any(|part| name.contains(part));
        if of_numbers && !of_bits {
            assert!(!is_known(&operator) || effect(&operator) != Effect::Other, "{name}");
            makers += usize::from(matches!(effect(&operator), Effect::Makes { .. }));
        }
    }
    // ceil, floor, trunc, nearest, sqrt, add, sub, mul, div, min, max of four forms, four changes of width,
    // and madd, nmadd, min and max of the two relaxed vectors.
    assert_eq!(makers, 11 * 4 + 4 + 4 * 2);
}

/// Functions with blocks, loops, a table, and numbers of each width whose bits are looked at.
fn components() -> Vec<Vec<u8>> {
    let module = r#"(module (memory 1) (table 2 funcref) (global $g (mut f64) (f64.const 0))
      (elem (i32.const 0) $f $h) (type $t (func (param f64) (result i64)))
      (func $f (type $t) (local f64)
        (block $out (result f64) (f64.div (local.get 0) (f64.const 0))
          (loop $again (param f64) (result f64) (local.tee 1) (br_if $out (local.get 1) (i32.const 1)) (br $again)))
        (global.set $g) (f64.store (i32.const 8) (f64.sqrt (global.get $g)))
        (i64.reinterpret_f64 (f64.add (local.get 0) (global.get $g))))
      (func $h (type $t) (drop (f32x4.add (v128.const f32x4 1 2 3 4) (f32x4.splat (f32.demote_f64 (local.get 0)))))
        (call_indirect (type $t) (local.get 0) (i32.const 0))))"#;
    let component = module.replacen("(module", "(component (core module $m", 1) + ")";
    [module.to_owned(), component].iter().map(|text| wat::parse_str(text).unwrap()).collect()
}

proptest! {
    #[test]
    fn what_is_valid_stays_valid(bytes in ironloom_mutate::mutated(components())) {
        crate::fuzzing::canonical_nan(&bytes);
    }
}

#[test]
fn operators_of_other_proposals_are_refused() {
    let refused = |body: &str| {
        let wasm = wat::parse_str(format!("(module (memory 1) (func {body}))")).unwrap();
        // Validated with all that this validator knows, whatever the engine has.
        rewrite(&wasm)
    };
    assert!(refused("(drop (i32.add (i32.const 1) (i32.const 1)))").is_ok());
    let wide = "(i64.add128 (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)) (drop) (drop)";
    for body in [wide, "(drop (ref.i31 (i32.const 1)))"] {
        match refused(body) {
            Err(Problem::Operator(_) | Problem::Invalid(_)) => {}
            other => panic!("{body}: {other:?}"),
        }
    }
    assert!(!is_known(&wasmparser::Operator::I64Add128));
    assert!(!is_known(&wasmparser::Operator::AtomicFence));
    assert!(is_known(&wasmparser::Operator::F64x2RelaxedMax) && is_known(&wasmparser::Operator::F64Add));
}

#[test]
fn a_function_that_grows_too_large_is_told_by_its_place() {
    let wasm = |locals: usize| {
        let locals = "f64 ".repeat(locals);
        wat::parse_str(format!(
            "(module (func (param f64) (result f64) (local {locals}) (f64.add (local.get 0) (local.get 0))))"
        ))
        .unwrap()
    };
    // The parameter, and one variable for f64: 50,000.
    wasmparser::Validator::new().validate_all(&rewrite(&wasm(49_998)).unwrap()).unwrap();
    assert!(matches!(rewrite(&wasm(49_999)), Err(Problem::Function(_))));
}

#[test]
fn nested_components_keep_their_bodies_apart() {
    let module = |by: u32| format!("(core module (func (result f64) (f64.sqrt (f64.const {by}))))");
    let text = format!(
        "(component {} (component {} (component {}) {}) {})",
        module(1),
        module(2),
        module(3),
        module(4),
        module(5)
    );
    let rewritten = rewrite(&wat::parse_str(&text).unwrap()).unwrap();
    wasmparser::Validator::new().validate_all(&rewritten).unwrap();
    let mut constants = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(&rewritten) {
        if let wasmparser::Payload::CodeSectionEntry(body) = payload.unwrap() {
            match body.get_operators_reader().unwrap().read().unwrap() {
                wasmparser::Operator::F64Const { value } => constants.push(f64::from_bits(value.bits())),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(constants, [1.0, 2.0, 3.0, 4.0, 5.0]);
}

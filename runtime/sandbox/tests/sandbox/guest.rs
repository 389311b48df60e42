//! Guests for tests of the sandbox, from a few lines of WAT each: no toolchain for WebAssembly is
//! needed, and habits that no compiler would give an app can be had.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Parts of WASI, as far as the guests here import them.
const WASI: &[(&str, &str)] = &[
    ("io.wit", "package wasi:io@0.2.0;
        interface poll { resource pollable { block: func(); } }
        interface error { resource error; }
        interface streams {
            use error.{error};
            variant stream-error { last-operation-failed(error), closed }
            resource input-stream { read: func(len: u64) -> result<list<u8>, stream-error>; }
            resource output-stream {
                check-write: func() -> result<u64, stream-error>;
                write: func(contents: list<u8>) -> result<_, stream-error>;
                blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
                flush: func() -> result<_, stream-error>;
                blocking-flush: func() -> result<_, stream-error>;
                write-zeroes: func(len: u64) -> result<_, stream-error>;
                blocking-write-zeroes-and-flush: func(len: u64) -> result<_, stream-error>;
                splice: func(src: borrow<input-stream>, len: u64) -> result<u64, stream-error>;
                blocking-splice: func(src: borrow<input-stream>, len: u64) -> result<u64, stream-error>;
            }
        }"),
    ("clocks.wit", "package wasi:clocks@0.2.0;
        interface monotonic-clock {
            use wasi:io/poll@0.2.0.{pollable};
            now: func() -> u64;
            subscribe-duration: func(when: u64) -> pollable;
        }"),
    ("random.wit", "package wasi:random@0.2.3;
        interface random { get-random-bytes: func(len: u64) -> list<u8>; get-random-u64: func() -> u64; }"),
    ("cli.wit", "package wasi:cli@0.2.0;
        interface exit { exit: func(status: result); }
        interface environment { get-environment: func() -> list<tuple<string, string>>; }
        interface stdin { use wasi:io/streams@0.2.0.{input-stream}; get-stdin: func() -> input-stream; }
        interface stderr { use wasi:io/streams@0.2.0.{output-stream}; get-stderr: func() -> output-stream; }"),
    ("filesystem.wit", "package wasi:filesystem@0.2.0;
        interface types { resource descriptor; }
        interface preopens { use types.{descriptor}; get-directories: func() -> list<tuple<descriptor, string>>; }"),
    ("http.wit", "package wasi:http@0.2.0; interface outgoing-handler { handle: func(); }"),
];

/// A guest in the making.
#[derive(Clone)]
pub(crate) struct Guest {
    world: Vec<String>,
    imports: String,
    extra: String,
    /// Pages of memory at the begin.
    pages: u32,
    consume: Option<String>,
    fire: Option<String>,
}

impl Guest {
    /// One that does nothing with its readings.
    pub(crate) fn readings(body: &str) -> Self {
        Self { consume: Some(body.to_owned()), ..Self::none() }
    }

    /// One that does nothing with its timers.
    pub(crate) fn timers(body: &str) -> Self {
        Self { fire: Some(body.to_owned()), ..Self::none() }
    }

    /// Without any role.
    pub(crate) fn none() -> Self {
        let (world, imports, extra) = (Vec::new(), String::new(), String::new());
        Self { world, imports, extra, pages: 1, consume: None, fire: None }
    }

    /// Takes timers as well.
    pub(crate) fn and_timers(mut self, body: &str) -> Self {
        self.fire = Some(body.to_owned());
        self
    }

    /// Imports a function: its interface, its name, and in WAT its name and type.
    pub(crate) fn import(mut self, interface: &str, function: &str, declaration: &str) -> Self {
        let line = format!("import {interface};");
        if !self.world.contains(&line) {
            self.world.push(line);
        }
        self.imports += &format!("(import \"{interface}\" \"{function}\" (func {declaration}))\n");
        self
    }

    /// Adds WAT to the module: data, functions, globals.
    pub(crate) fn with(mut self, wat: &str) -> Self {
        self.extra += wat;
        self
    }

    /// Begins with so many pages of memory: data may lie behind the first one, too.
    #[allow(dead_code, reason = "one of the two suites that share these guests needs it")]
    pub(crate) fn pages(mut self, pages: u32) -> Self {
        self.pages = pages;
        self
    }

    /// Builds the component. In bodies, `$entities $entities_len $frames $frames_len` or
    /// `$timer $timer_len $due` are the parameters; the answer lies at 16 and is ok with nothing
    /// refused; from 64 on there are 64 bytes for the answers of host functions; data may lie
    /// from 1,024 to 8,192.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut world = self.world.clone();
        let mut functions = String::new();
        if let Some(body) = &self.consume {
            world.push("export ironloom:feeds/readings@0.1.0;".to_owned());
            functions += &format!(
                "(func (export \"ironloom:feeds/readings@0.1.0#consume\")
                   (param $entities i32) (param $entities_len i32) (param $frames i32) (param $frames_len i32)
                   (result i32) (local $i i32) (local $j i32) {body} (i32.const 16))"
            );
        }
        if let Some(body) = &self.fire {
            world.push("export ironloom:timers/timers@0.1.0;".to_owned());
            functions += &format!(
                "(func (export \"ironloom:timers/timers@0.1.0#fire\")
                   (param $timer i32) (param $timer_len i32) (param $due i64)
                   (result i32) (local $i i32) (local $j i32) {body} (i32.const 16))"
            );
        }
        let wat = format!(
            "(module {imports}
               (memory (export \"memory\") {pages})
               (global $next (mut i32) (i32.const 8192))
               (func $alloc (export \"cabi_realloc\") (param i32 i32) (param $align i32) (param $size i32) (result i32)
                 (local $at i32) (local $end i32)
                 (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                 (local.set $end (i32.add (local.get $at) (local.get $size)))
                 (if (i32.gt_u (local.get $end) (i32.mul (memory.size) (i32.const 65536)))
                   (then (if (i32.eq (i32.const -1) (memory.grow (i32.add (i32.const 1)
                           (i32.shr_u (i32.sub (local.get $end) (i32.mul (memory.size) (i32.const 65536))) (i32.const 16)))))
                     (then unreachable))))
                 (global.set $next (local.get $end))
                 (local.get $at))
               {functions} {extra})",
            imports = self.imports,
            pages = self.pages,
            extra = self.extra,
        );
        let mut module = wat::parse_str(&wat).unwrap_or_else(|error| panic!("{error}\n{wat}"));

        let mut resolve = Resolve::default();
        resolve.push_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit")).expect("the WIT parses");
        for (path, text) in WASI {
            resolve.push_str(path, text).expect("the parts of WASI parse");
        }
        let text = format!("package test:guest; world guest {{ {} }}", world.join("\n"));
        let package = resolve.push_str("guest.wit", &text).expect("the guest's world parses");
        let world = resolve.select_world(&[package], None).expect("there is one world");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
            .expect("metadata fits");
        let mut encoder = ComponentEncoder::default();
        encoder.module(&module).expect("the module fits its world").validate(true);
        encoder.encode().expect("the component is valid")
    }
}

/// `(data …)` for a text.
pub(crate) fn data(at: u32, text: &str) -> String {
    let bytes: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    format!("(data (i32.const {at}) \"{bytes}\")\n")
}

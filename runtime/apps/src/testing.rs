//! Data for the tests of several files.

/// A manifest with a slot of each kind.
pub(crate) const PIGS: &str = r#"
manifest = 1
id = "com.example.pigs"
name = "Pigs"
version = "0.1.0"
[inputs.weight]
type = "real"
unit = "kg"
[inputs.feed]
type = "real"
optional = true
[outputs.gain]
kind = "derived"
type = "real"
unit = "kg/d"
[outputs.gate]
kind = "set-point"
type = "real"
[settings.breed]
type = "text"
default = "duroc"
[settings.age]
type = "integer"
[limits]
cpu = "300 ms"
"#;

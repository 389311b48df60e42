//! Data for the tests of several files.

use crate::binding::{Bindings, InputBinding, OutputBinding, Target};
use crate::manifest::{OutputKind, ValueType};
use crate::pattern::Pattern;
use ironloom_types::ids::{InstallationId, PointPath, SlotName, TenantId};

pub(crate) fn id(text: &str) -> InstallationId {
    InstallationId::new(TenantId::MAIN, text).unwrap()
}

pub(crate) fn path(text: &str) -> PointPath {
    PointPath::new(TenantId::MAIN, text).unwrap()
}

pub(crate) fn pattern(text: &str) -> Pattern {
    Pattern::new(TenantId::MAIN, text).unwrap()
}

/// Bindings of an installation with one input and one output, which is bound to a pattern or by default.
pub(crate) fn bindings(installation: &str, input: &str, output: Option<&str>) -> Bindings {
    let target = match output {
        Some(pattern) => Target::Pattern { pattern: self::pattern(pattern), order: vec![0] },
        None => Target::Default { prefix: path(&format!("apps/{installation}/out")) },
    };
    let value_type = ValueType::Real;
    let name = |text| SlotName::new(text).unwrap();
    Bindings {
        inputs: vec![InputBinding {
            name: name("in"),
            value_type,
            unit: None,
            conversions: Vec::new(),
            patterns: vec![pattern(input)],
        }],
        outputs: vec![OutputBinding {
            name: name("out"),
            kind: OutputKind::Derived,
            value_type,
            unit: None,
            target,
        }],
    }
}

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

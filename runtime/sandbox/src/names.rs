//! The imports and exports of a component, read from its sections without compiling it.

use wasmparser::{BinaryReaderError, Parser, Payload};

/// The names of imports and exports, with versions.
pub fn names(component: &[u8]) -> Result<(Vec<String>, Vec<String>), BinaryReaderError> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    // Modules and components within the component have imports and exports of their own.
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_components_own_names_are_listed() {
        let component = wat::parse_str(
            r#"(component
                (import "ironloom:state/state@0.1.0" (instance))
                (component (import "inner" (func)))
                (core module (import "env" "f" (func)) (func (export "g")))
                (component $role (import "wasi:io/poll@0.2.0" (instance)))
                (instance $made)
                (import "wasi:io/poll@0.2.0" (instance))
                (export "ironloom:feeds/readings@0.1.0" (instance $made))
            )"#,
        )
        .unwrap();
        let (imports, exports) = super::names(&component).unwrap();
        assert_eq!(imports, ["ironloom:state/state@0.1.0", "wasi:io/poll@0.2.0"]);
        assert_eq!(exports, ["ironloom:feeds/readings@0.1.0"]);
        assert!(super::names(&component[..component.len() - 1]).is_err());
    }
}

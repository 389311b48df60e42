//! The reference of the interfaces, from the files in `wit/`.

use std::path::Path;

use anyhow::Result;
use wit_parser::{Docs, Function, Handle, Interface, Resolve, Type, TypeDef, TypeDefKind};

/// All interfaces of the platform in Markdown, package by package, with what their files say of them.
pub(crate) fn reference(folder: &Path) -> Result<String> {
    let mut resolve = Resolve::default();
    resolve.push_dir(folder)?;
    let mut packages: Vec<_> = resolve.packages.iter().map(|(_, package)| package).collect();
    // The platform's own first; each has its name and version.
    packages.sort_by_key(|package| (package.name.namespace != "ironloom", package.name.to_string()));
    let mut text = String::new();
    for package in packages.into_iter().filter(|package| !package.interfaces.is_empty()) {
        text.push_str(&format!("\n## {}\n\n{}", package.name, paragraph(&package.docs)));
        for id in package.interfaces.values() {
            interface(&resolve, &resolve.interfaces[*id], &mut text);
        }
    }
    Ok(text)
}

fn interface(resolve: &Resolve, interface: &Interface, text: &mut String) {
    let name = interface.name.as_deref().unwrap_or_default();
    text.push_str(&format!("### Interface `{name}`\n\n{}", paragraph(&interface.docs)));
    for (name, id) in &interface.types {
        define(resolve, name, &resolve.types[*id], text);
    }
    for function in interface.functions.values() {
        text.push_str(&format!("`{}`\n\n{}", signature(resolve, function), paragraph(&function.docs)));
    }
}

/// A named type, with its parts as a table.
fn define(resolve: &Resolve, name: &str, defined: &TypeDef, text: &mut String) {
    let mut parts: Vec<(String, &Docs)> = Vec::new();
    let kind = match &defined.kind {
        TypeDefKind::Record(record) => {
            let fields = record.fields.iter();
            parts.extend(
                fields.map(|field| (format!("{}: {}", field.name, show(resolve, &field.ty)), &field.docs)),
            );
            "record"
        }
        TypeDefKind::Variant(variant) => {
            let carried = |ty: &Option<Type>| {
                ty.as_ref().map_or(String::new(), |ty| format!("({})", show(resolve, ty)))
            };
            let cases = variant.cases.iter();
            parts.extend(cases.map(|case| (format!("{}{}", case.name, carried(&case.ty)), &case.docs)));
            "variant"
        }
        TypeDefKind::Enum(cases) => {
            parts.extend(cases.cases.iter().map(|case| (case.name.clone(), &case.docs)));
            "enum"
        }
        TypeDefKind::Flags(flags) => {
            parts.extend(flags.flags.iter().map(|flag| (flag.name.clone(), &flag.docs)));
            "flags"
        }
        // A name that the interface uses from another one is told there.
        TypeDefKind::Type(Type::Id(id)) if resolve.types[*id].name.is_some() => return,
        _ => {
            let of = shape(resolve, &defined.kind);
            text.push_str(&format!("`type {name} = {of}`\n\n{}", paragraph(&defined.docs)));
            return;
        }
    };
    text.push_str(&format!("`{kind} {name}`\n\n{}", paragraph(&defined.docs)));
    if !parts.is_empty() {
        text.push_str("| | |\n| --- | --- |\n");
        for (part, docs) in parts {
            let told = docs.contents.as_deref().unwrap_or_default().trim();
            let told = told.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
            text.push_str(&format!("| `{part}` | {told} |\n"));
        }
        text.push('\n');
    }
}

fn paragraph(docs: &Docs) -> String {
    docs.contents.as_deref().map_or(String::new(), |docs| format!("{}\n\n", docs.trim()))
}

fn signature(resolve: &Resolve, function: &Function) -> String {
    let takes = function.params.iter().map(|param| format!("{}: {}", param.name, show(resolve, &param.ty)));
    let gives = function.result.as_ref().map_or(String::new(), |ty| format!(" -> {}", show(resolve, ty)));
    format!("{}: func({}){gives}", function.name, takes.collect::<Vec<_>>().join(", "))
}

/// A type as WIT writes it.
fn show(resolve: &Resolve, ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".to_owned(),
        Type::U8 => "u8".to_owned(),
        Type::U16 => "u16".to_owned(),
        Type::U32 => "u32".to_owned(),
        Type::U64 => "u64".to_owned(),
        Type::S8 => "s8".to_owned(),
        Type::S16 => "s16".to_owned(),
        Type::S32 => "s32".to_owned(),
        Type::S64 => "s64".to_owned(),
        Type::F32 => "f32".to_owned(),
        Type::F64 => "f64".to_owned(),
        Type::Char => "char".to_owned(),
        Type::String => "string".to_owned(),
        Type::ErrorContext => "error-context".to_owned(),
        Type::Id(id) => {
            let defined = &resolve.types[*id];
            defined.name.clone().unwrap_or_else(|| shape(resolve, &defined.kind))
        }
    }
}

/// A type without a name.
fn shape(resolve: &Resolve, kind: &TypeDefKind) -> String {
    let or_none = |ty: &Option<Type>| ty.as_ref().map_or("_".to_owned(), |ty| show(resolve, ty));
    match kind {
        TypeDefKind::Type(ty) => show(resolve, ty),
        TypeDefKind::Option(ty) => format!("option<{}>", show(resolve, ty)),
        TypeDefKind::List(ty) => format!("list<{}>", show(resolve, ty)),
        TypeDefKind::Result(result) => match (&result.ok, &result.err) {
            (ok, Some(error)) => format!("result<{}, {}>", or_none(ok), show(resolve, error)),
            (Some(ok), None) => format!("result<{}>", show(resolve, ok)),
            (None, None) => "result".to_owned(),
        },
        TypeDefKind::Tuple(tuple) => {
            let types: Vec<_> = tuple.types.iter().map(|ty| show(resolve, ty)).collect();
            format!("tuple<{}>", types.join(", "))
        }
        TypeDefKind::Handle(Handle::Own(id)) => show(resolve, &Type::Id(*id)),
        TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", show(resolve, &Type::Id(*id))),
        other => other.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_functions_are_told_with_what_their_file_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = "/// Doors of a site.\npackage example:doors@0.1.0;\n\n/// Opens them.\ninterface doors {\n    /// A door \
                    as it is.\n    record door {\n        /// By its number.\n        name: string,\n        sizes: \
                    option<list<u8>>,\n    }\n\n    /// Why not.\n    variant error {\n        stuck(u32),\n    }\n\n    \
                    /// Opens one.\n    open: func(which: door, how: u8) -> result<_, error>;\n}\n";
        std::fs::write(folder.path().join("doors.wit"), file).unwrap();
        let told = reference(folder.path()).unwrap();
        for part in [
            "## example:doors@0.1.0\n\nDoors of a site.\n",
            "### Interface `doors`\n\nOpens them.\n",
            "`record door`\n\nA door as it is.\n\n| | |\n| --- | --- |\n| `name: string` | By its number. |\n",
            "| `sizes: option<list<u8>>` |  |\n",
            "`variant error`\n\nWhy not.\n\n| | |\n| --- | --- |\n| `stuck(u32)` |  |\n",
            "`open: func(which: door, how: u8) -> result<_, error>`\n\nOpens one.\n",
        ] {
            assert!(told.contains(part), "{part:?} isn't in\n{told}");
        }
    }
}

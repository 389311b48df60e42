//! The paths that a file names outside of its tests, seen from the root of its crate.

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::visit::Visit;

/// A path with the line on which it begins. One by `crate`, `self` or `super` begins with `crate`.
#[derive(Debug)]
pub(super) struct Path {
    pub line: usize,
    segments: Vec<String>,
}

impl Path {
    pub(super) fn first(&self) -> &str {
        self.segments.first().map_or("", String::as_str)
    }

    pub(super) fn second(&self) -> &str {
        self.segments.get(1).map_or("", String::as_str)
    }

    /// Whether it names something of the file's own crate.
    pub(super) fn is_of_crate(&self) -> bool {
        self.first() == "crate" && self.segments.len() > 1
    }
}

/// Returns the paths of a file whose module has this place in its crate.
pub(super) fn of(module: Vec<String>, text: &str) -> Vec<Path> {
    // What isn't Rust is found by the rules of a single file.
    let Ok(parsed) = syn::parse_file(text) else { return Vec::new() };
    let mut paths = Paths { module, found: Vec::new() };
    paths.visit_file(&parsed);
    paths.found
}

struct Paths {
    module: Vec<String>,
    found: Vec<Path>,
}

impl Paths {
    fn add(&mut self, path: &[&Ident]) {
        let Some(first) = path.first() else { return };
        let line = first.span().start().line;
        let names: Vec<String> = path.iter().map(ToString::to_string).collect();
        let is_relative = matches!(names[0].as_str(), "self" | "super");
        let segments = if is_relative {
            let mut segments = vec!["crate".to_owned()];
            segments.extend(self.module.iter().cloned());
            for name in names {
                match name.as_str() {
                    "self" => {}
                    "super" if segments.len() > 1 => {
                        segments.pop();
                    }
                    _ => segments.push(name),
                }
            }
            segments
        } else {
            names
        };
        self.found.push(Path { line, segments });
    }

    fn tree<'t>(&mut self, before: &mut Vec<&'t Ident>, tree: &'t syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(&path.ident);
                self.tree(before, &path.tree);
                before.pop();
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(before, item)),
            syn::UseTree::Name(syn::UseName { ident })
            | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                before.push(ident);
                self.add(before);
                before.pop();
            }
            _ => self.add(before),
        }
    }

    /// What a macro is given is no syntax tree yet: names with `::` between them are taken for paths.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<Ident> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.add_if_long(&path);
                        path.clear();
                    }
                    path.push(ident);
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.add_if_long(&path);
                    path.clear();
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.add_if_long(&path);
    }

    fn add_if_long(&mut self, path: &[Ident]) {
        if path.len() > 1 {
            self.add(&path.iter().collect::<Vec<_>>());
        }
    }
}

impl Visit<'_> for Paths {
    fn visit_item_mod(&mut self, item: &syn::ItemMod) {
        let is_test = item.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
        });
        if !is_test {
            self.module.push(item.ident.to_string());
            syn::visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        self.tree(&mut Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let segments: Vec<&Ident> = path.segments.iter().map(|segment| &segment.ident).collect();
        if segments.len() > 1 {
            self.add(&segments);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &syn::Macro) {
        self.tokens(call.tokens.clone());
        syn::visit::visit_macro(self, call);
    }
}

//! Parses the modules of `src`, and resolves every path that one of them uses from another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, LitStr, Macro, Meta, UseTree};

/// A path from the root of the crate, such as `["core", "plan", "Step"]`.
pub type ModulePath = Vec<String>;

/// One module.
#[derive(Debug, Default)]
pub struct Module {
    /// Names of child modules.
    children: BTreeSet<String>,
    /// Names that are re-exported or imported, with their paths.
    imports: BTreeMap<String, ModulePath>,
    /// Modules that are imported with `*`.
    globs: Vec<ModulePath>,
    /// Paths from the root of the crate that the module uses, except in tests.
    pub used: BTreeSet<ModulePath>,
    /// The other paths that it uses, except in tests: of crates, and of names in scope.
    pub foreign: BTreeSet<ModulePath>,
    /// Literals in its code, except in tests.
    pub literals: BTreeSet<String>,
}

/// All modules by their path.
pub type Modules = BTreeMap<ModulePath, Module>;

/// Whether an item with these attributes is not read, nor what is inside of it.
type Skip = fn(&[Attribute]) -> bool;

/// Reads the crate with that root file, except its tests.
pub fn read(root: &Path) -> Modules {
    read_without(root, is_for_tests)
}

/// Reads what a crate has on every operating system, except its tests.
pub fn read_portable(root: &Path) -> Modules {
    read_without(root, |attributes| is_for_tests(attributes) || is_for_some_systems(attributes))
}

fn read_without(root: &Path, skip: Skip) -> Modules {
    let mut modules = Modules::new();
    let folder = root.parent().expect("a file is in a folder");
    read_file(root, folder, Vec::new(), skip, &mut modules);
    modules
}

/// Reads a file, and those of its modules from `folder`.
fn read_file(file: &Path, folder: &Path, path: ModulePath, skip: Skip, modules: &mut Modules) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    read_items(&parsed.items, folder, path, skip, modules);
}

fn read_items(items: &[Item], folder: &Path, path: ModulePath, skip: Skip, modules: &mut Modules) {
    let mut reader = Reader { path, module: Module::default(), inner: Vec::new(), skip };
    for item in items {
        reader.visit_item(item);
    }
    let Reader { path, module, inner, .. } = reader;
    for child in inner {
        let name = child.ident.to_string();
        let path = [path.as_slice(), std::slice::from_ref(&name)].concat();
        if let Some((_, items)) = &child.content {
            read_items(items, &folder.join(&name), path, skip, modules);
        } else {
            let flat = folder.join(format!("{name}.rs"));
            let file = if flat.exists() { flat } else { folder.join(&name).join("mod.rs") };
            read_file(&file, &folder.join(&name), path, skip, modules);
        }
    }
    modules.insert(path, module);
}

/// The module that defines the last part of a path.
pub fn resolve(modules: &Modules, path: &[String]) -> ModulePath {
    let mut path = path.to_vec();
    // More steps than any re-export needs, so more are a cycle.
    for _ in 0..64 {
        match step(modules, &path) {
            Ok(next) => path = next,
            Err(found) => return found,
        }
    }
    panic!("{path:?} does not end");
}

/// The path with its first re-export replaced, or the module in which it ends.
fn step(modules: &Modules, path: &[String]) -> Result<ModulePath, ModulePath> {
    for at in 0..path.len() {
        let (module, rest) = path.split_at(at);
        let Some(known) = modules.get(module) else { return Err(module.to_vec()) };
        let Some(name) = rest.first() else { break };
        if known.children.contains(name) && modules.contains_key(&path[..=at]) {
            continue;
        }
        if let Some(target) = known.imports.get(name) {
            return Ok([target.as_slice(), &rest[1..]].concat());
        }
        let is_there = |glob: &&ModulePath| defines(modules, glob, name);
        if let Some(glob) = known.globs.iter().find(is_there) {
            return Ok([glob.as_slice(), rest].concat());
        }
        return Err(module.to_vec());
    }
    Err(path.to_vec())
}

fn defines(modules: &Modules, module: &[String], name: &str) -> bool {
    modules.get(module).is_some_and(|it| it.children.contains(name) || it.imports.contains_key(name))
}

/// Collects the paths that one module uses.
struct Reader<'ast> {
    path: ModulePath,
    module: Module,
    inner: Vec<&'ast ItemMod>,
    skip: Skip,
}

impl Reader<'_> {
    /// A path that begins with `crate`, `self` or `super`, from the root of the crate.
    fn absolute(&self, parts: &[String]) -> Option<ModulePath> {
        let mut base = self.path.clone();
        let mut rest = parts;
        match parts.first()?.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                base.pop();
            }
            _ => return None,
        }
        rest = &rest[1..];
        while rest.first().is_some_and(|part| part == "super") {
            base.pop();
            rest = &rest[1..];
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    fn note(&mut self, parts: &[String]) {
        match self.absolute(parts) {
            Some(path) => {
                self.module.used.insert(path);
            }
            None => {
                self.module.foreign.insert(parts.to_vec());
            }
        }
    }

    fn note_use(&mut self, tree: &UseTree, mut parts: Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                parts.push(path.ident.to_string());
                self.note_use(&path.tree, parts);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.note_use(tree, parts.clone()));
            }
            UseTree::Glob(_) => {
                self.note(&parts);
                self.module.globs.extend(self.absolute(&parts));
            }
            UseTree::Name(name) => self.note_name(parts, &name.ident.to_string(), None),
            UseTree::Rename(rename) => {
                self.note_name(parts, &rename.ident.to_string(), Some(rename.rename.to_string()));
            }
        }
    }

    fn note_name(&mut self, mut parts: Vec<String>, name: &str, renamed: Option<String>) {
        // `use a::b::{self}` names `b`.
        if name != "self" {
            parts.push(name.to_owned());
        }
        self.note(&parts);
        let name = renamed.or_else(|| parts.last().cloned()).unwrap_or_default();
        if let Some(path) = self.absolute(&parts) {
            self.module.imports.insert(name, path);
        }
    }

    /// Paths inside of a macro's tokens.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut is_open = false;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if path.is_empty() || is_open => {
                    path.push(name.to_string());
                    is_open = false;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => is_open = true,
                other => {
                    self.note_path_in_tokens(&std::mem::take(&mut path));
                    is_open = false;
                    match other {
                        TokenTree::Ident(name) => path.push(name.to_string()),
                        TokenTree::Group(group) => self.note_tokens(group.stream()),
                        TokenTree::Literal(literal) => {
                            self.module.literals.insert(literal.to_string());
                        }
                        TokenTree::Punct(_) => {}
                    }
                }
            }
        }
        self.note_path_in_tokens(&path);
    }

    fn note_path_in_tokens(&mut self, path: &[String]) {
        if path.len() > 1 {
            self.note(path);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'ast> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !(self.skip)(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.module.children.insert(module.ident.to_string());
        self.inner.push(module);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_use(&item.tree, Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if parts.len() > 1 {
            self.note(&parts);
        }
        visit::visit_path(self, path);
    }

    fn visit_lit_str(&mut self, literal: &'ast LitStr) {
        self.module.literals.insert(literal.value());
    }

    /// Comments of the documentation are attributes.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.note_tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(it) => &it.attrs,
        Item::Enum(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Macro(it) => &it.attrs,
        Item::Mod(it) => &it.attrs,
        Item::Static(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Trait(it) => &it.attrs,
        Item::Type(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

/// Whether the item is compiled only for tests.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|what| what.is_ident("test"))
    })
}

/// Whether the item is compiled only for some operating systems.
fn is_for_some_systems(attributes: &[Attribute]) -> bool {
    let mut conditions = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    conditions.any(|attribute| match attribute.parse_args() {
        Ok(Meta::Path(family)) => family.is_ident("unix") || family.is_ident("windows"),
        Ok(Meta::NameValue(pair)) => pair.path.is_ident("target_os"),
        _ => false,
    })
}

/// The root file of the library.
pub fn library() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src").join("lib.rs")
}

#[test]
fn re_exported_names_resolve_to_their_module() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    write("lib.rs", "pub mod upper; pub mod lower;");
    write("lower.rs", "mod inner; pub use self::inner::{Deep, self as renamed}; pub use inner::*;");
    write("lower/inner.rs", "pub struct Deep; pub fn far() {} #[cfg(test)] use crate::upper::Hidden;");
    write(
        "upper/mod.rs",
        "pub mod user; use crate::lower::Deep; fn f() { g!(crate::lower::renamed::far()) }",
    );
    write("upper/user.rs", "fn f(it: super::super::lower::Deep) { ::std::mem::drop(it); serde::x::y() }");
    let modules = read(&folder.path().join("lib.rs"));
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<ModulePath>();
    let found = |text: &str| resolve(&modules, &path(text)).join("::");
    assert_eq!(found("lower::Deep"), "lower::inner");
    assert_eq!(found("lower::renamed::far"), "lower::inner");
    assert_eq!(found("upper::Deep"), "lower::inner");
    assert_eq!(found("lower::nothing"), "lower");
    assert!(modules[&path("upper")].used.contains(&path("lower::renamed::far")), "inside of a macro");
    assert!(modules[&path("upper::user")].used.contains(&path("lower::Deep")), "by `super`");
    assert!(modules[&path("upper::user")].foreign.contains(&path("serde::x::y")), "a path of another crate");
    assert!(modules[&path("lower::inner")].used.is_empty(), "what is for tests alone");
}

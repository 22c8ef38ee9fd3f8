//! The floors of the crates: a folder imports from the floors below it, by the module that owns a name.
//!
//! ARCHITECTURE.md tells what is on each floor. A change of this table is a change of the architecture.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Item, UseTree,
    visit::{self, Visit},
};

/// A floor, and the floors of the same crate that it may import from.
type Floor = (&'static str, &'static [&'static str]);

const CORE: &[Floor] = &[
    ("base", &[]),
    ("encoding", &["base"]),
    ("model", &["base", "encoding"]),
    ("log", &["base", "encoding", "model"]),
    ("port", &["base", "model", "log"]),
    ("write", &["base", "encoding", "model", "log", "port"]),
    ("projector", &["base", "encoding", "model", "log", "port"]),
    ("memory", &["base", "model", "log", "port"]),
    ("contract", &["base", "model", "log", "port"]),
    ("read", &["base", "encoding", "model", "log", "port", "projector"]),
    ("effects", &["base", "encoding", "model", "log", "port", "write", "projector"]),
    ("service", &["base", "encoding", "model", "log", "port", "write", "projector", "read", "effects"]),
    ("testing", &["base", "encoding", "model", "log", "port", "write", "effects"]),
];

const NATS: &[Floor] = &[
    ("client", &[]),
    ("wire", &["client"]),
    ("topology", &["client", "wire"]),
    ("permissions", &["client", "wire", "topology"]),
    ("events", &["client", "wire", "topology"]),
    ("views", &["client", "wire", "topology"]),
    ("deadlines", &["client", "wire", "topology", "events"]),
    ("open", &["client", "topology", "events", "views"]),
    ("connect", &["client", "wire", "open"]),
    ("fuzzing", &["wire"]),
];

/// The imports of a file from other floors of its crate: the first name of each path from the crate's root.
struct Imports {
    /// The modules that the code lies in, from the root.
    here: Vec<String>,
    found: BTreeSet<String>,
}

impl Imports {
    /// The imports of the file of the module `here`, without its tests.
    fn of(here: &[&str], source: &str) -> BTreeSet<String> {
        let file = syn::parse_file(source).expect("Rust");
        let here = here.iter().map(|module| (*module).to_owned()).collect();
        let mut imports = Self { here, found: BTreeSet::new() };
        imports.visit_file(&file);
        imports.found
    }

    /// Notes a path, if it begins at the root or above this module.
    fn note(&mut self, path: &[String]) {
        let above = path.iter().take_while(|name| *name == "super").count();
        if path.first().is_some_and(|name| name == "crate") {
            self.found.extend(path.get(1).cloned());
        } else if above > 0 {
            let left = &self.here[..self.here.len().saturating_sub(above)];
            self.found.extend(left.first().or(path.get(above)).cloned());
        }
    }

    fn note_tree(&mut self, before: &[String], tree: &UseTree) {
        let and = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.note_tree(&and(path.ident.to_string()), &path.tree),
            UseTree::Name(name) => self.note(&and(name.ident.to_string())),
            UseTree::Rename(name) => self.note(&and(name.ident.to_string())),
            UseTree::Glob(_) => self.note(before),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.note_tree(before, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(module) => &module.attrs,
            Item::Use(import) => &import.attrs,
            _ => return visit::visit_item(self, item),
        };
        let is_test = |attribute: &syn::Attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|cfg| cfg.is_ident("test"))
        };
        if attributes.iter().any(is_test) {
            return;
        }
        if let Item::Mod(module) = item {
            self.here.push(module.ident.to_string());
            visit::visit_item(self, item);
            self.here.pop();
        } else {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        self.note_tree(&[], &import.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&names);
        visit::visit_path(self, path);
    }
}

/// The imports of a file that its floor must not have.
fn forbidden(floors: &[Floor], here: &[&str], source: &str) -> Vec<String> {
    let floor = here[0];
    let Some((_, below)) = floors.iter().find(|(name, _)| *name == floor) else {
        return vec![format!("{floor} is on no floor")];
    };
    let imports = Imports::of(here, source).into_iter();
    imports.filter(|name| name != floor && !below.contains(&name.as_str())).collect()
}

/// The files of a crate except its root, with their modules.
fn files(folder: &Path) -> Vec<(Vec<String>, PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![(Vec::new(), folder.to_owned())];
    while let Some((modules, folder)) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let deeper = [modules.clone(), vec![stem.clone()]].concat();
            if path.is_dir() {
                folders.push((deeper, path));
            } else if stem == "mod" {
                found.push((modules.clone(), path));
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !(modules.is_empty() && stem == "lib")
                && !deeper.iter().any(|module| module == "tests")
            {
                found.push((deeper, path));
            }
        }
    }
    found
}

#[track_caller]
fn check(of: &str, floors: &[Floor]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(of).join("src");
    let mut wrong = Vec::new();
    for (modules, path) in files(&folder) {
        let modules: Vec<_> = modules.iter().map(String::as_str).collect();
        let source = fs::read_to_string(&path).expect("text");
        let names = forbidden(floors, &modules, &source);
        wrong.extend(names.into_iter().map(|name| format!("{} imports {name}", modules.join("::"))));
    }
    assert!(wrong.is_empty(), "imports of {of} that the floors do not allow:\n{}", wrong.join("\n"));
}

#[test]
fn the_core_imports_downward_only() {
    check("cqrs-core", CORE);
}

#[test]
fn the_adapter_to_nats_imports_downward_only() {
    check("cqrs-nats", NATS);
}

/// The crate's page shows the names that a service is written with; the rest is in modules.
#[test]
fn the_root_of_the_core_has_forty_names_at_most() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cqrs-core/src/lib.rs");
    let file = syn::parse_file(&fs::read_to_string(path).expect("text")).expect("Rust");
    let mut names = BTreeSet::new();
    for item in &file.items {
        if let Item::Use(import) = item
            && matches!(import.vis, syn::Visibility::Public(_))
            && import.attrs.is_empty()
        {
            leaves(&import.tree, &mut names);
        }
    }
    assert!((30..=40).contains(&names.len()), "{} names: {names:?}", names.len());
}

fn leaves(tree: &UseTree, names: &mut BTreeSet<String>) {
    match tree {
        UseTree::Path(path) => leaves(&path.tree, names),
        UseTree::Name(name) => _ = names.insert(name.ident.to_string()),
        UseTree::Rename(name) => _ = names.insert(name.rename.to_string()),
        UseTree::Glob(_) => panic!("a glob at the root"),
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, names)),
    }
}

#[test]
fn each_way_to_import_upward_is_found() {
    for (source, expected) in [
        ("use crate::base::id::EventId;", &[][..]),
        ("use crate::service::Cqrs;", &["service"]),
        ("use crate::{base::id::EventId, effects::policy::Policy};", &["effects"]),
        ("use crate::Error;", &["Error"]),
        ("use super::super::service::runtime;", &["service"]),
        ("use super::builds;", &[]),
        ("fn f() { crate::read::view::g() }", &["read"]),
        ("struct S(crate::write::tip::Tip);", &["write"]),
        ("impl crate::service::X for Y { }", &["service"]),
        ("#[cfg(test)] mod tests { use crate::service::Cqrs; }", &[]),
        ("mod inner { use super::super::super::effects::timer; }", &["effects"]),
    ] {
        assert_eq!(forbidden(CORE, &["projector", "worker"], source), expected, "{source}");
    }
    assert_eq!(forbidden(CORE, &["attic"], ""), ["attic is on no floor"]);
}

/// The paths of a command and of an event in ARCHITECTURE.md: each line names a file that exists, and no file occurs
/// twice.
#[test]
fn the_ways_of_a_command_and_of_an_event_name_each_file_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("text");
    for way in ["## The way of a command", "## The way of an event"] {
        let lines =
            text.lines().skip_while(|line| *line != way).skip(1).take_while(|line| !line.starts_with("## "));
        let mut seen = BTreeSet::new();
        for line in lines.filter(|line| line.starts_with(|first: char| first.is_ascii_digit())) {
            let file = line.split('`').nth(1).expect("a file");
            let path =
                if file.starts_with("cqrs-") { file.to_owned() } else { format!("cqrs-core/src/{file}") };
            assert!(root.join(&path).is_file(), "{path} is not there: {line}");
            assert!(seen.insert(path), "twice: {line}");
        }
        assert!(seen.len() > 10, "{way}: {seen:?}");
    }
}

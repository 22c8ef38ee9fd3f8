//! The compiler's messages about mistakes in the derives' attributes, and about traits that are not implemented, word
//! for word; and a check that some case shows each message of the derives.
//!
//! The expected messages are beside the cases in `ui/`, as the compiler of `rust-toolchain.toml` writes them. Each case in
//! `ui/one` is a whole service with one mistake, which must be one error. Its other parts are in `service/`.
//! `TRYBUILD=overwrite cargo test -p cqrs-derive-tests` writes them; review them like a user would read them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{TokenStream, TokenTree};

#[test]
fn mistakes_are_reported_in_the_users_words() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("ui/*.rs");
    cases.compile_fail("ui/one/*.rs");
}

#[test]
fn a_mistake_is_one_error() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui/one");
    let cases = files(&folder, "stderr");
    assert!(cases.len() > 20, "only {} cases were found", cases.len());
    for case in cases {
        let errors = read(&case).lines().filter(|line| line.starts_with("error")).count();
        assert_eq!(errors, 1, "{}", case.display());
    }
}

#[test]
fn every_message_has_a_case() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shown: Vec<_> = files(&here.join("ui"), "stderr").iter().map(|file| read(file)).collect();
    let shown: Vec<_> = shown.iter().flat_map(|messages| messages.lines()).collect();
    let mut missing = Vec::new();
    let mut messages = 0;
    let sources = files(&here.join("../../cqrs-derive/src"), "rs");
    for file in sources.iter().filter(|file| !file.ends_with("tests.rs")) {
        let source: TokenStream = read(file).parse().expect("Rust");
        for message in texts(source) {
            messages += 1;
            if !shown.iter().any(|line| shows(line, &message)) {
                missing.push(format!("{}: {message:?}", file.display()));
            }
        }
    }
    assert!(messages > 30, "only {messages} messages were found");
    assert!(missing.is_empty(), "no case in ui/ shows\n{}", missing.join("\n"));
}

/// Whether the line has the parts of a message between its placeholders, in order.
fn shows(line: &str, message: &str) -> bool {
    let mut rest = Some(line);
    for part in message.split('{') {
        let part = part.split_once('}').map_or(part, |(_, after)| after);
        rest = rest.and_then(|rest| rest.split_once(part)).map(|(_, after)| after);
    }
    rest.is_some()
}

/// The strings of several words outside documentation and tests: all possible messages to a user.
fn texts(source: TokenStream) -> Vec<String> {
    let mut texts = Vec::new();
    let mut tokens = source.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            // An attribute: documentation, or `#[cfg(test)]` before a module.
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                tokens.next_if(|next| matches!(next, TokenTree::Punct(punct) if punct.as_char() == '!'));
                let attribute = tokens.next_if(|next| matches!(next, TokenTree::Group(_)));
                if attribute.is_some_and(|attribute| attribute.to_string().contains("cfg (test)")) {
                    let is_end = |token: &TokenTree| match token {
                        TokenTree::Group(_) => true,
                        TokenTree::Punct(punct) => punct.as_char() == ';',
                        _ => false,
                    };
                    tokens.by_ref().find(is_end);
                }
            }
            TokenTree::Group(group) => texts.extend(self::texts(group.stream())),
            TokenTree::Literal(literal) => texts.extend(text(&literal.to_string())),
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
    texts
}

/// The text of a string literal, if it has several words and is not a format string of the output.
fn text(literal: &str) -> Option<String> {
    let text = literal.strip_prefix('"')?.strip_suffix('"')?;
    let text = text.split("\\\n").map(str::trim_start).collect::<String>().replace("\\\"", "\"");
    (text.contains(' ') && !text.contains("{{")).then_some(text)
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

//! The derives' output as `cargo expand` would show it.
//!
//! `expansions/` has inputs, and for each the output, in a file that ends in `.expanded.rs`.
//! `UPDATE_EXPANSIONS=1 cargo test -p cqrs-derive` writes the outputs; review them like the code of a colleague.

use std::{env, fs, path::Path};

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{DeriveInput, parse_file, parse2};

#[test]
fn the_output_is_what_the_files_show() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("expansions");
    let mut inputs = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let input = entry.unwrap().path();
        if input.to_string_lossy().ends_with(".expanded.rs") {
            assert!(input.with_extension("").with_extension("rs").exists(), "{input:?} has no input");
            continue;
        }
        inputs += 1;
        let shown = input.with_extension("expanded.rs");
        let output = expand(&fs::read_to_string(&input).unwrap());
        if env::var_os("UPDATE_EXPANSIONS").is_some() {
            fs::write(&shown, output).unwrap();
        } else {
            assert_eq!(
                output,
                fs::read_to_string(&shown).unwrap_or_default(),
                "{shown:?} shows something else"
            );
        }
    }
    assert!(inputs > 0);
}

/// The output of the derives that are named on the types of `file`.
fn expand(file: &str) -> String {
    let mut output = TokenStream::new();
    for item in parse_file(file).unwrap().items {
        let input: DeriveInput = parse2(item.into_token_stream()).unwrap();
        for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("derive")) {
            let derive = |name: syn::meta::ParseNestedMeta<'_>| {
                match name.path.require_ident()?.to_string().as_str() {
                    "Event" => output.extend(crate::event::derive(&input)),
                    "Aggregate" => output.extend(crate::aggregate::derive(&input)),
                    "Command" => output.extend(crate::command::derive(&input)),
                    "Query" => output.extend(crate::query::derive(&input)),
                    _ => {}
                }
                Ok(())
            };
            attribute.parse_nested_meta(derive).unwrap();
        }
    }
    prettyplease::unparse(&parse2(output).unwrap())
}

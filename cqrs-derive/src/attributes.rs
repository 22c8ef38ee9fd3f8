//! From `#[event(…)]` and its siblings to options.
//!
//! darling finds the options by name, and the name that a misspelled one is nearest to. Two things are
//! done for it here. It ends a value at the first comma, also in `answer = BTreeMap<String, u64>`, so
//! the list is split before. And with one mistake in a list it hands out none of the options, so it
//! gets the list item by item.

use darling::{FromMeta, ast::NestedMeta};
use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Expr, Ident, MacroDelimiter, Meta, MetaList, MetaNameValue, Path, Token,
    ext::IdentExt,
    parse::{ParseStream, Parser},
    token::Paren,
};

use crate::diagnostics::Errors;

/// The options in all attributes called `name`. An item with a mistake is reported and left out.
pub(crate) fn read<Options: FromMeta + Default>(
    attributes: &[Attribute],
    name: &str,
    errors: &mut Errors,
) -> Options {
    let mut items = Vec::new();
    for attribute in named(attributes, name) {
        match &attribute.meta {
            Meta::List(list) => items.extend(split(list.tokens.clone())),
            meta => errors.at(meta, format!("expected options in parentheses: `#[{name}(…)]`")),
        }
    }
    read_items(items, errors)
}

/// The options in the parentheses of another option. An item with a mistake is reported and left out.
pub(crate) fn read_list<Options: FromMeta + Default>(list: TokenStream, errors: &mut Errors) -> Options {
    read_items(split(list), errors)
}

fn read_items<Options: FromMeta + Default>(items: Vec<TokenStream>, errors: &mut Errors) -> Options {
    let mut options = Options::default();
    let mut good = Vec::new();
    for item in items {
        let Some(item) = errors.take(parse_item.parse2(item)) else {
            continue;
        };
        good.push(item);
        match Options::from_list(&good) {
            Ok(read) => options = read,
            Err(error) => {
                errors.add(error.into());
                good.pop();
            }
        }
    }
    options
}

/// Refuses attributes called `name` where they would have no effect.
pub(crate) fn refuse(attributes: &[Attribute], name: &str, message: &str, errors: &mut Errors) {
    for attribute in named(attributes, name) {
        errors.at(&attribute.meta, message);
    }
}

pub(crate) fn named<'a>(attributes: &'a [Attribute], name: &str) -> impl Iterator<Item = &'a Attribute> {
    attributes.iter().filter(move |attribute| attribute.path().is_ident(name))
}

/// The parts between the commas that are in no brackets, those of generic types included.
fn split(tokens: TokenStream) -> Vec<TokenStream> {
    let mut parts = vec![TokenStream::new()];
    let mut depth = 0_usize;
    let mut before = ' ';
    for token in tokens {
        let punct = if let TokenTree::Punct(punct) = &token { punct.as_char() } else { ' ' };
        match punct {
            '<' => depth += 1,
            // The end of `->` closes nothing.
            '>' if before != '-' => depth = depth.saturating_sub(1),
            _ => {}
        }
        before = punct;
        if punct == ',' && depth == 0 {
            parts.push(TokenStream::new());
        } else if let Some(part) = parts.last_mut() {
            part.extend([token]);
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// `name`, `name(…)` or `name = …`, whose value is kept as it stands, even if it is empty.
fn parse_item(input: ParseStream<'_>) -> syn::Result<NestedMeta> {
    if !input.peek(Ident::peek_any) {
        return Err(input.error("expected the name of an option"));
    }
    // Keywords will do, because `crate` is one of the names.
    let path = Path::from(input.call(Ident::parse_any)?);
    if input.is_empty() {
        return Ok(NestedMeta::Meta(Meta::Path(path)));
    }
    if input.peek(Paren) {
        let content;
        let delimiter = MacroDelimiter::Paren(syn::parenthesized!(content in input));
        let tokens = content.parse()?;
        return Ok(NestedMeta::Meta(Meta::List(MetaList { path, delimiter, tokens })));
    }
    let eq_token: Token![=] = input.parse()?;
    let value = Expr::Verbatim(input.parse()?);
    Ok(NestedMeta::Meta(Meta::NameValue(MetaNameValue { path, eq_token, value })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    fn parts(tokens: TokenStream) -> Vec<String> {
        split(tokens).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn commas_of_generic_types_and_brackets_do_not_split() {
        let tokens = quote!(a = Map<K, Vec<V>>, b(x, y), c = Box<dyn Fn(u8) -> Pair<A, B>>, d,);
        let expected =
            ["a = Map < K , Vec < V >>", "b (x , y)", "c = Box < dyn Fn (u8) -> Pair < A , B >>", "d"];
        assert_eq!(parts(tokens), expected);
    }

    #[test]
    fn an_empty_list_has_no_parts() {
        assert!(parts(quote!()).is_empty());
        assert!(parts(quote!(,)).is_empty());
    }
}

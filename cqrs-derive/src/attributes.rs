//! Parses `#[event(…)]` and its siblings into options.
//!
//! darling finds the options by name, and the nearest name to a misspelled one. This module works around three of its
//! limits. darling ends a value at the first comma, also in `answer = BTreeMap<String, u64>`, so the list is split
//! before. With one mistake in a list it returns no options, so it gets the list item by item. And it names either the
//! nearest option or all options; here the message has both.

use darling::{FromMeta, ast::NestedMeta};
use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Expr, Ident, MacroDelimiter, Meta, MetaList, MetaNameValue, Path, Token,
    ext::IdentExt,
    parse::{ParseStream, Parser},
    parse_quote,
    token::Paren,
};

use crate::{diagnostics::Errors, target::list};

/// The options that mark a field, by their attributes.
const ON_FIELDS: [(&str, &str); 2] = [("command", "id"), ("query", "key")];

/// The options in all attributes called `name`. An item with a mistake is reported and left out. Messages do not offer
/// the options `elsewhere`, which the caller refuses with a message of its own.
pub(crate) fn read<Options: FromMeta + Default>(
    attributes: &[Attribute],
    name: &str,
    elsewhere: &[&str],
    errors: &mut Errors,
) -> Options {
    let mut items = Vec::new();
    for attribute in named(attributes, name) {
        match &attribute.meta {
            Meta::List(list) => items.extend(split(list.tokens.clone())),
            meta => errors.at(meta, format!("expected options in parentheses: `#[{name}(…)]`")),
        }
    }
    read_items(name, items, elsewhere, errors)
}

/// The options in the parentheses of another option. An item with a mistake is reported and left out.
pub(crate) fn read_list<Options: FromMeta + Default>(list: TokenStream, errors: &mut Errors) -> Options {
    read_items("", split(list), &[], errors)
}

fn read_items<Options: FromMeta + Default>(
    attribute: &str,
    items: Vec<TokenStream>,
    elsewhere: &[&str],
    errors: &mut Errors,
) -> Options {
    errors.begin_list();
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
                report::<Options>(attribute, elsewhere, error, errors);
                good.pop();
            }
        }
    }
    options
}

/// Reports a mistake that darling found, in other words.
fn report<Options: FromMeta>(
    attribute: &str,
    elsewhere: &[&str],
    error: darling::Error,
    errors: &mut Errors,
) {
    let error = syn::Error::from(error);
    let said = error.to_string();
    let mut names = said.split('`').skip(1).step_by(2);
    let (name, nearest) = (names.next().unwrap_or_default(), names.next());
    let mistake = |message: String| syn::Error::new(error.span(), message);
    if said.starts_with("Duplicate") {
        return errors.add(mistake(format!("`{name}` is given twice")));
    }
    let mut accepted = accepted::<Options>();
    accepted.retain(|option| !elsewhere.contains(&option.as_str()));
    let all = list(&accepted, "or");
    if ON_FIELDS.contains(&(attribute, name)) && !accepted.iter().any(|option| option == name) {
        let message = format!("`{name}` belongs on the field that holds it: `#[{attribute}({name})]`");
        return errors.add(mistake(message));
    }
    let nearest =
        nearest.filter(|nearest| said.ends_with('?') && accepted.iter().any(|name| name == nearest));
    match (nearest, accepted.as_slice()) {
        (_, [only]) => {
            errors.add_misspelled(only, mistake(format!("unknown option `{name}`: expected {all}")));
        }
        (Some(nearest), _) => {
            let message = format!("unknown option `{name}`, did you mean `{nearest}`? Expected here: {all}");
            errors.add_misspelled(nearest, mistake(message));
        }
        (None, _) => errors.add(mistake(format!("unknown option `{name}`: expected {all}"))),
    }
}

/// The names of all options. darling lists them in the error about a name that is far from all of them.
fn accepted<Options: FromMeta>() -> Vec<String> {
    let far = NestedMeta::Meta(parse_quote!(__));
    let said = Options::from_list(&[far]).err().map(|error| error.to_string()).unwrap_or_default();
    said.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

/// Refuses attributes called `name` on items on which they have no effect.
pub(crate) fn refuse(attributes: &[Attribute], name: &str, message: &str, errors: &mut Errors) {
    for attribute in named(attributes, name) {
        errors.at(&attribute.meta, message);
    }
}

pub(crate) fn named<'a>(attributes: &'a [Attribute], name: &str) -> impl Iterator<Item = &'a Attribute> {
    attributes.iter().filter(move |attribute| attribute.path().is_ident(name))
}

/// Splits at the commas that are in no brackets, including those of generic types.
fn split(tokens: TokenStream) -> Vec<TokenStream> {
    let mut parts = vec![TokenStream::new()];
    let mut depth = 0_usize;
    let mut before = ' ';
    for token in tokens {
        let punct = if let TokenTree::Punct(punct) = &token { punct.as_char() } else { ' ' };
        match punct {
            '<' => depth += 1,
            // The `>` of `->` closes nothing.
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

/// Parses `name`, `name(…)` or `name = …`. The value is kept unparsed, even if it is empty.
fn parse_item(input: ParseStream<'_>) -> syn::Result<NestedMeta> {
    if !input.peek(Ident::peek_any) {
        return Err(input.error("expected the name of an option"));
    }
    // Keywords are accepted, because `crate` is one of the names.
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
    use crate::options::Word;
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

    #[derive(Default, FromMeta)]
    #[darling(default)]
    struct Options {
        _name: Option<Word>,
        #[darling(rename = "prefix")]
        _prefix: Option<Word>,
    }

    #[test]
    fn a_mistake_in_a_name_says_all_names_and_the_nearest() {
        let mut errors = Errors::default();
        let _: Options = read_list(quote!(prefx, prefix, other, prefix), &mut errors);
        let said = errors.messages();
        let expected = [
            "unknown option `other`: expected `_name` or `prefix`",
            "`prefix` is given twice",
            "unknown option `prefx`, did you mean `prefix`? Expected here: `_name` or `prefix`",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn options_of_other_places_are_not_offered() {
        let mut errors = Errors::default();
        let attribute = parse_quote!(#[event(prefx, other)]);
        let _: Options = read(&[attribute], "event", &["prefix"], &mut errors);
        let expected =
            ["unknown option `prefx`: expected `_name`", "unknown option `other`: expected `_name`"];
        assert_eq!(errors.messages(), expected);
    }

    #[test]
    fn an_option_is_misspelled_in_its_own_list_only() {
        let mut errors = Errors::default();
        let _: Options = read_list(quote!(prefx), &mut errors);
        assert!(errors.is_misspelled("prefix") && !errors.is_misspelled("_name"));
        let _: Options = read_list(quote!(), &mut errors);
        assert!(!errors.is_misspelled("prefix"));
        assert_eq!(errors.messages().len(), 1, "it is still reported");
    }

    #[test]
    fn an_empty_list_has_no_parts() {
        assert!(parts(quote!()).is_empty());
        assert!(parts(quote!(,)).is_empty());
    }
}

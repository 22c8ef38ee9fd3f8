//! `#[derive(Command)]`.

mod emit;

use darling::FromMeta;
use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{Data, DataEnum, DeriveInput, Fields, Ident, LitStr, Path, Type, Variant};

use crate::{
    attributes,
    diagnostics::{Errors, hole},
    names,
    options::{Given, Word},
    serde_attributes,
    target::{self, Marked, Target},
};

/// The options of `#[command(…)]` on the type; which of them are legal depends on the kind of type.
#[derive(Default, FromMeta)]
#[darling(default)]
struct TypeOptions {
    aggregate: Given<Type>,
    create: Option<Word>,
    update: Option<Word>,
    upsert: Option<Word>,
    name: Given<LitStr>,
    suffix: Given<LitStr>,
    #[darling(rename = "crate")]
    krate: Given<Path>,
}

/// The options of `#[command(…)]` on a variant.
#[derive(Default, FromMeta)]
#[darling(default)]
struct VariantOptions {
    create: Option<Word>,
    update: Option<Word>,
    upsert: Option<Word>,
    name: Given<LitStr>,
}

/// The options of `#[command(…)]` on a field.
#[derive(Default, FromMeta)]
#[darling(default)]
struct FieldOptions {
    id: Option<Word>,
}

struct Model<'a> {
    target: Target<'a>,
    krate: Path,
    aggregate: Type,
    shape: Shape<'a>,
}

enum Shape<'a> {
    Struct(Kind<'a>),
    /// In the order of the declaration, by which serde numbers them.
    Enum(Vec<(&'a Variant, Kind<'a>)>),
}

/// One command: a struct, or a variant of an enum.
struct Kind<'a> {
    name: String,
    lifecycle: Lifecycle,
    id: Id<'a>,
}

#[derive(Clone, Copy, PartialEq)]
enum Lifecycle {
    Create,
    Update,
    Upsert,
}

enum Id<'a> {
    Field(Marked<'a>),
    /// No field holds the id: a hole in its place.
    None(TokenStream),
}

pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    let target = Target::new(input, "command", "a command", &mut errors);
    let options = attributes::read(&input.attrs, target.attribute, elsewhere(&input.data), &mut errors);
    let model = Model::new(target, options, &mut errors);
    target.output(&errors, || model.emit(errors.is_empty()))
}

/// The options that types of this kind do not take.
fn elsewhere(data: &Data) -> &'static [&'static str] {
    match data {
        Data::Enum(_) => &["create", "update", "upsert", "name"],
        Data::Struct(_) | Data::Union(_) => &["suffix"],
    }
}

impl<'a> Model<'a> {
    fn new(target: Target<'a>, mut options: TypeOptions, errors: &mut Errors) -> Self {
        let krate = target::framework(options.krate.take(), errors);
        let what = "who decides about the command";
        let aggregate = target.required(options.aggregate.take(), "aggregate", what, errors);
        let shape = match &target.input.data {
            Data::Struct(data) => Shape::Struct(of_struct(target, &data.fields, options, errors)),
            Data::Enum(data) => Shape::Enum(of_enum(target, data, options, errors)),
            Data::Union(data) => {
                errors.at(data.union_token, "a union cannot be a command: expected a struct or an enum");
                Shape::Enum(Vec::new())
            }
        };
        Self { target, krate, aggregate, shape }
    }
}

fn of_struct<'a>(
    target: Target<'a>,
    fields: &'a Fields,
    options: TypeOptions,
    errors: &mut Errors,
) -> Kind<'a> {
    if let Some(suffix) = options.suffix.and_then(|suffix| suffix.or_report(errors)) {
        errors.at(suffix, "`suffix` is for the variants of an enum, a struct takes its whole `name`");
    }
    Kind {
        name: target.name(options.name, errors),
        lifecycle: lifecycle([options.create, options.update, options.upsert], errors),
        id: id(target, &target.input.ident, fields, errors),
    }
}

fn of_enum<'a>(
    target: Target<'a>,
    data: &'a DataEnum,
    options: TypeOptions,
    errors: &mut Errors,
) -> Vec<(&'a Variant, Kind<'a>)> {
    if let Some(name) = options.name.and_then(|name| name.or_report(errors)) {
        errors.at(name, "`name` belongs on a variant, an enum takes a `suffix`");
    }
    let words = [options.create, options.update, options.upsert];
    for Word(word) in words.into_iter().flatten() {
        let Some(word) = errors.take(word) else { continue };
        let message = format!("`{}` belongs on a variant: each of them is a command", word.to_token_stream());
        errors.at(word, message);
    }
    if data.variants.is_empty() {
        errors.at(&target.input.ident, "a command needs at least one variant");
    }
    serde_attributes::check_commands(&target.input.attrs, errors);

    let suffix = Suffix::new(options.suffix, errors);
    let mut named = Vec::new();
    let mut kinds = Vec::new();
    for variant in &data.variants {
        let (kind, name) = of_variant(target, variant, &suffix, errors);
        named.extend(name.map(|name| (&variant.ident, name)));
        kinds.push((variant, kind));
    }
    check_unique(&named, errors);
    kinds
}

fn of_variant<'a>(
    target: Target<'a>,
    variant: &'a Variant,
    suffix: &Suffix,
    errors: &mut Errors,
) -> (Kind<'a>, Option<Name>) {
    let options: VariantOptions = attributes::read(&variant.attrs, target.attribute, &[], errors);
    serde_attributes::check_command(&variant.attrs, errors);
    let name = name(variant, options.name, suffix, errors);
    let kind = Kind {
        name: name.as_ref().map_or_else(String::new, |name| name.text.clone()),
        lifecycle: lifecycle([options.create, options.update, options.upsert], errors),
        id: id(target, &variant.ident, &variant.fields, errors),
    };
    (kind, name)
}

/// A variant's name and the tokens that it comes from.
struct Name {
    text: String,
    tokens: TokenStream,
}

/// The name of a variant, or `None` if it has no legal one.
fn name(variant: &Variant, given: Given<LitStr>, suffix: &Suffix, errors: &mut Errors) -> Option<Name> {
    if let Some(given) = given {
        let given = given.or_report(errors)?;
        if let Err(problem) = names::check_name(&given.value()) {
            errors.at(&given, problem);
        }
        return Some(Name { text: given.value(), tokens: given.into_token_stream() });
    }
    let snake = names::snake_case(&variant.ident);
    let text = match suffix {
        Suffix::None => snake,
        Suffix::Legal(suffix) => format!("{snake}_{suffix}"),
        Suffix::Refused => return None,
    };
    if let Err(problem) = names::check_name(&text) {
        errors.at(&variant.ident, format!("{problem}; choose another with `#[command(name = \"…\")]`"));
    }
    Some(Name { text, tokens: variant.ident.to_token_stream() })
}

/// The suffix of the names of variants without a `name`.
enum Suffix {
    None,
    Legal(String),
    /// Reported once, and not again for each name with it.
    Refused,
}

impl Suffix {
    fn new(given: Given<LitStr>, errors: &mut Errors) -> Self {
        let Some(given) = given else { return Self::None };
        let Some(given) = given.or_report(errors) else { return Self::Refused };
        match names::check_name(&given.value()) {
            Ok(()) => Self::Legal(given.value()),
            Err(problem) => {
                errors.at(given, problem);
                Self::Refused
            }
        }
    }
}

fn check_unique(named: &[(&Ident, Name)], errors: &mut Errors) {
    for (ident, name) in named {
        let other = named.iter().find(|(other, same)| other != ident && same.text == name.text);
        if let Some((other, _)) = other {
            errors.at(&name.tokens, format!("`{}` is the name of `{other}` too", name.text));
        }
    }
}

fn lifecycle([create, update, upsert]: [Option<Word>; 3], errors: &mut Errors) -> Lifecycle {
    let words = [(Lifecycle::Create, create), (Lifecycle::Update, update), (Lifecycle::Upsert, upsert)];
    let mut given = Vec::new();
    for (lifecycle, word) in words {
        given.extend(word.and_then(|Word(word)| errors.take(word)).map(|word| (lifecycle, word)));
    }
    if given.len() > 1 {
        for (_, word) in &given {
            errors.at(word, "expected one of `create`, `update` and `upsert` at most");
        }
    }
    given.first().map_or(Lifecycle::Update, |(lifecycle, _)| *lifecycle)
}

fn id<'a>(target: Target<'a>, command: &Ident, fields: &'a Fields, errors: &mut Errors) -> Id<'a> {
    let twice = "a command is for one aggregate: expected this mark on one field only";
    let marked = target.marked(fields, "id", |field: FieldOptions| field.id, twice, errors);
    match marked.and_then(|marked| marked.ok_or_else(|| unmarked(command, fields))) {
        Ok(marked) => Id::Field(marked),
        Err(error) => Id::None(target.filled(hole(&error), error, errors)),
    }
}

fn unmarked(command: &Ident, fields: &Fields) -> syn::Error {
    let names: Vec<_> = fields.members().map(|member| member.to_token_stream()).collect();
    let message = if names.is_empty() {
        "missing a field for the aggregate's id, with `#[command(id)]`".to_owned()
    } else {
        let names = target::list(&names, "or");
        format!("missing `#[command(id)]` on the field that holds the aggregate's id: {names}")
    };
    syn::Error::new_spanned(command, message)
}

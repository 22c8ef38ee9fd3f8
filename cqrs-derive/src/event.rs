//! `#[derive(Event)]`.

mod emit;
mod versions;

use darling::FromMeta;
use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{Data, DataEnum, DeriveInput, Field, Fields, Ident, LitStr, Path, Type, Variant};

use crate::{
    attributes,
    diagnostics::Errors,
    names,
    options::{Given, Strings, Value, Version, Word},
    serde_attributes,
    target::{self, Target},
};
use versions::{Codec, Steps, versions};

/// The options of `#[event(…)]` on the type; which of them are legal depends on the kind of type.
#[derive(Default, FromMeta)]
#[darling(default)]
struct TypeOptions {
    prefix: Given<LitStr>,
    name: Given<LitStr>,
    aliases: Option<Strings>,
    version: Given<Version>,
    upcast: Option<Steps>,
    codec: Given<Codec>,
    schema: Option<Word>,
    #[darling(rename = "crate")]
    krate: Given<Path>,
}

/// The options of `#[event(…)]` on a variant.
#[derive(Default, FromMeta)]
#[darling(default)]
struct VariantOptions {
    name: Given<LitStr>,
    aliases: Option<Strings>,
    version: Given<Version>,
    upcast: Option<Steps>,
    retired: Option<Word>,
}

struct Model<'a> {
    target: Target<'a>,
    krate: Path,
    codec: Option<Codec>,
    /// The word `schema`, if the stored shape can be locked.
    schema: Option<Path>,
    shape: Shape<'a>,
}

enum Shape<'a> {
    Struct(StoredType),
    /// In the order of the declaration, by which serde numbers them.
    Enum(Vec<(&'a Ident, StoredType)>),
}

struct StoredType {
    name: String,
    /// Former stored names.
    aliases: Vec<String>,
    version: u32,
    /// The types of the payloads of versions 1, 2 and so on, up to the one before the current version.
    older: Vec<Type>,
    is_retired: bool,
    /// The types of the fields, if they alone determine the payload.
    fields: Option<Vec<Type>>,
}

pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    let target = Target::new(input, "event", "an event", &mut errors);
    let options = attributes::read(&input.attrs, target.attribute, elsewhere(&input.data), &mut errors);
    let model = Model::new(target, options, &mut errors);
    target.output(&errors, || if errors.is_empty() { model.emit() } else { model.emit_stub() })
}

/// The options that types of this kind do not take.
fn elsewhere(data: &Data) -> &'static [&'static str] {
    match data {
        Data::Enum(_) => &["name", "aliases", "version", "upcast"],
        Data::Struct(_) | Data::Union(_) => &["prefix"],
    }
}

impl<'a> Model<'a> {
    fn new(target: Target<'a>, mut options: TypeOptions, errors: &mut Errors) -> Self {
        let krate = target::framework(options.krate.take(), errors);
        let codec = options.codec.take().and_then(|codec| codec.or_report(errors));
        let schema = options.schema.take().and_then(|Word(word)| errors.take(word));
        let shape = match &target.input.data {
            Data::Struct(data) => Shape::Struct(of_struct(target, &data.fields, options, errors)),
            Data::Enum(data) => Shape::Enum(of_enum(target, data, options, errors)),
            Data::Union(data) => {
                errors.at(data.union_token, "a union cannot be an event: expected an enum or a struct");
                Shape::Enum(Vec::new())
            }
        };
        Self { target, krate, codec, schema, shape }
    }
}

fn of_struct(target: Target<'_>, fields: &Fields, options: TypeOptions, errors: &mut Errors) -> StoredType {
    if let Some(prefix) = options.prefix.and_then(|prefix| prefix.or_report(errors)) {
        errors.at(prefix, "`prefix` is for the variants of an enum, a struct takes its whole `name`");
    }
    target.refuse_on(fields, "`#[event(…)]` belongs on the struct, not on a field", errors);
    let (version, older) = versions(options.version, options.upcast, errors);
    let name = if let Some(given) = options.name {
        Name::new(given, errors)
    } else {
        if !errors.is_misspelled("name") {
            let example = names::snake_case(&target.input.ident);
            let what = format!("`name = \"…\"`: the stored name of the event, such as `shop.{example}`");
            errors.add(target.missing(&what));
        }
        None
    };
    let aliases = aliases(options.aliases, errors);
    check_unique(&[("the event", name.iter().chain(&aliases).collect())], errors);
    let name = name.map_or_else(String::new, |name| name.text);
    let aliases = aliases.into_iter().map(|alias| alias.text).collect();
    let fields = (!serde_attributes::change_payload(&target.input.attrs)).then(|| types(fields)).flatten();
    StoredType { name, aliases, version, older, is_retired: false, fields }
}

/// The types of fields without attributes of serde.
fn types(fields: &Fields) -> Option<Vec<Type>> {
    let of = |field: &Field| (!serde_attributes::change_payload(&field.attrs)).then(|| field.ty.clone());
    fields.iter().map(of).collect()
}

fn of_enum<'a>(
    target: Target<'a>,
    data: &'a DataEnum,
    options: TypeOptions,
    errors: &mut Errors,
) -> Vec<(&'a Ident, StoredType)> {
    if let Some(name) = options.name.and_then(|name| name.or_report(errors)) {
        errors.at(name, "`name` belongs on a variant, an enum takes a `prefix`");
    }
    if let Some(version) = options.version.and_then(|version| version.or_report(errors)) {
        errors.at(version.literal, "`version` belongs on a variant: each of them is a stored type");
    }
    if let Some(aliases) = options.aliases {
        errors.at(aliases.item, "`aliases` belong on a variant: each of them is a stored type");
    }
    if let Some(steps) = options.upcast {
        errors.at(steps.item, "`upcast` belongs on a variant: each of them is a stored type");
    }
    if data.variants.is_empty() {
        errors.at(&target.input.ident, "an event needs at least one variant");
    }
    serde_attributes::check_enum(&target.input.attrs, errors);

    let prefix = Prefix::new(options.prefix, errors);
    let variants: Vec<_> =
        data.variants.iter().map(|variant| of_variant(target, variant, &prefix, errors)).collect();
    let names: Vec<_> = variants.iter().map(|variant| (variant.ident, variant.names())).collect();
    check_unique(&names, errors);
    if matches!(prefix, Prefix::Missing) {
        check_all_named(target, &variants, errors);
    }
    variants.into_iter().map(|variant| (variant.ident, variant.stored_type())).collect()
}

struct NamedVariant<'a> {
    ident: &'a Ident,
    /// `None` if it has no legal name.
    name: Option<Name>,
    aliases: Vec<Name>,
    version: u32,
    older: Vec<Type>,
    is_retired: bool,
    fields: Option<Vec<Type>>,
}

impl NamedVariant<'_> {
    fn names(&self) -> Vec<&Name> {
        self.name.iter().chain(&self.aliases).collect()
    }

    fn stored_type(self) -> StoredType {
        let Self { name, aliases, version, older, is_retired, fields, .. } = self;
        let name = name.map_or_else(String::new, |name| name.text);
        let aliases = aliases.into_iter().map(|alias| alias.text).collect();
        StoredType { name, aliases, version, older, is_retired, fields }
    }
}

/// A stored name and the tokens that it comes from.
struct Name {
    text: String,
    tokens: TokenStream,
}

fn of_variant<'a>(
    target: Target<'_>,
    variant: &'a Variant,
    prefix: &Prefix,
    errors: &mut Errors,
) -> NamedVariant<'a> {
    let options: VariantOptions = attributes::read(&variant.attrs, target.attribute, &[], errors);
    serde_attributes::check_variant(&variant.attrs, errors);
    target.refuse_on(&variant.fields, "`#[event(…)]` belongs on the variant, not on a field", errors);
    let ident = &variant.ident;
    let name = match (options.name, prefix) {
        (Some(given), _) => Name::new(given, errors),
        (None, Prefix::Legal(prefix)) => Some(Name::of(ident, prefix, errors)),
        (None, Prefix::Refused | Prefix::Missing) => None,
    };
    let aliases = aliases(options.aliases, errors);
    let (version, older) = versions(options.version, options.upcast, errors);
    let is_retired = options.retired.and_then(|Word(word)| errors.take(word)).is_some();
    // Renaming variants changes nothing, because they are stored without their serde names.
    let told = serde_attributes::change_payload(&variant.attrs)
        || serde_attributes::change_payload_of_variants(&target.input.attrs);
    let fields = (!told).then(|| types(&variant.fields)).flatten();
    NamedVariant { ident, name, aliases, version, older, is_retired, fields }
}

impl Name {
    fn new(given: Value<LitStr>, errors: &mut Errors) -> Option<Self> {
        let given = given.or_report(errors)?;
        let text = given.value();
        if let Err(problem) = names::check_event_name(&text) {
            errors.at(&given, problem);
        }
        Some(Self { text, tokens: given.to_token_stream() })
    }

    fn of(variant: &Ident, prefix: &str, errors: &mut Errors) -> Self {
        let text = format!("{prefix}.{}", names::snake_case(variant));
        if let Err(problem) = names::check_event_name(&text) {
            errors.at(variant, format!("{problem}; choose another with `#[event(name = \"…\")]`"));
        }
        Self { text, tokens: variant.to_token_stream() }
    }
}

/// The prefix of the stored names of variants without a `name`.
enum Prefix {
    Legal(String),
    /// Reported once, and not again for each name with it.
    Refused,
    Missing,
}

impl Prefix {
    fn new(given: Given<LitStr>, errors: &mut Errors) -> Self {
        let Some(given) = given else {
            return if errors.is_misspelled("prefix") { Self::Refused } else { Self::Missing };
        };
        match Name::new(given, errors) {
            Some(name) if names::check_event_name(&name.text).is_ok() => Self::Legal(name.text),
            _ => Self::Refused,
        }
    }
}

fn aliases(given: Option<Strings>, errors: &mut Errors) -> Vec<Name> {
    let given = given.and_then(|given| errors.take(given.strings)).unwrap_or_default();
    given.into_iter().filter_map(|alias| Name::new(Value(Ok(alias)), errors)).collect()
}

/// Refuses names that several variants have, and names that one variant has twice.
fn check_unique<Owner: ToString>(owners: &[(Owner, Vec<&Name>)], errors: &mut Errors) {
    let all: Vec<_> = owners
        .iter()
        .flat_map(|(owner, names)| names.iter().map(move |name| (owner.to_string(), *name)))
        .collect();
    for (index, (_, name)) in all.iter().enumerate() {
        let mut others = all.iter().enumerate().filter(|(other, _)| *other != index);
        if let Some((_, (other, _))) = others.find(|(_, (_, same))| same.text == name.text) {
            errors.at(&name.tokens, format!("`{}` is the stored name of `{other}` too", name.text));
        }
    }
}

fn check_all_named(target: Target<'_>, variants: &[NamedVariant<'_>], errors: &mut Errors) {
    let unnamed: Vec<_> =
        variants.iter().filter(|variant| variant.name.is_none()).map(|variant| variant.ident).collect();
    if !unnamed.is_empty() {
        errors.add(target.missing(&format!(
            "`prefix = \"…\"`: what stored names begin with; without it, {} would need a `name`",
            target::list(&unnamed, "and")
        )));
    }
}

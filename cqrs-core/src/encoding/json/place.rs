//! Finds the field of a JSON text at a byte offset, for error messages.

/// The offset at which a reader of `json` noticed the error.
pub(crate) fn end_of(error: &serde_json::Error, json: &[u8]) -> usize {
    let lines = json.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
    lines.map(<[u8]>::len).sum::<usize>() + error.column()
}

/// The path of the value that ends, or is still open, after the first `at` bytes of `json`, such as `lines[2].price`;
/// `None` for the whole text.
pub(crate) fn field_at(json: &[u8], at: usize) -> Option<String> {
    let mut steps: Vec<Step> = Vec::new();
    let mut rest = &json[..at.min(json.len())];
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'{' => steps.push(Step::Field(None)),
            b'[' => steps.push(Step::Index(0)),
            b'}' | b']' => drop(steps.pop()),
            b',' => match steps.last_mut() {
                Some(Step::Index(index)) => *index += 1,
                Some(Step::Field(name)) => *name = None,
                None => {}
            },
            b'"' => {
                let text = text_of(rest);
                rest = rest.get(text.len() + 1..).unwrap_or_default();
                if let Some(Step::Field(name @ None)) = steps.last_mut() {
                    *name = Some(String::from_utf8_lossy(text).into_owned());
                }
            }
            _ => {}
        }
    }
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Field(Some(name)) if path.is_empty() => path = name,
            Step::Field(Some(name)) => path = format!("{path}.{name}"),
            Step::Field(None) => {}
            Step::Index(index) => path = format!("{path}[{index}]"),
        }
    }
    (!path.is_empty()).then_some(path)
}

/// A level of brackets, and the position in it.
enum Step {
    Field(Option<String>),
    Index(usize),
}

/// The bytes up to the quote that ends a text.
fn text_of(rest: &[u8]) -> &[u8] {
    let mut escaped = false;
    let end = rest.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    &rest[..end.unwrap_or(rest.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_a_path() {
        let json = br#"{"a":1,"b":{"c\"":[1,{"d":"x}"},2]},"e":null}"#;
        let at = |text: &str| {
            let json = std::str::from_utf8(json).unwrap();
            field_at(json.as_bytes(), json.find(text).unwrap() + text.len())
        };
        assert_eq!(at("{\"a\":1").as_deref(), Some("a"));
        assert_eq!(at("\"x}\"").as_deref(), Some(r#"b.c\"[1].d"#));
        assert_eq!(at("},2").as_deref(), Some(r#"b.c\"[2]"#));
        assert_eq!(at("null").as_deref(), Some("e"));
        assert_eq!(at("null}"), None);
        assert_eq!(field_at(b"7", 1), None);
        assert_eq!(field_at(br#"{"unfinished"#, 99).as_deref(), Some("unfinished"));
    }

    #[test]
    fn an_error_has_a_place_also_on_a_later_line() {
        let json = b"{\"a\":\n 1,\n\"b\": true}";
        let error = serde_json::from_slice::<std::collections::BTreeMap<String, u8>>(json).unwrap_err();
        assert_eq!(field_at(json, end_of(&error, json)).as_deref(), Some("b"));
    }
}

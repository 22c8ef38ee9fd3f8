//! The width of the terminal, and texts that fit into it.

use std::{fmt::Display, io};

use order_service::grouped;

/// The width if stdout is not a terminal.
const WIDTH: usize = 80;

/// How many characters a line may have: as many as the terminal shows, or 80 if stdout is not a terminal.
pub(crate) fn width() -> usize {
    terminal_size::terminal_size_of(io::stdout()).map_or(WIDTH, |(width, _)| usize::from(width.0))
}

/// A text in lines that fit into the terminal. Each line of the text that is too long goes on in further lines, which
/// are indented by so many spaces. A word that is longer than a line stays whole: it may be an address or a path.
pub(crate) fn wrapped(text: &str, indent: usize) -> String {
    let lines = text.lines().map(|line| wrapped_line(line, indent, width()));
    lines.collect::<Vec<_>>().join("\n")
}

fn wrapped_line(line: &str, indent: usize, width: usize) -> String {
    if shown(line) <= width {
        return line.to_owned();
    }
    let begin = line.len() - line.trim_start().len();
    let (mut wrapped, mut used) = (line[..begin].to_owned(), begin);
    // The spaces between two words stay, unless the line breaks there.
    let mut space = 0;
    for word in line[begin..].split(' ') {
        if used > begin.max(indent) && used + space + shown(word) > width {
            wrapped.truncate(wrapped.trim_end().len());
            wrapped.push('\n');
            wrapped.push_str(&" ".repeat(indent));
            used = indent;
        } else {
            wrapped.push_str(&" ".repeat(space));
            used += space;
        }
        wrapped.push_str(word);
        used += shown(word);
        space = 1;
    }
    wrapped
}

/// How many characters of a text a terminal shows: all but those of its styles.
fn shown(text: &str) -> usize {
    let mut is_style = false;
    let is_shown = |c: &char| {
        let hidden = is_style || *c == '\u{1b}';
        is_style = hidden && *c != 'm';
        !hidden
    };
    text.chars().filter(is_shown).count()
}

/// A text of at most so many characters, of which the last stands for those that are left out.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// So many things of a kind: `1 event`, `2 events`.
pub(crate) fn counted(number: usize, what: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{} {what}{end}", grouped(number))
}

/// A text as one argument of a command in a shell.
pub(crate) fn argument(text: impl Display) -> String {
    let text = text.to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/-_.:".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_goes_on_indented() {
        for (line, expected) in [
            ("short", "short"),
            ("one two  three four", "one two\n  three\n  four"),
            ("  one two three", "  one two\n  three"),
            ("    event 1  is long", "    event\n  1  is\n  long"),
            ("nats://127.0.0.1 is long", "nats://127.0.0.1\n  is long"),
            ("\u{1b}[1mone two\u{1b}[0m 3", "\u{1b}[1mone two\u{1b}[0m 3"),
        ] {
            assert_eq!(wrapped_line(line, 2, 9), expected, "{line:?}");
        }
    }

    #[test]
    fn a_shell_reads_an_argument_as_it_is() {
        assert_eq!(argument("order/10248"), "order/10248");
        assert_eq!(argument("order/Anna's $1"), r"'order/Anna'\''s $1'");
        assert_eq!(argument(""), "''");
    }

    #[test]
    fn a_text_that_is_shortened_says_so() {
        assert_eq!(shortened("Königlich Essen", 15), "Königlich Essen");
        assert_eq!(shortened("Königlich Essen", 12), "Königlich E…");
        assert_eq!(shortened("Königlich Essen", 11), "Königlich…");
    }
}

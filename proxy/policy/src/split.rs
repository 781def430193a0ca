//! Cuts a file into its policies without understanding them.
//!
//! A policy ends at a semicolon outside strings and comments. Cutting first means that one broken policy
//! hides no problem of the others, and that each knows where it stands in its file. Nothing is dropped but
//! blank space and comments between policies: what remains after the last semicolon is a policy too, which
//! Cedar then refuses.

/// What Cedar's tree grows deeper by, and how much each counts. The time to check a chain of `if` doubles
/// with each, so few are let through.
const OPERATORS: [(&str, usize); 9] =
    [("&&", 1), ("||", 1), ("+", 1), ("-", 1), ("*", 1), ("!", 1), (".", 1), ("else", 16), ("{", 1)];

/// One policy as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece<'t> {
    /// Byte offset of its first character in the file.
    pub(crate) offset: usize,
    /// From its first character to its semicolon.
    pub(crate) text: &'t str,
    /// Deepest nesting of brackets.
    pub(crate) nesting: usize,
    /// What may make its tree deeper, clause by clause and operator by operator. Counts some words that
    /// only look like `else`, never too few.
    pub(crate) operators: usize,
}

/// The policies of a file, in order.
pub(crate) fn pieces(file: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut open: Option<Piece<'_>> = None;
    let mut depth = 0usize;
    let mut chars = file.char_indices().peekable();
    while let Some((offset, char)) = chars.next() {
        let comment = char == '/' && chars.peek().is_some_and(|(_, next)| *next == '/');
        if comment {
            while chars.next_if(|(_, next)| *next != '\n').is_some() {}
            continue;
        }
        if char.is_whitespace() && open.is_none() {
            continue;
        }
        let mut piece = open.unwrap_or(Piece { offset, text: "", nesting: 0, operators: 0 });
        match char {
            '"' => skip_string(&mut chars),
            '(' | '[' | '{' => {
                depth += 1;
                piece.nesting = piece.nesting.max(depth);
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        let rest = file.get(offset..).unwrap_or_default();
        piece.operators += OPERATORS
            .iter()
            .find(|(operator, _)| rest.starts_with(operator))
            .map_or(0, |(_, weight)| *weight);
        open = Some(piece);
        if char == ';' {
            let text = file.get(piece.offset..=offset).unwrap_or_default();
            pieces.push(Piece { text, ..piece });
            (open, depth) = (None, 0);
        }
    }
    if let Some(piece) = open {
        pieces.push(Piece { text: file.get(piece.offset..).unwrap_or_default(), ..piece });
    }
    pieces
}

/// Goes past the closing quote.
fn skip_string(chars: &mut impl Iterator<Item = (usize, char)>) {
    while let Some((_, char)) = chars.next() {
        match char {
            '\\' => drop(chars.next()),
            '"' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(file: &str) -> Vec<&str> {
        pieces(file).into_iter().map(|piece| piece.text).collect()
    }

    #[test]
    fn a_semicolon_ends_a_policy_only_outside_strings_and_comments() {
        assert_eq!(texts("// a; b\n one; /* two;"), ["one;", "/* two;"]);
        assert_eq!(texts("a(\";\\\";\"); // ;\nb // ;\n;"), ["a(\";\\\";\");", "b // ;\n;"]);
        assert_eq!(texts(" \n// only a comment"), Vec::<&str>::new());
        assert_eq!(texts("\u{e9}; x"), ["\u{e9};", "x"]);
    }

    #[test]
    fn nesting_is_counted_per_policy() {
        let found: Vec<_> =
            pieces("a(([{}])); b(); \"((((\";").into_iter().map(|piece| piece.nesting).collect();
        assert_eq!(found, [4, 1, 0]);
        let found: Vec<_> = pieces("a && b || c; {x + y - z}; if a then b else c.d; \"&&\";")
            .into_iter()
            .map(|piece| piece.operators)
            .collect();
        assert_eq!(found, [2, 3, 17, 0]);
    }
}

//! As much XML as S3's answers hold: elements, text, the five entities and numeric characters. Document
//! types, comments and CDATA are refused.

/// One piece of a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Open(&'a str),
    Text(String),
    Close,
    End,
}

/// Cuts a document into tokens; `None` for what is not well formed.
pub(super) struct Scanner<'a> {
    rest: &'a str,
    closes: bool,
}

impl<'a> Scanner<'a> {
    pub(super) const fn new(xml: &'a str) -> Self {
        Self { rest: xml, closes: false }
    }

    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        if std::mem::take(&mut self.closes) {
            return Some(Token::Close);
        }
        if let Some(declaration) = self.rest.strip_prefix("<?") {
            self.rest = declaration.split_once("?>")?.1;
            return self.next_after_declaration();
        }
        self.next_after_declaration()
    }

    fn next_after_declaration(&mut self) -> Option<Token<'a>> {
        if self.rest.is_empty() {
            return Some(Token::End);
        }
        let Some(tag) = self.rest.strip_prefix('<') else {
            let at = self.rest.find('<').unwrap_or(self.rest.len());
            let (text, rest) = self.rest.split_at(at);
            self.rest = rest;
            return unescape(text).map(Token::Text);
        };
        let (tag, rest) = tag.split_once('>')?;
        self.rest = rest;
        if tag.starts_with('/') {
            return Some(Token::Close);
        }
        if tag.starts_with(['!', '?']) {
            return None;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        self.closes = empty;
        tag.split_ascii_whitespace().next().map(Token::Open)
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('&');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (name, rest) = part.split_once(';')?;
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let number = name.strip_prefix('#')?;
                let code = match number.strip_prefix('x') {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => number.parse().ok()?,
                };
                char::from_u32(code)?
            }
        });
        out.push_str(rest);
    }
    Some(out)
}

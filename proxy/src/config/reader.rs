//! Reads TOML field by field and keeps every mistake, each with its line.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line of the file, from 1; `None` if it concerns something that is not there.
    pub line: Option<usize>,
    /// The field, as `keys[1].algorithm`; empty for the file as a whole.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything wrong with a configuration file. The operator is at fault; nothing was started or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes {
    /// The file.
    pub file: PathBuf,
    /// At least one, in the order of lines.
    pub list: Vec<Mistake>,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.len();
        let plural = if count == 1 { "mistake" } else { "mistakes" };
        write!(f, "{}: {count} {plural}", self.file.display())?;
        self.list.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

/// A file being read, and the mistakes found so far.
pub(super) struct Document<'t> {
    /// Where each line but the first begins: a file may have ten thousand keys.
    line_starts: Vec<usize>,
    folder: &'t Path,
    mistakes: RefCell<Vec<Mistake>>,
    /// Every field any table may have, for the test that the example file documents them all.
    #[cfg(test)]
    pub(super) fields: RefCell<std::collections::BTreeSet<&'static str>>,
}

impl<'t> Document<'t> {
    pub(super) fn new(text: &'t str, folder: &'t Path) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            line_starts: ends.map(|(at, _)| at + 1).collect(),
            folder,
            mistakes: RefCell::new(Vec::new()),
            #[cfg(test)]
            fields: RefCell::new(std::collections::BTreeSet::new()),
        }
    }

    /// All mistakes, in the order of lines; those without a line last.
    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by_key(|mistake| mistake.line.unwrap_or(usize::MAX));
        mistakes
    }

    pub(super) fn mistake(&self, line: Option<usize>, field: impl Into<String>, message: impl Into<String>) {
        let mistake = Mistake { line, field: field.into(), message: message.into() };
        self.mistakes.borrow_mut().push(mistake);
    }

    pub(super) fn line_at(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset) + 1
    }
}

/// A table being read. Fields nobody asked for are mistakes, reported by [`Section::finish`].
pub(super) struct Section<'d, 't> {
    document: &'d Document<'t>,
    table: Option<&'d DeTable<'t>>,
    path: String,
    line: Option<usize>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'d, 't> Section<'d, 't> {
    pub(super) const fn root(document: &'d Document<'t>, table: &'d DeTable<'t>) -> Self {
        Self {
            document,
            table: Some(table),
            path: String::new(),
            line: None,
            asked: RefCell::new(Vec::new()),
        }
    }

    /// Whether the table is in the file.
    pub(super) const fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Full name of a field of this table.
    pub(super) fn field(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Line of a field, or of the table if the field is not there.
    pub(super) fn line_of(&self, name: &str) -> Option<usize> {
        let value = self.table.and_then(|table| table.get(name));
        value.map(|value| self.document.line_at(value.span().start)).or(self.line)
    }

    /// Notes a mistake about a field.
    pub(super) fn wrong<T>(&self, name: &str, message: impl Into<String>) -> Option<T> {
        self.document.mistake(self.line_of(name), self.field(name), message);
        None
    }

    /// Notes a mistake about nothing in the file.
    pub(super) fn mistake(&self, message: String) {
        self.document.mistake(None, "", message);
    }

    /// The text of a field that was read already, right or not otherwise.
    pub(super) fn peek(&self, name: &str) -> Option<String> {
        self.table?.get(name)?.get_ref().as_str().map(str::to_owned)
    }

    fn get(&self, name: &'static str) -> Option<&'d DeValue<'t>> {
        self.asked.borrow_mut().push(name);
        self.table?.get(name).map(Spanned::get_ref)
    }

    fn missing<T>(&self, name: &str, example: &str) -> Option<T> {
        // A table that is missing as a whole was reported once already.
        if self.is_present() {
            self.document.mistake(
                self.line,
                self.field(name),
                format!("is missing; for example {name} = {example}"),
            );
        }
        None
    }

    /// A text, or `None` if it is not there or no text.
    pub(super) fn text(&self, name: &'static str) -> Option<String> {
        match self.get(name)? {
            DeValue::String(text) if !text.is_empty() => Some(text.clone().into_owned()),
            DeValue::String(_) => self.wrong(name, "must not be empty"),
            other => self.wrong(name, format!("must be a text in quotes, not {}", kind(other))),
        }
    }

    /// Whether a field is there, right or not.
    pub(super) fn has(&self, name: &'static str) -> bool {
        self.get(name).is_some()
    }

    /// A text that may be empty, which is also what it is if it is not there.
    pub(super) fn free_text(&self, name: &'static str) -> Option<String> {
        match self.get(name) {
            None => Some(String::new()),
            Some(DeValue::String(text)) => Some(text.clone().into_owned()),
            Some(other) => self.wrong(name, format!("must be a text in quotes, not {}", kind(other))),
        }
    }

    /// A text that must be there; `example` shows how.
    pub(super) fn required(&self, name: &'static str, example: &str) -> Option<String> {
        if self.get(name).is_none() { self.missing(name, example) } else { self.text(name) }
    }

    /// A text of a type that checks itself.
    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(&self, name: &'static str) -> Option<T> {
        let text = self.text(name)?;
        text.parse().map_or_else(|error| self.wrong(name, format!("{text:?}: {error}")), Some)
    }

    /// The same, but it must be there.
    pub(super) fn required_parsed<T: FromStr<Err: fmt::Display>>(
        &self,
        name: &'static str,
        example: &str,
    ) -> Option<T> {
        if self.get(name).is_none() { self.missing(name, example) } else { self.parsed(name) }
    }

    /// An address with port.
    pub(super) fn address(&self, name: &'static str, default: SocketAddr) -> Option<SocketAddr> {
        if self.get(name).is_none() {
            return Some(default);
        }
        let text = self.text(name)?;
        let wrong =
            || self.wrong(name, format!("{text:?} is no address and port such as \"127.0.0.1:8443\""));
        text.parse().ok().or_else(wrong)
    }

    /// One of a few words; `default` if it is not there.
    pub(super) fn word<T: Copy>(&self, name: &'static str, words: &[(&str, T)], default: T) -> Option<T> {
        if self.get(name).is_none() { Some(default) } else { self.required_word(name, words) }
    }

    /// One of a few words, which must be there.
    pub(super) fn required_word<T: Copy>(&self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let first = words.first().map_or("", |(word, _)| *word);
        let text = self.required(name, &format!("{first:?}"))?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.or_else(|| {
            self.wrong(
                name,
                format!("{text:?} is not one of {}", listed(words.iter().map(|(word, _)| *word))),
            )
        })
    }

    /// A whole number inside a range; `default` if it is not there.
    pub(super) fn number(&self, name: &'static str, default: u64, min: u64, max: u64) -> Option<u64> {
        let Some(value) = self.get(name) else { return Some(default) };
        let number =
            value.as_integer().and_then(|text| i128::from_str_radix(text.as_str(), text.radix()).ok());
        match number.map(u64::try_from) {
            None => self.wrong(name, format!("must be a whole number, not {}", kind(value))),
            Some(Ok(number)) if (min..=max).contains(&number) => Some(number),
            Some(_) => self.wrong(name, format!("must be from {min} to {max}")),
        }
    }

    /// The same without a default: `Some(None)` if it is not there.
    #[expect(clippy::option_option, reason = "absent and wrong are different")]
    pub(super) fn optional_number(&self, name: &'static str, min: u64, max: u64) -> Option<Option<u64>> {
        match self.get(name) {
            None => Some(None),
            Some(_) => self.number(name, min, min, max).map(Some),
        }
    }

    /// `true` or `false`; `default` if it is not there.
    pub(super) fn flag(&self, name: &'static str, default: bool) -> Option<bool> {
        match self.get(name) {
            None => Some(default),
            Some(DeValue::Boolean(value)) => Some(*value),
            Some(other) => self.wrong(name, format!("must be true or false, not {}", kind(other))),
        }
    }

    /// A path, taken from the folder of the file.
    pub(super) fn path(&self, name: &'static str) -> Option<PathBuf> {
        self.text(name).map(|text| self.document.folder.join(text))
    }

    /// A path that must be in the configuration.
    pub(super) fn required_path(&self, name: &'static str, example: &str) -> Option<PathBuf> {
        self.required(name, example).map(|text| self.document.folder.join(text))
    }

    /// A list of texts of a type that checks itself; empty if it is not there.
    pub(super) fn list<T: FromStr<Err: fmt::Display>>(&self, name: &'static str) -> Option<Vec<T>> {
        let Some(value) = self.get(name) else { return Some(Vec::new()) };
        let Some(items) = value.as_array() else {
            return self.wrong(name, format!("must be a list in brackets, not {}", kind(value)));
        };
        let parsed: Vec<Option<T>> = items.iter().map(|item| self.item(name, item)).collect();
        parsed.into_iter().collect()
    }

    fn item<T: FromStr<Err: fmt::Display>>(&self, name: &str, item: &Spanned<DeValue<'t>>) -> Option<T> {
        let line = Some(self.document.line_at(item.span().start));
        let wrong = |message: String| self.document.mistake(line, self.field(name), message);
        let Some(text) = item.get_ref().as_str() else {
            wrong(format!("holds {} where a text in quotes must be", kind(item.get_ref())));
            return None;
        };
        text.parse().map_err(|error| wrong(format!("{text:?}: {error}"))).ok()
    }

    /// A table of this table, there or not.
    pub(super) fn section(&self, name: &'static str) -> Section<'d, 't> {
        let line = self.table.and_then(|table| table.get(name)).map(|_| ()).and_then(|()| self.line_of(name));
        let table = match self.get(name) {
            Some(DeValue::Table(table)) => Some(table),
            Some(other) => {
                self.wrong(name, format!("must be a table [{}], not {}", self.field(name), kind(other)))
            }
            None => None,
        };
        Section { document: self.document, table, path: self.field(name), line, asked: RefCell::default() }
    }

    /// A table that must be there.
    pub(super) fn required_section(&self, name: &'static str) -> Section<'d, 't> {
        let section = self.section(name);
        if self.table.is_some_and(|table| !table.contains_key(name)) {
            self.document.mistake(self.line, "", format!("the table [{}] is missing", self.field(name)));
        }
        section
    }

    /// The tables of a list of tables.
    pub(super) fn sections(&self, name: &'static str) -> Vec<Section<'d, 't>> {
        let Some(value) = self.get(name) else { return Vec::new() };
        let Some(items) = value.as_array() else {
            let _: Option<()> =
                self.wrong(name, format!("must be tables [[{}]], not {}", self.field(name), kind(value)));
            return Vec::new();
        };
        items.iter().enumerate().filter_map(|(at, item)| self.element(name, at, item)).collect()
    }

    fn element(&self, name: &str, at: usize, item: &'d Spanned<DeValue<'t>>) -> Option<Section<'d, 't>> {
        let line = Some(self.document.line_at(item.span().start));
        let path = format!("{}[{at}]", self.field(name));
        match item.get_ref() {
            DeValue::Table(table) => Some(Section {
                document: self.document,
                table: Some(table),
                path,
                line,
                asked: RefCell::default(),
            }),
            other => {
                self.document.mistake(line, path, format!("must be a table, not {}", kind(other)));
                None
            }
        }
    }

    /// Reports every field nobody asked for. Called once, after the last field was read.
    pub(super) fn finish(&self) {
        let asked = self.asked.borrow();
        #[cfg(test)]
        self.document.fields.borrow_mut().extend(asked.iter());
        for name in self.table.iter().flat_map(|table| table.keys()) {
            let text: &str = name.get_ref();
            if asked.contains(&text) {
                continue;
            }
            let line = Some(self.document.line_at(name.span().start));
            let hint = match nearest(text, &asked) {
                Some(near) => format!("no such field; did you mean {near}?"),
                None => format!("no such field; there are {}", listed(asked.iter().copied())),
            };
            self.document.mistake(line, self.field(text), hint);
        }
    }
}

/// The known name closest to a misspelt one, if it is close.
fn nearest<'n>(text: &str, known: &[&'n str]) -> Option<&'n str> {
    let scored = known.iter().map(|name| (distance(text, name), *name));
    scored.min().filter(|(distance, _)| *distance <= 1 + text.len() / 4).map(|(_, name)| name)
}

/// Edits (insert, delete, replace) between two short texts.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, left) in a.bytes().enumerate() {
        let mut diagonal = at;
        let mut previous = at + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(b.bytes()) {
            let change = diagonal + usize::from(left != right);
            diagonal = *cell;
            *cell = change.min(previous + 1).min(diagonal + 1);
            previous = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut names: Vec<_> = names.collect();
    names.dedup();
    names.join(", ")
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_field_is_told_its_neighbour_and_a_strange_one_is_not() {
        assert_eq!(nearest("crl_fiel", &["crl_file", "key_file"]), Some("crl_file"));
        assert_eq!(nearest("adress", &["address"]), Some("address"));
        assert_eq!(nearest("colour", &["address", "crl_file"]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
    }
}

//! Which streams a grant covers. Only the operator writes patterns; a caller's text is compared, never
//! interpreted.

use std::fmt;
use std::str::FromStr;

use chancery_format::StreamName;
use chancery_format::names::NameError;

use super::policy::PolicyError;

/// Which streams one grant covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamPattern {
    /// `*`: every stream.
    Every,
    /// `prefix/*`: every stream below; kept with its slash.
    Below(Box<str>),
    /// One stream.
    Exactly(StreamName),
}

impl StreamPattern {
    /// Whether the pattern covers a stream.
    pub fn covers(&self, stream: &str) -> bool {
        match self {
            Self::Every => true,
            Self::Below(prefix) => stream.len() > prefix.len() && stream.starts_with(&**prefix),
            Self::Exactly(name) => name.as_str() == stream,
        }
    }

    pub(super) fn name(text: &str) -> Result<StreamName, PolicyError> {
        text.parse().map_err(|error: NameError| refuse(text, error.to_string()))
    }
}

fn refuse(pattern: &str, reason: String) -> PolicyError {
    PolicyError::StreamPattern { pattern: pattern.to_owned(), reason }
}

/// The text in the configuration.
impl fmt::Display for StreamPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every => f.write_str("*"),
            Self::Below(prefix) => write!(f, "{prefix}*"),
            Self::Exactly(name) => f.write_str(name.as_str()),
        }
    }
}

impl FromStr for StreamPattern {
    type Err = PolicyError;
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if text == "*" {
            return Ok(Self::Every);
        }
        let name = text.strip_suffix("/*").unwrap_or(text);
        if name.contains('*') {
            let rule = "`*` may only stand alone or as the whole last segment (`prefix/*`)";
            return Err(refuse(text, rule.to_owned()));
        }
        let exact = Self::name(name)?;
        if name.len() == text.len() {
            Ok(Self::Exactly(exact))
        } else {
            Ok(Self::Below(format!("{name}/").into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_anywhere_else_does_not_compile() {
        for bad in ["a*", "*/a", "a/*/b", "**", "a/**", "*a", "/*", "", "a b/*"] {
            assert!(bad.parse::<StreamPattern>().is_err(), "{bad}");
        }
        assert_eq!("*".parse(), Ok(StreamPattern::Every));
    }
}

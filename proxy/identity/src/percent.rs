//! Percent-encoding (RFC 3986): whatever is not a letter, a digit or one of `-._~` becomes `%XX`.

/// The encoded text: ASCII, one for one with the original.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #[test]
    fn everything_but_unreserved_characters_is_written_in_hexadecimal() {
        for (text, encoded) in [
            ("alice.b-c_d~1", "alice.b-c_d~1"),
            ("a/b c%2F", "a%2Fb%20c%252F"),
            ("ü\"\\\n", "%C3%BC%22%5C%0A"),
            ("auth0|7@x:y", "auth0%7C7%40x%3Ay"),
        ] {
            assert_eq!(super::encode(text), encoded);
        }
    }
}

//! Text inside XML and HTML.

use std::fmt;

/// Displays text so that it stays text in an element or a quoted attribute.
/// Control characters, which XML 1.0 cannot express at all, become U+FFFD.
pub(super) struct Escaped<T>(pub(super) T);

impl<T: AsRef<str>> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.as_ref().chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => fmt::Write::write_char(f, character)?,
                // The two non-characters are no XML either.
                c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                    f.write_str("\u{fffd}")?;
                }
                c => fmt::Write::write_char(f, c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_becomes_markup_and_nothing_is_malformed() {
        assert_eq!(
            Escaped("<a href=\"x\" b='y'>&\u{1b}[0m\n\u{e9}").to_string(),
            "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;\u{fffd}[0m\n\u{e9}"
        );
    }
}

//! Characters that do not belong in a value, and their names.

/// Common characters that editors, web pages and word processors leave behind, with their names in Unicode.
const NAMES: [(char, &str); 27] = [
    ('\0', "null"),
    ('\t', "tab"),
    ('\n', "line feed"),
    ('\r', "carriage return"),
    ('\u{1b}', "escape"),
    (' ', "space"),
    ('\u{7f}', "delete"),
    ('\u{a0}', "no-break space"),
    ('\u{ad}', "soft hyphen"),
    ('\u{200b}', "zero width space"),
    ('\u{200c}', "zero width non-joiner"),
    ('\u{200d}', "zero width joiner"),
    ('\u{200e}', "left-to-right mark"),
    ('\u{200f}', "right-to-left mark"),
    ('\u{2013}', "en dash"),
    ('\u{2014}', "em dash"),
    ('\u{2018}', "left single quotation mark"),
    ('\u{2019}', "right single quotation mark"),
    ('\u{201c}', "left double quotation mark"),
    ('\u{201d}', "right double quotation mark"),
    ('\u{2028}', "line separator"),
    ('\u{2029}', "paragraph separator"),
    ('\u{202f}', "narrow no-break space"),
    ('\u{2060}', "word joiner"),
    ('\u{3000}', "ideographic space"),
    ('\u{feff}', "byte order mark"),
    ('\u{fffd}', "replacement character"),
];

/// The code point, and its name if it is a common one, such as `U+200B zero width space`.
pub fn describe(character: char) -> String {
    let name = NAMES.iter().find(|(known, _)| *known == character);
    let code = format!("U+{:04X}", u32::from(character));
    name.map_or_else(|| code.clone(), |(_, name)| format!("{code} {name}"))
}

/// Whether a character can be shown: it does not break the line, move the cursor, change the direction of the text or
/// hide.
pub fn is_shown(character: char) -> bool {
    !character.is_control() && !is_invisible(character)
}

/// Format characters and separators of lines and paragraphs. Source: Unicode, general categories Cf, Zl and Zp.
pub fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}'
            | '\u{2066}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0001}'
            | '\u{e0020}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_shown_by_code_point_and_common_name() {
        for (character, text) in [
            ('\u{200b}', "U+200B zero width space"),
            ('\u{feff}', "U+FEFF byte order mark"),
            ('\n', "U+000A line feed"),
            ('\u{fc}', "U+00FC"),
            ('\u{1d173}', "U+1D173"),
        ] {
            assert_eq!(describe(character), text);
        }
    }
}

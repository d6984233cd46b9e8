//! Parts of object names, from names that people gave.

/// Lowercase letters, digits and single dashes between them, at most `max`; possibly empty. Letters of Western and
/// Central European alphabets lose their accents, and those of other scripts are left out.
pub(super) fn slug(name: &str, max: usize) -> String {
    let mut slug = String::new();
    for letter in name.chars().flat_map(char::to_lowercase) {
        let plain = plain(letter);
        if ('\u{300}'..='\u{36f}').contains(&letter) {
            // An accent of its own, after its letter.
            continue;
        }
        if !plain.is_empty() {
            slug.push_str(plain);
        } else if letter.is_ascii_alphanumeric() {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(max);
    slug.trim_end_matches('-').to_owned()
}

/// The letter without its accent; empty if it has none.
fn plain(letter: char) -> &'static str {
    match letter {
        'à'..='å' | 'ā' | 'ă' | 'ą' => "a",
        'æ' => "ae",
        'ç' | 'ć' | 'č' => "c",
        'ď' | 'đ' => "d",
        'è'..='ë' | 'ē' | 'ė' | 'ę' | 'ě' => "e",
        'ğ' => "g",
        'ì'..='ï' | 'ī' | 'ı' => "i",
        'ł' | 'ľ' => "l",
        'ñ' | 'ń' | 'ň' => "n",
        'ò'..='ö' | 'ø' | 'ō' | 'ő' => "o",
        'œ' => "oe",
        'ř' => "r",
        'ś' | 'ş' | 'š' | 'ș' => "s",
        'ß' => "ss",
        'ť' | 'ţ' | 'ț' => "t",
        'ù'..='ü' | 'ū' | 'ů' | 'ű' => "u",
        'ý' | 'ÿ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_part_of_an_object_name() {
        for (name, made) in [
            ("MS Graph app", "ms-graph-app"),
            ("mail/sales-eu", "mail-sales-eu"),
            ("  --Vertrieb (S\u{fc}d)!", "vertrieb-sud"),
            ("\u{141}\u{f3}d\u{17a} Stra\u{df}e", "lodz-strasse"),
            ("\u{130}stanbul", "istanbul"),
            ("\u{682a}\u{5f0f}\u{4f1a}\u{793e} ABC", "abc"),
            ("\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}", ""),
            ("\u{1f600}", ""),
            ("", ""),
        ] {
            assert_eq!(slug(name, 50), made, "{name:?}");
        }
        let long = slug(&"ab ".repeat(100), 50);
        assert!(long.len() <= 50 && !long.ends_with('-'), "{long}");
    }
}

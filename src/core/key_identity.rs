//! A change of the firm or the user that an account's API key belongs to.

use crate::api::KeyIdentity;
use crate::core::event::EventBody;

/// The event if the key belongs to another firm or user than the one before. It names neither: names of users are
/// personal data.
pub fn changed(before: Option<&KeyIdentity>, now: &KeyIdentity) -> Option<EventBody> {
    let before = before?;
    let differs = |old: Option<i64>, new: Option<i64>| old.is_some() && new.is_some() && old != new;
    let is_other_firm = differs(before.firm_id, now.firm_id);
    if !is_other_firm && !differs(before.user_id, now.user_id) {
        return None;
    }
    let text = if is_other_firm {
        format!(
            "the API key belongs to firm {} at Woodpecker, and the one before to firm {}: check that it is a key of the same account",
            shown(now.firm_id),
            shown(before.firm_id)
        )
    } else {
        format!(
            "the API key belongs to user {} at Woodpecker, and the one before to user {} of the same firm: check that this user may see everything that the account's credentials are for",
            shown(now.user_id),
            shown(before.user_id)
        )
    };
    Some(EventBody {
        is_warning: true,
        reason: "KeyIdentityChanged",
        action: "CheckAccount",
        text,
        request_ids: String::new(),
    })
}

fn shown(id: Option<i64>) -> String {
    id.map_or_else(|| "unknown".to_owned(), |id| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(firm_id: Option<i64>, user_id: Option<i64>) -> KeyIdentity {
        let name = Some("Ava Chen".to_owned());
        KeyIdentity { firm_id, user_id, firm_name: Some("Agency".into()), user_name: name }
    }

    #[test]
    fn only_another_firm_or_user_is_a_change() {
        let before = identity(Some(1), Some(2));
        for (firm, user, words) in [
            (Some(9), Some(2), Some("belongs to firm 9 at Woodpecker, and the one before to firm 1:")),
            (Some(9), None, Some("firm 9")),
            (Some(1), Some(9), Some("belongs to user 9 at Woodpecker, and the one before to user 2 of")),
            (Some(1), Some(2), None),
            (None, Some(2), None),
            (None, None, None),
        ] {
            let event = changed(Some(&before), &identity(firm, user));
            let text = event.as_ref().map(|event| event.text.as_str());
            assert_eq!(text.is_some(), words.is_some(), "{firm:?} {user:?}");
            if let (Some(text), Some(words)) = (text, words) {
                assert!(text.contains(words) && !text.contains("Ava") && !text.contains("Agency"), "{text}");
            }
        }
        assert_eq!(changed(None, &before), None);
        let renamed = KeyIdentity { firm_name: Some("Other".into()), user_name: None, ..before.clone() };
        assert_eq!(changed(Some(&before), &renamed), None);
    }
}

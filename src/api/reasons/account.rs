//! The reasons of a `WoodpeckerAccount`.

use super::{NOTHING, PLAIN_VALUE, RETRIES};

entries! {
    Account Ready {
        InvalidObject: False, User,
            "The object does not match its schema; it is left as it is.",
            "Fix the field that the message names.";
        Authenticated: True, Nobody, "Woodpecker accepts the API key.", NOTHING;
        InvalidApiKey: False, User,
            "Woodpecker rejects the API key.",
            "Create a key under Marketplace > Integrations > API keys and put it into the Secret.";
        SecretNotFound: False, User,
            "The namespace has no Secret with the name that `apiKeySecretRef` gives.",
            "Create the Secret or fix `spec.apiKeySecretRef.name`.";
        KeyMissing: False, User,
            "The Secret does not have the key of the API key.",
            "Add the key, or set `spec.apiKeySecretRef.key` to the right one.";
        EmptyValue: False, User, "The API key is empty.", "Put the API key into the Secret.";
        InvalidCharacters: False, User,
            "The API key has white space at an end, or contains a line break, an invisible character or other characters that no API key has; nothing was sent.",
            PLAIN_VALUE;
        ValueTooLong: False, User,
            "The API key is longer than 1024 bytes; nothing was sent.",
            "Put only the API key into the key of the Secret.";
        AccessDenied: False, OperatorAdmin,
            "The operator is not allowed to read the Secret of the API key.",
            "Grant the operator's ServiceAccount `get` on Secrets in the account's namespace.";
        BaseUrlNotAllowed: False, OperatorAdmin,
            "The operator does not send API keys to this URL.",
            "Add the URL with `--allowed-woodpecker-url`.";
        RateLimited: False, Nobody, "Woodpecker limits the rate of requests, or other requests to the account are ahead.", RETRIES;
        WoodpeckerUnavailable: False, Nobody,
            "Woodpecker could not be reached, or its response could not be understood.",
            "The operator retries automatically. If it lasts, follow the message.";
        IncompleteList: False, WoodpeckerSupport,
            "A list lacks a credential that another request shows to exist; nothing is created while that lasts.",
            "Ask Woodpecker's support if it lasts.";
        FinalizerRejected: False, OperatorAdmin,
            "The API server rejects the operator's change of the account's finalizer. Credentials are registered and maintained.",
            "Allow the operator to patch `woodpeckeraccounts`, and check admission policies.";
        CompanyIdIgnored: False, User,
            "Woodpecker ignores the company ID: two companies show the same credentials.",
            "Use a separate API key for each company.";
        UnexpectedRemoteState: False, User,
            "The account does not have the credentials that it had: the API key belongs to another account, or many credentials disappeared at once.",
            "Check that the API key belongs to the same account.";
    }
}

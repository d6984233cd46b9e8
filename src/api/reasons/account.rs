//! The reasons of a `WoodpeckerAccount`.

use super::{CHECK_NETWORK, GRANT_SECRET, NOTHING, PLAIN_VALUE, RETRIES};

/// How to write an API key, in no history of a shell.
macro_rules! write_key {
    () => {
        "`kubectl patch secret SECRET --namespace NAMESPACE --patch-file FILE`, with `stringData: {api_key: \"KEY\"}` in the file"
    };
}

entries! {
    Account Ready {
        InvalidObject: False, User,
            "The object does not match its schema; it is left as it is.",
            "Fix the field that the message names: `kubectl edit wpa NAME --namespace NAMESPACE`.";
        Authenticated: True, Nobody, "Woodpecker accepts the API key.", NOTHING;
        InvalidApiKey: False, User,
            "Woodpecker rejects the API key.",
            concat!("Create a key of the same account under Marketplace > Integrations > API keys and put it into the Secret: ", write_key!(), ".");
        ApiNotInPlan: False, User,
            "Woodpecker refuses the API key because the account's plan does not include the API. The key itself may be right.",
            "Add the API add-on to the account at Woodpecker, under Marketplace, or upgrade its plan, as the message says. The operator lists again automatically; do not replace the key.";
        SecretNotFound: False, User,
            "The namespace has no Secret with the name that `apiKeySecretRef` gives.",
            "Create it: `kubectl create secret generic SECRET --namespace NAMESPACE --from-file=api_key=FILE`, with the API key and no line break in the file. Or fix `spec.apiKeySecretRef.name`.";
        KeyMissing: False, User,
            "The Secret does not have the key of the API key.",
            "`kubectl describe secret SECRET --namespace NAMESPACE` shows its keys. Add the missing one, or set `spec.apiKeySecretRef.key` to the right one.";
        EmptyValue: False, User, "The API key is empty.",
            concat!("Put the API key into the Secret: ", write_key!(), ".");
        InvalidCharacters: False, User,
            "The API key has white space at an end, or contains a line break, an invisible character or other characters that no API key has; nothing was sent.",
            PLAIN_VALUE;
        ValueTooLong: False, User,
            "The API key is longer than 1024 bytes; nothing was sent.",
            "Put only the API key into the key of the Secret.";
        AccessDenied: False, OperatorAdmin,
            "The operator is not allowed to read the Secret of the API key.",
            GRANT_SECRET;
        BaseUrlNotAllowed: False, OperatorAdmin,
            "The operator does not send API keys to this URL.",
            "Add the URL to the chart's `allowedWoodpeckerUrls` (`--allowed-woodpecker-url`), or create an account without `spec.baseUrl`, for Woodpecker's own: the field is immutable.";
        RateLimited: False, Nobody, "Woodpecker limits the rate of requests, or other requests to the account are ahead.", RETRIES;
        WoodpeckerUnavailable: False, Nobody,
            "Woodpecker could not be reached, or its response could not be understood.",
            CHECK_NETWORK;
        IncompleteList: False, WoodpeckerSupport,
            "A list lacks a credential that another request shows to exist; nothing is created while that lasts.",
            "The operator lists again automatically. If it lasts, ask Woodpecker's support why the list of credentials is incomplete.";
        FinalizerRejected: False, OperatorAdmin,
            "The API server rejects the operator's change of the account's finalizer. Credentials are registered and maintained.",
            "Allow the operator to patch `woodpeckeraccounts`, and check admission policies.";
        NamespacesForbidden: False, OperatorAdmin,
            "`spec.allowedNamespaces.selector` lets nobody in, because the operator may not list and watch namespaces. Credentials in namespaces that are named are registered and maintained.",
            "Set the chart's `rbac.namespaceSelectors`, or grant the operator's ServiceAccount `list` and `watch` on `namespaces` with a ClusterRole. Or use `spec.allowedNamespaces.names`.";
        CompanyIdIgnored: False, User,
            "Woodpecker ignores the company ID: two companies show the same credentials.",
            "Use a separate API key for each company.";
        UnexpectedRemoteState: False, User,
            "The account does not have the credentials that it had: the API key belongs to another account, or many credentials disappeared at once.",
            "Check that the API key belongs to the same account. If the credentials were really deleted, confirm it, and they are registered again: `kubectl annotate wpa NAME --namespace NAMESPACE --overwrite graph-credentials.io/confirm-deleted=VALUE`, with a new value.";
    }
    Account MailboxesHealthy {
        MailboxesHealthy: True, Nobody, "No mailbox of the account has been failing for an hour.", NOTHING;
        MailboxesFailing: False, MailboxManager,
            "Woodpecker has shown mailboxes of the account with an error, or as to be connected again, at every listing for an hour or longer.",
            "`kubectl get wpa NAME --namespace NAMESPACE --output jsonpath={.status.mailboxHealth.failingMailboxes}` shows their IDs. Open them in Woodpecker and follow the error there. If all mailboxes of one app fail, check its client secret and its permissions.";
        MailboxesNotListed: Unknown, Nobody,
            "The mailboxes could not be listed, so nothing is known about them.",
            CHECK_NETWORK;
        ListingPending: Unknown, Nobody,
            "The mailboxes have not been listed yet, or not for a while: every other request to the account goes first.",
            NOTHING;
        FailureTimeUnknown: Unknown, Nobody,
            "The operator was restarted while more than 100 mailboxes were failing, more than the status lists, and those that it listed work again. For how long the others have been failing is unknown.",
            "Nothing to do: the operator knows it within an hour.";
        AccountNotReady: Unknown, Nobody,
            "The account cannot be used, so its mailboxes are not listed.",
            "Make the account ready first: its condition Ready says what to do.";
    }
}

//! The reasons of a `WoodpeckerMailboxes`.

use super::{CHECK_NETWORK, NOTHING, RETRIES};

entries! {
    Mailboxes Ready {
        InvalidObject: False, User,
            "The object does not match its schema; nothing is sent.",
            "Fix the field that the message names: `kubectl edit wpm NAME --namespace NAMESPACE`.";
        MailboxesConnected: True, Nobody, "All mailboxes are connected, by the operator or before.", NOTHING;
        ConnectionPlanned: True, Nobody,
            "`spec.policy` is `Plan`, so nothing is sent. `status.mailboxes` says which mailboxes would be connected.",
            "Nothing to do. To connect them, set `spec.policy` to `Connect`: each one may use a paid slot of the account.";
        ConnectionPending: Unknown, Nobody,
            "The operator connects the mailboxes, at first one alone, and nothing more before a listing shows it.",
            NOTHING;
        ListingPending: Unknown, Nobody, "The mailboxes of the account have not been listed yet.", NOTHING;
        Queued: Unknown, Nobody, "Every other request to the account goes first.", RETRIES;
        OutcomeUnknown: Unknown, Nobody,
            "The response to a request was lost or incomplete. The operator looks for the mailboxes in a listing, and submits none of them before that. If the listing lacks them, it tries again after 10 minutes, and a last time 2 hours later, if a listing has shown an earlier mailbox of the credential.",
            "Nothing to do, except if the message says that the account to which they were submitted is gone: then look for the mailboxes in Woodpecker, and request a reconcile.";
        MailboxesNotListed: Unknown, Nobody,
            "The mailboxes of the account could not be listed, so nothing is submitted.",
            CHECK_NETWORK;
        MailboxesRefused: False, MailboxManager,
            "Woodpecker refuses to connect some mailboxes; `status.mailboxes` has its text for each. The operator tries again after 10 minutes, and a last time 2 hours later.",
            "Follow Woodpecker's texts: check that the mailbox exists, that the app has its permissions for it, and that the account has a free slot. A permission that was granted works after up to two hours.";
        ConnectionRejected: False, MailboxManager,
            "Woodpecker refuses the whole request; `status.lastRefusal` has its text. The operator tries again after 10 minutes, and a last time 2 hours later.",
            "Follow Woodpecker's text. A permission that was granted works after up to two hours. To try again now: `kubectl annotate wpm NAME --namespace NAMESPACE --overwrite graph-credentials.io/reconcile-requested-at=VALUE`, with a new value.";
        ConnectionStopped: False, MailboxManager,
            "Three requests in a row connected no mailbox, or what is left was submitted three times or has to be looked for by a person. The operator submits nothing more.",
            "Follow the texts in `status.mailboxes` and `status.lastRefusal`: look in Woodpecker for mailboxes that have `unlisted`. Then `kubectl annotate wpm NAME --namespace NAMESPACE --overwrite graph-credentials.io/reconcile-requested-at=VALUE`, with a new value.";
        ConnectionNotListed: False, MailboxManager,
            "Woodpecker said that the first mailbox of the credential is connected, and a later listing of the account lacks it. Nothing more is sent.",
            "Look in Woodpecker where the mailbox with the id of the message is: it may be at another company. Then `kubectl annotate wpm NAME --namespace NAMESPACE --overwrite graph-credentials.io/reconcile-requested-at=VALUE`, with a new value: the operator lists again, and submits one more mailbox if the listing still lacks it.";
        UnexpectedAddress: False, MailboxManager,
            "Woodpecker connected an address that was not submitted. Nothing more is sent.",
            "Look in Woodpecker for the mailbox with the id of the message. If an address of the spec is an alias of it, replace it with the primary address. Then `kubectl annotate wpm NAME --namespace NAMESPACE --overwrite graph-credentials.io/reconcile-requested-at=VALUE`, with a new value.";
        IncompleteList: False, MailboxManager,
            "The last listing lacks mailboxes that the operator has connected, so it may be incomplete. Nothing is sent, and the operator lists again after 10 minutes.",
            "If it lasts, look for the mailboxes in Woodpecker. If they were disconnected there, remove them from the spec.";
        ConnectionNotAllowed: False, User,
            "`spec.policy` is `Connect`, but the account lets nobody connect mailboxes. Nothing is sent.",
            "The owner of the account, who pays for its slots, sets its `spec.mailboxes.connect` to `Allowed` (`kubectl edit wpa ACCOUNT --namespace ACCOUNT-NAMESPACE`). Or set `spec.policy` to `Plan`.";
        CredentialNotFound: False, User,
            "The namespace has no MicrosoftGraphCredential with the name that `credentialRef` gives.",
            "Create it. Or create a new WoodpeckerMailboxes for the right one: `spec.credentialRef` is immutable.";
        CredentialNotRegistered: False, User,
            "The MicrosoftGraphCredential is not registered at Woodpecker with its current spec, or it is moving to another account.",
            "Make it ready first: `graph-credential-operator describe CREDENTIAL --namespace NAMESPACE` says what is missing.";
        NotAtWoodpecker: False, User,
            "The MicrosoftGraphCredential is stored in the cluster, and Woodpecker does not have it.",
            "Create a new WoodpeckerMailboxes for a credential with `destination.woodpecker`.";
        AccountNotFound: False, User,
            "The account of the credential, in this namespace, does not exist.",
            "Create it again, or fix the credential: its condition Ready says what is missing.";
        AccountNotAllowed: False, User,
            "The account of the credential, in another namespace, does not let this namespace use it, or does not exist.",
            "Ask the owner of the account to add the namespace to its `spec.allowedNamespaces`.";
        AccountNotServed: False, User,
            "The account of the credential is in a namespace that the operator does not serve.",
            "Use an account of a served namespace, or have the account's namespace served (the chart's `watchNamespaces`).";
        AccountNotReady: False, User,
            "The account of the credential cannot be used.",
            "Make the account ready first: its condition Ready says what to do.";
        Suspended: False, User, "`spec.suspend` is true, so nothing is sent.",
            "Set `spec.suspend` to false to continue.";
    }
}

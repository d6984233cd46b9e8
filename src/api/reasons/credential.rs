//! The reasons of a `MicrosoftGraphCredential`.

use super::{NOTHING, PLAIN_VALUE, RETRIES};

const RENEW: &str = "Create a new client secret in Entra and put it into the Secret with its expiry.";

entries! {
    Credential SecretReady {
        SecretRead: True, Nobody, "The Secret contains a client secret and its expiry.", NOTHING;
        SecretNotFound: False, User,
            "The namespace has no Secret with this name.",
            "Create the Secret or fix `spec.secretRef.name`.";
        KeyMissing: False, User,
            "The Secret does not have the key of the client secret.",
            "Add the key, or set `spec.secretRef.clientSecretKey` to the right one.";
        EmptyValue: False, User, "The client secret is empty.", "Put the secret's Value into the Secret.";
        InvalidCharacters: False, User,
            "The client secret has white space at an end, or it or its expiry contains a line break, an invisible character, invalid UTF-8 or UTF-16; Microsoft would reject it, and nothing was sent.",
            PLAIN_VALUE;
        ValueTooLong: False, User,
            "The client secret is longer than 8192 bytes, or its expiry than 1024 bytes; nothing was sent.",
            "Put only the client secret's Value, or only its expiry, into the key.";
        ExpiryMissing: False, User,
            "No expiry is given for the client secret.",
            "Add the key `secret_expires_at` to the Secret, or set `spec.secretExpiresAt`.";
        ExpiryInvalid: False, User,
            "The expiry in the Secret is not a date.",
            "Write it like `2027-11-28T23:59:59Z` or `2027-11-28`.";
        ExpiryInPast: False, User,
            "The new secret has already expired; nothing was sent.",
            "Put a valid secret into the Secret, or correct its expiry.";
        AccessDenied: False, OperatorAdmin,
            "The operator is not allowed to read the Secret.",
            "Grant the operator's ServiceAccount `get` on Secrets in the namespace.";
    }
    Credential Verified {
        TokenIssued: True, Nobody, "Microsoft issues tokens for the client secret.", NOTHING;
        VerificationDisabled: True, Nobody, "Verification is disabled, and the operator allows that.", NOTHING;
        VerificationSkipped: True, Nobody,
            "Verification was not possible, because Microsoft was unavailable, or Conditional Access or a proxy blocks the operator; policy `BestEffort` continues without it.",
            "Nothing to do: verification is repeated at the next check.";
        InvalidClientSecret: False, User,
            "Microsoft rejects the client secret; the existing registration stays.",
            "Put the current secret's Value (not its ID) into the Secret, or create a new one under Certificates & secrets.";
        SecretExpired: False, User, "Microsoft reports that the client secret has expired.", RENEW;
        ApplicationNotFound: False, User,
            "The tenant has no such app.",
            "Check `clientId` and `tenantId`, and that an admin of the tenant has consented to the app.";
        TenantNotFound: False, User,
            "This cloud has no such tenant.",
            "Check `tenantId` and `cloud`.";
        TenantBlocked: False, TenantAdmin,
            "The tenant is blocked because of inactivity, or was deleted.",
            "Ask Microsoft's support to reactivate the tenant, within 20 days of the block; after that Microsoft deletes it.";
        TenantRestricted: False, OperatorAdmin,
            "A proxy between the operator and Microsoft does not allow the tenant.",
            "Add the tenant to the proxy's tenant restrictions, let the operator bypass the proxy, or use `verification.policy: BestEffort`.";
        ServicePrincipalMissing: False, TenantAdmin,
            "The app has no service principal in the tenant.",
            "Consent to the app, or create an enterprise application for it.";
        ApplicationDisabled: False, TenantAdmin,
            "The app is disabled in the tenant.",
            "Enable sign-in under Enterprise applications > Properties.";
        PublicClient: False, User,
            "The app is a public client, which cannot use a client secret.",
            "Register a web app, or turn off \"Allow public client flows\".";
        ConditionalAccessBlocked: False, TenantAdmin,
            "A Conditional Access policy for workload identities blocks the operator's IP address.",
            "Allow the address, or use `verification.policy: BestEffort`.";
        WrongCloud: False, User,
            "The tenant is in another Microsoft cloud.",
            "Create a new object with the right `spec.cloud`.";
        RequiredRolesMissing: False, TenantAdmin,
            "The token lacks application permissions that the object requires, or its roles cannot be read.",
            "Grant the permissions with admin consent, or remove them from `verification.requiredRoles`.";
        VerificationRejected: False, User,
            "Microsoft rejects the request for another reason.",
            "Look up the message's AADSTS code with `explain`, or in Microsoft's documentation.";
        VerificationPending: Unknown, Nobody, "The client secret has not been verified yet.", NOTHING;
        AwaitingSecret: Unknown, User, "There is no usable client secret to verify.", "See `SecretReady`.";
        AwaitingPropagation: Unknown, Nobody,
            "Microsoft rejects a new client secret, which is normal for some minutes after it was created.",
            RETRIES;
        RejectionUnconfirmed: Unknown, Nobody,
            "Microsoft rejected a client secret for which it issued a token before, or a token lacks roles that an earlier one had. The rejection counts only after four such responses in a row; until then `Ready` stays True.",
            RETRIES;
        RateLimited: Unknown, Nobody, "Microsoft limits the rate of requests.", RETRIES;
        MicrosoftUnavailable: Unknown, Nobody,
            "Microsoft's token endpoint could not be reached or returned an error.",
            "The operator retries automatically. If it lasts, check the operator's connection to the internet.";
    }
    Credential Registered {
        Registered: True, Nobody, "Woodpecker holds the credential that this object created.", NOTHING;
        Adopted: True, Nobody,
            "Woodpecker holds an existing credential that this object adopted.",
            NOTHING;
        Stored: True, Nobody, "The credential is stored encrypted in the cluster.", NOTHING;
        DestinationChanged: False, User,
            "The status names a registration at the other kind of destination, and credentials do not move between Woodpecker and the store.",
            "Create a new object for the other destination.";
        AccountNotFound: False, User,
            "There is no such WoodpeckerAccount, or it is in a namespace that the operator does not serve.",
            "Create it, fix `destination.woodpecker.accountRef`, or have its namespace served.";
        AccountNotReady: False, User,
            "The WoodpeckerAccount cannot be used.",
            "See the conditions of the WoodpeckerAccount.";
        AccountNotAllowed: False, User,
            "The WoodpeckerAccount does not allow this namespace.",
            "Add the namespace to the account's `allowedNamespaces.names`, or use an account of this namespace.";
        CreateRejected: False, User,
            "Woodpecker rejected the request to create the credential.",
            "Check the fields that the message names, or ask Woodpecker's support.";
        UpdateRejected: False, User,
            "Woodpecker rejected the request to change the credential, or no longer has it; what it holds stays.",
            "Follow the message, or ask Woodpecker's support.";
        NoMatchToAdopt: False, User,
            "The account has no credential to adopt: none for the app, with `AdoptOnly`, or not the one that `adoption.credentialId` names.",
            "Use `adoption.policy: AdoptOrCreate`, or fix `adoption.credentialId`.";
        AlreadyExists: False, User,
            "The account already has a credential for the app, and `CreateOnly` forbids adopting it; or in the store, the object's record is for another tenant, client or cloud.",
            "Delete it at Woodpecker, or use `adoption.policy: AdoptOrCreate`; in the store, delete the record or rename the object.";
        AlreadyManaged: False, User,
            "Another object manages the same app at the same Woodpecker account.",
            "Delete one of the two objects.";
        AmbiguousMatch: False, User,
            "Several credentials at Woodpecker match.",
            "Set `adoption.credentialId` to the right one.";
        KeyringUnavailable: False, OperatorAdmin,
            "The operator's keyring is missing, damaged or not readable, and nothing is encrypted without it.",
            "Restore the keyring from a backup (`graph-credential-operator keys import`), or fix the operator's access to it.";
        StorageForbidden: False, OperatorAdmin,
            "The API server forbids the operator to read or write the object's `SealedGraphCredential`: missing permissions, a quota or an admission policy.",
            "Grant the operator get, list, watch, create, update, patch and delete on `sealedgraphcredentials` in the namespace; check quotas and admission policies.";
        StorageError: False, OperatorAdmin,
            "The API server rejects the object's `SealedGraphCredential`, or what was written there does not stay.",
            "Follow the message; look for an admission policy or another controller that interferes.";
        InUse: False, MailboxManager,
            "Woodpecker rejects the deletion of the credential, usually because a mailbox uses it.",
            "Disconnect its mailboxes, or set `deletionPolicy: Retain` to delete only the object.";
        AwaitingVerification: Unknown, User,
            "Nothing is registered before the client secret is verified.",
            "See `Verified`.";
        Queued: Unknown, Nobody, "Other requests to the account are ahead in its queue.", RETRIES;
        OutcomeUnknown: Unknown, Nobody,
            "It is not known yet whether a create or an update took effect; the operator continues after two minutes.",
            RETRIES;
        RateLimited: Unknown, Nobody, "Woodpecker limits the rate of requests.", RETRIES;
        WoodpeckerUnavailable: Unknown, Nobody,
            "Woodpecker could not be reached or returned an error.",
            RETRIES;
    }
    Credential Expiring {
        ExpiresSoon: True, User, "The client secret expires within the warning period.", RENEW;
        Expired: True, User,
            "The client secret's expiry has passed; Ready is False.",
            "Create a new client secret in Entra, or correct the date if Microsoft still accepts the secret.";
        NotExpiring: False, Nobody, "The client secret does not expire within the warning period.", NOTHING;
    }
    Credential Ready {
        Ready: True, Nobody, "The client secret is verified, registered and not expired.", NOTHING;
        InvalidObject: False, User,
            "The object does not match its schema; it and its registration are left as they are.",
            "Fix the field that the message names.";
    }
}

//! The reasons of a `MicrosoftGraphCredential`.

use super::{CHECK_NETWORK, GRANT_SECRET, NOTHING, PLAIN_VALUE, RETRIES};

/// How to write a client secret and its expiry in one change, in no history of a shell.
macro_rules! write_secret {
    () => {
        "`kubectl patch secret SECRET --namespace NAMESPACE --patch-file FILE`, with `stringData: {client_secret: \"VALUE\", secret_expires_at: \"DATE\"}` in the file"
    };
}

/// How to write an expiry.
macro_rules! write_expiry {
    () => {
        "`kubectl patch secret SECRET --namespace NAMESPACE --patch '{\"stringData\": {\"secret_expires_at\": \"DATE\"}}'`"
    };
}

const RENEW: &str = concat!(
    "Create a new client secret in Entra, keep the old one, and put the new one into the Secret with its expiry: ",
    write_secret!(),
    "."
);

entries! {
    Credential SecretReady {
        SecretRead: True, Nobody, "The Secret contains a client secret and its expiry.", NOTHING;
        SecretCreated: True, Nobody, "The operator created the client secret at Microsoft Entra.", NOTHING;
        CreationPending: False, Nobody,
            "With `spec.rotation`, the operator has not created a client secret at Microsoft Entra yet, or its text was lost and another one is created.",
            "See `RotationReady`.";
        SecretNotFound: False, User,
            "The namespace has no Secret with this name.",
            "Create it: `kubectl create secret generic SECRET --namespace NAMESPACE --from-file=client_secret=FILE --from-literal=secret_expires_at=DATE`, with the secret's Value and no line break in the file, and a DATE such as `2027-11-28`. Or fix `spec.secretRef.name`.";
        KeyMissing: False, User,
            "The Secret does not have the key of the client secret.",
            "`kubectl describe secret SECRET --namespace NAMESPACE` shows its keys. Add the missing one, or set `spec.secretRef.clientSecretKey` to the right one.";
        EmptyValue: False, User, "The client secret is empty.",
            concat!("Put the secret's Value into the Secret: ", write_secret!(), ".");
        InvalidCharacters: False, User,
            "The client secret has white space at an end, or it or its expiry contains a line break, an invisible character, invalid UTF-8 or UTF-16; Microsoft would reject it, and nothing was sent.",
            PLAIN_VALUE;
        ValueTooLong: False, User,
            "The client secret is longer than 8192 bytes, or its expiry than 1024 bytes; nothing was sent.",
            "Put only the client secret's Value, or only its expiry, into the key.";
        ExpiryMissing: False, User,
            "No expiry is given for the client secret.",
            concat!("Entra shows the date under Certificates & secrets. Add it to the Secret, such as `2027-11-28`: ", write_expiry!(), ". Or set `spec.secretExpiresAt`.");
        ExpiryInvalid: False, User,
            "The expiry in the Secret is not a date.",
            concat!("Write it like `2027-11-28T23:59:59Z` or `2027-11-28`: ", write_expiry!(), ".");
        ExpiryInPast: False, User,
            "The new secret has already expired; nothing was sent.",
            concat!("Put a valid secret into the Secret: ", write_secret!(), ". Or correct its expiry.");
        AccessDenied: False, OperatorAdmin,
            "The operator is not allowed to read the Secret.",
            GRANT_SECRET;
    }
    Credential Verified {
        TokenIssued: True, Nobody, "Microsoft issues tokens for the client secret.", NOTHING;
        VerificationDisabled: True, Nobody, "Verification is disabled, and the operator allows that.", NOTHING;
        VerificationSkipped: True, Nobody,
            "Verification was not possible, because Microsoft was unavailable, or Conditional Access or a proxy blocks the operator; policy `BestEffort` continues without it.",
            "Nothing to do: verification is repeated at the next check.";
        InvalidClientSecret: False, User,
            "Microsoft rejects the client secret; the existing registration stays.",
            concat!("Put the current secret's Value (not its ID) into the Secret, or create a new one under Certificates & secrets: ", write_secret!(), ".");
        SecretExpired: False, User, "Microsoft reports that the client secret has expired.",
            concat!("Create a new client secret in Entra and put it into the Secret with its expiry: ", write_secret!(), ".");
        ApplicationNotFound: False, User,
            "The tenant has no such app.",
            "Compare `spec.clientId` and `spec.tenantId` with the app's Overview in Entra. Both are immutable: if one is wrong, create a new object. If both are right, an admin of the tenant must consent to the app, under API permissions or at `https://login.microsoftonline.com/TENANT-ID/adminconsent?client_id=CLIENT-ID`.";
        TenantNotFound: False, User,
            "This cloud has no such tenant.",
            "Compare `spec.tenantId` with the tenant's Overview in Entra, and check `spec.cloud`. Both are immutable: create a new object with the right ones.";
        TenantBlocked: False, TenantAdmin,
            "The tenant is blocked because of inactivity, or was deleted.",
            "Ask Microsoft's support to reactivate the tenant, within 20 days of the block; after that Microsoft deletes it.";
        TenantRestricted: False, OperatorAdmin,
            "A proxy between the operator and Microsoft does not allow the tenant.",
            "Add the tenant to the proxy's tenant restrictions, let the operator bypass the proxy, or use `spec.verification.policy: BestEffort`.";
        ServicePrincipalMissing: False, TenantAdmin,
            "The app has no service principal in the tenant.",
            "Consent to the app, or create an enterprise application for it: `az ad sp create --id CLIENT-ID`.";
        ApplicationDisabled: False, TenantAdmin,
            "The app is disabled in the tenant.",
            "Enable sign-in under Enterprise applications > the app > Properties, or with `az ad sp update --id CLIENT-ID --set accountEnabled=true`.";
        PublicClient: False, User,
            "The app is a public client, which cannot use a client secret.",
            "Turn off \"Allow public client flows\" under App registrations > the app > Authentication, or register a web app.";
        ConditionalAccessBlocked: False, TenantAdmin,
            "A Conditional Access policy for workload identities blocks the operator's IP address.",
            "Allow the address in that policy, or use `spec.verification.policy: BestEffort`. Entra's sign-in log of service principals shows the policy and the address.";
        WrongCloud: False, User,
            "The tenant is in another Microsoft cloud.",
            "Create a new object with the right `spec.cloud`: `Global`, `USGovernment`, `USGovernmentDoD` or `China`.";
        RequiredRolesMissing: False, TenantAdmin,
            "The token lacks application permissions that the object requires, or its roles cannot be read.",
            "Grant the permissions under App registrations > the app > API permissions, with admin consent, or remove them from `spec.verification.requiredRoles`.";
        VerificationRejected: False, User,
            "Microsoft rejects the request for another reason.",
            "Follow the message. `graph-credential-operator explain CODE` explains its AADSTS code, and so does `https://login.microsoftonline.com/error`.";
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
            CHECK_NETWORK;
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
            "`kubectl get wpa --all-namespaces` lists the accounts. Create this one, fix `spec.destination.woodpecker.accountRef`, or have its namespace served (the chart's `watchNamespaces`).";
        AccountNotReady: False, User,
            "The WoodpeckerAccount cannot be used.",
            "`graph-credential-operator describe wpa/ACCOUNT --namespace ACCOUNT-NAMESPACE` shows why, who must act and how.";
        AccountNotAllowed: False, User,
            "The WoodpeckerAccount does not allow this namespace.",
            "Add the namespace to the account's `spec.allowedNamespaces.names` (`kubectl edit wpa ACCOUNT --namespace ACCOUNT-NAMESPACE`), give it the labels of `spec.allowedNamespaces.selector` if the account has one, or use an account of this namespace.";
        CreateRejected: False, User,
            "Woodpecker rejected the request to create the credential.",
            "Check the fields that the message names. `tenantId` and `clientId` are immutable: if one is wrong, create a new object. Otherwise ask Woodpecker's support.";
        UpdateRejected: False, User,
            "Woodpecker rejected the request to change the credential, or no longer has it; what it holds stays.",
            "Follow the message, or ask Woodpecker's support. To confirm a deletion: `kubectl annotate mgc NAME --namespace NAMESPACE --overwrite graph-credentials.io/confirm-deleted=ID`.";
        NoMatchToAdopt: False, User,
            "The account has no credential to adopt: none for the app, with `AdoptOnly`, or not the one that `adoption.credentialId` names.",
            "`graph-credential-operator orphans` lists what the account has. Use `adoption.policy: AdoptOrCreate`, or fix `adoption.credentialId`, both below `spec.destination.woodpecker`.";
        AlreadyExists: False, User,
            "The account already has a credential for the app, and `CreateOnly` forbids adopting it; or in the store, the object's record is for another tenant, client or cloud.",
            "Use `spec.destination.woodpecker.adoption.policy: AdoptOrCreate`, or delete the credential at Woodpecker; in the store, rename the object, or delete the record (`kubectl delete sgc RECORD --namespace NAMESPACE`).";
        AlreadyManaged: False, User,
            "Another object manages the same app at the same Woodpecker account.",
            "If this object has registered nothing, delete it. If it was moved to another account, set `accountRef` back. To keep it there instead, set `deletionPolicy: Retain` on the other object and delete that: unless `adoption.policy` is `CreateOnly`, this object then adopts the credential.";
        AmbiguousMatch: False, User,
            "Several credentials at Woodpecker match.",
            "Set `spec.destination.woodpecker.adoption.credentialId` to the one that your mailboxes use. `graph-credential-operator orphans` lists the credentials.";
        KeyringUnavailable: False, OperatorAdmin,
            "The operator's keyring is missing, damaged or not readable, and nothing is encrypted without it.",
            "Restore the keyring from a backup: `graph-credential-operator keys import --file FILE --operator-namespace OPERATOR-NAMESPACE`. Or grant the operator `get` on its Secret. Without a backup, see docs/tasks/keyring.md.";
        StorageForbidden: False, OperatorAdmin,
            "The API server forbids the operator to read or write the object's `SealedGraphCredential`: missing permissions, a quota or an admission policy.",
            "Grant the operator get, list, watch, create, update, patch and delete on `sealedgraphcredentials` in the namespace; check quotas and admission policies. `graph-credential-operator check --operator-namespace OPERATOR-NAMESPACE --service-account OPERATOR-NAMESPACE/SERVICE-ACCOUNT` names missing rights.";
        StorageError: False, OperatorAdmin,
            "The API server rejects the object's `SealedGraphCredential`, or what was written there does not stay.",
            "Apply the CRDs of the operator's version (`kubectl apply --server-side -f deploy/crds.yaml`), and look for an admission policy, a webhook or another controller that interferes.";
        InUse: False, MailboxManager,
            "Woodpecker rejects the deletion of the credential, usually because a mailbox uses it.",
            "Disconnect its mailboxes. Or delete only the object: `kubectl patch mgc NAME --namespace NAMESPACE --type merge --patch '{\"spec\": {\"deletionPolicy\": \"Retain\"}}'`.";
        AwaitingVerification: Unknown, User,
            "Nothing is registered before the client secret is verified.",
            "See `Verified`.";
        AwaitingExpiry: Unknown, User,
            "With `spec.entra.expiry: Follow`, a client secret is not registered before its expiry at Microsoft Entra is known.",
            "See `ExpiryConfirmed`.";
        Queued: Unknown, Nobody, "Other requests to the account are ahead in its queue.", RETRIES;
        OutcomeUnknown: Unknown, Nobody,
            "It is not known yet whether a create or an update took effect; the operator continues after two minutes.",
            RETRIES;
        RateLimited: Unknown, Nobody, "Woodpecker limits the rate of requests.", RETRIES;
        ApiNotInPlan: Unknown, User,
            "Woodpecker refuses a request because the account's plan does not include the API.",
            "Add the API add-on to the account at Woodpecker, under Marketplace, or upgrade its plan. The operator tries again automatically.";
        WoodpeckerUnavailable: Unknown, Nobody,
            "Woodpecker could not be reached or returned an error.",
            CHECK_NETWORK;
    }
    Credential ExpiryConfirmed {
        ExpiryMatches: True, Nobody, "The given expiry matches the one at Microsoft Entra.", NOTHING;
        ExpiryFollowed: True, Nobody, "The expiry at Microsoft Entra is used.", NOTHING;
        ExpiresEarlier: False, User,
            "At Microsoft Entra the client secret expires earlier than given.",
            "Correct the expiry in the Secret or `spec.secretExpiresAt`, or use `spec.entra.expiry: Follow`.";
        ExpiresLater: False, User,
            "At Microsoft Entra the client secret expires later than given.",
            "Correct the expiry in the Secret or `spec.secretExpiresAt`, or use `spec.entra.expiry: Follow`.";
        EntryMissing: False, User,
            "Microsoft Entra no longer shows the client secret, in three readings over five minutes.",
            RENEW;
        AmbiguousMatch: Unknown, User,
            "Several client secrets of the app can be this one, and they expire at different times.",
            "Remove those that are not used under Certificates & secrets.";
        NoMatchingSecret: Unknown, User,
            "No client secret of the app matches this one, although Microsoft issues tokens for it.",
            "Wait some minutes after it was created. If it stays, create a new one under Certificates & secrets.";
        AppInOtherTenant: Unknown, User,
            "The app belongs to another tenant, and its client secrets can be read only there.",
            "Give the expiry in the Secret, and remove `spec.entra`.";
        ApplicationNotFound: Unknown, User,
            "Microsoft Graph shows no such app in the tenant to the identity.",
            "Check `clientId` and `tenantId`, and the permissions of the EntraIdentity.";
        GrantMissing: Unknown, OperatorAdmin,
            "There is no EntraIdentity of this name with a grant for the namespace, the tenant and the app together, or the operator does not use EntraIdentities; nothing was read.",
            "Add the grant to the EntraIdentity's `spec.grants` and run the operator with `--entra-identities`, or fix `spec.entra.identityRef.name`.";
        IdentityNotReady: Unknown, OperatorAdmin,
            "The EntraIdentity cannot be used for the tenant.",
            "See the conditions of the EntraIdentity.";
        ReadForbidden: Unknown, OperatorAdmin,
            "Microsoft Graph does not let the EntraIdentity read the app.",
            "Grant it the application permission Application.Read.All with admin consent in the tenant.";
        RateLimited: Unknown, Nobody, "Microsoft limits the rate of requests.", RETRIES;
        MicrosoftUnavailable: Unknown, Nobody,
            "Microsoft Graph could not be reached or returned an error, for a week if the app was read before.",
            "The operator retries automatically. If it lasts, check the operator's connection to the internet.";
        ReadingPending: Unknown, Nobody, "The app has not been read yet.", NOTHING;
        AwaitingSecret: Unknown, User, "There is no usable client secret to compare.", "See `SecretReady`.";
    }
    Credential Expiring {
        ExpiresSoon: True, User, "The client secret expires within the warning period.", RENEW;
        Expired: True, User,
            "The client secret's expiry has passed; Ready is False.",
            concat!("Create a new client secret in Entra and put it into the Secret with its expiry: ", write_secret!(), ". If Microsoft still accepts the old one, correct its date instead: ", write_expiry!(), ".");
        NotExpiring: False, Nobody, "The client secret does not expire within the warning period.", NOTHING;
    }
    Credential Ready {
        Ready: True, Nobody, "The client secret is verified, registered and not expired.", NOTHING;
        InvalidObject: False, User,
            "The object does not match its schema; it and its registration are left as they are.",
            "Fix the field that the message names: `kubectl edit mgc NAME --namespace NAMESPACE`.";
    }
}

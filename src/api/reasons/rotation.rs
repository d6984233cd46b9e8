//! The reasons of a `MicrosoftGraphCredential` with `spec.rotation`.

use super::{NOTHING, RETRIES};

entries! {
    Credential RotationReady {
        RotationScheduled: True, Nobody,
            "The client secret in use is replaced before it expires; the message says when.", NOTHING;
        CreationPending: Unknown, Nobody,
            "A client secret is to be created, or a new one waits for its verification and registration.", RETRIES;
        OutcomeUnknown: Unknown, Nobody,
            "Microsoft Graph gave no usable response to the creation or removal of a client secret. The operator looks for what was created for 15 minutes, and removes it before it creates another one.",
            RETRIES;
        RenewalOverdue: False, User,
            "Half of `spec.rotation.renewBefore` has passed, and the client secret was not replaced yet.",
            "Follow the message: it says what prevents a new client secret. Before the expiry, mail still works.";
        GrantMissing: False, OperatorAdmin,
            "No grant of the EntraIdentity names the namespace, the tenant and the app together; nothing was created or removed.",
            "Add the grant to the EntraIdentity's `spec.grants`.";
        IdentityNotReady: False, OperatorAdmin,
            "The EntraIdentity cannot be used for the tenant.",
            "See the conditions of the EntraIdentity.";
        WriteForbidden: False, TenantAdmin,
            "Microsoft Graph does not let the EntraIdentity change the app.",
            "Grant it the application permission Application.ReadWrite.OwnedBy with admin consent in the tenant, and make its service principal there an owner of the app: `az ad app owner add --id CLIENT-ID --owner-object-id OBJECT-ID`.";
        ApplicationNotFound: False, User,
            "The tenant has no such application. An app of another tenant can be rotated only there.",
            "Check `spec.clientId` and `spec.tenantId`.";
        LifetimeNotAllowed: False, TenantAdmin,
            "An app management policy of the tenant does not allow client secrets that are valid this long.",
            "Shorten `spec.rotation.validity`, or exempt the app from the policy.";
        SecretsNotAllowed: False, TenantAdmin,
            "An app management policy of the tenant does not allow client secrets for the app.",
            "Exempt the app from the policy.";
        TooManySecrets: False, TenantAdmin,
            "The app has no room for another client secret, or earlier ones could not be removed.",
            "Remove client secrets that are not used in the Entra admin center, under Certificates & secrets.";
        WriteRejected: False, OperatorAdmin,
            "Microsoft Graph rejects the request for another reason.",
            "See the operator's log.";
        AlreadyManaged: False, User,
            "Another object already rotates the client secrets of the same app.",
            "Use one object per app with `spec.rotation`: delete this one or the other one, or use `spec.secretRef`.";
        StorageForbidden: False, OperatorAdmin,
            "The API server forbids the operator to write the object's `SealedGraphCredential`, so no client secret is created.",
            "Grant the operator get, list, watch, create, update, patch and delete on `sealedgraphcredentials` in the namespace; check quotas and admission policies.";
        StorageError: Unknown, Nobody,
            "A client secret could not be saved in the object's `SealedGraphCredential`. It is removed at Entra, and another one is created.",
            RETRIES;
        KeyringUnavailable: False, OperatorAdmin,
            "The operator's keyring is missing, damaged or not readable, and no client secret is created without it.",
            "Restore the keyring from a backup: `graph-credential-operator keys import --file FILE --operator-namespace OPERATOR-NAMESPACE`.";
        RateLimited: Unknown, Nobody, "Microsoft limits the rate of requests or changes.", RETRIES;
        MicrosoftUnavailable: Unknown, Nobody,
            "Microsoft Graph could not be reached or returned an error.", RETRIES;
    }
    Credential UnknownOwnSecrets {
        SecretsNotRecorded: True, User,
            "The app has client secrets that were created for this object, but that nothing records: their text was lost, or another cluster has the object too.",
            "If nothing uses them, `graph-credential-operator rotate NAME --remove-unknown --namespace NAMESPACE`, or remove them in the Entra admin center.";
    }
}

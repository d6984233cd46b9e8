//! The reasons of an `EntraIdentity`.

use super::{CHECK_NETWORK, NOTHING, PLAIN_VALUE, RETRIES};

/// How to compare what the message names with what Entra trusts.
const COMPARE: &str = "`az ad app federated-credential list --id CLIENT-ID` shows what Entra trusts. Set the value to the one in the message, character by character: `az ad app federated-credential update`. A change works after some minutes.";

entries! {
    Identity Ready {
        Authenticated: True, Nobody, "Entra issues tokens for Microsoft Graph in the identity's home tenant.", NOTHING;
        InvalidObject: False, User,
            "The object does not match its schema; nothing is read or changed with it.",
            "Fix the field that the message names: `kubectl edit ei NAME --namespace OPERATOR-NAMESPACE`.";
        SignInPending: Unknown, Nobody, "The operator has not signed in with the identity yet.", NOTHING;
        TokenFileUnusable: False, OperatorAdmin,
            "The ServiceAccount token for the identity's cloud is not mounted, or its file cannot be used.",
            "Set `entraIdentities.enabled` in the chart, or use Azure workload identity, which mounts the token.";
        SecretNotFound: False, User,
            "The operator's namespace has no Secret with the name that `spec.auth` gives.",
            "Create the Secret in the operator's namespace, for a certificate with `kubectl create secret tls SECRET --cert FILE --key FILE --namespace OPERATOR-NAMESPACE`, or fix its name in `spec.auth`.";
        KeyMissing: False, User,
            "The Secret does not have a key that `spec.auth` names.",
            "`kubectl describe secret SECRET --namespace OPERATOR-NAMESPACE` shows its keys. Add the key, or name the right one in `spec.auth`.";
        EmptyValue: False, User, "A value in the Secret is empty.", "Put the value into the Secret.";
        InvalidCharacters: False, User,
            "A value in the Secret has white space at an end, or contains a line break or an invisible character; nothing was sent.",
            PLAIN_VALUE;
        ValueTooLong: False, User,
            "A value in the Secret is too long; nothing was sent.",
            "Put only the client secret, the certificate or its key into the key of the Secret.";
        AccessDenied: False, OperatorAdmin,
            "The operator is not allowed to read the Secret.",
            "Add the name of the Secret to `entraIdentities.secretNames` in the chart.";
        CertificateInvalid: False, User,
            "The certificate or its private key cannot be used: it is not PEM, not RSA, or the two do not belong together.",
            "Put a certificate with its unencrypted RSA key of at least 2048 bits into the Secret, both in PEM: `kubectl create secret tls SECRET --cert FILE --key FILE --namespace OPERATOR-NAMESPACE`.";
        IssuerUnreachable: False, OperatorAdmin,
            "Entra cannot fetch the keys of the cluster's issuer of ServiceAccount tokens.",
            "Publish the issuer's discovery document and keys on the internet, or use a certificate.";
        IssuerNotTrusted: False, User,
            "No federated credential of the app has the cluster's issuer.",
            COMPARE;
        AudienceNotTrusted: False, User,
            "No federated credential of the app has the audience of the token.",
            COMPARE;
        SubjectNotTrusted: False, User,
            "No federated credential of the app has the operator's ServiceAccount as subject.",
            COMPARE;
        FederationNotTrusted: False, User,
            "The app has no federated credential that matches the token; also for some minutes after it was created.",
            "Add a federated credential with the issuer, subject and audience in the message: `az ad app federated-credential create --id CLIENT-ID --parameters FILE`. It works after some minutes.";
        AssertionRejected: False, OperatorAdmin,
            "Entra rejects the ServiceAccount token itself: it has expired, its signature is unknown to Entra, or the clocks differ.",
            "Check the clock of the nodes, and that the published keys of the issuer are current.";
        CertificateNotTrusted: False, User,
            "Entra rejects the certificate: the app does not have it, it has expired, or the clocks differ.",
            "Upload the certificate under Certificates & secrets of the app, and check its dates.";
        InvalidClientSecret: False, User,
            "Entra rejects the client secret of the identity.",
            "Put the current secret's Value (not its ID) into the Secret.";
        SecretExpired: False, User,
            "The client secret of the identity has expired.",
            "Create a new client secret for the identity's app and put it into the Secret.";
        ApplicationNotFound: False, User,
            "The home tenant has no such app.",
            "Check `spec.clientId` and `spec.tenantId`.";
        ConsentMissing: False, TenantAdmin,
            "The tenant has no service principal of the identity's app, because no admin has consented to it there.",
            "Let an admin of the tenant open the consent URL in the message.";
        PermissionMissing: False, TenantAdmin,
            "The token does not have an application permission with which apps can be read.",
            "Add `Application.Read.All` or `Application.ReadWrite.OwnedBy` under API permissions of the app, and let an admin of the tenant open the consent URL in the message.";
        TenantNotFound: False, User, "This cloud has no such tenant.", "Check `tenantId` and `spec.cloud`.";
        TenantBlocked: False, TenantAdmin,
            "The tenant is blocked because of inactivity, or was deleted.",
            "Ask Microsoft's support to reactivate the tenant.";
        TenantRestricted: False, OperatorAdmin,
            "A proxy between the operator and Microsoft does not allow the tenant.",
            "Add the tenant to the proxy's tenant restrictions, or let the operator bypass the proxy.";
        ApplicationDisabled: False, TenantAdmin,
            "The identity's app is disabled in the tenant.",
            "Enable sign-in under Enterprise applications > Properties.";
        PublicClient: False, User,
            "The identity's app is a public client, which cannot sign in without a user.",
            "Register a web app, or turn off \"Allow public client flows\".";
        ConditionalAccessBlocked: False, TenantAdmin,
            "A Conditional Access policy for workload identities blocks the operator's IP address.",
            "Allow the address for the identity's app.";
        WrongCloud: False, User, "The tenant is in another Microsoft cloud.", "Correct `spec.cloud`.";
        SignInRejected: False, User,
            "Entra rejects the sign-in for another reason.",
            "Look up the message's AADSTS code with `explain`, or in Microsoft's documentation.";
        RateLimited: False, Nobody, "Microsoft limits the rate of requests.", RETRIES;
        MicrosoftUnavailable: False, Nobody,
            "Microsoft's token endpoint could not be reached or returned an error.",
            CHECK_NETWORK;
    }
    Identity TenantsReady {
        Authenticated: True, Nobody, "Entra issues tokens in every tenant that the grants name.", NOTHING;
        TenantsNotReady: False, TenantAdmin,
            "The identity cannot sign in, or lacks a permission, in some tenants that the grants name.",
            "`kubectl get ei NAME --namespace OPERATOR-NAMESPACE --output jsonpath={.status.tenants}` shows for each of them what is missing.";
        SignInPending: Unknown, Nobody, "The operator has not signed in in every tenant yet.", NOTHING;
    }
}

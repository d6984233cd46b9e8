{{/* Generated from values.yaml by `make generate`; do not edit. Sets each value that is null or missing to its default, a map or a list to an empty one. Every template includes it first. */}}
{{- define "operator.defaults" -}}
{{- $defaults := fromJson `{
  "admissionPolicies": {
    "enabled": true
  },
  "affinity": {},
  "allowUnverified": false,
  "allowedWoodpeckerUrls": [],
  "caBundle": {
    "configMapName": "",
    "key": "ca.crt",
    "secretName": ""
  },
  "commonLabels": {},
  "crds": {
    "annotations": {},
    "enabled": true,
    "keep": true
  },
  "deploymentAnnotations": {},
  "dnsConfig": {},
  "dnsPolicy": "",
  "dnsServers": [],
  "entraIdentities": {
    "enabled": false,
    "otherServiceAccounts": [],
    "secretNames": []
  },
  "extraArgs": [],
  "extraContainers": [],
  "extraEnv": [],
  "extraEnvFrom": [],
  "extraObjects": [],
  "extraVolumeMounts": [],
  "extraVolumes": [],
  "fullnameOverride": "",
  "global": {
    "commonLabels": {},
    "imagePullSecrets": [],
    "imageRegistry": "",
    "nodeSelector": {},
    "priorityClassName": "",
    "tolerations": []
  },
  "grafanaDashboard": {
    "annotations": {},
    "enabled": false,
    "labels": {},
    "namespace": ""
  },
  "helmTest": {
    "enabled": true,
    "podSpec": {}
  },
  "hostAliases": [],
  "image": {
    "digest": "",
    "pullPolicy": "IfNotPresent",
    "registry": "",
    "repository": "graph-credential-operator",
    "tag": ""
  },
  "imagePullSecrets": [],
  "keyringSecretName": "graph-credential-operator-keyring",
  "leaderElection": {
    "enabled": true,
    "leaseName": "graph-credential-operator"
  },
  "listenAddress": "0.0.0.0",
  "livenessProbe": {},
  "log": {
    "filterConfigMapName": "",
    "format": "json",
    "level": "info"
  },
  "mailboxes": {
    "enabled": false
  },
  "maxConcurrentReconciles": 0,
  "metrics": {
    "service": {
      "annotations": {},
      "enabled": true,
      "labels": {},
      "port": 8080
    },
    "tls": {
      "requireAuthorization": false,
      "secretName": ""
    }
  },
  "microsoftAuthority": "",
  "microsoftGraph": "",
  "nameOverride": "",
  "namedSecrets": [],
  "namespaceOverride": "",
  "networkPolicy": {
    "apiServerPorts": [],
    "dnsTo": [],
    "enabled": false,
    "extraEgress": [],
    "metricsFrom": [],
    "restApiFrom": []
  },
  "nodeSelector": {},
  "podAnnotations": {},
  "podDisruptionBudget": {
    "enabled": true,
    "maxUnavailable": 1,
    "minAvailable": ""
  },
  "podLabels": {},
  "podMonitor": {
    "additionalLabels": {},
    "authorization": {},
    "enabled": false,
    "honorLabels": true,
    "interval": "30s",
    "metricRelabelings": [],
    "namespace": "",
    "relabelings": [],
    "renderMode": "alwaysRender",
    "scrapeTimeout": "10s",
    "tlsConfig": {}
  },
  "podSecurityContext": {},
  "podSpec": {},
  "preDeleteHook": {
    "activeDeadlineSeconds": 280,
    "enabled": true,
    "podSpec": {}
  },
  "priorityClassName": "",
  "prometheusRule": {
    "additionalLabels": {},
    "additionalRuleAnnotations": {},
    "additionalRuleLabels": {},
    "disabled": {},
    "enabled": false,
    "namespace": "",
    "overrides": {},
    "renderMode": "alwaysRender",
    "runbookBaseUrl": ""
  },
  "propagationWindow": "",
  "proxy": {
    "httpsProxy": "",
    "noProxy": ""
  },
  "rbac": {
    "aggregateClusterRoles": true,
    "clusterWideCRDs": true,
    "create": true,
    "namespaceSelectors": false
  },
  "readinessProbe": {},
  "replicaCount": 2,
  "resources": {},
  "restApi": {
    "apiKeysSecretName": "graph-credential-operator-api-keys",
    "enabled": false,
    "insecureHttp": false,
    "maxConnections": 256,
    "maxCredentials": 1000,
    "separateReplicas": 0,
    "service": {
      "annotations": {},
      "labels": {},
      "port": 443,
      "type": "ClusterIP"
    },
    "tlsSecretName": ""
  },
  "revisionHistoryLimit": 3,
  "secretAccess": "get",
  "securityContext": {},
  "serviceAccount": {
    "annotations": {},
    "create": true,
    "labels": {},
    "name": ""
  },
  "serviceMonitor": {
    "additionalLabels": {},
    "authorization": {},
    "enabled": false,
    "honorLabels": true,
    "interval": "30s",
    "metricRelabelings": [],
    "namespace": "",
    "relabelings": [],
    "renderMode": "alwaysRender",
    "scrapeTimeout": "10s",
    "tlsConfig": {}
  },
  "startupProbe": {},
  "terminationGracePeriodSeconds": 90,
  "tolerations": [],
  "topologySpreadConstraints": [],
  "updateStrategy": {},
  "watchNamespaces": []
}` -}}
{{- $_ := set . "Values" (mergeOverwrite $defaults .Values) -}}
{{- end -}}

{{- define "operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "operator.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{/* A version may have a `+` and any length, a label may not. */}}
{{- define "operator.labelValue" -}}
{{- . | replace "+" "_" | trunc 63 | regexFind "^.*[A-Za-z0-9]" -}}
{{- end -}}

{{- define "operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "operator.labels" -}}
{{ include "operator.selectorLabels" . }}
app.kubernetes.io/version: {{ include "operator.labelValue" .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ include "operator.labelValue" (printf "%s-%s" .Chart.Name .Chart.Version) | quote }}
{{- with include "operator.commonLabels" . }}
{{ . }}
{{- end }}
{{- end -}}

{{/* The labels that users add to everything, without names of the chart's own. */}}
{{- define "operator.commonLabels" -}}
{{- $labels := mergeOverwrite (dict) .Values.global.commonLabels .Values.commonLabels -}}
{{- with omit $labels "app.kubernetes.io/name" "app.kubernetes.io/component" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/* The chart's labels with others, which replace none of them: a list of the root and each map. */}}
{{- define "operator.labelsWith" -}}
{{- $labels := include "operator.labels" (first .) | fromYaml -}}
{{- range rest . }}{{ $labels = merge $labels . }}{{ end -}}
{{- toYaml $labels -}}
{{- end -}}

{{- define "operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.create: false requires serviceAccount.name: all pods of the namespace share the ServiceAccount default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* A released chart has a registry of its own, so that of the parent chart must replace it. */}}
{{- define "operator.imageRegistry" -}}
{{- default .Values.image.registry .Values.global.imageRegistry -}}
{{- end -}}

{{- define "operator.image" -}}
{{- with .Values.image -}}
{{- with include "operator.imageRegistry" $ }}{{ . }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ default ($.Chart.AppVersion | replace "+" "_") .tag }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "operator.listenAddress" -}}
{{- if contains ":" .Values.listenAddress }}[{{ .Values.listenAddress }}]{{ else }}{{ .Values.listenAddress }}{{ end -}}
{{- end -}}

{{/* Rules for the operator's own kinds. It patches the objects themselves only to set and remove finalizers. */}}
{{- define "operator.ownKindsRules" -}}
- apiGroups: [graph-credentials.io]
  resources: [microsoftgraphcredentials, woodpeckeraccounts]
  verbs: {{ ternary "[get, list, watch, patch]" "[get, list, watch]" .Values.rbac.clusterWideCRDs }}
- apiGroups: [graph-credentials.io]
  resources: [microsoftgraphcredentials/status, woodpeckeraccounts/status]
  verbs: [update]
{{- if .Values.mailboxes.enabled }}
- apiGroups: [graph-credentials.io]
  resources: [woodpeckermailboxes]
  verbs: [get, list, watch]
- apiGroups: [graph-credentials.io]
  resources: [woodpeckermailboxes/status]
  verbs: [update]
{{- end }}
- apiGroups: [graph-credentials.io]
  resources: [sealedgraphcredentials]
  verbs: [get, list, watch, create, update, patch{{ if or .Values.rbac.clusterWideCRDs .Values.restApi.enabled }}, delete{{ end }}]
{{- if or .Values.restApi.enabled .Values.restApi.separateReplicas }}
- apiGroups: [graph-credentials.io]
  resources: [sealedgraphcredentials/status]
  verbs: [update]
{{- end }}
{{ include "operator.eventRules" . }}
{{- if .Values.rbac.clusterWideCRDs }}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
{{- end }}
{{- end -}}

{{- define "operator.eventRules" -}}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{/* Rules for Secrets, by secretAccess. Not used with `named`. */}}
{{- define "operator.secretRules" -}}
- apiGroups: [""]
  resources: [secrets]
  verbs: {{ ternary "[get, list, watch]" "[get]" (eq .Values.secretAccess "watch") }}
{{- end -}}

{{- define "operator.subject" -}}
- kind: ServiceAccount
  name: {{ include "operator.serviceAccountName" . | quote }}
  namespace: {{ include "operator.namespace" . | quote }}
{{- end -}}

{{/* For objects whose deletion would delete other objects: helm, Argo CD and Flux do not delete them. */}}
{{- define "operator.keep" -}}
helm.sh/resource-policy: keep
argocd.argoproj.io/sync-options: Prune=false,Delete=false
kustomize.toolkit.fluxcd.io/prune: disabled
{{- end -}}

{{- define "operator.crdAnnotations" -}}
{{- $keep := ternary (include "operator.keep" . | fromYaml) (dict) .Values.crds.keep -}}
{{- with mergeOverwrite (dict) .Values.crds.annotations $keep -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/* The namespace is that of the pod, so that no argument names it: kustomize could not change it there. */}}
{{- define "operator.namespaceEnv" -}}
- name: GCO_OPERATOR_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- end -}}

{{/* What the API server adds to an admission policy, so that Argo CD finds no difference. */}}
{{- define "operator.matchEverything" -}}
matchPolicy: Equivalent
namespaceSelector: {}
objectSelector: {}
{{- end -}}

{{/* Whether a request is by one of these ServiceAccounts, in CEL. The namespace is not named: kustomize could not change it
there. A namesake elsewhere is restricted as well. */}}
{{- define "operator.isAccount" -}}
request.userInfo.username.matches('^system:serviceaccount:[^:]+:({{ join "|" . | replace "." "[.]" }})$')
{{- end -}}

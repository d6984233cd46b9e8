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

{{- define "operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "operator.labels" -}}
{{ include "operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with omit .Values.commonLabels "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.create: false requires serviceAccount.name: all pods of the namespace share the ServiceAccount default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "operator.image" -}}
{{- with .Values.image -}}
{{- with .registry }}{{ . }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end -}}
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
  name: {{ include "operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* For objects whose deletion would delete other objects: helm, Argo CD and Flux do not delete them. */}}
{{- define "operator.keep" -}}
helm.sh/resource-policy: keep
argocd.argoproj.io/sync-options: Prune=false,Delete=false
kustomize.toolkit.fluxcd.io/prune: disabled
{{- end -}}

{{- define "operator.hook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

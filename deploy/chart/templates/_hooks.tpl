{{/* What the hook before an uninstall (`remove-finalizers`) and the chart's test (`check`) have in common. Both have a
ServiceAccount of their own, whose rights exist only while they run. */}}

{{/* The hook's name ends below 63 characters, because the Job's name becomes a label of its pods. */}}
{{- define "operator.hookName" -}}
{{- printf "%s-remove-finalizers" (include "operator.fullname" . | trunc 45 | trimSuffix "-") -}}
{{- end -}}

{{- define "operator.testName" -}}
{{- printf "%s-check" (include "operator.fullname" .) -}}
{{- end -}}

{{/* Labels that the selectors of the operator's pods do not match. */}}
{{- define "operator.hookSelectorLabels" -}}
app.kubernetes.io/name: {{ printf "%s-remove-finalizers" (include "operator.name" . | trunc 45 | trimSuffix "-") | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "operator.testSelectorLabels" -}}
app.kubernetes.io/name: {{ printf "%s-check" (include "operator.name" . | trunc 45 | trimSuffix "-") | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Labels and annotations of a hook's pod. A sidecar would keep the pod running after the command has ended. */}}
{{- define "operator.hookPodLabels" -}}
{{- $own := last . | fromYaml -}}
{{- with first . -}}
{{- $all := mergeOverwrite (dict) .Values.podLabels (include "operator.labels" . | fromYaml) $own -}}
{{- toYaml (set $all "sidecar.istio.io/inject" "false") -}}
{{- end -}}
{{- end -}}

{{- define "operator.hookPodAnnotations" -}}
{{- toYaml (mergeOverwrite (dict) .Values.podAnnotations (dict "sidecar.istio.io/inject" "false" "linkerd.io/inject" "disabled")) -}}
{{- end -}}

{{/* The pod spec of a hook: the root, its name (account), the name of its container, and more fields of the container. */}}
{{- define "operator.hookPodSpec" -}}
{{- $hook := . -}}
{{- with .root -}}
restartPolicy: Never
serviceAccountName: {{ $hook.account }}
automountServiceAccountToken: true
enableServiceLinks: false
{{- with include "operator.imagePullSecrets" . }}
imagePullSecrets:
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: {{ $hook.command }}
    image: {{ include "operator.image" . | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy | quote }}
    {{- $hook.container | nindent 4 }}
    {{- with .Values.securityContext }}
    securityContext:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- include "operator.scheduling" . }}
{{- end -}}
{{- end -}}

{{/* A hook's ServiceAccount and its rights, which are deleted whether the hook succeeds or fails: the root, the event, the
name of all objects, the rules in all namespaces and those in the operator's. */}}
{{- define "operator.hookAccount" -}}
{{- $hook := . -}}
{{- with .root -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $hook.name }}
  namespace: {{ include "operator.namespace" . | quote }}
  {{- include "operator.hookMetadata" (list . $hook.event "-2") | nindent 2 }}
automountServiceAccountToken: false
{{- with include "operator.imagePullSecrets" . }}
imagePullSecrets:
  {{- . | nindent 2 }}
{{- end }}
{{- if .Values.rbac.create }}
{{- range $kind := ternary (list "ClusterRole" "Role") (list "Role") .Values.rbac.clusterWideCRDs }}
{{- $isNamespaced := eq $kind "Role" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  name: {{ $hook.name }}
  {{- if $isNamespaced }}
  namespace: {{ include "operator.namespace" $hook.root | quote }}
  {{- end }}
  {{- include "operator.hookMetadata" (list $hook.root $hook.event "-2") | nindent 2 }}
rules:
  {{- ternary $hook.rules $hook.clusterRules $isNamespaced | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  name: {{ $hook.name }}
  {{- if $isNamespaced }}
  namespace: {{ include "operator.namespace" $hook.root | quote }}
  {{- end }}
  {{- include "operator.hookMetadata" (list $hook.root $hook.event "-1") | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $kind }}
  name: {{ $hook.name }}
subjects:
  - kind: ServiceAccount
    name: {{ $hook.name }}
    namespace: {{ include "operator.namespace" $hook.root | quote }}
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* Labels and annotations of the objects that a hook needs: a list of the root, the event and the weight. */}}
{{- define "operator.hookMetadata" -}}
labels:
  {{- include "operator.labels" (first .) | nindent 2 }}
annotations:
  helm.sh/hook: {{ index . 1 }}
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
  helm.sh/hook-weight: {{ last . | quote }}
{{- end -}}

{{/* What the hook before an uninstall may do. */}}
{{- define "operator.hookClusterRules" -}}
- apiGroups: [graph-credentials.io]
  resources: [microsoftgraphcredentials, woodpeckeraccounts]
  verbs: [get, list, patch]
{{- if .Values.entraIdentities.enabled }}
- apiGroups: [graph-credentials.io]
  resources: [entraidentities]
  verbs: [get, list, patch]
{{- end }}
{{- end -}}

{{- define "operator.hookRules" -}}
{{ include "operator.deploymentRules" . }}
- apiGroups: [apps]
  resources: [deployments/scale]
  resourceNames: [{{ include "operator.fullname" . | quote }}]
  verbs: [patch]
{{ include "operator.leaseRules" . }}
{{- end -}}

{{/* What the test may do. It may not read the keyring, which would decrypt every record. */}}
{{- define "operator.testClusterRules" -}}
# To find another operator.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [list]
- apiGroups: [admissionregistration.k8s.io]
  resources: [validatingadmissionpolicies, validatingadmissionpolicybindings]
  verbs: [list]
# To check the rights of the operator's ServiceAccount.
- apiGroups: [authorization.k8s.io]
  resources: [subjectaccessreviews]
  verbs: [create]
{{- end -}}

{{- define "operator.testRules" -}}
{{ include "operator.deploymentRules" . }}
{{- if .Values.leaderElection.enabled }}
{{ include "operator.leaseRules" . }}
{{- end }}
{{- end -}}

{{/* Whether helm installed the Deployment. */}}
{{- define "operator.deploymentRules" -}}
- apiGroups: [apps]
  resources: [deployments]
  resourceNames: [{{ include "operator.fullname" . | quote }}]
  verbs: [get]
{{- end -}}

{{/* Whether an operator leads. */}}
{{- define "operator.leaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ .Values.leaderElection.leaseName | quote }}]
  verbs: [get]
{{- end -}}

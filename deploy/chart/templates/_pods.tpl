{{/* The pods of the Deployment and of the hooks. */}}

{{/* A pod spec with fields over it: a list of its text and the fields. */}}
{{- define "operator.merged" -}}
{{- if last . -}}
{{- $merged := mergeOverwrite (first . | fromYaml) (deepCopy (last .)) -}}
{{- include "operator.removeNulls" $merged -}}
{{- toYaml $merged -}}
{{- else -}}
{{- first . -}}
{{- end -}}
{{- end -}}

{{/* Removes fields that are null from a map, as helm does in values. */}}
{{- define "operator.removeNulls" -}}
{{- $map := . -}}
{{- range $key, $value := $map -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $map $key -}}
{{- else if kindIs "map" $value -}}
{{- include "operator.removeNulls" $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Those of the chart and of its parent, which may list names alone. */}}
{{- define "operator.imagePullSecrets" -}}
{{- $all := list -}}
{{- range concat .Values.imagePullSecrets .Values.global.imagePullSecrets -}}
{{- $all = append $all (ternary (dict "name" .) . (kindIs "string" .)) -}}
{{- end -}}
{{- with uniq $all }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* Where and how all pods run. */}}
{{- define "operator.scheduling" -}}
{{- with mergeOverwrite (dict) .Values.global.nodeSelector .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with default .Values.global.tolerations .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with default .Values.global.priorityClassName .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dnsPolicy }}
dnsPolicy: {{ . | quote }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Arguments of `run` that `check` has as well, so that the chart's test checks what the operator uses. */}}
{{- define "operator.checkedArgs" -}}
- "--leader-elect={{ .Values.leaderElection.enabled }}"
- "--leader-election-lease={{ .Values.leaderElection.leaseName }}"
- "--keyring-secret={{ .Values.keyringSecretName }}"
{{- range .Values.watchNamespaces }}
- "--watch-namespace={{ . }}"
{{- end }}
{{- if not .Values.rbac.clusterWideCRDs }}
- --enable-finalizers=false
{{- end }}
{{- range .Values.allowedWoodpeckerUrls }}
- {{ printf "--allowed-woodpecker-url=%s" . | quote }}
{{- end }}
{{- with .Values.microsoftAuthority }}
- {{ printf "--microsoft-authority=%s" . | quote }}
{{- end }}
{{- if .Values.entraIdentities.enabled }}
- --entra-identities
{{- end }}
{{- if .Values.mailboxes.enabled }}
- --mailboxes
{{- end }}
{{- with .Values.microsoftGraph }}
- {{ printf "--microsoft-graph=%s" . | quote }}
{{- end }}
{{- range .Values.dnsServers }}
- {{ printf "--dns-server=%s" . | quote }}
{{- end }}
{{- if include "operator.caVolume" . }}
- {{ printf "--ca-bundle=/etc/graph-credential-operator/ca/%s" .Values.caBundle.key | quote }}
{{- end }}
{{- end -}}

{{/* The variables of both, which also set the proxy. */}}
{{- define "operator.checkedEnv" -}}
{{ include "operator.namespaceEnv" . }}
{{- with .Values.proxy.httpsProxy }}
- name: HTTPS_PROXY
  value: {{ . | quote }}
{{- end }}
{{- if or .Values.proxy.httpsProxy .Values.proxy.noProxy }}
- name: NO_PROXY
  value: {{ .Values.proxy.noProxy | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The volume with additional CA certificates, and where it is mounted; empty without them. */}}
{{- define "operator.caVolume" -}}
{{- if .Values.caBundle.configMapName -}}
- name: extra-ca
  configMap:
    name: {{ .Values.caBundle.configMapName | quote }}
{{- else if .Values.caBundle.secretName -}}
- name: extra-ca
  secret:
    secretName: {{ .Values.caBundle.secretName | quote }}
{{- end -}}
{{- end -}}

{{- define "operator.caMount" -}}
{{- if include "operator.caVolume" . -}}
- name: extra-ca
  mountPath: /etc/graph-credential-operator/ca
  readOnly: true
{{- end -}}
{{- end -}}

{{- define "operator.podSpec" -}}
{{- $caBundle := include "operator.caVolume" . }}
{{- $restTls := and .Values.restApi.enabled .Values.restApi.tlsSecretName }}
{{- $metricsTls := .Values.metrics.tls.secretName -}}
serviceAccountName: {{ include "operator.serviceAccountName" . | quote }}
automountServiceAccountToken: true
{{- with include "operator.imagePullSecrets" . }}
imagePullSecrets:
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationGracePeriodSeconds: {{ int64 .Values.terminationGracePeriodSeconds }}
# The operator reads no Service addresses from its environment.
enableServiceLinks: false
containers:
  - name: operator
    image: {{ include "operator.image" . | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy | quote }}
    args:
      - run
      - "--events-deployment={{ include "operator.fullname" . }}"
      - "--health-probe-bind-address={{ include "operator.listenAddress" . }}:8080"
      - {{ printf "--log-level=%s" .Values.log.level | quote }}
      - "--log-format={{ .Values.log.format }}"
      {{- if $metricsTls }}
      - "--metrics-bind-address={{ include "operator.listenAddress" . }}:8444"
      - --metrics-tls-cert=/etc/graph-credential-operator/metrics/tls.crt
      - --metrics-tls-key=/etc/graph-credential-operator/metrics/tls.key
      {{- end }}
      {{- if .Values.metrics.tls.requireAuthorization }}
      - --metrics-require-authorization
      {{- end }}
      {{- if .Values.log.filterConfigMapName }}
      - --log-filter-file=/etc/graph-credential-operator/log/filter
      {{- end }}
      {{- include "operator.checkedArgs" . | nindent 6 }}
      - "--processes={{ max 1 (add (int .Values.replicaCount) (int .Values.restApi.separateReplicas)) }}"
      {{- if .Values.allowUnverified }}
      - --allow-unverified
      {{- end }}
      {{- with .Values.propagationWindow }}
      - "--propagation-window={{ . }}"
      {{- end }}
      {{- with .Values.maxConcurrentReconciles }}
      - "--max-concurrent-reconciles={{ . }}"
      {{- end }}
      {{- if .Values.restApi.enabled }}
      {{- if not (or .Values.restApi.tlsSecretName .Values.restApi.insecureHttp) }}
      {{- fail "restApi.enabled requires restApi.tlsSecretName, because requests contain API keys and client secrets; or restApi.insecureHttp, if a proxy in front of the operator terminates TLS" }}
      {{- end }}
      - "--rest-bind-address={{ include "operator.listenAddress" . }}:8443"
      - "--rest-api-keys-secret={{ .Values.restApi.apiKeysSecretName }}"
      - "--rest-max-connections={{ .Values.restApi.maxConnections }}"
      - "--rest-max-credentials={{ .Values.restApi.maxCredentials }}"
      {{- if .Values.restApi.tlsSecretName }}
      - --rest-tls-cert=/etc/graph-credential-operator/rest/tls.crt
      - --rest-tls-key=/etc/graph-credential-operator/rest/tls.key
      {{- else }}
      - --rest-insecure-http
      {{- end }}
      {{- end }}
      {{- range .Values.extraArgs }}
      - {{ . | quote }}
      {{- end }}
    env:
      # Identifies the pod in events and in the Lease.
      - name: POD_NAME
        valueFrom:
          fieldRef:
            fieldPath: metadata.name
      {{- if .Values.entraIdentities.enabled }}
      # A variable, so that commands in the pod have it too.
      - name: GCO_FEDERATED_TOKEN_DIR
        value: /var/run/secrets/graph-credentials.io/entra
      {{- end }}
      {{- include "operator.checkedEnv" . | nindent 6 }}
    {{- with .Values.extraEnvFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    ports:
      - name: http
        containerPort: 8080
        protocol: TCP
      {{- if $metricsTls }}
      - name: metrics
        containerPort: 8444
        protocol: TCP
      {{- end }}
      {{- if .Values.restApi.enabled }}
      - name: rest
        containerPort: 8443
        protocol: TCP
      {{- end }}
    {{- with .Values.livenessProbe }}
    livenessProbe:
      httpGet:
        path: /healthz
        port: http
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.readinessProbe }}
    readinessProbe:
      httpGet:
        path: /readyz
        port: http
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.startupProbe }}
    startupProbe:
      httpGet:
        path: /healthz
        port: http
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.securityContext }}
    securityContext:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- if or $caBundle $restTls $metricsTls .Values.log.filterConfigMapName .Values.entraIdentities.enabled .Values.extraVolumeMounts }}
    volumeMounts:
      {{- with include "operator.caMount" . }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- if .Values.log.filterConfigMapName }}
      - name: log-filter
        mountPath: /etc/graph-credential-operator/log
        readOnly: true
      {{- end }}
      {{- if $restTls }}
      - name: rest-tls
        mountPath: /etc/graph-credential-operator/rest
        readOnly: true
      {{- end }}
      {{- if $metricsTls }}
      - name: metrics-tls
        mountPath: /etc/graph-credential-operator/metrics
        readOnly: true
      {{- end }}
      {{- if .Values.entraIdentities.enabled }}
      - name: entra-tokens
        mountPath: /var/run/secrets/graph-credentials.io/entra
        readOnly: true
      {{- end }}
      {{- with .Values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- end }}
  {{- with .Values.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or $caBundle $restTls $metricsTls .Values.log.filterConfigMapName .Values.entraIdentities.enabled .Values.extraVolumes }}
volumes:
  {{- with include "operator.caVolume" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .Values.log.filterConfigMapName }}
  - name: log-filter
    configMap:
      name: {{ . | quote }}
      optional: true
  {{- end }}
  {{- if $restTls }}
  - name: rest-tls
    secret:
      secretName: {{ .Values.restApi.tlsSecretName | quote }}
  {{- end }}
  {{- if $metricsTls }}
  - name: metrics-tls
    secret:
      secretName: {{ $metricsTls | quote }}
  {{- end }}
  {{- if .Values.entraIdentities.enabled }}
  # Entra accepts a token with exactly one audience, which differs between Microsoft's clouds.
  - name: entra-tokens
    projected:
      sources:
        - serviceAccountToken:
            audience: api://AzureADTokenExchange
            expirationSeconds: 3600
            path: global
        - serviceAccountToken:
            audience: api://AzureADTokenExchangeUSGov
            expirationSeconds: 3600
            path: us-government
        - serviceAccountToken:
            audience: api://AzureADTokenExchangeChina
            expirationSeconds: 3600
            path: china
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- include "operator.scheduling" . }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  {{- $ours := dict "labelSelector" (dict "matchLabels" (include "operator.selectorLabels" $ | fromYaml)) }}
  - {{- toYaml (merge (deepCopy .) $ours) | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

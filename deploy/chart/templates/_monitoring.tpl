{{/* Whether an object of the Prometheus operator is rendered, empty if not: a list of the root, the name of its values and
its kind. */}}
{{- define "operator.rendersMonitoring" -}}
{{- $name := index . 1 -}}
{{- $values := get (first .).Values $name -}}
{{- $api := printf "monitoring.coreos.com/v1/%s" (last .) -}}
{{- if $values.enabled -}}
{{- if or (eq $values.renderMode "alwaysRender") ((first .).Capabilities.APIVersions.Has $api) -}}
true
{{- else if eq $values.renderMode "failIfMissing" -}}
{{- fail (printf "%s.renderMode is failIfMissing, and the cluster does not serve %s: install the Prometheus operator first, or choose another renderMode; for helm template, add --api-versions %s" $name $api $api) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* How Prometheus scrapes the metrics: a list of the root, and the values of the monitor. */}}
{{- define "operator.scrape" -}}
{{- $metrics := (first .).Values.metrics -}}
{{- with last . -}}
path: /metrics
interval: {{ .interval | quote }}
scrapeTimeout: {{ .scrapeTimeout | quote }}
honorLabels: {{ .honorLabels }}
{{- if $metrics.tls.secretName }}
scheme: https
{{- with .tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- if and $metrics.tls.requireAuthorization .authorization }}
authorization:
  {{- toYaml .authorization | nindent 2 }}
{{- end }}
{{- with .relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* The pages of the runbooks in the repository are named by their path in it. */}}
{{- define "operator.runbookBaseUrl" -}}
{{- default "docs/operations/runbooks" .Values.prometheusRule.runbookBaseUrl | trimSuffix "/" -}}
{{- end -}}

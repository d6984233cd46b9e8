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
{{- $pages := "docs/operations/runbooks" -}}
{{- with .Chart.Sources -}}
{{- $pages = printf "%s/blob/v%s/%s" (first . | trimSuffix "/") $.Chart.AppVersion $pages -}}
{{- end -}}
{{- default $pages .Values.prometheusRule.runbookBaseUrl | trimSuffix "/" -}}
{{- end -}}

{{/* The alert rules, without those that are disabled, and with the changes of the values. */}}
{{- define "operator.alertGroups" -}}
{{- $values := .Values.prometheusRule -}}
{{- $runbooks := printf "%s/" (include "operator.runbookBaseUrl" .) -}}
{{- $groups := (.Files.Get "rules.yaml" | fromYaml).groups -}}
{{- $known := list -}}
{{- range $groups }}{{ range .rules }}{{ $known = append $known .alert }}{{ end }}{{ end -}}
{{- range $value := list "disabled" "overrides" -}}
{{- range $name := get $values $value | keys | sortAlpha -}}
{{- if not (has $name $known) -}}
{{- fail (printf "prometheusRule.%s: there is no alert %s; the alerts are %s" $value $name ($known | uniq | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $all := list -}}
{{- range $group := $groups -}}
{{- $rules := list -}}
{{- range $rule := $group.rules -}}
{{- if not (get $values.disabled $rule.alert) -}}
{{- $override := default (dict) (get $values.overrides $rule.alert) -}}
{{- $labels := mergeOverwrite $rule.labels $values.additionalRuleLabels (default (dict) $override.labels) (pick $override "severity") -}}
{{- $_ := set $rule.annotations "runbook_url" ($rule.annotations.runbook_url | replace "docs/operations/runbooks/" $runbooks) -}}
{{- with $override.for -}}
{{- $waits := printf " for %s" $rule.for -}}
{{- $_ := set $rule.annotations "summary" ($rule.annotations.summary | replace $waits (ternary (printf " for %s" .) "" (regexMatch "[1-9]" .))) -}}
{{- end -}}
{{- $annotations := mergeOverwrite $rule.annotations $values.additionalRuleAnnotations (default (dict) $override.annotations) -}}
{{- $rule = mergeOverwrite $rule (pick $override "for" "keep_firing_for") (dict "labels" $labels "annotations" $annotations) -}}
{{- $rules = append $rules $rule -}}
{{- end -}}
{{- end -}}
{{- with $rules -}}
{{- $all = append $all (set $group "rules" .) -}}
{{- end -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

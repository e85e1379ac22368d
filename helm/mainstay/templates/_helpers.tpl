{{/* Labels of every object that is no engine's own. */}}
{{- define "mainstay.labels" -}}
{{ include "mainstay.labelsOf" (dict "root" . "engine" "postgres") }}
{{- end }}

{{/* Labels by which the operator of PostgreSQL is selected; they never change. */}}
{{- define "mainstay.selector" -}}
{{ include "mainstay.selectorOf" (dict "root" . "engine" "postgres") }}
{{- end }}

{{/* The same of an engine's objects: `root` is the chart's, `engine` a key of the values. */}}
{{- define "mainstay.labelsOf" -}}
{{ include "mainstay.selectorOf" . }}
app.kubernetes.io/part-of: mainstay
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* Labels by which an engine's operator is selected; they never change. */}}
{{- define "mainstay.selectorOf" -}}
app.kubernetes.io/name: mainstay-{{ .engine }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

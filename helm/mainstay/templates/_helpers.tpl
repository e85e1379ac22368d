{{/* Labels of every object. */}}
{{- define "mainstay.labels" -}}
{{ include "mainstay.selector" . }}
app.kubernetes.io/part-of: mainstay
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Labels by which the operator of PostgreSQL is selected; they never change. */}}
{{- define "mainstay.selector" -}}
app.kubernetes.io/name: mainstay-postgres
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

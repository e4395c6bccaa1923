{{- define "tenant.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Metadata of an object of the release. Takes the root and what the object is for. */}}
{{- define "tenant.metadata" -}}
{{- $root := index . 0 -}}
name: lorafinetune-{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "tenant.labels" $root | nindent 2 }}
{{- end }}

{{/* The pods of all stages: what the operator writes on them. */}}
{{- define "tenant.stages" -}}
app.kubernetes.io/managed-by: lorafinetune
{{- end }}

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

{{/* Subjects of a binding. Takes the root and subjects, whose accounts are of the namespace unless they say otherwise. */}}
{{- define "tenant.subjects" -}}
{{- $root := index . 0 -}}
{{- range index . 1 }}
- kind: {{ .kind }}
  name: {{ .name | quote }}
  {{- if eq .kind "ServiceAccount" }}
  namespace: {{ .namespace | default $root.Release.Namespace }}
  {{- else }}
  apiGroup: rbac.authorization.k8s.io
  {{- end }}
{{- end }}
{{- end }}

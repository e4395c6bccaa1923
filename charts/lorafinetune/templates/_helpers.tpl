{{/* Name of the release's objects: short enough for what is added to it. */}}
{{- define "lorafinetune.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | trunc 37 | trimSuffix "-") .Chart.Name -}}
{{- end -}}
{{- end }}

{{/* Name of what lies in no namespace: two releases may share their name, if not their namespace. */}}
{{- define "lorafinetune.clusterName" -}}
{{ .Release.Namespace }}:{{ include "lorafinetune.name" . }}
{{- end }}

{{/* Which operator a metric is of: no other has this namespace and name. */}}
{{- define "lorafinetune.operator" -}}
{{ .Release.Namespace }}/{{ include "lorafinetune.name" . }}
{{- end }}

{{- define "lorafinetune.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "lorafinetune.labels" -}}
{{ include "lorafinetune.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "lorafinetune.metadata" -}}
name: {{ include "lorafinetune.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "lorafinetune.labels" . | nindent 2 }}
{{- end }}

{{/* The reference of one of the images: by digest, else by tag. Takes the root and the image's name. */}}
{{- define "lorafinetune.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- with $root.Values.images.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end }}

{{/* The name by which Jobs call the progress receiver; its certificate is for this name. */}}
{{- define "lorafinetune.host" -}}
{{ include "lorafinetune.name" . }}.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "lorafinetune.tlsSecret" -}}
{{ .Values.tls.existingSecret | default (printf "%s-tls" (include "lorafinetune.name" .)) }}
{{- end }}

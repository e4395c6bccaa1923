{{/* What the operator needs where it serves. It reads no Secret: Jobs name them, and the kubelet reads them. */}}
{{- define "lorafinetune.rules" -}}
- apiGroups: [lorafinetune.dev]
  resources: [lorafinetunes]
  verbs: [get, list, watch]
- apiGroups: [lorafinetune.dev]
  resources: [lorafinetunes/status]
  verbs: [update]
# For owner references that block deletion, where the admission plugin OwnerReferencesPermissionEnforcement asks.
- apiGroups: [lorafinetune.dev]
  resources: [lorafinetunes/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# By which the pods of a training on several nodes find the first of them.
- apiGroups: [""]
  resources: [services]
  verbs: [create, get]
# With the URIs of a complete run, where it asks for one: export.configMap.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create, delete, get, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, watch]
{{- end }}

{{/* The operator's account, as the subject of a binding. */}}
{{- define "lorafinetune.subjects" -}}
- kind: ServiceAccount
  name: {{ include "lorafinetune.name" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

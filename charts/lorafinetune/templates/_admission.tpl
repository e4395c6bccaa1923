{{/* The rule for one Secret. Takes the list that it stands in, its place there, the path from there to its name, what
     refers to it, and when there is one. */}}
{{- define "lorafinetune.secretRule" -}}
{{- $list := index . 0 -}}
{{- $place := index . 1 -}}
{{- $path := index . 2 -}}
{{- $secret := index . 3 -}}
{{- $there := index . 4 -}}
- reason: Forbidden
  expression: >-
    !({{ $there }}) || variables.mayCreatePods ||
    authorizer.group('').resource('secrets').namespace(request.namespace)
    .name({{ $secret }}.name).check('get').allowed()
  messageExpression: >-
    'spec.{{ $list }}[{{ $place }}]{{ $path }}: ' + request.userInfo.username + ' may neither get the Secret '
    + {{ $secret }}.name + ' nor create pods in ' + request.namespace
    + ': name one that you may get, or have one of the two granted'
{{- end }}

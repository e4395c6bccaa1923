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

{{/* What the limits that are set are about. Takes the limits. */}}
{{- define "lorafinetune.limitVariables" -}}
{{- if or .hosts .writePrefixes -}}
- name: places
  expression: >-
    [{'field': 'spec.model.source', 'uri': string(object.spec.model.source),
    'connection': string(object.spec.model.?connection.orValue(''))},
    {'field': 'spec.storage.uri', 'uri': string(object.spec.storage.uri),
    'connection': string(object.spec.storage.?connection.orValue(''))}]
    + object.spec.datasets.map(d, {'field': 'spec.datasets', 'uri': string(d.source),
    'connection': string(d.?connection.orValue(''))})
    + object.spec.export.publish.map(p, {'field': 'spec.export.publish', 'uri': string(p.to),
    'connection': string(p.?connection.orValue(''))})
    + object.spec.export.?trackers.orValue([]).filter(t, t.name != 'tensorboard').map(t,
    {'field': 'spec.export.trackers', 'uri': string(t.name), 'connection': string(t.?connection.orValue(''))})
{{- end }}
{{- with .hosts }}
- name: servers
  expression: >-
    variables.places.filter(p, !p.uri.startsWith('file://')).map(p, {'field': p.field, 'uri': p.uri,
    'url': string((object.spec.connections.filter(c, c.name == p.connection && has(c.endpoint)).map(c, c.endpoint)
    + [{'hf': 'https://huggingface.co', 'modelscope': 'https://modelscope.cn',
    's3': 'https://amazonaws.com', 'https': p.uri, 'mlflow': '', 'wandb': 'https://api.wandb.ai'}[p.uri.split('://')[0]]])[0])})
- name: outside
  expression: >-
    variables.servers.filter(s, !s.url.lowerAscii().matches('^https?://([a-z0-9-]+[.])*(
    {{- join "|" . | replace "." "[.]" }})(:[0-9]+)?(/|$)'))
{{- end }}
{{- with .writePrefixes }}
- name: prefixes
  expression: >-
    ['{{ join "', '" . }}'].map(p, p.replace('$(namespace)', request.namespace))
- name: misplaced
  expression: >-
    variables.places.filter(p, p.field in ['spec.storage.uri', 'spec.export.publish']
    && !variables.prefixes.exists(prefix, p.uri == prefix || p.uri.startsWith(prefix + '/')))
{{- end }}
{{- end }}

{{/* What nobody may ask for. Takes the limits. */}}
{{- define "lorafinetune.limitRules" -}}
{{- with .hosts }}
- reason: Forbidden
  expression: size(variables.outside) == 0
  messageExpression: >-
    variables.outside[0].field + ': ' + variables.outside[0].uri + ' is at ' + variables.outside[0].url
    + ', and this cluster lets LoRAFineTunes reach {{ join ", " . }} alone: name a place there, by its connection'
{{- end }}
{{- with .writePrefixes }}
- reason: Forbidden
  expression: size(variables.misplaced) == 0
  messageExpression: >-
    variables.misplaced[0].field + ': ' + variables.misplaced[0].uri
    + ' is not where LoRAFineTunes of this namespace may write: choose a place below '
    + variables.prefixes.join(' or ')
{{- end }}
{{- if not (kindIs "invalid" .gpus) }}
- reason: Forbidden
  expression: >-
    object.spec.resources.train.gpu.count * object.spec.resources.train.?nodes.orValue(1) <= {{ int .gpus }}
  message: >-
    spec.resources.train.gpu.count: at most {{ int .gpus }} in this cluster, over all nodes: set it to that or less
- reason: Forbidden
  expression: >-
    [
    {{- range $stage := list "download" "prepare" "train" "export" }}
    object.spec.resources.{{ $stage }}.requests, object.spec.resources.{{ $stage }}.limits,
    {{- end }}
    ].all(wanted, wanted.all(name, !name.contains('/')))
  message: >-
    spec.resources: this cluster limits GPUs, which are asked for in spec.resources.train.gpu alone: remove resources
    with a / in their name from requests and limits
{{- end }}
{{- with .priorityClasses }}
- reason: Forbidden
  expression: >-
    object.spec.scheduling.?priorityClassName.orValue('{{ first . }}') in ['{{ join "', '" . }}']
  messageExpression: >-
    'spec.scheduling.priorityClassName: ' + object.spec.scheduling.priorityClassName
    + ' is not for LoRAFineTunes of this cluster: name {{ join " or " . }}, or remove it'
{{- end }}
{{- with .activeDeadlineSeconds }}
- reason: Forbidden
  expression: object.spec.?activeDeadlineSeconds.orValue({{ add (int .) 1 }}) <= {{ int . }}
  message: >-
    spec.activeDeadlineSeconds: this cluster wants a limit of at most {{ int . }} seconds: set it to that or less
{{- end }}
{{- end }}

{{- define "egret.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "egret.labels" -}}
app.kubernetes.io/name: egret
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "egret.selector" -}}
app.kubernetes.io/name: egret-webhook
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "egret.host" -}}
egret-webhook.{{ .Release.Namespace }}.svc
{{- end }}

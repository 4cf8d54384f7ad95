{{- define "hoptrace.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The chart's name alone where the release contains it: `helm install hoptrace` gives hoptrace. */}}
{{- define "hoptrace.fullname" -}}
{{- $name := include "hoptrace.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What a selector may contain: never changes in the life of a release. */}}
{{- define "hoptrace.selector" -}}
app.kubernetes.io/name: {{ include "hoptrace.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "hoptrace.labels" -}}
{{ include "hoptrace.selector" . }}
app.kubernetes.io/component: agent
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "hoptrace.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "hoptrace.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "hoptrace.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- if .Values.image.digest -}}
{{- printf "%s:%s@%s" .Values.image.repository $tag .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{/* The file capabilities of the image are those three: others reach root alone. */}}
{{- define "hoptrace.capabilities" -}}
{{- $root := eq (int .Values.security.runAsUser) 0 -}}
{{- if and .Values.security.sysAdmin (not $root) -}}
{{- fail "security.sysAdmin needs security.runAsUser=0: the image's file capabilities are BPF, PERFMON and NET_ADMIN" -}}
{{- end -}}
{{- if and .Values.security.extraCapabilities (not $root) -}}
{{- fail "security.extraCapabilities needs security.runAsUser=0: the image's file capabilities are BPF, PERFMON and NET_ADMIN" -}}
{{- end -}}
{{- if .Values.security.sysAdmin }}
- SYS_ADMIN
{{- else }}
- BPF
- PERFMON
{{- end }}
- NET_ADMIN
{{- range .Values.security.extraCapabilities }}
- {{ . }}
{{- end }}
{{- end -}}

{{- define "hoptrace.monitored" -}}
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled -}}
{{- fail "podMonitor.enabled and serviceMonitor.enabled: everything would be scraped twice, choose one" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.service.enabled) -}}
{{- fail "serviceMonitor.enabled needs service.enabled: or take podMonitor" -}}
{{- end -}}
{{- if or .Values.podMonitor.enabled .Values.serviceMonitor.enabled -}}yes{{- end -}}
{{- end -}}

{{/* The value of --auth, or nothing. */}}
{{- define "hoptrace.auth" -}}
{{- if eq .Values.auth.type "basic" -}}
{{- if not .Values.auth.secretName -}}
{{- fail "auth.type=basic needs auth.secretName: a Secret whose key \"users\" has a line user:password for each" -}}
{{- end -}}
basic:/etc/hoptrace-auth/users
{{- else if eq .Values.auth.type "token-review" -}}
token-review
{{- end -}}
{{- end -}}

{{/* An endpoint of either monitor, given as `monitor`. The rules select job="hoptrace". */}}
{{- define "hoptrace.endpoint" -}}
- port: metrics
  path: /metrics
  {{- if .Values.tls.secretName }}
  scheme: https
  {{- with .Values.tls.prometheus }}
  tlsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with .Values.auth.prometheus }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .monitor }}
  {{- with .interval }}
  interval: {{ . }}
  {{- end }}
  {{- with .scrapeTimeout }}
  scrapeTimeout: {{ . }}
  {{- end }}
  relabelings:
    - targetLabel: job
      replacement: hoptrace
    - sourceLabels: [__meta_kubernetes_pod_node_name]
      targetLabel: node
    {{- with .relabelings }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end -}}

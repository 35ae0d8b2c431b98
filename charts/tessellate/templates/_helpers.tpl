{{- define "tessellate.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* The image of a component. Call with (list . "gateway"). A digest wins over a tag. */ -}}
{{- define "tessellate.image" -}}
{{- $root := index . 0 -}}
{{- $image := (index $root.Values (index . 1)).image -}}
{{- with $root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}
{{- else }}:{{ $image.tag | default $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{- /* What selects the pods of a component. Call with (list . "gateway"). */ -}}
{{- define "tessellate.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "tessellate.labels" -}}
{{- $root := index . 0 -}}
{{ include "tessellate.selector" . }}
app.kubernetes.io/part-of: tessellate
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ $root.Chart.Name }}-{{ $root.Chart.Version }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Metadata of an object in the release's namespace, less the name: (list . "gateway"). */ -}}
{{- define "tessellate.metadata" -}}
namespace: {{ (index . 0).Release.Namespace }}
labels: {{- include "tessellate.labels" . | nindent 2 }}
{{- end }}

{{- /* What pods of a component are labelled with: never the chart's version, which would restart them all. */ -}}
{{- define "tessellate.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $component := index $root.Values (index . 1) -}}
{{- with $component.podAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
labels:
  {{- with $root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with $component.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- include "tessellate.selector" . | nindent 2 }}
  app.kubernetes.io/part-of: tessellate
{{- end }}

{{- /* Nobody in particular, as Pod Security's restricted level asks. */ -}}
{{- define "tessellate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "tessellate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "tessellate.podAddress" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
{{- end }}

{{- define "tessellate.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 1
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 2
{{- end }}

{{- /* Where the pods of a component may run, and what they are pulled with: (list . "gateway"). */ -}}
{{- define "tessellate.placement" -}}
{{- $root := index . 0 -}}
{{- $component := index $root.Values (index . 1) -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $component.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if $component.affinity }}
affinity: {{- toYaml $component.affinity | nindent 2 }}
{{- else if eq ($component.antiAffinity | default "none") "soft" }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "tessellate.selector" . | nindent 14 }}
{{- else if eq ($component.antiAffinity | default "none") "hard" }}
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels: {{- include "tessellate.selector" . | nindent 12 }}
{{- end }}
{{- with $component.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $component.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $component.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Who the operator is to the API server. */ -}}
{{- define "tessellate.operatorUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "tessellate.fullname" . }}-operator
{{- end }}

{{- define "tessellate.claim" -}}
{{- if .enabled }}
volumeClaimTemplates:
  - metadata:
      name: state
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .storageClassName }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ .size }}
{{- end }}
{{- end }}

{{- /* Namespaces in which models, and so ranks, are known to be; none where they may be anywhere. */ -}}
{{- define "tessellate.modelNamespaces" -}}
{{- concat (list .Values.operator.watchNamespace | compact) .Values.networkPolicies.modelNamespaces | uniq | join "," }}
{{- end }}

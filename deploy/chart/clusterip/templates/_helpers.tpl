{{/* Labels by which pods are found: never to be changed in a release. */}}
{{- define "clusterip.selector" -}}
app.kubernetes.io/name: clusterip
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "clusterip.labels" -}}
{{ include "clusterip.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: service-proxy
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* The configuration file of the agent. */}}
{{- define "clusterip.config" -}}
apiVersion: clusterip.dev/v1alpha1
kind: AgentConfiguration
{{ toYaml (merge (deepCopy .Values.extraConfig) .Values.config) }}
{{- with .Values.apiServers }}
kubeApiServer:
  {{- toYaml . | nindent 2 }}
{{- else }}
# Real addresses of the API servers, needed once kube-proxy is gone:
# kubeApiServer: [https://192.0.2.1:6443]
{{- end }}
healthzBindAddress: 0.0.0.0:{{ .Values.healthz.port }}
metricsBindAddress: {{ ternary "0.0.0.0" "127.0.0.1" .Values.metrics.expose }}:{{ .Values.metrics.port }}
bpffs: {{ .Values.paths.bpffs }}/clusterip
# Named, as a container does not see which cgroup is the root of all.
cgroup: {{ .Values.paths.cgroup }}
stateDir: {{ .Values.paths.state }}
socket: {{ .Values.paths.run }}/agent.sock
{{- with .Values.loadBalancer.class }}
loadBalancerClass: {{ . }}
loadBalancerPool:
  {{- toYaml (required "loadBalancer.class needs loadBalancer.pool: addresses to give" $.Values.loadBalancer.pool) | nindent 2 }}
{{- else }}
{{- if .Values.loadBalancer.pool }}
{{- fail "loadBalancer.pool needs loadBalancer.class: which Services get its addresses" }}
{{- end }}
{{- end }}
{{- if .Values.dns.enabled }}
clusterDomain: {{ .Values.dns.clusterDomain }}
{{- end }}
{{- end }}

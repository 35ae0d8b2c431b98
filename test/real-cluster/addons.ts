/** What every cluster has beside its nodes: Services' addresses (kube-proxy), names (CoreDNS), storage. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ControlPlane, kubeconfigText } from "../cluster/control-plane.ts";
import { DNS_IMAGE } from "./images.ts";
import type { Sandbox } from "./sandbox.ts";

const POD_NETWORK = "10.244.0.0/16";
export const DNS_ADDRESS = "10.96.0.10";
/** Not 53, so that nobody special may serve it. */
export const DNS_PORT = 1053;
const STORAGE_CLASS = "local";
const VOLUMES_PER_NODE = 3;

/** One per node: each writes into the firewall of its own network. */
export async function startKubeProxy(
  sandbox: Sandbox,
  { authority, innerUrl }: ControlPlane,
  program: string,
  node: { readonly name: string; readonly address: string; readonly namespace: string },
): Promise<void> {
  const file = (name: string) => join(sandbox.folder, name);
  const pair = await authority.issue({ commonName: "system:kube-proxy" });
  writeFileSync(file(`${node.name}-proxy.kubeconfig`), kubeconfigText(innerUrl, authority.certificate, pair), {
    mode: 0o600,
  });
  const config = {
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    mode: "nftables",
    bindAddress: node.address,
    hostnameOverride: node.name,
    clientConnection: { kubeconfig: file(`${node.name}-proxy.kubeconfig`) },
    clusterCIDR: POD_NETWORK,
    detectLocalMode: "ClusterCIDR",
    // The whole machine's table of connections is not ours to resize.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: "0s", tcpCloseWaitTimeout: "0s" },
    nftables: { syncPeriod: "30s", minSyncPeriod: "100ms" },
    healthzBindAddress: "127.0.0.1:10256",
    metricsBindAddress: "127.0.0.1:10249",
  };
  writeFileSync(file(`${node.name}-proxy.json`), JSON.stringify(config));
  sandbox.start(`${node.name}-kube-proxy`, [program, `--config=${file(`${node.name}-proxy.json`)}`], node.namespace);
}

/** Resolves when the API server has all of it; that names are answered is for the caller to wait for. */
export async function applyAddons(
  sandbox: Sandbox,
  controlPlane: ControlPlane,
  nodeNames: readonly string[],
): Promise<void> {
  const objects = [...nameServer(), ...storage(sandbox.folder, nodeNames)];
  await controlPlane.kubectl(["apply", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
}

const COREFILE = `.:${DNS_PORT} {
    errors
    health :8080
    ready :8181
    kubernetes cluster.local in-addr.arpa {
        ttl 5
    }
}
`;

function nameServer(): readonly object[] {
  const metadata = { name: "coredns", namespace: "kube-system" };
  const labels = { "k8s-app": "kube-dns" };
  const role = { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "system:coredns" };
  return [
    { apiVersion: "v1", kind: "ServiceAccount", metadata },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name: role.name },
      rules: [
        { apiGroups: [""], resources: ["services", "pods", "namespaces"], verbs: ["list", "watch"] },
        { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"] },
      ],
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name: role.name },
      roleRef: role,
      subjects: [{ kind: "ServiceAccount", ...metadata }],
    },
    { apiVersion: "v1", kind: "ConfigMap", metadata, data: { Corefile: COREFILE } },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata,
      spec: { replicas: 1, selector: { matchLabels: labels }, template: { metadata: { labels }, spec: namePod() } },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { ...metadata, name: "kube-dns" },
      spec: {
        clusterIP: DNS_ADDRESS,
        selector: labels,
        ports: [
          { name: "dns", port: 53, targetPort: DNS_PORT, protocol: "UDP" },
          { name: "dns-tcp", port: 53, targetPort: DNS_PORT, protocol: "TCP" },
        ],
      },
    },
  ];
}

const namePod = (): object => ({
  serviceAccountName: "coredns",
  dnsPolicy: "Default",
  containers: [
    {
      name: "coredns",
      image: DNS_IMAGE,
      imagePullPolicy: "Never",
      args: ["-conf", "/etc/coredns/Corefile"],
      readinessProbe: { httpGet: { path: "/ready", port: 8181 }, periodSeconds: 1 },
      volumeMounts: [{ name: "config", mountPath: "/etc/coredns" }],
    },
  ],
  volumes: [{ name: "config", configMap: { name: "coredns" } }],
});

/** A default class whose volumes are folders, some on each node, there before anybody asks. */
function storage(folder: string, nodeNames: readonly string[]): readonly object[] {
  const volumes = nodeNames.flatMap((node) =>
    Array.from({ length: VOLUMES_PER_NODE }, (_, index) => {
      const path = join(folder, "volumes", node, String(index));
      mkdirSync(path, { recursive: true });
      return {
        apiVersion: "v1",
        kind: "PersistentVolume",
        metadata: { name: `${node}-${index}` },
        spec: {
          capacity: { storage: "8Gi" },
          accessModes: ["ReadWriteOnce"],
          persistentVolumeReclaimPolicy: "Retain",
          storageClassName: STORAGE_CLASS,
          local: { path },
          nodeAffinity: {
            required: {
              nodeSelectorTerms: [
                { matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values: [node] }] },
              ],
            },
          },
        },
      };
    }),
  );
  return [
    {
      apiVersion: "storage.k8s.io/v1",
      kind: "StorageClass",
      metadata: { name: STORAGE_CLASS, annotations: { "storageclass.kubernetes.io/is-default-class": "true" } },
      provisioner: "kubernetes.io/no-provisioner",
      volumeBindingMode: "WaitForFirstConsumer",
    },
    ...volumes,
  ];
}

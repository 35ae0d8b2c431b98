/**
 * What a rank is in a cluster: a Pod pinned to its node, which mounts what it is told (rank-secrets.ts). The pod may do as little as a
 * pod can: it is nobody in particular, writes nowhere but its caches, and holds no credentials for the API server.
 */
import { dirname } from "node:path";
import { CLAIM_MOUNT } from "../../core/source.ts";
import { tlsFilesIn } from "../../core/wire/tls.ts";
import type { KubeObject } from "../kube/objects.ts";
import { RUNTIME_BYTES } from "../plan/footprint.ts";
import { rankName } from "../plan/names.ts";
import type { RankHost } from "../plan/told.ts";
import type { Assignment, ModelSpec, NodeFacts } from "../plan/types.ts";
import {
  ASSIGNMENT_ANNOTATION,
  MODEL_LABEL,
  NEIGHBOURS_ANNOTATION,
  RENEW_ANNOTATION,
  REVISION_ANNOTATION,
  modelLabels,
  rankLabels,
} from "./labels.ts";
import { ownerOf } from "./owner.ts";
import { CONFIG_VOLUME, secretVolume } from "./rank-secrets.ts";
import { tolerationsOf } from "./taints.ts";

export const RANK_PORT = 7400;
export const METRICS_PORT = 7401;

const CONFIG_DIRECTORY = "/etc/tessellate";
const CACHE_DIRECTORY = "/var/cache/tessellate";
const TOKEN_DIRECTORY = "/etc/tessellate-hub";
/** Nobody in particular; the same as in the image. */
const USER_ID = 65532;
/** What a rank's pod calls the device that it claims. */
const CLAIM = "device";
/** A rank lets sessions finish for 10 s. */
const GRACE_SECONDS = 15;

export type RankPodOptions = {
  readonly model: ModelSpec;
  readonly assignment: Assignment;
  readonly node: NodeFacts;
  readonly revision: string;
  readonly neighbours: readonly string[];
  readonly renewAfter: string; // ISO 8601
  readonly secretName: string; // of what it is told
  readonly image: string;
  readonly imagePullPolicy?: string;
};

/** Where a rank in a pod finds its things. */
export const hostOf = (model: ModelSpec, node: NodeFacts): RankHost => ({
  listen: { host: "0.0.0.0", port: RANK_PORT, metricsPort: METRICS_PORT }, // the pod's own address, by its environment
  tls: tlsFilesIn(CONFIG_DIRECTORY),
  cacheDirectory: node.cachePath ?? CACHE_DIRECTORY,
  signer: node.signer,
  addressOf: (rank) => `${rank.slice(0, 63)}.${model.name}.${model.namespace}.svc:${RANK_PORT}`, // see modelService
  ...(model.hubTokenSecret === undefined ? {} : { hubTokenFile: `${TOKEN_DIRECTORY}/token` }),
});

export function rankPod(options: RankPodOptions): KubeObject {
  const { model, assignment, node, revision } = options;
  return {
    metadata: {
      name: rankName(model, assignment),
      namespace: model.namespace,
      labels: rankLabels(model, assignment),
      annotations: {
        [ASSIGNMENT_ANNOTATION]: JSON.stringify(assignment),
        [REVISION_ANNOTATION]: revision,
        [NEIGHBOURS_ANNOTATION]: options.neighbours.join(),
        [RENEW_ANNOTATION]: options.renewAfter,
      },
      ownerReferences: [ownerOf(model)],
    },
    spec: {
      affinity: pinnedTo(node.machine ?? node.name),
      tolerations: tolerationsOf(model, node),
      hostname: rankName(model, assignment).slice(0, 63),
      subdomain: model.name,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      restartPolicy: "Always",
      terminationGracePeriodSeconds: GRACE_SECONDS,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: USER_ID,
        runAsGroup: USER_ID,
        fsGroup: USER_ID,
        seccompProfile: { type: "RuntimeDefault" },
      },
      containers: [containerOf(options)],
      volumes: mountsOf(options).map(({ volume }) => volume),
      ...(node.deviceClass === undefined
        ? {}
        : { resourceClaims: [{ name: CLAIM, resourceClaimTemplateName: claimTemplateName(node.deviceClass, model) }] }),
    },
  };
}

function containerOf(options: RankPodOptions): object {
  const { image, imagePullPolicy = "IfNotPresent" } = options;
  return {
    name: "rank",
    image,
    imagePullPolicy,
    command: ["node", "shard-runtime/main.ts", "--config", `${CONFIG_DIRECTORY}/rank.json`],
    env: [
      { name: "TESSELLATE_LISTEN_HOST", valueFrom: { fieldRef: { apiVersion: "v1", fieldPath: "status.podIP" } } },
      // Compiling its own sources is a third of a second of every start.
      { name: "NODE_COMPILE_CACHE", value: `${options.node.cachePath ?? CACHE_DIRECTORY}/code` },
    ],
    ports: [
      { name: "rank", containerPort: RANK_PORT, protocol: "TCP" },
      { name: "metrics", containerPort: METRICS_PORT, protocol: "TCP" },
    ],
    // Doors open at once, weights may take an hour: alive and ready are different questions.
    startupProbe: {
      httpGet: { path: "/healthz", port: "metrics" },
      periodSeconds: 1,
      timeoutSeconds: 5,
      failureThreshold: 120,
    },
    livenessProbe: {
      httpGet: { path: "/healthz", port: "metrics" },
      periodSeconds: 10,
      timeoutSeconds: 5,
      failureThreshold: 6,
    },
    readinessProbe: {
      httpGet: { path: "/readyz", port: "metrics" },
      periodSeconds: 2,
      timeoutSeconds: 5,
      failureThreshold: 3,
    },
    resources: resourcesOf(options),
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    },
    volumeMounts: mountsOf(options).map(({ mount }) => mount),
  };
}

function resourcesOf({ assignment, node }: RankPodOptions): object {
  const held = node.device === "cpu" ? assignment.weightBytes + assignment.kvBytes : 0;
  // Between tokens a rank waits for its neighbours: it asks for half of the threads that it may use.
  const requests = { cpu: `${node.threadCount * 500}m`, memory: String(Math.ceil(held + RUNTIME_BYTES)) };
  const claims = node.deviceClass === undefined ? {} : { claims: [{ name: CLAIM }] };
  if (node.gpuResource === undefined) return { requests, ...claims };
  return {
    ...claims,
    requests: { ...requests, [node.gpuResource]: "1" },
    limits: { [node.gpuResource]: "1" },
  };
}

/** By affinity and not by spec.nodeName, so that the scheduler counts the pod's resources and says why it does not fit. */
const pinnedTo = (machine: string): object => ({
  nodeAffinity: {
    requiredDuringSchedulingIgnoredDuringExecution: {
      nodeSelectorTerms: [{ matchFields: [{ key: "metadata.name", operator: "In", values: [machine] }] }],
    },
  },
});

type Mount = { readonly volume: { readonly name: string }; readonly mount: object };

function mountsOf({ model, assignment, node, secretName }: RankPodOptions): readonly Mount[] {
  const mount = (name: string, mountPath: string, source: object, readOnly = false): Mount => ({
    volume: { name, ...source },
    mount: { name, mountPath, ...(readOnly ? { readOnly } : {}) },
  });
  const { cachePath } = node;
  const token = model.hubTokenSecret;
  const claim = "persistentVolumeClaim" in model.source ? model.source.persistentVolumeClaim : undefined;
  return [
    mount(CONFIG_VOLUME, CONFIG_DIRECTORY, secretVolume(secretName, rankName(model, assignment)), true),
    mount("temporary", "/tmp", { emptyDir: {} }),
    cachePath === undefined
      ? mount("cache", CACHE_DIRECTORY, { emptyDir: {} })
      : mount("cache", cachePath, { hostPath: { path: cachePath, type: "DirectoryOrCreate" } }),
    ...signerMount(node).map((path) => mount("signer", path, { hostPath: { path, type: "Directory" } })),
    ...(token === undefined
      ? []
      : [
          mount(
            "hub",
            TOKEN_DIRECTORY,
            { secret: { secretName: token.name, items: [{ key: token.key, path: "token" }] } },
            true,
          ),
        ]),
    ...(claim === undefined
      ? []
      : [mount("model", CLAIM_MOUNT, { persistentVolumeClaim: { claimName: claim.claimName, readOnly: true } }, true)]),
  ];
}

/** The folder of the signer's socket: a socket made anew after a restart is another file, the folder stays. */
const signerMount = ({ signer }: NodeFacts): readonly string[] =>
  signer.startsWith("unix:") ? [dirname(signer.slice("unix:".length))] : [];

/** One for each class of device that a model's nodes have: each rank's pod gets a claim of its own made from it. */
export const claimTemplate = (deviceClass: string, model: ModelSpec): KubeObject => ({
  metadata: {
    name: claimTemplateName(deviceClass, model),
    namespace: model.namespace,
    labels: modelLabels(model),
    ownerReferences: [ownerOf(model)],
  },
  spec: { spec: { devices: { requests: [{ name: CLAIM, exactly: { deviceClassName: deviceClass } }] } } },
});

/** Both may be long; what a name may hold is 253. */
const claimTemplateName = (deviceClass: string, model: ModelSpec): string =>
  `${model.name}.${deviceClass}`.slice(0, 253);

/** Gives each rank a name within the cluster, for people and for scrapers; the ranks themselves dial addresses. */
export const modelService = (model: ModelSpec): KubeObject => ({
  metadata: {
    name: model.name,
    namespace: model.namespace,
    labels: modelLabels(model),
    ownerReferences: [ownerOf(model)],
  },
  spec: {
    clusterIP: "None",
    publishNotReadyAddresses: true,
    selector: { [MODEL_LABEL]: model.name },
    ports: [
      { name: "rank", port: RANK_PORT, targetPort: "rank", protocol: "TCP" },
      { name: "metrics", port: METRICS_PORT, targetPort: "metrics", protocol: "TCP" },
    ],
  },
});

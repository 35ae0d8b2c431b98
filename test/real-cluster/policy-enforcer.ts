/**
 * NetworkPolicies enforced on the nodes of the test cluster, as a network plug-in would: what policies, pods and namespaces
 * say becomes rules in each node's firewall. Our own, since no plug-in can be had here as source that builds; it reads
 * networking.k8s.io/v1 whole, but for ipBlock's exceptions, and enforces for pods, not for what runs on a node itself.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { KubeObject, Pod } from "../cluster/kube-types.ts";
import type { RealCluster } from "./real-cluster.ts";
import { runLine } from "./sandbox.ts";

type Selector = {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
    readonly values?: readonly string[];
  }[];
};
type Peer = {
  readonly podSelector?: Selector;
  readonly namespaceSelector?: Selector;
  readonly ipBlock?: { readonly cidr: string };
};
type Port = { readonly port?: number | string; readonly endPort?: number; readonly protocol?: string };
type Rule = { readonly ports?: readonly Port[]; readonly from?: readonly Peer[]; readonly to?: readonly Peer[] };
export interface Policy extends KubeObject {
  readonly spec: {
    readonly podSelector?: Selector;
    readonly policyTypes?: readonly ("Ingress" | "Egress")[];
    readonly ingress?: readonly Rule[];
    readonly egress?: readonly Rule[];
  };
}

export type PolicyState = {
  readonly policies: readonly Policy[];
  readonly pods: readonly Pod[];
  readonly namespaces: readonly KubeObject[];
};

export function matches({ matchLabels = {}, matchExpressions = [] }: Selector, { metadata }: KubeObject): boolean {
  const labels = metadata.labels ?? {};
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = labels[key];
      if (operator === "Exists") return value !== undefined;
      if (operator === "DoesNotExist") return value === undefined;
      return (value !== undefined && values.includes(value)) === (operator === "In");
    })
  );
}

const addressOf = ({ status }: Pod): string => status?.podIP ?? "";
const hasAddress = (pod: Pod): boolean =>
  addressOf(pod) !== "" && pod.spec.hostNetwork !== true && !/^(Succeeded|Failed)$/.test(pod.status?.phase ?? "");

/** A node's rules, for `nft -f`: replaces what the last ones said. */
export function rulesFor(node: string, { policies, pods, namespaces }: PolicyState): string {
  const all = pods.filter(hasAddress);
  const namespaceOf = new Map(namespaces.map((each) => [each.metadata.name, each]));
  /** Undefined: anybody. */
  const peersOf = (peers: readonly Peer[] | undefined, own: string): readonly (Pod | string)[] | undefined =>
    peers === undefined || peers.length === 0
      ? undefined
      : peers.flatMap(({ podSelector = {}, namespaceSelector, ipBlock }): readonly (Pod | string)[] => {
          if (ipBlock !== undefined) return [ipBlock.cidr];
          return all.filter((pod) => {
            const namespace = namespaceOf.get(pod.metadata.namespace ?? "");
            const isThere =
              namespaceSelector === undefined
                ? pod.metadata.namespace === own
                : namespace !== undefined && matches(namespaceSelector, namespace);
            return isThere && matches(podSelector, pod);
          });
        });
  const chains: string[] = [];
  const jumps: string[] = [];
  const local = all.filter(({ spec }) => spec.nodeName === node);
  for (const [index, pod] of local.entries()) {
    const own = policies.filter(
      ({ metadata, spec }) => metadata.namespace === pod.metadata.namespace && matches(spec.podSelector ?? {}, pod),
    );
    for (const [type, field, side] of [
      ["Egress", "egress", "saddr"],
      ["Ingress", "ingress", "daddr"],
    ] as const) {
      const isolating = own.filter(({ spec }) => (spec.policyTypes ?? ["Ingress"]).includes(type));
      if (isolating.length === 0) continue;
      const lines = isolating.flatMap(({ metadata, spec }) =>
        (spec[field] ?? []).flatMap((rule) => {
          const peers = peersOf(type === "Egress" ? rule.to : rule.from, metadata.namespace ?? "");
          return linesOf(rule.ports, peers, type === "Egress" ? undefined : pod, type === "Egress" ? "daddr" : "saddr");
        }),
      );
      const chain = `${field}-${index}`;
      // Refused at once, so that nobody waits for what never comes.
      chains.push(`chain ${chain} {\n${[...lines, "meta l4proto tcp reject with tcp reset", "drop"].join("\n")}\n}`);
      jumps.push(`ip ${side} ${addressOf(pod)} jump ${chain}`);
    }
  }
  // Behind Services' translation, as plug-ins look at it: by pods' addresses and their own ports.
  const forward = ["type filter hook forward priority 10; policy accept;", "ct state established,related accept"];
  return [
    `table inet ${TABLE}`,
    `delete table inet ${TABLE}`,
    `table inet ${TABLE} {`,
    ...chains,
    `chain forward {\n${[...forward, ...jumps].join("\n")}\n}`,
    "}",
    "",
  ].join("\n");
}

const TABLE = "tessellate-policies";

/** `own`: the pod whose named ports are meant; left out, those of each peer. */
function linesOf(
  ports: readonly Port[] | undefined,
  peers: readonly (Pod | string)[] | undefined,
  own: Pod | undefined,
  side: "saddr" | "daddr",
): readonly string[] {
  const from = (addresses: readonly string[]) => `ip ${side} { ${addresses.join(", ")} } `;
  const textOf = (peer: Pod | string) => (typeof peer === "string" ? peer : addressOf(peer));
  if (peers?.length === 0) return [];
  const whom = peers === undefined ? "" : from(peers.map(textOf));
  if (ports === undefined || ports.length === 0) return [`${whom}return`];
  return ports.flatMap(({ port, endPort, protocol = "TCP" }) => {
    const kind = protocol.toLowerCase();
    if (port === undefined) return [`${whom}meta l4proto ${kind} return`];
    if (typeof port === "number") return [`${whom}${kind} dport ${port}${endPort ? `-${endPort}` : ""} return`];
    if (own !== undefined) return numbersOf(own, port).map((number) => `${whom}${kind} dport ${number} return`);
    return (peers ?? []).flatMap((peer) =>
      typeof peer === "string"
        ? []
        : numbersOf(peer, port).map((number) => `${from([addressOf(peer)])}${kind} dport ${number} return`),
    );
  });
}

const numbersOf = ({ spec }: Pod, name: string): readonly number[] =>
  spec.containers.flatMap(({ ports = [] }) =>
    ports.flatMap((each) => (each.name === name && each.containerPort !== undefined ? [each.containerPort] : [])),
  );

export type PolicyEnforcer = {
  /** Rejects where a node refused its rules. */
  stop(): Promise<void>;
};

const SETTLE_MS = 50;
const PATH = "/usr/sbin:/usr/bin:/sbin:/bin";

/** Keeps every node's rules as the API server says they should be, until it is stopped. */
export function enforcePolicies({ controlPlane, sandbox, nodes }: RealCluster): PolicyEnforcer {
  const stop = new AbortController();
  const kept = {
    policies: new Map<string, Policy>(),
    pods: new Map<string, Pod>(),
    namespaces: new Map<string, KubeObject>(),
  };
  let changed = true;
  const follow = <T extends KubeObject>(path: string, into: Map<string, T>) =>
    controlPlane.api.follow<T>(
      path,
      ({ type, object }) => {
        const key = `${object.metadata.namespace ?? ""}/${object.metadata.name}`;
        if (type === "DELETED") into.delete(key);
        else into.set(key, object);
        changed = true;
      },
      stop.signal,
    );
  const following = Promise.all([
    follow("/apis/networking.k8s.io/v1/networkpolicies", kept.policies),
    follow("/api/v1/pods", kept.pods),
    follow("/api/v1/namespaces", kept.namespaces),
  ]);
  const written = new Map<string, string>();
  const write = async (): Promise<void> => {
    const state = {
      policies: [...kept.policies.values()],
      pods: [...kept.pods.values()],
      namespaces: [...kept.namespaces.values()],
    };
    await Promise.all(
      nodes.map(async ({ name, namespace }) => {
        const rules = rulesFor(name, state);
        if (written.get(name) === rules) return;
        const file = join(sandbox.folder, `${name}.nft`);
        writeFileSync(file, rules);
        await runLine(sandbox.inside(["/usr/sbin/nft", "-f", file], namespace), { PATH });
        written.set(name, rules);
      }),
    );
  };
  const writing = (async () => {
    while (!stop.signal.aborted) {
      if (changed) {
        changed = false;
        await write();
      }
      await sleep(SETTLE_MS);
    }
  })();
  writing.catch(() => undefined); // told by stop()
  return {
    async stop() {
      stop.abort();
      await following;
      await writing;
    },
  };
}

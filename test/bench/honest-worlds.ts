/**
 * Worlds that the bench `honest` rehearses: unlike nodes of several owners, near and far, in tensor-parallel groups,
 * chains beside each other and across each other, few and many sessions, long prompts. Each of them is played by this
 * machine, see docs/simulation.md.
 */
import type { Provider } from "../../core/gen/crds/provider.ts";
import type { ShardedModel } from "../../core/gen/crds/shardedmodel.ts";
import { shardedModelSchema } from "../../core/gen/crds/shardedmodel.ts";
import type { ShardNode, ShardNodeStatusMeasured } from "../../core/gen/crds/shardnode.ts";
import { withDefaults } from "../../core/schema.ts";
import { ARITHMETIC_ANNOTATION, BANDWIDTH_ANNOTATION, DELAY_ANNOTATION } from "../../operator/local/rehearsal.ts";

/** What a node reads of weights a second, and multiplies with rows. */
export type Kind = { readonly bytesPerSecond: number; readonly rowBytesPerSecond: number };

/** Slow enough that what else this machine does for a token (gateway, gRPC, other ranks) weighs little beside. */
export const KINDS = {
  quick: { bytesPerSecond: 260e6, rowBytesPerSecond: 9e9 },
  middling: { bytesPerSecond: 130e6, rowBytesPerSecond: 5.2e9 },
  slow: { bytesPerSecond: 65e6, rowBytesPerSecond: 3.3e9 },
} as const satisfies Readonly<Record<string, Kind>>;

export type HonestNode = {
  readonly name: string;
  readonly provider: string;
  readonly kind: keyof typeof KINDS;
  readonly delayMs: number; // of all that it sends
};

/** What each client asks for, again and again. */
export type Asked = { readonly promptTokens: number; readonly generatedTokens: number };

export type HonestWorld = {
  readonly name: string;
  readonly what: string;
  readonly nodes: readonly HonestNode[];
  readonly replicas: number;
  readonly providersMin: number;
  readonly tensorParallelMax: number;
  readonly slots: number; // a chain; the bench takes all of them
  readonly contextLength: number;
  readonly asked: Asked;
};

const node = (name: string, provider: string, kind: HonestNode["kind"], delayMs = 0): HonestNode => ({
  name,
  provider,
  kind,
  delayMs,
});
const world = (
  name: string,
  what: string,
  nodes: readonly HonestNode[],
  set: Partial<HonestWorld> = {},
): HonestWorld => ({
  name,
  what,
  nodes,
  replicas: 1,
  providersMin: new Set(nodes.map(({ provider }) => provider)).size,
  tensorParallelMax: 1,
  slots: 4,
  contextLength: 128,
  asked: { promptTokens: 40, generatedTokens: 40 },
  ...set,
});

export const WORLDS: readonly HonestWorld[] = [
  world("one", "one node", [node("a1", "ann", "middling")]),
  world("unlike", "a quick and a slow node", [node("a1", "ann", "quick"), node("b1", "bob", "slow")]),
  world("far", "three owners, far apart", [
    node("a1", "ann", "quick", 10),
    node("b1", "bob", "middling", 25),
    node("c1", "cat", "quick", 10),
  ]),
  world(
    "group",
    "two ranks side by side, and one node",
    [node("a1", "ann", "slow"), node("a2", "ann", "slow"), node("b1", "bob", "middling")],
    { tensorParallelMax: 2 },
  ),
  world("chains", "two chains", [node("a1", "ann", "quick"), node("b1", "bob", "quick")], {
    replicas: 2,
    providersMin: 1,
  }),
  world(
    "crossing",
    "two chains that share a node",
    [node("a1", "ann", "quick", 2), node("b1", "bob", "slow", 2), node("c1", "cat", "slow", 5)],
    { replicas: 2, providersMin: 2 },
  ),
  world(
    "four",
    "two chains over four unlike nodes",
    [
      node("a1", "ann", "quick"),
      node("b1", "bob", "middling", 5),
      node("c1", "cat", "slow", 5),
      node("d1", "dan", "middling"),
    ],
    { replicas: 2, providersMin: 2 },
  ),
  world(
    "eight",
    "eight sessions through four segments",
    [
      node("a1", "ann", "quick", 2),
      node("b1", "bob", "quick", 2),
      node("c1", "cat", "middling", 2),
      node("d1", "dan", "middling", 2),
    ],
    { slots: 8 },
  ),
  world("many", "32 sessions through two segments", [node("a1", "ann", "middling", 3), node("b1", "bob", "slow", 3)], {
    slots: 32,
  }),
  world(
    "prompts",
    "prompts twelve times as long as answers",
    [node("a1", "ann", "quick", 5), node("b1", "bob", "middling")],
    {
      contextLength: 512,
      asked: { promptTokens: 288, generatedTokens: 24 },
    },
  ),
];

/** The YAML's objects, schema defaults filled in. */
export function modelOf({
  replicas,
  providersMin,
  tensorParallelMax,
  slots,
  contextLength,
}: HonestWorld): ShardedModel {
  return withDefaults(shardedModelSchema, {
    apiVersion: "tessellate.dev/v1alpha1",
    kind: "ShardedModel",
    metadata: { name: "honest" },
    spec: {
      model: { source: { path: "models/demo" } },
      quantization: "f32",
      contextLength,
      replicas,
      slots,
      placement: { providers: { min: providersMin }, tensorParallel: { max: tensorParallelMax, when: "Always" } },
      handOff: { dtype: "f32" },
    },
  }) as ShardedModel;
}

export const providersOf = ({ nodes }: HonestWorld): readonly Provider[] =>
  [...new Set(nodes.map(({ provider }) => provider))].map((name) => ({
    apiVersion: "tessellate.dev/v1alpha1",
    kind: "Provider",
    metadata: { name },
    spec: {},
  }));

type Measured = Pick<ShardNodeStatusMeasured, "layerTimes">;

/** `roundTripMicros`: between two processes of this machine, as measured; the played delays come on top. */
export function nodesOf(
  { nodes }: HonestWorld,
  measured: Readonly<Partial<Record<keyof typeof KINDS, Measured>>>,
  roundTripMicros: number,
): readonly ShardNode[] {
  const link = (to: string, delayMs: number) => ({
    to,
    roundTripMicros: roundTripMicros + 1000 * delayMs,
    bytesPerSecond: 1_000_000_000,
  });
  return nodes.map(({ name, provider, kind, delayMs }) => ({
    apiVersion: "tessellate.dev/v1alpha1",
    kind: "ShardNode",
    metadata: {
      name,
      annotations: {
        [BANDWIDTH_ANNOTATION]: String(KINDS[kind].bytesPerSecond),
        [ARITHMETIC_ANNOTATION]: String(KINDS[kind].rowBytesPerSecond),
        [DELAY_ANNOTATION]: String(delayMs),
      },
    },
    spec: {
      provider,
      device: "cpu",
      memory: { freeBytes: "2Gi" },
      memoryBytesPerSecond: 0,
      threads: 1,
      signer: { target: "unix:/unused/signer.sock" },
      cache: { sizeBytes: 0 },
    },
    status: {
      measured: {
        ...measured[kind],
        links: [
          link("gateway", delayMs),
          ...nodes.filter((other) => other.name !== name).map((other) => link(other.name, delayMs + other.delayMs)),
        ],
      },
    },
  }));
}

/** What models go through while operators crash: each flow a life from creation to deletion. */
import { isJsonObject } from "../../core/json.ts";
import type { ModelWorld } from "./model-world.ts";
import { untilFound } from "../until.ts";

export type Flow = {
  readonly name: string;
  readonly steps: readonly Step[];
  /** Each step leads to the very objects of a life without crashes; otherwise to any that `settled` takes. */
  readonly endsAlike: boolean;
  /** It changes what other lives would see, so it is lived alone. */
  readonly isAlone?: true;
};

/** One thing that a person or the world does, and when it is over as far as can be seen. */
type Step = {
  readonly name: string;
  readonly begin: (life: Life) => Promise<unknown>;
  readonly settled: (seen: Seen) => boolean;
};

export type Life = { readonly world: ModelWorld; readonly namespace: string };

/** All there is of a model, without names of objects' versions, addresses and times. */
export type Seen = {
  readonly pods: readonly string[];
  readonly readyCount: number;
  readonly ready: string;
  readonly why: string; // of that
  readonly isUpToDate: boolean;
  readonly nodes: readonly string[]; // with ranks
  readonly podNames: readonly string[];
  readonly secretCount: number;
  readonly isTold: boolean; // every rank, in Secrets of which each is mounted
  readonly plannedNames: readonly string[];
  readonly revisions: ReadonlySet<string>;
  readonly rest: string;
};

export const MODEL = "tiny";
const MERGE = "application/merge-patch+json";
const GROUP = "/apis/tessellate.dev/v1alpha1";
export const modelPath = (namespace: string) => `${GROUP}/namespaces/${namespace}/shardedmodels`;

const change = ({ world, namespace }: Life, spec: object) =>
  world.cluster.api.request("PATCH", `${modelPath(namespace)}/${MODEL}`, { spec }, MERGE);

const create = ({ world, namespace }: Life, spec: object) =>
  world.cluster.api.request("POST", modelPath(namespace), {
    apiVersion: "tessellate.dev/v1alpha1",
    kind: "ShardedModel",
    metadata: { name: MODEL },
    spec: { model: { source: { path: world.modelDirectory } }, slots: 2, ...spec },
  });

const serves =
  (chainCount: number) =>
  ({ ready, readyCount }: Seen) =>
    ready === "True" && readyCount === chainCount;

const DELETE: Step = {
  name: "delete",
  begin: ({ world, namespace }) => world.cluster.api.request("DELETE", `${modelPath(namespace)}/${MODEL}`),
  settled: ({ rest, podNames }) => rest === "" && podNames.length === 0,
};

export const LIFE: Flow = {
  name: "life",
  endsAlike: true,
  steps: [
    { name: "create", begin: (life) => create(life, { placement: { providers: { min: 3 } } }), settled: serves(1) },
    { name: "scale up", begin: (life) => change(life, { replicas: 2 }), settled: serves(2) },
    {
      name: "repair",
      begin: ({ world, namespace }) =>
        world.cluster.api.request("DELETE", `/api/v1/namespaces/${namespace}/pods/${MODEL}-0-1-0`),
      settled: serves(2),
    },
    {
      name: "plan change",
      begin: (life) => change(life, { contextLength: 256 }),
      settled: (seen) => serves(2)(seen) && seen.isUpToDate,
    },
    { name: "scale down", begin: (life) => change(life, { replicas: 1 }), settled: serves(1) },
    DELETE,
  ],
};

const SLEEP: Flow = {
  name: "sleep",
  endsAlike: true,
  steps: [
    {
      name: "create",
      begin: (life) => create(life, { idle: { afterSeconds: 30 }, placement: { providers: { min: 2 } } }),
      settled: serves(1),
    },
    {
      name: "sleep",
      begin: async (life) => life.world.house.say(keyOf(life), { idleSeconds: 30 }),
      settled: ({ why, podNames, secretCount }) => why === "Asleep" && podNames.length + secretCount === 0,
    },
    {
      name: "wake",
      begin: async (life) => life.world.house.say(keyOf(life), { waiting: 1 }),
      settled: serves(1),
    },
    DELETE,
  ],
};

/** Everything that stands is of one revision and planned, and there is nothing else. */
const isWhole = ({ isUpToDate, isTold, podNames, plannedNames, revisions }: Seen): boolean =>
  isUpToDate && isTold && revisions.size === 1 && String(podNames) === String(plannedNames);

/** How far a roll out is when it is taken back is a matter of moments, and so is which chains it has touched. */
const ROLL: Flow = {
  name: "roll",
  endsAlike: false,
  steps: [
    {
      name: "create",
      begin: (life) => create(life, { replicas: 3 }),
      settled: (seen) => serves(3)(seen) && isWhole(seen),
    },
    {
      name: "roll out, and back halfway",
      begin: async (life) => {
        await change(life, { contextLength: 256 });
        await untilFound(
          "a chain of the next revision that serves",
          () => chainsUpdated(life),
          (count) => count > 0,
        );
        await change(life, { contextLength: 512 });
      },
      settled: (seen) => serves(3)(seen) && isWhole(seen),
    },
    {
      name: "roll out",
      begin: (life) => change(life, { contextLength: 256 }),
      settled: (seen) =>
        serves(3)(seen) && isWhole(seen) && [...seen.revisions].every((each) => each.includes("-256-")),
    },
    DELETE,
  ],
};

const DRAIN: Flow = {
  name: "drain",
  endsAlike: true,
  isAlone: true,
  steps: [
    {
      name: "create",
      begin: (life) => create(life, { placement: { providers: { min: 2, maxShare: "50%" } } }),
      settled: serves(1),
    },
    {
      name: "drain",
      begin: (life) => mark(life, DRAINED, "true"),
      settled: (seen) => serves(1)(seen) && !seen.nodes.includes(DRAINED) && isWhole(seen),
    },
    {
      name: "let it back",
      begin: (life) => mark(life, DRAINED, null),
      settled: (seen) => serves(1)(seen) && isWhole(seen),
    },
    DELETE,
  ],
};

export const FLOWS: readonly Flow[] = [LIFE, SLEEP, ROLL, DRAIN];

const DRAINED = "campus-a1";

function mark({ world }: Life, node: string, value: string | null): Promise<unknown> {
  const metadata = { annotations: { "tessellate.dev/drain": value } };
  return world.cluster.api.request("PATCH", `${GROUP}/shardnodes/${node}`, { metadata }, MERGE);
}

const keyOf = ({ namespace }: Life): string => `${namespace}/${MODEL}`;

async function chainsUpdated({ world, namespace }: Life): Promise<number> {
  const model = await world.cluster.api.get<{ readonly status?: unknown }>(`${modelPath(namespace)}/${MODEL}`);
  const rollout = isJsonObject(model.status) ? model.status["rollout"] : undefined;
  return isJsonObject(rollout) ? Number(rollout["chainsUpdated"] ?? 0) : 0;
}

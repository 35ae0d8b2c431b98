/**
 * An operator that is killed again and again, right after a write of its own has taken effect. It lives in this process:
 * its client throws from then on, so that nothing it knew and nothing it was about to do is left. Another takes over.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { isJsonObject, parseJson } from "../../core/json.ts";
import { asPlan } from "../../operator/apply/observe.ts";
import { planInPlace } from "../../operator/apply/planner.ts";
import { secretOf, secretsOf } from "../../operator/apply/rank-secrets.ts";
import { systemClock } from "../../operator/clock.ts";
import { Controller } from "../../operator/controller.ts";
import { clusterAccess } from "../../operator/kube/access.ts";
import { KubeClient } from "../../operator/kube/client.ts";
import type { ControlPlane } from "./control-plane.ts";
import type { KubeObject } from "../../operator/kube/objects.ts";
import type { KubeObject as ApiObject } from "./kube-types.ts";
import { type Flow, LIFE, type Life, type Seen, modelPath } from "./crash-flows.ts";
import type { ModelWorld } from "./model-world.ts";

/** After how many writes an operator dies; undefined: never. Asked once for each that is started. */
export type Fates = () => number | undefined;

class MortalClient extends KubeClient {
  writeCount = 0;
  #isDead = false;
  readonly #diesAfter: number | undefined;
  readonly #onDeath: () => void;

  constructor(cluster: ControlPlane, diesAfter: number | undefined, onDeath: () => void) {
    super(clusterAccess(cluster.kubeconfig));
    this.#diesAfter = diesAfter;
    this.#onDeath = onDeath;
  }

  override async open(call: Parameters<KubeClient["open"]>[0]): ReturnType<KubeClient["open"]> {
    if (this.#isDead) throw new Error("crashed");
    const response = await super.open(call);
    if (call.method === "GET" || call.path.includes("/leases")) return response;
    this.writeCount += 1;
    if (this.writeCount !== this.#diesAfter && !this.#isDead) return response;
    this.#isDead = true;
    response.destroy(); // it has taken effect, and nobody hears of it
    this.#onDeath();
    throw new Error("crashed");
  }
}

/** Keeps an operator running for the models of one namespace, until stopped. */
export class Succession {
  crashCount = 0;
  readonly #world: ModelWorld;
  readonly #namespace: string;
  readonly #fates: Fates;
  readonly #stop = new AbortController();
  readonly #ended: Promise<void>;
  #writeCount = 0;
  #current: MortalClient | undefined;

  constructor(world: ModelWorld, namespace: string, fates: Fates) {
    this.#world = world;
    this.#namespace = namespace;
    this.#fates = fates;
    this.#ended = this.#follow();
  }

  /** Writes so far, leases apart. */
  get writeCount(): number {
    return this.#writeCount + (this.#current?.writeCount ?? 0);
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error("the test is over"));
    await this.#ended;
  }

  async #follow(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const death = new AbortController();
      const client = new MortalClient(this.#world.cluster, this.#fates(), () => death.abort(new Error("crashed")));
      this.#current = client;
      const identity = `${this.#namespace}-${this.crashCount}`;
      const controller = new Controller({
        client,
        clock: systemClock(),
        planner: planInPlace,
        namespace: "tessellate",
        watchNamespace: this.#namespace,
        identity,
        leaseName: identity, // who leads is not the question here
        image: "tessellate:test",
        log: () => undefined,
      });
      await controller.run(AbortSignal.any([this.#stop.signal, death.signal])).catch(() => undefined);
      client.close();
      this.#writeCount += client.writeCount;
      this.#current = undefined;
      if (death.signal.aborted) this.crashCount += 1;
    }
  }
}

export type LifeOutcome = {
  /** After each step. */
  readonly ends: readonly string[];
  /** Rank pods that were made, each counted once. */
  readonly podCount: number;
  readonly writeCount: number;
  readonly crashCount: number;
};

const AT_A_TIME = 3;
/** Longer than the second for which what may wait does. */
const REST_MS = 1_500;
/** Since somebody crashed last, which is a write that took effect: how long a whole step takes is the machine's affair. */
const PATIENCE_MS = 40_000;
/** Of one step, with all that is written twice because whoever knew of it died: more is no way to an end. */
const WRITE_COUNT_MAX = 300;

/**
 * All steps, one after the other, in a namespace of its own. With `ends` each step is over once it looks as it did
 * there; without, once it looks settled and nothing is written any more. Throws where that does not come.
 */
export async function liveThrough(
  world: ModelWorld,
  namespace: string,
  fates: Fates,
  { ends, flow = LIFE }: { readonly ends?: readonly string[]; readonly flow?: Flow } = {},
): Promise<LifeOutcome> {
  await world.createNamespace(namespace);
  const { api } = world.cluster;
  const life = { world, namespace };
  const uids = new Set<string>();
  const follow = new AbortController();
  const rankPods = `/api/v1/namespaces/${namespace}/pods?labelSelector=app.kubernetes.io%2Fcomponent%3Drank`;
  void api.follow<ApiObject>(rankPods, ({ object }) => void uids.add(object.metadata.uid ?? ""), follow.signal);
  const operators = new Succession(world, namespace, fates);
  const reached: string[] = [];
  try {
    for (const [index, { name, begin, settled }] of flow.steps.entries()) {
      const before = new Set(uids);
      const writesBefore = operators.writeCount;
      await begin(life);
      let [lastCrashCount, sinceMs] = [operators.crashCount, performance.now()];
      for (;;) {
        const { crashCount } = operators;
        if (crashCount > lastCrashCount) [lastCrashCount, sinceMs] = [crashCount, performance.now()];
        const seen = await look(life);
        const end = textOf(seen);
        const remade = name !== "repair" || uids.size > before.size;
        const wanted = flow.endsAlike ? ends?.[index] : undefined;
        if (remade && settled(seen) && (wanted === undefined || end === wanted)) {
          const { writeCount } = operators;
          if (wanted !== undefined || (await isAtRest(() => operators.writeCount, writeCount))) {
            reached.push(wanted ?? textOf(await look(life)));
            break;
          }
        }
        const writeCount = operators.writeCount - writesBefore;
        if (performance.now() > sinceMs + PATIENCE_MS || writeCount > WRITE_COUNT_MAX)
          throw new Error(
            `${namespace}, ${name}, ${operators.crashCount} crashes, ` +
              `${writeCount} writes: ${differences(end, (flow.endsAlike && ends?.[index]) || "")}`,
          );
        await sleep(50);
      }
    }
    return { ends: reached, podCount: uids.size, writeCount: operators.writeCount, crashCount: operators.crashCount };
  } finally {
    follow.abort(new Error("the life is over"));
    await operators.stop();
  }
}

/**
 * A life for each of `points`, in which the operator crashes after so many writes and its successor lives. What went wrong.
 * `onLived` hears of each life that is over, with how many are.
 */
export async function crashOnce(
  world: ModelWorld,
  calm: LifeOutcome,
  points: readonly number[],
  flow: Flow = LIFE,
  onLived: (count: number) => void = () => undefined,
): Promise<readonly string[]> {
  const wrong: string[] = [];
  const left = [...points.entries()];
  let livedCount = 0;
  const work = async () => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      const [index, point] = next;
      let isFirst = true;
      const fates = () => {
        const fate = isFirst ? point : undefined;
        isFirst = false;
        return fate;
      };
      try {
        const name = `${flow.name}-${index}-${point}`;
        const { podCount } = await liveThrough(world, name, fates, { ends: calm.ends, flow });
        if (flow.endsAlike && podCount !== calm.podCount)
          wrong.push(`${flow.name}, crashed after write ${point}: ${podCount} pods, not ${calm.podCount}`);
      } catch (error) {
        wrong.push(`${flow.name}, crashed after write ${point}: ${error instanceof Error ? error.message : error}`);
      }
      livedCount += 1;
      onLived(livedCount);
    }
  };
  await Promise.all(Array.from({ length: flow.isAlone ? 1 : AT_A_TIME }, work));
  return wrong;
}

/** Lines that only one of two texts has, each from shortly before where it leaves its counterpart. */
function differences(is: string, wanted: string): string {
  const [here, there] = [is.split("\n"), wanted.split("\n")];
  const [ours, theirs] = [here.filter((line) => !there.includes(line)), there.filter((line) => !here.includes(line))];
  const shown = (lines: readonly string[], others: readonly string[], mark: string) =>
    lines.map((line, index) => {
      const other = others[index] ?? "";
      const common = [...line].findIndex((letter, at) => letter !== other[at]);
      const start = Math.max(0, common - 100);
      return `${mark} ${start > 0 ? "… " : ""}${line.slice(start, start + 400)}`;
    });
  return `\n${[...shown(ours, theirs, "is"), ...shown(theirs, ours, "should be")].join("\n")}`;
}

async function isAtRest(count: () => number, before: number): Promise<boolean> {
  await sleep(REST_MS);
  return count() === before;
}

const textOf = ({ pods, rest }: Seen): string => [...pods, rest].join("\n");

async function look({ world, namespace }: Life): Promise<Seen> {
  const { api } = world.cluster;
  const list = async (path: string) => (await api.get<{ items: readonly KubeObject[] }>(path)).items;
  const own = `/api/v1/namespaces/${namespace}`;
  const [models, plans, pods, secrets, services, budgets] = await Promise.all([
    list(modelPath(namespace)),
    list(`/apis/tessellate.dev/v1alpha1/namespaces/${namespace}/shardplans`),
    list(`${own}/pods`),
    list(`${own}/secrets`),
    list(`${own}/services`),
    list(`/apis/policy/v1/namespaces/${namespace}/poddisruptionbudgets`),
  ]);
  const [model] = models;
  const status = model?.["status"] as
    | { conditions?: { type: string; status: string; reason: string }[]; readyReplicas?: number; rollout?: object }
    | undefined;
  const condition = (type: string) => (isCurrent ? status?.conditions?.find((each) => each.type === type) : undefined);
  const isCurrent =
    (status as { observedGeneration?: number } | undefined)?.observedGeneration === model?.metadata.generation;
  const podLines = pods.map(({ metadata, spec }) =>
    JSON.stringify([
      metadata.name,
      spec,
      sorted(parseJson(metadata.annotations?.["tessellate.dev/assignment"] ?? "")),
      metadata.annotations?.["tessellate.dev/revision"],
      metadata.deletionTimestamp,
    ]),
  );
  const mounted = secretsOf(pods);
  const unmounted = namesOf(secrets).filter((name) => !mounted.has(name));
  // What a rank is told, whichever Secret it mounts; undefined where that is not there, or holds nothing for it.
  const told = pods.map((pod) => {
    const secret = secrets.find(({ metadata }) => metadata.name === secretOf(pod));
    const file = (secret?.["data"] as Record<string, string> | undefined)?.[`${pod.metadata.name}.json`];
    return file === undefined ? undefined : sorted(parseJson(Buffer.from(file, "base64").toString()));
  });
  const rest = [
    ...models.map(({ spec, status: words }) => JSON.stringify([spec, words])),
    ...plans.map(({ metadata, spec, status: words }) => JSON.stringify([metadata.name, spec, words])),
    ...pods.map(({ metadata }, index) => `${metadata.name} ${told[index]}`),
    ...unmounted.map((name) => `${name} is mounted by nobody`),
    ...services.map(({ metadata }) => metadata.name),
    ...budgets.map(({ metadata, spec }) => JSON.stringify([metadata.name, spec])),
  ].map((line) => plain(line, namespace));
  return {
    pods: podLines.map((line) => plain(line, namespace)).sort(),
    readyCount: status?.readyReplicas ?? 0,
    ready: condition("Ready")?.status ?? "",
    why: condition("Ready")?.reason ?? "",
    isUpToDate: condition("UpToDate")?.status === "True" && status?.rollout === undefined,
    nodes: pods.flatMap(({ metadata }) => metadata.labels?.["tessellate.dev/node"] ?? []),
    podNames: namesOf(pods),
    secretCount: secrets.length,
    isTold: unmounted.length === 0 && !told.includes(undefined),
    plannedNames: plans.flatMap(rankNamesIn).sort(),
    revisions: new Set(pods.map(({ metadata }) => metadata.annotations?.["tessellate.dev/revision"] ?? "")),
    rest: rest.sort().join("\n"),
  };
}

const namesOf = (objects: readonly KubeObject[]): readonly string[] =>
  objects.map(({ metadata }) => metadata.name).sort();

function rankNamesIn(plan: KubeObject): readonly string[] {
  return asPlan(plan).spec.chains.flatMap(({ segments }) =>
    segments.flatMap(({ ranks }) => ranks.map(({ name }) => name)),
  );
}

/** What was made from a plan that was read back has its fields in another order. */
const sorted = (value: unknown): string =>
  JSON.stringify(value, (_, each: unknown) =>
    isJsonObject(each) ? Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1))) : each,
  ) ?? "";

/** Without what differs between any two lives: names of namespaces, addresses, times, ids. */
const plain = (line: string, namespace: string): string =>
  line
    .replaceAll(namespace, "NAMESPACE")
    .replace(/127\.\d+\.\d+\.\d+/g, "ADDRESS")
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME")
    .replace(/"secretName":"[^"]*"/g, '"secretName":"SECRET"') // which ranks were told together is a matter of moments
    .replace(/kube-api-access-\w+/g, "TOKEN")
    .replace(/"observedGeneration":\d+/g, "GENERATION")
    // What an operator took away right before it died counts as lost for the next one.
    .replace(/"repairs":\{"count":\d+,"last":\{[^}]*\}\},?/g, "");

/**
 * A thousand models of eight ranks each: how soon they are all Ready, beside a bare loop that creates the same pods
 * through the same API server; how soon they are gone; what it costs to look at all of them again, and to rest.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { shardedModelResource } from "../../core/gen/crds/shardedmodel.ts";
import { shardNodeResource } from "../../core/gen/crds/shardnode.ts";
import { asModel } from "../../operator/apply/observe.ts";
import { systemClock } from "../../operator/clock.ts";
import { type KubeObject, PODS } from "../../operator/kube/objects.ts";
import { Reflector } from "../../operator/kube/reflector.ts";
import { type OperatorProcess, startOperatorProcess } from "../cluster/operator-process.ts";
import { type ReadyPods, startReadyPods } from "../cluster/ready-pods.ts";
import {
  CONNECTION_COUNT,
  MODELS_NAMESPACE,
  RANK_COUNT,
  type ScaleWorld,
  startScaleWorld,
  writesBetween,
} from "../cluster/scale-world.ts";
import { partsCpu } from "../cluster/part-cpu.ts";
import { type BenchResult, atLeast, atMost, rounded } from "./figures.ts";
import { memoryOf } from "./machine.ts";

export const SIZES = [10, 30, 100, 300, 1_000] as const;
const NODE_COUNT = 1_000;
/** Without any progress; how long a run takes depends on its size. */
const PATIENCE_MS = 120_000;
/** For whatever is done behind the work: of a thousand models it takes minutes. */
const REST_MS_MAX = 600_000;
const REST_MS = 20_000;
/** Next to no work for so long: it has come to rest. */
const QUIET_MS = 1_500;
/** Figures for people are written five seconds after the last change, at the earliest. */
const UNWRITTEN_MS = 8_000;
const MIB = 2 ** 20;
const PROGRESS_MS = 20_000;
/** Between two scrapes, each of which costs the operator as much as many looks. */
const LOOK_AGAIN_MS = 1_000;
const say = (line: string) => console.error(line);

/** Milliseconds of a core, by the program that used them. */
type CpuEach = Readonly<Record<string, number>>;

/** All of one size. Rates are pods a second. */
export type ScaleFigures = {
  readonly modelCount: number;
  readonly bareCreated: number;
  readonly bareReady: number;
  readonly bareDeleted: number;
  readonly bareCpu: CpuEach; // for each model until all its pods were ready
  readonly cpu: CpuEach; // for each model until it was Ready, the operator's among them
  readonly created: number;
  readonly ready: number;
  readonly deleted: number;
  readonly cpuSeconds: number; // of the operator until all were ready
  readonly writesEach: number; // by the operator for each model until all are ready, pods' reports left out
  readonly resyncSeconds: number;
  readonly resyncCpuSeconds: number;
  readonly resyncWrites: number;
  readonly firstResyncCpuSeconds: number; // of one that the models have not settled before
  readonly restCpuPercent: number; // of one core
  readonly restWrites: number;
  readonly rssMib: number;
  readonly rssMibMost: number;
  readonly emptyRssMib: number;
};

type Found = Pick<BenchResult, "requirements" | "table" | "notes">;

export async function scaled(sizes: readonly number[] = SIZES): Promise<Found & { figures: readonly ScaleFigures[] }> {
  const heartbeat = setInterval(() => undefined, 1_000); // nothing else may keep the process alive while all wait
  const world = await startScaleWorld(NODE_COUNT);
  try {
    const figures: ScaleFigures[] = [];
    for (const size of sizes) {
      figures.push(await measured(world, size));
      say(JSON.stringify(figures.at(-1)));
    }
    return { figures, ...foundOf(figures) };
  } catch (error) {
    say(`FAILED: ${error instanceof Error ? error.stack : error}`);
    throw error;
  } finally {
    await world.stop();
    clearInterval(heartbeat);
  }
}

async function measured(world: ScaleWorld, modelCount: number): Promise<ScaleFigures> {
  const kubelet = await startReadyPods(world.client);
  try {
    const bare = await bareLoop(world, kubelet, modelCount);
    const operated = await throughOperator(world, kubelet, modelCount);
    return { modelCount, ...bare, ...operated };
  } finally {
    await kubelet.stop();
  }
}

type Bare = Pick<ScaleFigures, "bareCreated" | "bareReady" | "bareDeleted" | "bareCpu">;

/** Of everybody but the operator since now: milliseconds of a core for each model, by the program's name. */
function cpuOfEach({ cluster }: ScaleWorld, modelCount: number): () => CpuEach {
  const parts = partsCpu(cluster);
  const before = parts.seconds();
  return () =>
    Object.fromEntries(
      [...parts.seconds()].map(([name, now]) => [name, (1000 * (now - (before.get(name) ?? 0))) / modelCount]),
    );
}

/** Nobody else is there: models exist, so that pods have owners, and no operator looks at them. */
async function bareLoop(world: ScaleWorld, kubelet: ReadyPods, modelCount: number): Promise<Bare> {
  const models = await world.createModels(modelCount);
  const pods = await world.podsOf(models);
  const reportedBefore = kubelet.reportedCount;
  const cpu = cpuOfEach(world, modelCount);
  const startMs = performance.now();
  await world.each(pods, (pod) => world.client.create(PODS, pod));
  const createdMs = performance.now() - startMs;
  await reaches("pods reported as ready", () => kubelet.reportedCount - reportedBefore, pods.length);
  const readyMs = performance.now() - startMs;
  const bareCpu = cpu();
  const deleteMs = performance.now();
  await world.each(pods, ({ metadata: { namespace, name } }) => world.client.delete(PODS, { namespace, name }));
  await reaches("pods gone", () => pods.length - kubelet.count, pods.length);
  const deletedMs = performance.now() - deleteMs;
  await deleteModels(world, models);
  const rate = (ms: number) => (1000 * pods.length) / ms;
  const found = { bareCreated: rate(createdMs), bareReady: rate(readyMs), bareDeleted: rate(deletedMs), bareCpu };
  say(`${modelCount} models: bare loop ${JSON.stringify(found)}`);
  return found;
}

async function deleteModels(world: ScaleWorld, models: readonly KubeObject[]): Promise<void> {
  await world.each(models, ({ metadata: { namespace, name } }) =>
    world.client.delete(shardedModelResource, { namespace, name }),
  );
}

type Operated = Omit<ScaleFigures, keyof Bare | "modelCount">;

async function throughOperator(world: ScaleWorld, kubelet: ReadyPods, modelCount: number): Promise<Operated> {
  const profile = process.env["TESSELLATE_BENCH_PROFILE"];
  const nodeArgs = profile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profile}/${modelCount}`];
  const operator = await startOperatorProcess(world.cluster, `scale-${modelCount}`, { nodeArgs });
  const readiness = await followModels(world);
  try {
    await atRest(world, operator);
    const emptyRssMib = memoryOf(operator.pid, "VmRSS") / MIB;
    const converged = await converge(world, kubelet, operator, readiness, modelCount);
    await atRest(world, operator);
    const rssMib = memoryOf(operator.pid, "VmRSS") / MIB;
    const first = await resync(world, operator, modelCount);
    const again = await resync(world, operator, modelCount);
    say(`resynced: ${JSON.stringify([first, again])}`);
    const resynced = { ...again, firstResyncCpuSeconds: first.resyncCpuSeconds };
    const rested = await rest(world, operator);
    const rssMibMost = memoryOf(operator.pid, "VmHWM") / MIB;
    const writesBefore = await world.writes();
    const deleteMs = performance.now();
    await deleteModels(world, converged.models);
    await reaches("pods gone", () => modelCount * RANK_COUNT - kubelet.count, modelCount * RANK_COUNT, operator);
    const deleted = (1000 * modelCount * RANK_COUNT) / (performance.now() - deleteMs);
    say(`written until all pods are gone: ${inWords(writesBetween(writesBefore, await world.writes()))}`);
    await atRest(world, operator);
    await everythingGone(world);
    const { models: _, ...figures } = converged;
    return { ...figures, ...resynced, ...rested, deleted, rssMib, rssMibMost, emptyRssMib };
  } finally {
    await readiness.stop();
    await operator.stop();
  }
}

async function converge(
  world: ScaleWorld,
  kubelet: ReadyPods,
  operator: OperatorProcess,
  readiness: Readiness,
  modelCount: number,
): Promise<
  Pick<Operated, "created" | "ready" | "cpuSeconds" | "cpu" | "writesEach"> & { models: readonly KubeObject[] }
> {
  const podCount = modelCount * RANK_COUNT;
  const looksBefore = await looksAtModels(operator);
  const [writesBefore, cpuBefore, seenBefore] = [await world.writes(), operator.cpuSeconds(), kubelet.seenCount];
  const cpuOfParts = cpuOfEach(world, modelCount);
  const startMs = performance.now();
  const creating = world.createModels(modelCount);
  await reaches("pods made", () => kubelet.seenCount - seenBefore, podCount, operator);
  const createdMs = performance.now() - startMs;
  const models = await creating;
  await reaches("models Ready", readiness.readyCount, modelCount, operator);
  const readyMs = performance.now() - startMs;
  const cpuSeconds = operator.cpuSeconds() - cpuBefore;
  const cpu = { ...cpuOfParts(), operator: (1000 * cpuSeconds) / modelCount };
  say(`CPU of each model: ${cpuInWords(cpu)}`);
  const written = writesBetween(writesBefore, await world.writes());
  const all = [...written.values()].reduce((sum, count) => sum + count, 0);
  const looks = (await looksAtModels(operator)) - looksBefore;
  say(`looks until all are Ready: ${looks}; written: ${inWords(written)}`);
  const writesEach = (all - podCount - modelCount) / modelCount; // reports and the models themselves
  const late = writesBetween(writesBefore, await allWritten(world));
  say(`written in all: ${inWords(late)}`);
  return {
    models,
    created: (1000 * podCount) / createdMs,
    ready: (1000 * podCount) / readyMs,
    cpuSeconds,
    cpu,
    writesEach,
  };
}

type Resynced = Pick<Operated, "resyncSeconds" | "resyncCpuSeconds" | "resyncWrites">;

/** What is said of one node changes: every model is looked at again, and none has anything to be written. */
async function resync(world: ScaleWorld, operator: OperatorProcess, modelCount: number): Promise<Resynced> {
  await atRest(world, operator);
  const before = await looksAtModels(operator);
  const [writesBefore, cpuBefore, startMs] = [await world.writes(), operator.cpuSeconds(), performance.now()];
  const labels = { "tessellate.example.org/touched": String(Math.round(performance.now())) };
  await world.client.patch(shardNodeResource, { name: "node-0" }, { metadata: { labels } });
  let count = 0;
  const lookAgain = async () => (count = (await looksAtModels(operator)) - before);
  await reaches("models looked at again", () => count, modelCount, operator, lookAgain);
  const resyncSeconds = (performance.now() - startMs) / 1000;
  await atRest(world, operator);
  const resyncCpuSeconds = operator.cpuSeconds() - cpuBefore;
  const written = writesBetween(writesBefore, await world.writes());
  const writeCount = [...written.values()].reduce((sum, each) => sum + each, 0);
  if (writeCount > 1) say(`WRITTEN in a resync: ${JSON.stringify([...written])}`);
  return { resyncSeconds, resyncCpuSeconds, resyncWrites: writeCount - 1 }; // our own change of the node
}

async function rest(
  world: ScaleWorld,
  operator: OperatorProcess,
): Promise<Pick<Operated, "restCpuPercent" | "restWrites">> {
  const [writesBefore, cpuBefore, startMs] = [await world.writes(), operator.cpuSeconds(), performance.now()];
  await sleep(REST_MS);
  const cpu = operator.cpuSeconds() - cpuBefore;
  const written = writesBetween(writesBefore, await world.writes());
  const restWrites = [...written.values()].reduce((sum, each) => sum + each, 0);
  if (restWrites > 0) say(`WRITTEN at rest: ${JSON.stringify([...written])}`);
  return { restCpuPercent: (100_000 * cpu) / (performance.now() - startMs), restWrites };
}

const looksAtModels = async (operator: OperatorProcess): Promise<number> =>
  Number(
    /^tessellate_reconcile_seconds_count\{kind="model",result="ok"\} (\d+)/m.exec(await operator.scrape())?.[1] ?? 0,
  );

/** Resolves when the operator has used next to nothing for a while. */
async function atRest(_: ScaleWorld, operator: OperatorProcess): Promise<void> {
  const startMs = performance.now();
  let before = operator.cpuSeconds();
  for (;;) {
    await sleep(QUIET_MS);
    const now = operator.cpuSeconds();
    if (now - before < (0.1 * QUIET_MS) / 1000) return;
    before = now;
    if (performance.now() - startMs > REST_MS_MAX) throw new Error("the operator does not come to rest");
  }
}

/** Until the operator has taken away what it does; what is left to the garbage collector goes at once. */
async function everythingGone(world: ScaleWorld): Promise<void> {
  const secrets = `/api/v1/namespaces/${MODELS_NAMESPACE}/secrets?limit=1`;
  const startMs = performance.now();
  for (;;) {
    const { items } = await world.cluster.api.get<{ readonly items: readonly unknown[] }>(secrets);
    if (items.length === 0) return world.sweep();
    if (performance.now() - startMs > REST_MS_MAX) throw new Error("Secrets stay behind");
    await sleep(100);
  }
}

type Readiness = { readyCount(): number; stop(): Promise<void> };

/** Which models are Ready, from a watch. */
async function followModels({ client }: ScaleWorld): Promise<Readiness> {
  const ready = new Set<string>();
  const stop = new AbortController();
  const reflector = new Reflector({
    ...{ client, clock: systemClock(), resource: shardedModelResource },
    onChange: ({ type, object }) => {
      const { conditions = [] } = asModel(object).status ?? {};
      const isReady = type !== "deleted" && conditions.some((each) => each.type === "Ready" && each.status === "True");
      if (isReady) ready.add(object.metadata.name);
      else ready.delete(object.metadata.name);
    },
  });
  const running = reflector.run(stop.signal);
  await reflector.firstList;
  return {
    readyCount: () => ready.size,
    async stop() {
      stop.abort(new Error("the bench is over"));
      await running;
    },
  };
}

/**
 * Waits until `count` is `target`. Throws where it has not grown for two minutes, and where the operator has ended.
 * `before`: done before each look.
 */
async function reaches(
  what: string,
  count: () => number,
  target: number,
  operator?: OperatorProcess,
  before?: () => Promise<unknown>,
): Promise<void> {
  let [most, sinceMs, saidMs] = [Number.NEGATIVE_INFINITY, performance.now(), performance.now()];
  for (;;) {
    await before?.();
    operator?.cpuSeconds(); // throws where it is no more
    const now = count();
    if (now >= target) return;
    const nowMs = performance.now();
    if (now > most) [most, sinceMs] = [now, nowMs];
    if (nowMs - sinceMs > PATIENCE_MS)
      throw new Error(`${what}: ${now} of ${target}, and no more in ${PATIENCE_MS} ms`);
    if (nowMs - saidMs > PROGRESS_MS) {
      say(`${what}: ${now} of ${target}`);
      saidMs = nowMs;
    }
    await sleep(before === undefined ? 5 : LOOK_AGAIN_MS);
  }
}

/** What was written once nothing more is. */
async function allWritten(world: ScaleWorld): Promise<ReadonlyMap<string, number>> {
  for (let before = await world.writes(); ; ) {
    await sleep(UNWRITTEN_MS);
    const now = await world.writes();
    if (writesBetween(before, now).size === 0) return now;
    before = now;
  }
}

const cpuInWords = (cpu: CpuEach): string => {
  const all = Object.values(cpu).reduce((sum, each) => sum + each, 0);
  return [...Object.entries(cpu), ["all", all] as const]
    .map(([name, each]) => `${name} ${rounded(each)} ms`)
    .join(", ");
};

const inWords = (written: ReadonlyMap<string, number>): string =>
  [...written].map(([what, count]) => `${what} ${count}`).join(", ");

function foundOf(figures: readonly ScaleFigures[]): Found {
  const most = figures.at(-1);
  if (most === undefined) return { requirements: [], table: [], notes: [] };
  const { modelCount } = most;
  const beside = (rate: number, bare: number) => `${rounded(rate)} (bare ${rounded(bare)})`;
  const growth = figures.map((each) => [
    `${each.modelCount} models: pods/s until Ready, created, deleted; CPU of the operator`,
    [
      beside(each.ready, each.bareReady),
      beside(each.created, each.bareCreated),
      `${beside(each.deleted, each.bareDeleted)}; ${rounded(each.cpuSeconds)} s`,
    ].join(", "),
  ]);
  return {
    requirements: [
      atLeast(`${modelCount} models Ready, beside the bare loop's pods`, most.ready / most.bareReady, 0.6, ""),
      atLeast(`their pods created, beside the bare loop`, most.created / most.bareCreated, 0.6, ""),
      atLeast(`their pods deleted, beside the bare loop`, most.deleted / most.bareDeleted, 0.6, ""),
      atMost(`writes of a resync of ${modelCount} models`, most.resyncWrites, 0, ""),
      atMost(`CPU of a resync of ${modelCount} models`, most.resyncCpuSeconds, 5, "s"),
      atMost(`writes of ${modelCount} models at rest in ${REST_MS / 1000} s`, most.restWrites, 0, ""),
    ],
    table: [
      ...growth,
      ["CPU for each model until Ready", cpuInWords(most.cpu)],
      ["CPU for each model's pods in the bare loop", cpuInWords(most.bareCpu)],
      ["writes for each model until all are Ready", String(rounded(most.writesEach))],
      ["CPU of the first resync, before the models had settled", `${rounded(most.firstResyncCpuSeconds)} s`],
      ["CPU at rest", `${rounded(most.restCpuPercent)} % of a core`],
      ["memory at rest, of it without models", `${rounded(most.rssMib)} MiB, ${rounded(most.emptyRssMib)} MiB`],
      ["memory at most", `${rounded(most.rssMibMost)} MiB`],
      [
        "memory for each thousand models",
        `${rounded((1_000 * (most.rssMib - most.emptyRssMib)) / most.modelCount)} MiB`,
      ],
    ],
    notes: [
      `${NODE_COUNT} nodes, ${RANK_COUNT} ranks a model, ${CONNECTION_COUNT} connections of the bare loop.`,
      "Pods are bare objects: nothing binds or runs them, and one fake kubelet reports them as ready in both runs.",
    ],
  };
}

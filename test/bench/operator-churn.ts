/**
 * A thousand models of eight ranks under churn: models are edited, ranks die, nodes change. How soon after a write was
 * begun does the operator begin to work on what it was about, how late is its loop meanwhile, and how late while it is
 * asked for its metrics? The operator is the process that is deployed, with the chart's rights and its fence.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { shardedModelResource } from "../../core/gen/crds/shardedmodel.ts";
import { shardNodeResource } from "../../core/gen/crds/shardnode.ts";
import { type KubeObject, PODS, pathOf } from "../../operator/kube/objects.ts";
import { type Seeded, seededBy } from "../../operator/plan/seeded.ts";
import { installOperatorAccount } from "../cluster/operator-account.ts";
import { type OperatorProcess, startOperatorProcess } from "../cluster/operator-process.ts";
import { startReadyPods } from "../cluster/ready-pods.ts";
import {
  MODELS_NAMESPACE,
  RANK_COUNT,
  type ScaleWorld,
  modelsOfPool,
  poolOf,
  startScaleWorld,
} from "../cluster/scale-world.ts";
import { until } from "../until.ts";
import { type BenchResult, atLeast, atMost, percentile, rounded } from "./figures.ts";
import { type Window, latenessOf, ofItsOwn, within } from "./lateness.ts";
import { atRest } from "./operator-at-rest.ts";
import { type Probed, SAMPLE_MS, machineMs } from "./operator-probe.ts";

const NODE_COUNT = 1_000;
const CHURN_SECONDS = 60;
const SCRAPE_COUNT = 50;
const SCRAPE_PAUSE_MS = 100;
/** A second, of each. */
const RATES = { "models edited": 5, "ranks died": 5, "nodes changed": 0.5 } as const;
type Kind = keyof typeof RATES;
const SEED = "churn";
const PATIENCE_MS = 240_000;
const PROBE = pathToFileURL(fileURLToPath(new URL("./operator-probe.ts", import.meta.url))).href;
/** Node's own for the operator, such as `--cpu-prof --cpu-prof-dir=DIR`, to see what it is at. */
const MORE_NODE_ARGS = process.env["TESSELLATE_BENCH_NODE_ARGS"]?.split(" ") ?? [];
const say = (line: string) => console.error(line);

/** Something that was written, and what is to be worked on for it. */
type Happened = {
  readonly kind: Kind;
  readonly key: string;
  readonly version: string;
  readonly atMs: number; // before the request was sent
  readonly answeredMs: number; // by the API server: it is stored
};

type Run = {
  readonly modelCount: number;
  readonly happened: readonly Happened[];
  readonly churn: Window;
  readonly scrapes: readonly Window[];
  readonly seriesCount: number;
  readonly cpuSeconds: number; // during the churn
  readonly probed: Probed;
};

export async function churned(modelCount = 1_000): Promise<Pick<BenchResult, "requirements" | "table" | "notes">> {
  const world = await startScaleWorld(NODE_COUNT);
  try {
    return foundOf(await through(world, modelCount));
  } finally {
    await world.stop();
  }
}

async function through(world: ScaleWorld, modelCount: number): Promise<Run> {
  const { cluster } = world;
  const file = join(cluster.directory, "probe.json");
  const kubelet = await startReadyPods(world.client);
  const operator = await startOperatorProcess(cluster, "churn", {
    account: await installOperatorAccount(cluster),
    nodeArgs: ["--import", PROBE, ...MORE_NODE_ARGS],
    environment: { TESSELLATE_BENCH_PROBE: file },
  });
  let isStopped = false;
  try {
    await world.createModels(modelCount);
    const isThere = () => kubelet.reportedCount >= modelCount * RANK_COUNT;
    await until("every rank is there", isThere, { timeoutMs: PATIENCE_MS });
    await atRest(operator);
    say(`${modelCount} models of ${RANK_COUNT} ranks are there`);
    const { scrapes, seriesCount } = await scraped(operator);
    const cpuBefore = operator.cpuSeconds();
    const startMs = machineMs();
    const happened = await happen(world, modelCount);
    const churn = { startMs, endMs: machineMs() };
    const cpuSeconds = operator.cpuSeconds() - cpuBefore;
    await atRest(operator);
    isStopped = true;
    await operator.stop();
    const probed = JSON.parse(readFileSync(file, "utf8")) as Probed;
    return { modelCount, happened, churn, scrapes, seriesCount, cpuSeconds, probed };
  } finally {
    if (!isStopped) await operator.stop();
    await kubelet.stop();
  }
}

async function scraped(operator: OperatorProcess): Promise<Pick<Run, "scrapes" | "seriesCount">> {
  const scrapes: Window[] = [];
  let text = "";
  for (let index = 0; index < SCRAPE_COUNT; index++) {
    const startMs = machineMs();
    text = await operator.scrape();
    scrapes.push({ startMs, endMs: machineMs() });
    await sleep(SCRAPE_PAUSE_MS);
  }
  return { scrapes, seriesCount: text.split("\n").filter((line) => line !== "" && !line.startsWith("#")).length };
}

type Begun = Pick<Happened, "key" | "version"> & Partial<Happened>;

/** Everything at once, each kind at its rate and at moments of chance. */
async function happen(world: ScaleWorld, modelCount: number): Promise<readonly Happened[]> {
  const happened: Happened[] = [];
  const endMs = machineMs() + CHURN_SECONDS * 1_000;
  const each = async (kind: Kind, begin: (random: Seeded, index: number) => Promise<Begun>) => {
    const random = seededBy(`${SEED} ${kind}`);
    const begun: Promise<void>[] = [];
    for (let index = 0; ; index++) {
      await sleep((-1_000 * Math.log(1 - random.unit())) / RATES[kind]);
      const atMs = machineMs();
      if (atMs > endMs) break;
      begun.push(
        begin(random, index).then((what) => void happened.push({ kind, atMs, answeredMs: machineMs(), ...what })),
      );
    }
    await Promise.all(begun);
  };
  await Promise.all([
    each("models edited", (random, index) => editModel(world, `m${random.below(modelCount)}`, index)),
    each("ranks died", (random) => killRank(world, random, modelCount)),
    each("nodes changed", (random, index) => changeNode(world, `node-${random.below(NODE_COUNT)}`, index)),
  ]);
  return happened;
}

const versionOf = ({ metadata }: KubeObject): string => metadata.resourceVersion ?? "";

/** In turns: one chain more, what needs no other ranks, and one chain again; each another than what stands. */
async function editModel({ client }: ScaleWorld, name: string, index: number) {
  const chains = [{ replicas: 2 }, {}, { replicas: 1 }][index % 3];
  const spec = { ...chains, idle: { afterSeconds: 3_600 + index } };
  const written = await client.patch(shardedModelResource, { namespace: MODELS_NAMESPACE, name }, { spec });
  return { key: `model/${MODELS_NAMESPACE}/${name}`, version: versionOf(written) };
}

/** As a kubelet says it of a container that was killed and is not started again. */
async function killRank({ client }: ScaleWorld, random: Seeded, modelCount: number) {
  for (;;) {
    const model = `m${random.below(modelCount)}`;
    const name = `${model}-0-${random.below(2)}-${random.below(RANK_COUNT / 2)}`;
    const conditions = ["ContainersReady", "Ready"].map((type) => ({ type, status: "False" }));
    const call = {
      method: "PATCH",
      path: pathOf(PODS, { namespace: MODELS_NAMESPACE, name, subresource: "status" }),
      body: { status: { phase: "Failed", reason: "OOMKilled", conditions } },
      contentType: "application/merge-patch+json",
    };
    const before = await client.find(PODS, { namespace: MODELS_NAMESPACE, name });
    const atMs = machineMs();
    const written = (await client.request(call).catch(() => undefined)) as KubeObject | undefined;
    const answeredMs = machineMs();
    // It is being made anew, or is dead already: that would be no change.
    if (written === undefined || before === undefined || versionOf(written) === versionOf(before)) continue;
    return { key: `model/${MODELS_NAMESPACE}/${model}`, version: versionOf(written), atMs, answeredMs };
  }
}

async function changeNode({ client }: ScaleWorld, name: string, index: number) {
  const memory = { freeBytes: `${200 - (index % 2)}Gi` };
  const labels = { "tessellate.example.org/touched": String(index) };
  const written = await client.patch(shardNodeResource, { name }, { metadata: { labels }, spec: { memory } });
  return { key: `node/${name}`, version: versionOf(written) };
}

/** From when a write was begun until the work on its key began, and the three parts of that, one after the other. */
type Waited = {
  readonly kind: Kind;
  readonly toWorkMs: number;
  readonly storedMs: number; // until the API server said that it is stored, or the copy had it, if that was sooner
  readonly toCopyMs: number; // from there until the operator's copy had it: the watch, and the operator's loop
  readonly queuedMs: number; // from there until somebody took it up
  readonly turnMs: number; // from there until the work on it began
};

function waitsIn({ happened, probed }: Run): readonly Waited[] {
  const seen = new Map(probed.seen);
  const taken = Map.groupBy(probed.taken, ([key]) => key);
  const begun = Map.groupBy(probed.begun, ([key]) => key);
  const firstAfter = (ms: number, times: readonly (readonly [string, number])[] = []) =>
    times.find(([, atMs]) => atMs >= ms)?.[1] ?? Number.POSITIVE_INFINITY;
  const between = (fromMs: number, toMs: number) => (Number.isFinite(toMs) ? toMs - fromMs : Number.POSITIVE_INFINITY);
  return happened.map(({ kind, key, version, atMs, answeredMs }) => {
    const seenMs = seen.get(version) ?? Number.POSITIVE_INFINITY;
    const takenMs = firstAfter(seenMs, taken.get(key));
    const begunMs = firstAfter(takenMs, begun.get(key));
    const storedMs = Math.min(answeredMs, seenMs);
    return {
      kind,
      toWorkMs: begunMs - atMs,
      storedMs: storedMs - atMs,
      toCopyMs: between(storedMs, seenMs),
      queuedMs: between(seenMs, takenMs),
      turnMs: between(takenMs, begunMs),
    };
  });
}

/** For each change of a node: until the last of the models that may be on it, those of its pool, is looked at for it. */
function allLookedAt({ happened, probed, modelCount }: Run): readonly number[] {
  const begun = Map.groupBy(probed.begun, ([key]) => key);
  return happened
    .filter(({ kind }) => kind === "nodes changed")
    .map(({ key, atMs }) => {
      const models = modelsOfPool(poolOf(Number(key.slice("node/node-".length))), modelCount, NODE_COUNT);
      const looks = models.map((name) => begun.get(`model/${MODELS_NAMESPACE}/${name}`)?.find(([, ms]) => ms >= atMs));
      return Math.max(...looks.map((look) => (look?.[1] ?? Number.POSITIVE_INFINITY) - atMs));
    });
}

/** "Event to the start of the work on it" may be read in three ways; none is left out. */
const READINGS: readonly (readonly [string, (waited: Waited) => number])[] = [
  ["from before a change is sent to the start of the work on it", ({ toWorkMs }) => toWorkMs],
  ["from when it is stored to the start of the work on it", ({ toWorkMs, storedMs }) => toWorkMs - storedMs],
  ["from when the operator has its event to the start of the work on it", ({ queuedMs, turnMs }) => queuedMs + turnMs],
];

const pausesIn = ({ probed, churn: { startMs, endMs } }: Run): readonly number[] =>
  probed.collected.flatMap(([atMs, pauseMs]) => (atMs >= startMs && atMs <= endMs ? [pauseMs] : []));

function foundOf(run: Run): Pick<BenchResult, "requirements" | "table" | "notes"> {
  const { modelCount, churn, scrapes, seriesCount, probed, cpuSeconds, happened } = run;
  const waits = waitsIn(run);
  const unseen = waits.filter(({ toWorkMs }) => !Number.isFinite(toWorkMs)).length;
  const lateIn = (windows: readonly Window[]) => latenessOf(within(probed.late, windows), SAMPLE_MS);
  const [busy, scraping] = [lateIn([churn]), lateIn(scrapes)];
  const own = latenessOf(ofItsOwn(within(probed.late, [churn])), SAMPLE_MS);
  const seconds = (churn.endMs - churn.startMs) / 1_000;
  const looks = probed.begun.filter(([, ms]) => ms >= churn.startMs && ms <= churn.endMs).length;
  const millis = (values: readonly number[]) =>
    [0.5, 0.99, 1].map((share) => `${rounded(percentile(values, share))} ms`).join(", ");
  const kinds = Object.keys(RATES) as readonly Kind[];
  return {
    requirements: [
      ...READINGS.map(([name, read]) => atMost(`${name}, p99`, percentile(waits.map(read), 0.99) / 1_000, 1, "s")),
      atMost("events whose work never began", unseen, 0, ""),
      atMost("loop late under churn, p99", busy.p99, 50, "ms"),
      atMost(`loop late during a scrape of ${seriesCount} series, p99`, scraping.p99, 50, "ms"),
      atLeast("events", happened.length, 0.8 * CHURN_SECONDS * kinds.reduce((sum, kind) => sum + RATES[kind], 0), ""),
    ],
    table: [
      ...kinds.flatMap((kind) => {
        const of = waits.filter((each) => each.kind === kind);
        return [
          [`${kind}, ${of.length}: to the start of the work, p50, p99, most`, millis(of.map((w) => w.toWorkMs))],
          [`${kind}: of it until the API server had stored it`, millis(of.map((w) => w.storedMs))],
          [`${kind}: from there until the operator's copy had it`, millis(of.map((w) => w.toCopyMs))],
          [`${kind}: from there until it was taken up`, millis(of.map((w) => w.queuedMs))],
          [`${kind}: from there to the start of the work`, millis(of.map((w) => w.turnMs))],
        ];
      }),
      ["a node changed: until all models of its pool were looked at, p50, p99, most", millis(allLookedAt(run))],
      ["loop late under churn, p50, p99, most", `${rounded(busy.p50)}, ${rounded(busy.p99)}, ${rounded(busy.most)} ms`],
      [
        "of it of its own doing, no other process having the core: p50, p99, most",
        `${rounded(own.p50)}, ${rounded(own.p99)}, ${rounded(own.most)} ms`,
      ],
      ["pauses of the garbage collector meanwhile, p50, p99, most", millis(pausesIn(run))],
      [
        "loop late during scrapes, p50, p99, most",
        `${rounded(scraping.p50)}, ${rounded(scraping.p99)}, ${rounded(scraping.most)} ms`,
      ],
      ["a scrape takes, p50, p99, most", millis(scrapes.map(({ startMs, endMs }) => endMs - startMs))],
      [
        "looks a second, and the operator's share of a core",
        `${rounded(looks / seconds)}, ${rounded((100 * cpuSeconds) / seconds)} %`,
      ],
    ],
    notes: [
      `${modelCount} models of ${RANK_COUNT} ranks on ${NODE_COUNT} nodes.`,
      `Each second of ${CHURN_SECONDS}: ${kinds.map((kind) => `${RATES[kind]} ${kind}`).join(", ")}.`,
      "Times are from before the request was sent, so the API server's own are in them. Lateness is what something meets that comes at any moment.",
    ],
  };
}

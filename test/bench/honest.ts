/**
 * `npm run bench -- honest [--world NAME]…`: what the planner promises beside what is served. Each world is planned from
 * measurements and started in local mode, this machine playing every node; real requests go through the gateway, and
 * throughput and time per token are compared with the simulation of the same plan. A world takes about a minute.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import { valueOrThrow } from "../../core/result.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { openTls } from "../../core/wire/tls.ts";
import { type LocalEvent, type LocalHouse, startLocal } from "../../operator/local/local-house.ts";
import { fullRankName } from "../../operator/plan/names.ts";
import { ranksOn, routesOf, segmentsOf } from "../../operator/plan/routes.ts";
import type { Load, Outcome } from "../../operator/plan/simulate/house.ts";
import { type Placed, simulatePlacement } from "../../operator/plan/simulate/placement.ts";
import { type MeasuredLayer, measureLayer } from "../../shard-runtime/measure/measured-layers.ts";
import { measureRoundTrip } from "../../shard-runtime/measure/round-trip.ts";
import { type BenchResult, atMost, rounded } from "./figures.ts";
import { type Asking, askForAWhile } from "./honest-load.ts";
import { countBatches, measuredBatches, simulatedBatches } from "./honest-batches.ts";
import { type HonestWorld, KINDS, WORLDS, modelOf, nodesOf, providersOf } from "./honest-worlds.ts";
import { machineFacts } from "./machine.ts";
import { benchCache } from "./bench-cache.ts";

const ERROR_MAX = 0.15;
/** Played node and measured link must outweigh what else the machine does; so many calls are tried for a quiet one. */
const ROUND_TRIP_TRIES = 3;
/** Of the lengths that are asked for. */
const SPREAD = 0.5;
const WARM_UP_SECONDS = 6;
const ALONE_SECONDS = 6;
const OPENING_SECONDS = 4;
const FULL_SECONDS = 24;
/** Of one call between two processes of one machine, until the first world has told. */
const ROUND_TRIP_MICROS = 700;

type Figures = { readonly perSecond: number; readonly msPerToken: number; readonly aloneMs: number };
type Compared = {
  readonly world: string;
  readonly arrangement: string;
  readonly predicted: Figures;
  readonly measured: Figures;
};

export async function run(args: readonly string[]): Promise<BenchResult> {
  const facts = machineFacts();
  const worlds = worldsOf(args);
  const measured = await measureKinds(new Set(worlds.flatMap(({ nodes }) => nodes.map(({ kind }) => kind))));
  const compared: Compared[] = [];
  let roundTripMicros = ROUND_TRIP_MICROS;
  for (const world of worlds) {
    const found = await rehearse(world, measured, roundTripMicros);
    roundTripMicros = found.roundTripMicros;
    compared.push(found);
    console.error(rowOf(found).join("  "));
  }
  const errors = compared.flatMap((each) => errorsOf(each).map((error) => Math.abs(error)));
  return {
    bench: "honest",
    ...facts,
    requirements: [atMost("largest error of throughput and time per token", Math.max(...errors), ERROR_MAX, "")],
    table: [
      [
        "world",
        "as planned",
        "tokens/s: predicted, measured",
        "ms/token, all slots full",
        "ms/token, alone",
        "errors, %",
      ],
      ...compared.map(rowOf),
    ],
    notes: [
      `Every slot taken; means. Prompts and answers of 40 tokens, of 288 and 24 in the last. A call between two processes: ${roundTripMicros} µs.`,
    ],
  };
}

/** Those named by `--world`, else all. */
function worldsOf(args: readonly string[]): readonly HonestWorld[] {
  const names = args.flatMap((arg, index) => (args[index - 1] === "--world" ? [arg] : []));
  const unknown = names.find((name) => WORLDS.every((world) => world.name !== name));
  if (unknown !== undefined)
    throw new Error(`no world is called ${unknown}: name one of ${WORLDS.map(({ name }) => name).join(", ")}`);
  return WORLDS.filter(({ name }) => names.length === 0 || names.includes(name));
}

type Kind = keyof typeof KINDS;

/** As `tessellate node measure` would find them on the played nodes. */
async function measureKinds(
  kinds: ReadonlySet<Kind>,
): Promise<Readonly<Partial<Record<Kind, { readonly layerTimes: MeasuredLayer }>>>> {
  const measured: Partial<Record<Kind, { readonly layerTimes: MeasuredLayer }>> = {};
  for (const kind of kinds) {
    const layerTimes = await measureLayer({
      device: "cpu",
      threadCount: 1,
      cacheDirectory: join(benchCache(), "measure"),
      clock: systemClock,
      say: (what) => console.error(`${kind}: ${what}`),
      rehearsal: { ...KINDS[kind], sendDelayMs: 0 },
    });
    measured[kind] = { layerTimes: { ...layerTimes, bytes: Math.round(layerTimes.bytes) } };
  }
  return measured;
}

async function rehearse(
  world: HonestWorld,
  measured: Parameters<typeof nodesOf>[1],
  knownRoundTripMicros: number,
): Promise<Compared & { readonly roundTripMicros: number }> {
  const directory = mkdtempSync(join(tmpdir(), "tessellate-honest-"));
  const nodes = nodesOf(world, measured, knownRoundTripMicros);
  const documents = { models: [modelOf(world)], providers: providersOf(world), nodes };
  // A model is Ready with its first chain; what is compared needs all of them.
  const all = Promise.withResolvers<void>();
  const tell = (told: LocalEvent) => {
    const message = told.event === "condition" && told.condition.type === "Ready" ? told.condition.message : "";
    if (message.startsWith(`${world.replicas} of ${world.replicas} chains serve`)) all.resolve();
  };
  const house = await startLocal({ documents, stateDirectory: directory, listen: "127.0.0.1:0", tell });
  try {
    await Promise.all([house.ready, all.promise]);
    const asking = { url: house.url, model: house.model.name, ...world.asked, spread: SPREAD };
    const alone = await askForAWhile({ ...asking, clientCount: 1, warmUpSeconds: 2, seconds: ALONE_SECONDS });
    // After some work: code that runs for the first time is slow, and no part of a link.
    const roundTripMicros = await roundTrip(house);
    const openMs = await opening(asking);
    const predicted = predict(world, house, roundTripMicros - knownRoundTripMicros, openMs);
    const [before, beganMs] = [await countBatches(house.cluster.metricsAddresses()), performance.now()];
    const full = await askForAWhile({
      ...asking,
      clientCount: clientsOf(world),
      warmUpSeconds: WARM_UP_SECONDS,
      seconds: FULL_SECONDS,
    });
    const after = await countBatches(house.cluster.metricsAddresses());
    const firstMs = rounded(1000 * predicted.outcome.firstTokenSeconds.median);
    console.error(`  a call ${roundTripMicros} µs, opening ${rounded(openMs)} ms`);
    console.error(`  first token: simulated ${firstMs} ms, measured ${rounded(full.firstTokenMs)} ms`);
    for (const line of simulatedBatches(predicted.outcome)) console.error(`  simulated: ${line}`);
    for (const line of measuredBatches(before, after, (performance.now() - beganMs) / 1000))
      console.error(`  measured: ${line}`);
    return {
      world: world.name,
      arrangement: arrangementOf(house),
      predicted,
      measured: { perSecond: full.generatedPerSecond, msPerToken: full.msPerToken, aloneMs: alone.msPerToken },
      roundTripMicros,
    };
  } finally {
    await house.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

const clientsOf = ({ slots, replicas }: HonestWorld): number => slots * replicas;

/** `laterMicros`: how much longer a call takes than was known when the world was planned. */
function predict(
  world: HonestWorld,
  house: LocalHouse,
  laterMicros: number,
  openMs: number,
): Figures & { readonly outcome: Outcome } {
  const { assignments, routes } = house.placement();
  const placed: Placed = {
    model: house.model,
    facts: house.facts,
    nodes: house.cluster.nodes.map((node) => ({
      ...node,
      links: (node.links ?? []).map((link) => ({ ...link, roundTripMicros: link.roundTripMicros + laterMicros })),
    })),
    assignments,
    openSeconds: openMs / 1000,
    ...(routes === undefined ? {} : { routes }),
  };
  const load = (clientCount: number): Load => ({
    kind: "closed",
    clientCount,
    ...world.asked,
    spread: SPREAD,
  });
  const full = simulatePlacement(placed, load(clientsOf(world)));
  const alone = simulatePlacement(placed, load(1));
  return {
    perSecond: full.generatedPerSecond,
    msPerToken: 1000 * full.secondsPerToken.mean,
    aloneMs: 1000 * alone.secondsPerToken.mean,
    outcome: full,
  };
}

/** Between this process and a rank: what lies between two ranks is the same, one machine's own. The quickest of some. */
async function roundTrip(house: LocalHouse): Promise<number> {
  const [rank] = house.cluster.ranks();
  const { assignment, address } = present(rank, "a plan has ranks");
  const name = fullRankName(house.model, assignment);
  const far = { name, address: present(address, "a rank that serves has an address") };
  const tls = valueOrThrow(openTls(house.cluster.operatorTls));
  let least = Number.POSITIVE_INFINITY;
  for (let tries = 0; tries < ROUND_TRIP_TRIES; tries += 1)
    least = Math.min(least, await measureRoundTrip(far, tls, systemClock));
  return least;
}

/**
 * What opening a session takes: its first token, of a prompt of one, beside its second. Means of both: who asks again at
 * once finds the last session still being closed, so a gateway gives unlike chains in turn, and a median is of one of them.
 */
async function opening(asking: Pick<Asking, "url" | "model">): Promise<number> {
  const { firstTokenMeanMs, msPerToken } = await askForAWhile({
    ...asking,
    promptTokens: 1,
    generatedTokens: 8,
    spread: 0,
    clientCount: 1,
    warmUpSeconds: 0,
    seconds: OPENING_SECONDS,
  });
  return Math.max(0, firstTokenMeanMs - msPerToken);
}

/** `a1[0,5) b1[5,8)` for each chain, apart by `|`, ranks of a group joined by `+`. */
function arrangementOf(house: LocalHouse): string {
  const routed = house.placement();
  const groups = segmentsOf(routed.assignments);
  return routesOf(routed)
    .map((route) =>
      ranksOn(route, groups)
        .map((ranks) => {
          const { layers } = present(ranks[0], "a segment has ranks");
          return `${ranks.map(({ node }) => node).join("+")}[${layers.start},${layers.end})`;
        })
        .join(" "),
    )
    .join(" | ");
}

const errorsOf = ({ predicted, measured }: Compared): readonly number[] => [
  predicted.perSecond / measured.perSecond - 1,
  predicted.msPerToken / measured.msPerToken - 1,
  predicted.aloneMs / measured.aloneMs - 1,
];

function rowOf(compared: Compared): readonly string[] {
  const { world, arrangement, predicted, measured } = compared;
  const pair = (one: number, other: number) => `${rounded(one)}, ${rounded(other)}`;
  return [
    world,
    arrangement,
    pair(predicted.perSecond, measured.perSecond),
    pair(predicted.msPerToken, measured.msPerToken),
    pair(predicted.aloneMs, measured.aloneMs),
    errorsOf(compared)
      .map((error) => (100 * error).toFixed(1))
      .join(", "),
  ];
}

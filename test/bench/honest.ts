/**
 * `npm run bench -- honest [WORDS of a world's name]`: what the planner promises beside what is served. Each world is
 * planned from measurements and started in local mode, this machine playing every node; real requests go through the
 * gateway, and throughput and time per token are compared with the simulation of the same plan.
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
import type { Load } from "../../operator/plan/simulate/house.ts";
import { type Placed, simulatePlacement } from "../../operator/plan/simulate/placement.ts";
import { type MeasuredLayer, measureLayer } from "../../shard-runtime/measure/measured-layers.ts";
import { measureRoundTrip } from "../../shard-runtime/measure/round-trip.ts";
import { type BenchResult, atMost, rounded } from "./figures.ts";
import { askForAWhile } from "./honest-load.ts";
import { type HonestWorld, KINDS, WORLDS, modelOf, nodesOf, providersOf } from "./honest-worlds.ts";
import { machineFacts } from "./machine.ts";
import { benchCache } from "./bench-cache.ts";

const PROMPT_TOKENS = 40;
const GENERATED_TOKENS = 40;
const ERROR_MAX = 0.15;
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
  const words = args.filter((arg) => !arg.startsWith("-"));
  const worlds = WORLDS.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)));
  const measured = await measureKinds();
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
      `Prompts of ${PROMPT_TOKENS} and answers of ${GENERATED_TOKENS} tokens, every slot taken; means. A call between two processes: ${roundTripMicros} µs.`,
    ],
  };
}

/** As `tessellate node measure` would find them on the played nodes. */
async function measureKinds(): Promise<Readonly<Record<keyof typeof KINDS, { readonly layerTimes: MeasuredLayer }>>> {
  const measure = async (kind: keyof typeof KINDS) => {
    const layerTimes = await measureLayer({
      device: "cpu",
      threadCount: 1,
      cacheDirectory: join(benchCache(), "measure"),
      clock: systemClock,
      say: (what) => console.error(`${kind}: ${what}`),
      rehearsal: { ...KINDS[kind], sendDelayMs: 0 },
    });
    return { layerTimes: { ...layerTimes, bytes: Math.round(layerTimes.bytes) } };
  };
  return { quick: await measure("quick"), middling: await measure("middling"), slow: await measure("slow") };
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
    const roundTripMicros = await roundTrip(house);
    const predicted = predict(world, house, roundTripMicros - knownRoundTripMicros);
    const asking = {
      url: house.url,
      model: house.model.name,
      promptTokens: PROMPT_TOKENS,
      generatedTokens: GENERATED_TOKENS,
    };
    const alone = await askForAWhile({ ...asking, clientCount: 1, warmUpSeconds: 1, seconds: 5 });
    const full = await askForAWhile({ ...asking, clientCount: clientsOf(world), warmUpSeconds: 5, seconds: 16 });
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
function predict(world: HonestWorld, house: LocalHouse, laterMicros: number): Figures {
  const { assignments, routes } = house.placement();
  const placed: Placed = {
    model: house.model,
    facts: house.facts,
    nodes: house.cluster.nodes.map((node) => ({
      ...node,
      links: (node.links ?? []).map((link) => ({ ...link, roundTripMicros: link.roundTripMicros + laterMicros })),
    })),
    assignments,
    ...(routes === undefined ? {} : { routes }),
  };
  const load = (clientCount: number): Load => ({
    kind: "closed",
    clientCount,
    promptTokens: PROMPT_TOKENS,
    generatedTokens: GENERATED_TOKENS,
    spread: 0,
  });
  const full = simulatePlacement(placed, load(clientsOf(world)));
  const alone = simulatePlacement(placed, load(1));
  return {
    perSecond: full.generatedPerSecond,
    msPerToken: 1000 * full.secondsPerToken.mean,
    aloneMs: 1000 * alone.secondsPerToken.mean,
  };
}

/** Between this process and a rank: what lies between two ranks is the same, one machine's own. */
async function roundTrip(house: LocalHouse): Promise<number> {
  const [rank] = house.cluster.ranks();
  const { assignment, address } = present(rank, "a plan has ranks");
  const name = fullRankName(house.model, assignment);
  const far = { name, address: present(address, "a rank that serves has an address") };
  return measureRoundTrip(far, valueOrThrow(openTls(house.cluster.operatorTls)), systemClock);
}

/** `a1[0,5) b1[5,8)`, chains apart by `|`, ranks of a group joined by `+`. */
function arrangementOf(house: LocalHouse): string {
  const { assignments } = house.placement();
  const sorted = [...assignments].sort((a, b) => a.chain - b.chain || a.segment - b.segment || a.rank - b.rank);
  const chains = Map.groupBy(sorted, ({ chain }) => chain);
  return [...chains.values()]
    .map((chain) =>
      [...Map.groupBy(chain, ({ segment }) => segment).values()]
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

/** Nothing was found: which wish stands in the way? Each is let go in turn; those without which there is a plan are named. */
import { type Result, type Refusal, refuse } from "../../core/result.ts";
import { formatBytes, formatCredits } from "../../core/units.ts";
import type { PlaceCode } from "./place.ts";
import type { Grounds, Sites } from "./sites.ts";
import type { Rules, Site, TilingCode, TilingProblem } from "./tiling/problem.ts";
import { tile } from "./tiling/tile.ts";

/** To see whether there is any answer, not which is best. */
const EVALUATIONS = 600;

type Wish = { readonly code: PlaceCode; readonly says: string; readonly without: TilingProblem };

export function whyNothing(
  grounds: Grounds,
  sites: Sites,
  problem: TilingProblem,
  refusal: Refusal<TilingCode>,
): Result<never, PlaceCode> {
  const plain = withoutWishes(problem);
  if (!tile(plain).ok) return notEnoughRoom(grounds, sites, problem);
  const wishes = wishesOf(grounds, problem);
  const decisive = wishes.filter(
    ({ without }) => tile({ ...without, evaluationCount: Math.min(EVALUATIONS, problem.evaluationCount) }).ok,
  );
  const [first, ...more] = decisive;
  if (first !== undefined) return refuse(first.code, [first, ...more].map(({ says }) => says).join("; or else: "));
  const said = wishes.map(({ says }) => says).join("; and ");
  if (refusal.code === "TooFewProviders") return refuse("TooFewProviders", said || refusal.detail);
  return refuse("RulesNotMet", said === "" ? refusal.detail : `these cannot all be kept at once: ${said}`);
}

const NO_RULES: Rules = { providersMin: 1, providerLayersMax: Number.MAX_SAFE_INTEGER, chainsAfterLoss: 0 };

/** Memory alone. */
const withoutWishes = (problem: TilingProblem): TilingProblem => ({
  ...problem,
  rules: NO_RULES,
  aim: { kind: "throughput" },
  sites: problem.sites.map(anywhere),
  evaluationCount: Math.min(EVALUATIONS, problem.evaluationCount),
});

const anywhere = (site: Site): Site => ({ ...site, mayHoldEnds: true });

function wishesOf({ model, facts }: Grounds, problem: TilingProblem): readonly Wish[] {
  const { placement, objective, replicas } = model;
  const { rules, aim } = problem;
  const wishes: Wish[] = [];
  const wish = (code: PlaceCode, says: string, without: TilingProblem) => wishes.push({ code, says, without });
  const relaxed = (set: Partial<Rules>): TilingProblem => ({ ...problem, rules: { ...rules, ...set } });
  if (placement.providersMin > 1)
    wish(
      "TooFewProviders",
      `spec.placement.providers.min asks for ${placement.providersMin} providers in each of ${replicas} chains: add providers or ask for fewer`,
      relaxed({ providersMin: 1 }),
    );
  if (rules.providerLayersMax < facts.config.layerCount)
    wish(
      "ShareTooSmall",
      `spec.placement.providers.maxShare ${placement.providersMaxSharePercent}% is ${rules.providerLayersMax} of ` +
        `${facts.config.layerCount} layers for one provider: raise it or add providers`,
      relaxed({ providerLayersMax: facts.config.layerCount }),
    );
  if (rules.chainsAfterLoss > 0)
    wish(
      "CannotSurviveLoss",
      `spec.placement.surviveProviders ${rules.chainsAfterLoss}: no plan leaves so many of ${replicas} chains whole ` +
        "whoever is lost: add nodes of other providers, raise replicas, or lower it",
      relaxed({ chainsAfterLoss: 0 }),
    );
  if (placement.edgeProviders !== undefined)
    wish(
      "NoTrustedEdge",
      `spec.placement.edges.providers ${placement.edgeProviders.join(", ")}: their nodes cannot hold the first and ` +
        "last layers of every chain: name more providers, or add memory there",
      { ...problem, sites: problem.sites.map(anywhere) },
    );
  const ceiling = rules.pricePerHourMax;
  if (ceiling !== undefined) {
    const { pricePerHourMax: _, ...others } = rules;
    wish("TooExpensive", dear("spec.placement.maxPricePerHour", ceiling), { ...problem, rules: others });
  }
  if (aim.kind === "latency" && aim.pricePerHourMax !== undefined)
    wish("TooExpensive", dear("spec.objective.latency.maxPricePerHour", aim.pricePerHourMax), {
      ...problem,
      aim: { kind: "latency" },
    });
  if (objective?.kind === "Throughput" && objective.timePerTokenMsMax !== undefined)
    wish(
      "TooSlow",
      `spec.objective.throughput.maxTimePerTokenMs ${objective.timePerTokenMsMax}: no plan is so quick: raise it, or add quicker nodes or nearer ones`,
      { ...problem, aim: { kind: "throughput" } },
    );
  if (objective?.kind === "Price")
    wish(
      "TooSlow",
      `spec.objective.price.minTokensPerSecond ${objective.tokensPerSecondMin}: no plan makes so many: lower it, or add nodes or replicas`,
      { ...problem, aim: { kind: "throughput" } },
    );
  return wishes;
}

const dear = (field: string, ceiling: number): string =>
  `${field} ${formatCredits(BigInt(Math.round(ceiling)))}: no plan is so cheap: raise it, or add cheaper nodes`;

function notEnoughRoom(
  { facts, sizes, nodes }: Grounds,
  { sites }: Sites,
  problem: TilingProblem,
): Result<never, "NotEnoughRoom"> {
  const { layerCount } = facts.config;
  const alone = [...nodes.values()].map((node) => ({
    node,
    room: sizes.layersMax({ nodes: [node], provider: node.provider, sliceWeights: [1] }).inner,
  }));
  const room = alone.reduce((sum, each) => sum + each.room, 0);
  const rooms = alone.map(
    ({ node, room: count }) => `${node.name} ${formatBytes(node.freeBytes)} free, room for ${count}`,
  );
  if (room >= layerCount) {
    const ends = sites.length === 0 ? "" : "; embedding and head must fit beside the first and last layers";
    return refuse(
      "NotEnoughRoom",
      [
        `${layerCount} layers of ${formatBytes(sizes.layerBytes)} each (weights and KV) and embedding and head of `,
        `${formatBytes(sizes.endBytes)} are short of room in ${problem.chainCount ?? 1} chains${ends}; `,
        rooms.join("; "),
      ].join(""),
    );
  }
  const shortBytes = (layerCount - room) * sizes.layerBytes;
  return refuse(
    "NotEnoughRoom",
    [
      `${formatBytes(shortBytes)} short: ${layerCount} layers of ${formatBytes(sizes.layerBytes)} each (weights and KV), `,
      `embedding and head ${formatBytes(sizes.endBytes)}; ${rooms.join("; ")}`,
    ].join(""),
  );
}

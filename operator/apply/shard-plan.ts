/** The plan as an object in the cluster, and back: what people review is what the next reconciliation goes on from. */
import type { ShardPlan, ShardPlanSpec, ShardPlanStatus } from "../../core/gen/crds/shardplan.ts";
import { formatCredits } from "../../core/units.ts";
import type { ReadFacts } from "../manifest/read-facts.ts";
import { rankName } from "../plan/names.ts";
import type {
  Assignment,
  Draining,
  ModelSpec,
  Placement,
  Plan,
  RankState,
  Route,
  StandingPlan,
} from "../plan/types.ts";
import { sourceDigestOf } from "./facts.ts";
import { RULED_OUT_COUNT_MAX } from "./node-index.ts";

export function shardPlanSpec(
  model: ModelSpec,
  facts: ReadFacts,
  revision: string,
  placement: Placement,
): ShardPlanSpec {
  const { assignments, leftOut, estimate, routes } = placement;
  return {
    model: {
      name: model.name,
      root: facts.root,
      revision,
      sourceDigest: sourceDigestOf(model),
      config: facts.configText,
      quantization: model.quantization,
      kvDtype: model.kvDtype,
      ...heldAs(facts, model.quantization),
      contextLength: model.contextLength,
      slots: placement.slotCount ?? model.slotCount,
      layerCount: facts.config.layerCount,
    },
    chains: chainsSpec(model, assignments),
    ...(routes === undefined ? {} : { routes: routes.map(writtenRoute) }),
    ...(placement.basis === undefined ? {} : { basis: placement.basis }),
    ...(placement.better === undefined ? {} : { better: placement.better }),
    leftOut: leftOutShown(leftOut),
    estimate: {
      millisecondsPerToken: estimate.millisecondsPerToken.toFixed(1),
      bottleneck: estimate.bottleneck,
      ...(estimate.tokensPerSecond === undefined ? {} : { tokensPerSecond: estimate.tokensPerSecond.toFixed(1) }),
      ...(estimate.pricePerHour === undefined ? {} : { pricePerHour: formatCredits(estimate.pricePerHour) }),
      ...(estimate.isEstimated === undefined ? {} : { estimated: estimate.isEstimated }),
    },
  };
}

/**
 * Those that might have taken part first. Not all: a thousand nodes were a hundred kilobytes of each plan, and every
 * change of any node a new version of every plan.
 */
function leftOutShown(leftOut: Placement["leftOut"]): Placement["leftOut"] {
  const ruledOut = leftOut.filter(({ code }) => RULED_OUT.has(code));
  const others = leftOut.filter(({ code }) => !RULED_OUT.has(code));
  return [...others, ...ruledOut.slice(0, RULED_OUT_COUNT_MAX)].slice(0, LEFT_OUT_COUNT_MAX);
}

const LEFT_OUT_COUNT_MAX = 32;
/** By the model's own wishes. */
const RULED_OUT: ReadonlySet<string> = new Set([
  "SelectorMismatch",
  "ProviderDenied",
  "ProviderNotAllowed",
  "DeviceNotAllowed",
  "RegionNotAllowed",
]);

/** Segments by the chain that they are at home in. */
export const chainsSpec = (model: ModelSpec, assignments: readonly Assignment[]): ShardPlanSpec["chains"] =>
  [...new Set(assignments.map(({ chain }) => chain))]
    .sort((a, b) => a - b)
    .map((index) => ({
      index,
      segments: segmentsIn(
        model,
        assignments.filter(({ chain }) => chain === index),
      ),
    }));

/** What the planner counted with, so that it counts the same while the source is away. */
function heldAs({ held = [] }: ReadFacts, quantization: string): Pick<ShardPlanSpec["model"], "held"> {
  const found = held.find((each) => each.quantization === quantization);
  if (found === undefined) return {};
  const { layersBytes, headBytes } = found;
  return { held: { layersBytes, headBytes } };
}

type WrittenRoute = NonNullable<ShardPlanSpec["routes"]>[number];

export const writtenRoute = ({ chain, segments, tokensPerSecond, millisecondsPerToken }: Route): WrittenRoute => ({
  chain,
  segments: segments.map((place) => ({ chain: place.chain, segment: place.segment })),
  tokensPerSecond: tokensPerSecond.toFixed(1),
  millisecondsPerToken: millisecondsPerToken.toFixed(1),
});

function segmentsIn(model: ModelSpec, chain: readonly Assignment[]): ShardPlanSpec["chains"][number]["segments"] {
  const indexes = [...new Set(chain.map(({ segment }) => segment))].sort((a, b) => a - b);
  return indexes.map((index, place) => {
    const group = chain.filter(({ segment }) => segment === index).sort((a, b) => a.rank - b.rank);
    const layers = group[0]?.layers ?? { start: 0, end: 0 };
    return {
      ...(index === place ? {} : { segment: index }),
      layers: { start: layers.start, end: layers.end },
      ranks: group.map((assignment) => ({
        name: rankName(model, assignment),
        node: assignment.node,
        provider: assignment.provider,
        sliceWeight: assignment.sliceWeights[assignment.rank] ?? 1,
        weightBytes: assignment.weightBytes,
        kvBytes: assignment.kvBytes,
      })),
    };
  });
}

/**
 * The plan that {@link shardPlanSpec} was made from, as far as the next one goes on from it; or the chains on their way out
 * that stand beside it and bear the name of their `outgoing` revision, which is the plan's own where that is left for a
 * better plan.
 */
export function standingPlanIn(plan: Pick<ShardPlan, "spec">, outgoing?: string): StandingPlan {
  const { routes, basis, better, model, asleep, chains } = plan.spec;
  const revision = outgoing ?? model.revision;
  const own = chains.filter((chain) => chain.revision === outgoing);
  const homes = new Set(own.map(({ index }) => index));
  return {
    revision,
    assignments: assignmentsIn({ spec: { ...plan.spec, chains: own } }),
    slotCount: model.slots,
    ...(basis === undefined ? {} : { basis }),
    ...(better === undefined ? {} : { better }),
    ...(asleep === undefined ? {} : { asleep }),
    ...(routes === undefined
      ? {}
      : {
          routes: routes
            .filter(({ segments }) => segments.every(({ chain }) => homes.has(chain)))
            .map(({ chain, segments, tokensPerSecond, millisecondsPerToken }) => ({
              chain,
              segments: segments.map((place) => ({ chain: place.chain, segment: place.segment })),
              tokensPerSecond: Number(tokensPerSecond ?? 0),
              millisecondsPerToken: Number(millisecondsPerToken ?? 0),
            })),
        }),
  };
}

/** What the plan says of chains that leave, as {@link shardPlanSpec} has them among the others. `before`: as it was written last. */
export function drainingSpec(
  leaving: Plan["leaving"],
  before: Pick<ShardPlanSpec, "draining" | "rollout"> | undefined,
  nowMs: number,
): Pick<ShardPlanSpec, "draining"> {
  if (leaving === undefined || leaving.routes.length === 0) return {};
  const known = [...(before?.draining ?? []), ...(before?.rollout?.draining ?? [])];
  const now = new Date(nowMs).toISOString();
  const sinceOf = (chain: number) => known.find((each) => each.chain === chain)?.since ?? now;
  return { draining: leaving.routes.map(({ chain }) => ({ chain, since: sinceOf(chain) })) };
}

/** What the plan says of routes that are tried, as {@link shardPlanSpec} has them among the others. */
export const trialSpec = ({ trial = [] }: Pick<Plan, "trial">): Pick<ShardPlanSpec, "unproven"> =>
  trial.length === 0 ? {} : { unproven: trial.map(({ chain }) => chain) };

/** {@link drainingSpec} read again. */
export function drainingIn(
  plan: Pick<ShardPlan, "spec"> | undefined,
  nowMs: number,
  isQuiet: (chain: number) => boolean,
): readonly Draining[] {
  return (plan?.spec.draining ?? []).map(({ chain, since }) => ({
    chain,
    seconds: Math.max(0, Math.floor((nowMs - Date.parse(since)) / 1000)),
    isQuiet: isQuiet(chain),
  }));
}

/** All that the plan gives to nodes, of whatever revision. */
export function assignmentsIn({ spec }: Pick<ShardPlan, "spec">): readonly Assignment[] {
  return spec.chains.flatMap(({ index: chain, segments }) =>
    segments.flatMap(({ segment: number, layers, ranks }, place) =>
      ranks.map(
        ({ node, provider, weightBytes, kvBytes }, rank): Assignment => ({
          chain,
          segment: number ?? place,
          rank,
          node,
          provider,
          layers,
          sliceWeights: ranks.map(({ sliceWeight }) => sliceWeight),
          weightBytes,
          kvBytes,
        }),
      ),
    ),
  );
}

export function shardPlanStatus(
  model: ModelSpec,
  assignments: readonly Assignment[],
  ranks: readonly RankState[],
  observedGeneration: number,
  summary?: string,
): ShardPlanStatus {
  const byName = new Map(ranks.map((rank) => [rank.name, rank]));
  const rankStates = assignments.map((assignment) => {
    const name = rankName(model, assignment);
    const state = byName.get(name);
    return {
      name,
      phase: state?.phase ?? ("Missing" as const),
      ready: state?.phase === "Ready",
      ...(state?.address === undefined ? {} : { address: state.address }),
      ...(state?.detail ? { detail: state.detail } : {}),
    };
  });
  const readyCount = rankStates.filter(({ ready }) => ready).length;
  return {
    observedGeneration,
    ranks: `${readyCount}/${rankStates.length}`,
    ...(summary === undefined ? {} : { summary }),
    rankStates,
  };
}

/**
 * A placement: which holder serves which layers, and through which of them each chain runs. States the wishes and the
 * nodes as a tiling problem, has it searched, and turns the answer into ranks with names. What stands may be given: it
 * then keeps its names, and its layers where nothing is gained by moving them.
 */
import { type Result, ok, refuse } from "../../core/result.ts";
import { estimated, generatedShare } from "./estimate.ts";
import { RUNTIME_BYTES, footprint } from "./footprint.ts";
import { eligible, holderName, maySeeText, providerLayerLimit } from "./holders.ts";
import { assignmentsOf, settled } from "./homes.ts";
import { leftOutOf } from "./left-out.ts";
import { whyNothing } from "./no-placement.ts";
import { preferCached } from "./prefer-cached.ts";
import { type Routed, segmentsOf } from "./routes.ts";
import { overfullNode } from "./soundness.ts";
import { type Grounds, type Sites, groundsOf, sitesOf, standingHolder } from "./sites.ts";
import type { Aim, Holding, TilingProblem } from "./tiling/problem.ts";
import { tile } from "./tiling/tile.ts";
import type { Known, ModelFacts, ModelSpec, NodeFacts, Placement } from "./types.ts";

/** Which wish stands in the way. */
export type PlaceCode =
  | "NoNodes" // no node may hold a part at all
  | "NotEnoughRoom" // memory
  | "TooFewProviders" // spec.placement.providers.min
  | "NoTrustedEdge" // spec.placement.edges
  | "ShareTooSmall" // spec.placement.providers.maxShare
  | "CannotSurviveLoss" // spec.placement.surviveProviders
  | "TooExpensive" // a price ceiling
  | "TooSlow" // spec.objective's bound
  | "RulesNotMet"; // several of these at once

export type PlaceOptions = {
  readonly evaluationCount?: number; // how long to search; few where only an answer is wanted, not the best one
  readonly isDraft?: true; // nobody will read why nodes are left out
  readonly standing?: Routed & { readonly gainMin: number }; // see TilingProblem
};

const EVALUATIONS = 3_000;
/** More sites have more to gain: so many evaluations a site. */
const EVALUATIONS_PER_SITE = 150;
const EVALUATIONS_MIN = 1_500;
/** Many sites take longer to judge, and the operator does nothing else meanwhile: so many of evaluations × sites. */
const JUDGED_SITES = 60_000;
/** Sessions that the planner weighs where nobody says how many. */
const SLOT_COUNTS = [4, 8, 16, 2, 1] as const;
/** Room that more sessions take must be room that nobody needs for layers. */
const ROOM_TO_SPARE = 1.5;

/** Decides afresh. Deterministic, whatever the order of the nodes. */
export function place(world: Known, options: PlaceOptions = {}): Result<Placement, PlaceCode> {
  const { model, facts } = world;
  const { nodes, leftOut } = eligible(model, world.nodes);
  if (model.replicas === 0) return ok(nothingAtAll(nodes, leftOut));
  const refusal = plainRefusal(model, facts, nodes, leftOut);
  if (refusal !== undefined) return refusal;
  const tried = slotCounts(model, facts, nodes).map((slotCount) => ({ ...model, slotCount }));
  let first: Result<Placement, PlaceCode> | undefined;
  for (const wish of tried) {
    const placed = placeOn(groundsOf(wish, facts, nodes), options, world.reservedChains);
    if (!placed.ok) first ??= placed;
    else {
      const found =
        model.slotsByPlanner === true ? withMoreSlots(wish, facts, nodes, placed.value, options) : placed.value;
      return ok({ ...found, leftOut: [...leftOut, ...found.leftOut] });
    }
  }
  return first ?? refuse("NoNodes", "no node may serve this model");
}

/** As many sessions as the nodes of the placement have room for beside what they hold: nobody moves for them. */
function withMoreSlots(
  model: ModelSpec,
  facts: ModelFacts,
  nodes: readonly NodeFacts[],
  placed: Placement,
  options: PlaceOptions,
): Placement {
  const groups = [...segmentsOf(placed.assignments).values()];
  const counts = model.objective?.kind === "Latency" ? [] : SLOT_COUNTS.filter((count) => count > model.slotCount);
  for (const slotCount of counts.sort((a, b) => b - a)) {
    const grounds = groundsOf({ ...model, slotCount }, facts, nodes);
    const assignments = groups.flatMap((group) => {
      const [holder, leader] = [standingHolder(group, grounds.nodes), group[0]];
      return holder && leader ? assignmentsOf(holder, leader.layers, leader, grounds.sizes) : [];
    });
    if (overfullNode(grounds.nodes, assignments) !== undefined) continue;
    const routed = { assignments, ...(placed.routes === undefined ? {} : { routes: placed.routes }) };
    const figures = estimated(grounds, routed);
    const leftOut = options.isDraft ? [] : leftOutOf(grounds, { ...routed, ...figures });
    return { ...placed, ...routed, ...figures, leftOut, slotCount };
  }
  return { ...placed, slotCount: model.slotCount };
}

/** What cannot be, whatever is searched. */
function plainRefusal(
  model: ModelSpec,
  { config }: ModelFacts,
  nodes: readonly NodeFacts[],
  leftOut: Placement["leftOut"],
): Result<never, PlaceCode> | undefined {
  const { providersMin, edgeProviders } = model.placement;
  if (nodes.length === 0)
    return refuse(
      "NoNodes",
      `no node may serve this model: ${leftOut.map(({ node, why }) => `${node}: ${why}`).join("; ") || "there is none"}`,
    );
  const providerCount = new Set(nodes.map(({ provider }) => provider)).size;
  if (providerCount < providersMin)
    return refuse(
      "TooFewProviders",
      `spec.placement.providers.min asks for ${providersMin}, and ${providerCount} offer nodes that may serve this model`,
    );
  if (config.layerCount < providersMin)
    return refuse(
      "TooFewProviders",
      `the model has ${config.layerCount} layers, too few for spec.placement.providers.min ${providersMin}`,
    );
  if (!nodes.some((node) => maySeeText(model, [node])))
    return refuse(
      "NoTrustedEdge",
      `spec.placement.edges.providers names ${edgeProviders?.join(", ")}, and none of them offers a node that may serve this model`,
    );
  return undefined;
}

/** Most sessions first, as far as memory is plenty; where memory is short, fewer than usual. */
function slotCounts(model: ModelSpec, facts: ModelFacts, nodes: readonly NodeFacts[]): readonly number[] {
  if (model.slotsByPlanner !== true) return [model.slotCount];
  const [usual, ...others] = SLOT_COUNTS;
  if (model.objective?.kind === "Latency") return [usual, ...others.filter((count) => count < usual)];
  const isPlenty = (slotCount: number): boolean => {
    const { layerBytes } = footprint({ ...model, slotCount }, facts);
    const room = nodes.reduce((sum, node) => sum + Math.max(0, node.freeBytes - RUNTIME_BYTES) / layerBytes, 0);
    return room >= ROOM_TO_SPARE * model.replicas * facts.config.layerCount;
  };
  const more = others.filter((count) => count > usual && isPlenty(count)).sort((a, b) => b - a);
  return [...more, usual, ...others.filter((count) => count < usual)];
}

function placeOn(
  grounds: Grounds,
  options: PlaceOptions,
  reservedChains: readonly number[] = [],
): Result<Placement, PlaceCode> {
  const standing = options.standing ?? { assignments: [], gainMin: 0 };
  const groups = [...segmentsOf(standing.assignments).values()];
  const held = groups.flatMap((group) => standingHolder(group, grounds.nodes) ?? []);
  const sites = sitesOf(grounds, held);
  const holdings = groups.flatMap((group): readonly Holding[] => {
    const holder = standingHolder(group, grounds.nodes);
    const [leader] = group;
    return holder === undefined || leader === undefined ? [] : [{ site: holderName(holder), layers: leader.layers }];
  });
  const problem = problemOf(grounds, sites, options.evaluationCount);
  const tiling = tile(
    holdings.length === 0 ? problem : { ...problem, standing: { holdings, gainMin: standing.gainMin } },
  );
  if (!tiling.ok) return whyNothing(grounds, sites, problem, tiling);
  const stands = new Set(holdings.map(({ site }) => site));
  const chosen = preferCached(tiling.value.holdings, sites.sites, sites.holderAt, grounds.facts.root, stands);
  const names = { ...standing, reservedChains };
  const routed = settled({ ...tiling.value, holdings: chosen }, sites.holderAt, grounds.sizes, names);
  const figures = estimated(grounds, routed);
  return ok({ ...routed, ...figures, leftOut: options.isDraft ? [] : leftOutOf(grounds, { ...routed, ...figures }) });
}

export function problemOf(grounds: Grounds, { sites, links }: Sites, evaluationCount?: number): TilingProblem {
  const { model, facts } = grounds;
  const { placement } = model;
  const ceiling = placement.pricePerHourMax;
  const { layerCount } = facts.config;
  return {
    layerCount,
    sites,
    links,
    aim: aimOf(model, generatedShare(grounds)),
    rules: {
      providersMin: placement.providersMin,
      providerLayersMax: providerLayerLimit(model, layerCount),
      chainsAfterLoss: placement.surviveProviders ?? 0,
      ...(ceiling === undefined ? {} : { pricePerHourMax: Number(ceiling) }),
    },
    tokensInFlightMax: model.slotCount / generatedShare(grounds),
    chainCount: model.replicas,
    evaluationCount: evaluationCount ?? effortFor(sites.length),
  };
}

function aimOf({ objective }: ModelSpec, generated: number): Aim {
  switch (objective?.kind) {
    case "Latency":
      return {
        kind: "latency",
        ...(objective.pricePerHourMax === undefined ? {} : { pricePerHourMax: Number(objective.pricePerHourMax) }),
      };
    case "Price":
      return { kind: "price", tokensPerSecondMin: objective.tokensPerSecondMin / generated };
    default: {
      const limit = objective?.timePerTokenMsMax;
      return { kind: "throughput", ...(limit === undefined ? {} : { secondsPerTokenMax: limit / 1000 }) };
    }
  }
}

const nothingAtAll = (nodes: readonly NodeFacts[], leftOut: Placement["leftOut"]): Placement => ({
  assignments: [],
  routes: [],
  leftOut: [...leftOut, ...nodes.map(({ name }) => ({ node: name, code: "NotNeeded", why: "spec.replicas is 0" }))],
  estimate: { millisecondsPerToken: 0, bottleneck: "", tokensPerSecond: 0, pricePerHour: 0n },
});

function effortFor(siteCount: number): number {
  const wanted = Math.max(EVALUATIONS_MIN, Math.min(EVALUATIONS, siteCount * EVALUATIONS_PER_SITE));
  return Math.min(wanted, Math.ceil(JUDGED_SITES / siteCount));
}

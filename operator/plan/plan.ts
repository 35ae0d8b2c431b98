/**
 * What should change, and what we say about it, given everything we saw. Sticky: the plan in force is kept wherever no
 * rule forbids it, so that losing one rank moves one rank. Nothing is evicted because somebody did not answer; only a
 * rank that ended, or whose node is gone, is replaced.
 */
import { neighboursOf, rankName } from "./names.ts";
import { describePlacement, layersCovered, place } from "./place.ts";
import { bytesOn, replacementFor } from "./repair.ts";
import type {
  Action,
  Assignment,
  Condition,
  ModelFacts,
  ModelSpec,
  Placement,
  Plan,
  RankState,
  World,
} from "./types.ts";

type Known = World & { readonly facts: ModelFacts };
type Wanted = { readonly placement: Placement; readonly message: string };

/** What a rank must have been told for it to serve this spec. Ranks of another revision are replaced. */
export const revisionOf = (model: ModelSpec, { root }: ModelFacts): string =>
  [
    root.replace("sha256:", "").slice(0, 12),
    model.quantization,
    model.contextLength,
    model.slotCount,
    model.handOffDtype,
    ...(model.kvDtype === "f32" ? [] : [`kv-${model.kvDtype}`]),
  ].join("-");

export function plan(world: World): Plan {
  const { model, facts, ranks } = world;
  if ("code" in facts) return standing(world, "", facts.code, facts.detail);
  if (model.digest !== undefined && model.digest !== facts.root) {
    const detail = `spec.model.digest is ${model.digest}, and the source holds ${facts.root}: correct the digest or the source`;
    return standing(world, "", "DigestMismatch", detail);
  }
  const known: Known = { ...world, facts };
  const revision = revisionOf(model, facts);
  const wanted = wantedPlacement(known, revision);
  if ("code" in wanted) return standing(world, revision, wanted.code, wanted.detail);
  const { assignments } = wanted.placement;
  const changes = diff(model, revision, assignments, ranks);
  const ready = readyChains(model, revision, assignments, ranks);
  const serving = ready.filter((chain) => hasPassed(world, chain));
  const seen = world.probes.filter(({ passed, hearsay }) => passed && !hearsay).map(({ chain }) => chain);
  const probes = ready.filter((chain) => !seen.includes(chain)).map((chain) => ({ do: "probe", chain }) as const);
  const actions = [...changes, ...probes];
  return {
    revision,
    placement: wanted.placement,
    actions,
    conditions: [
      { type: "Planned", status: "True", reason: "Placed", message: wanted.message },
      weightsReady(model, assignments, ranks),
      readiness(world, ready, serving),
    ],
    readyChainCount: serving.length,
  };
}

const hasPassed = ({ probes }: World, chain: number): boolean =>
  probes.some((probe) => probe.chain === chain && probe.passed);

/** The plan in force where it still stands, repaired where it must be; fresh placements for the chains it lacks. */
function wantedPlacement(world: Known, revision: string): Wanted | { readonly code: string; readonly detail: string } {
  const { model, facts, previous } = world;
  const inForce = previous?.revision === revision ? previous.assignments : [];
  const indexes = Array.from({ length: model.replicas }, (_, chain) => chain);
  const chainOf = (chain: number) => inForce.filter((assignment) => assignment.chain === chain);
  const standing = indexes.filter((chain) => layersCovered(chainOf(chain), facts.config.layerCount));
  const kept = standing.flatMap(chainOf);
  const repaired = repair(world, kept);
  if (repaired === undefined) return fresh(world, "a node is gone and no single node can take its shard; ");
  const missing = indexes.filter((chain) => !standing.includes(chain));
  const added = missing.length === 0 ? [] : addChains(world, repaired.assignments, missing);
  if (added === undefined) return fresh(world, "");
  const assignments = [...repaired.assignments, ...added].sort(
    (a, b) => a.chain - b.chain || a.segment - b.segment || a.rank - b.rank,
  );
  const message =
    repaired.moved.length === 0 ? summary(assignments) : `${summary(assignments)}; moved ${repaired.moved.join(", ")}`;
  return { placement: describePlacement(world, assignments), message };
}

type Repaired = { readonly assignments: readonly Assignment[]; readonly moved: readonly string[] };

/** Shards of nodes that are gone, each moved alone; undefined where one has nowhere to go. */
function repair(world: Known, kept: readonly Assignment[]): Repaired | undefined {
  let assignments = kept;
  const moved: string[] = [];
  for (const assignment of kept.filter(({ node }) => !world.nodes.some(({ name }) => name === node))) {
    const replacement = replacementFor(world, assignment, assignments);
    if (replacement === undefined) return undefined;
    assignments = assignments.map((each) => (each === assignment ? replacement : each));
    moved.push(`${rankName(world.model, assignment)} from ${assignment.node} to ${replacement.node}`);
  }
  return { assignments, moved };
}

/** New chains, numbered as `missing` says: on nodes that the others leave alone, or else in the room that they leave. */
function addChains(
  world: Known,
  kept: readonly Assignment[],
  missing: readonly number[],
): readonly Assignment[] | undefined {
  const model = { ...world.model, replicas: missing.length };
  const left = world.nodes.map((node) => ({ ...node, freeBytes: node.freeBytes - bytesOn(node.name, kept) }));
  const untouched = left.filter(({ name }) => !kept.some(({ node }) => node === name));
  for (const nodes of [untouched, left]) {
    const placed = place({ ...world, nodes, model });
    if (placed.ok)
      return placed.value.assignments.map((assignment) => ({
        ...assignment,
        chain: missing[assignment.chain] ?? assignment.chain,
      }));
  }
  return undefined;
}

function fresh(world: Known, why: string): Wanted | { readonly code: string; readonly detail: string } {
  const placed = place(world);
  if (!placed.ok) return { code: placed.code, detail: `${why}${placed.detail}` };
  return { placement: placed.value, message: `${why}${summary(placed.value.assignments)}` };
}

function summary(assignments: readonly Assignment[]): string {
  const count = (pick: (assignment: Assignment) => unknown) => new Set(assignments.map(pick)).size;
  const chainCount = count(({ chain }) => chain);
  const where = `${count(({ node }) => node)} nodes of ${count(({ provider }) => provider)} providers`;
  return `${assignments.length} ranks on ${where}, ${chainCount} ${chainCount === 1 ? "chain" : "chains"}`;
}

/** Names are free only once the old rank is gone, so a rank that must change is deleted in one round, made in the next. */
function diff(
  model: ModelSpec,
  revision: string,
  wanted: readonly Assignment[],
  ranks: readonly RankState[],
): readonly Action[] {
  const byName = new Map(ranks.map((rank) => [rank.name, rank]));
  const wantedNames = new Set(wanted.map((assignment) => rankName(model, assignment)));
  const gone = ranks.filter(({ name, phase }) => !wantedNames.has(name) && phase !== "Leaving");
  return [
    ...gone.map(({ name }): Action => ({ do: "delete-rank", name, why: "the plan has no such rank" })),
    ...wanted.flatMap((assignment): readonly Action[] => {
      const name = rankName(model, assignment);
      const rank = byName.get(name);
      if (rank === undefined) return [{ do: "create-rank", name, assignment }];
      if (rank.phase === "Leaving") return [];
      if (rank.phase === "Failed" || rank.phase === "Lost")
        return [{ do: "delete-rank", name, why: `${rank.phase}: ${rank.detail}` }];
      if (rank.revision !== revision)
        return [{ do: "delete-rank", name, why: `runs revision ${rank.revision}, wanted is ${revision}` }];
      if (!sameShard(rank.assignment, assignment))
        return [{ do: "delete-rank", name, why: "the plan gives it another shard or node" }];
      if (rank.neighbours !== undefined && rank.neighbours.join() !== neighboursOf(model, assignment, wanted).join())
        return [{ do: "delete-rank", name, why: "the plan gives it other neighbours" }];
      return [];
    }),
  ];
}

const sameShard = (a: Assignment, b: Assignment): boolean =>
  a.node === b.node &&
  a.layers.start === b.layers.start &&
  a.layers.end === b.layers.end &&
  a.sliceWeights.join() === b.sliceWeights.join();

/** Chains whose every rank is Ready with what the plan gives it. */
function readyChains(
  model: ModelSpec,
  revision: string,
  wanted: readonly Assignment[],
  ranks: readonly RankState[],
): readonly number[] {
  const byName = new Map(ranks.map((rank) => [rank.name, rank]));
  const isReady = (assignment: Assignment) => {
    const rank = byName.get(rankName(model, assignment));
    return rank?.phase === "Ready" && rank.revision === revision && sameShard(rank.assignment, assignment);
  };
  return [...new Set(wanted.map(({ chain }) => chain))].filter((chain) =>
    wanted.filter((assignment) => assignment.chain === chain).every(isReady),
  );
}

function weightsReady(model: ModelSpec, wanted: readonly Assignment[], ranks: readonly RankState[]): Condition {
  const byName = new Map(ranks.map((rank) => [rank.name, rank]));
  const waiting = wanted
    .map((assignment) => rankName(model, assignment))
    .filter((name) => byName.get(name)?.phase !== "Ready");
  if (waiting.length === 0)
    return {
      type: "WeightsReady",
      status: "True",
      reason: "Loaded",
      message: `${wanted.length} ranks hold their shards`,
    };
  const shown = waiting.slice(0, 3).map((name) => `${name}: ${byName.get(name)?.detail || "not started"}`);
  const more = waiting.length > shown.length ? `; and ${waiting.length - shown.length} more` : "";
  return {
    type: "WeightsReady",
    status: "False",
    reason: "Loading",
    message: `${wanted.length - waiting.length} of ${wanted.length} ranks; ${shown.join("; ")}${more}`,
  };
}

function readiness({ model, probes }: World, ready: readonly number[], serving: readonly number[]): Condition {
  const no = (reason: string, message: string): Condition => ({ type: "Ready", status: "False", reason, message });
  if (serving.length > 0) {
    const message = `${serving.length} of ${model.replicas} chains serve`;
    return { type: "Ready", status: "True", reason: "Serving", message };
  }
  if (model.replicas === 0) return no("ScaledToZero", "spec.replicas is 0");
  if (ready.length === 0) return no("RanksStarting", "no chain is complete yet");
  const failed = probes.find(({ chain, passed }) => !passed && ready.includes(chain));
  if (failed !== undefined) return no("ProbeFailed", `chain ${failed.chain}: ${failed.detail}`);
  return no(
    "Probing",
    `${ready.length === 1 ? "chain" : "chains"} ${ready.join(", ")} complete; a request is going through`,
  );
}

/** Nothing can be planned: what runs goes on running, and the conditions say why. */
function standing(world: World, revision: string, code: string, detail: string): Plan {
  const { ranks } = world;
  const serving = [...new Set(ranks.map(({ assignment }) => assignment.chain))].filter(
    (chain) =>
      hasPassed(world, chain) &&
      ranks.every(({ assignment, phase }) => assignment.chain !== chain || phase === "Ready"),
  );
  return {
    revision,
    placement: undefined,
    actions: [],
    conditions: [
      { type: "Planned", status: "False", reason: code, message: detail },
      { type: "WeightsReady", status: "Unknown", reason: "NotPlanned", message: "nothing is planned" },
      serving.length > 0
        ? { type: "Ready", status: "True", reason: "Serving", message: "the plan in force still serves" }
        : { type: "Ready", status: "False", reason: code, message: detail },
    ],
    readyChainCount: serving.length,
  };
}

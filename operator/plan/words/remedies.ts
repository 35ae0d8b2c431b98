/**
 * When nothing fits: the smallest changes that would make it fit, each found by planning again and so known to work, not
 * guessed. Effort is bounded by a count of plans. Nothing here is imported by `place`, which all of it rests on.
 */
import type { LayerRange } from "../../../core/ranges.ts";
import type { Refusal, Result } from "../../../core/result.ts";
import { formatBytes } from "../../../core/units.ts";
import { footprint } from "../footprint.ts";
import { place } from "../place.ts";
import type { ModelFacts, Placement, World } from "../types.ts";
import { type Axis, type Step, adding, axesOf, ownerWords, wholeBytes } from "./axes.ts";
import { type Change, changeWords, changed, optionOf } from "./change.ts";
import { countOf, listOf } from "./figures.ts";
import { shortened } from "./text.ts";
import type { Known as Drawn } from "./times.ts";
import { layersText } from "./view.ts";

type Known = World & Drawn;

/** A change, or several that only together are enough, after which `place` succeeds. */
export type Remedy = {
  readonly changes: readonly Change[];
  readonly size: number; // what they give up together, see axes.ts: the smaller, the smaller a change
  readonly words: string; // `add a node with ≥ 6 GiB free of any provider`
  readonly options: readonly string[]; // for --what-if
  readonly placement: Placement; // what would be planned then
};

export type Effort = {
  readonly planCountMax: number;
  readonly plan: (world: Known) => Result<Placement>;
};

/** So many times a plan is tried before the answer stands with what was found; fewer times where each takes longer. */
export const PLAN_COUNT_MAX = 96;
const PLAN_COUNT_MIN = 24;
const NODES_AND_PLANS = 10_000;
/** Whether anything fits is the question, not what fits best. */
const EVALUATIONS = 60;

const effortFor = ({ nodes }: Known, effort: Partial<Effort>): Effort => ({
  planCountMax: Math.max(PLAN_COUNT_MIN, Math.min(PLAN_COUNT_MAX, Math.floor(NODES_AND_PLANS / nodes.length))),
  plan: (world) => place(world, { evaluationCount: EVALUATIONS }),
  ...effort,
});
/** Existing providers that are asked whose a new node may be. */
const OWNERS_MAX = 4;

/** Every change that works, smallest first; empty where none of those tried does, or where the world fits already. */
export function remedies(world: Known, effort: Partial<Effort> = {}): readonly Remedy[] {
  const search = new Search(world, effortFor(world, effort));
  if (search.tries([]) !== undefined) return [];
  const axes = axesOf(world);
  const alone = axes.flatMap((axis) => search.smallest(axis, []) ?? []);
  if (!alone.some(({ steps: [step] }) => step?.change.do === "add")) alone.push(...search.ownNode());
  const found = alone.length > 0 ? alone : search.together(axes);
  const named = found.map((each) => remedyOf(search.withOwner(each)));
  return withoutDoubles(named.toSorted((a, b) => a.size - b.size || (a.words < b.words ? -1 : 1)));
}

/** Of several machines that could grow, the one that needs least. */
function withoutDoubles(sorted: readonly Remedy[]): readonly Remedy[] {
  const kinds = new Set<string>();
  return sorted.filter(({ changes }) => {
    const kind = changes.map((change) => (change.do === "set" ? changeWords(change) : change.do)).join();
    const isNew = !kinds.has(kind);
    kinds.add(kind);
    return isNew;
  });
}

/** Steps that are enough together, and the plan that they lead to. */
type Found = { readonly steps: readonly Step[]; readonly placement: Placement };

function remedyOf({ steps, placement }: Found): Remedy {
  const changes = steps.map(({ change }) => change);
  return {
    changes,
    size: steps.reduce((sum, { size }) => sum + size, 0),
    words: listOf(changes.map(changeWords)) + (changes.length > 1 ? " together" : ""),
    options: changes.flatMap((change) => optionOf(change) ?? []),
    placement,
  };
}

class Search {
  readonly #world: Known;
  readonly #effort: Effort;
  #planCount = 0;

  constructor(world: Known, effort: Effort) {
    this.#world = world;
    this.#effort = effort;
  }

  /** The placement after the changes; undefined where there is none, or no effort left. */
  tries(steps: readonly Step[]): Placement | undefined {
    if (this.#planCount >= this.#effort.planCountMax) return undefined;
    this.#planCount += 1;
    const world = changed(
      this.#world,
      steps.map(({ change }) => change),
    );
    const placed = this.#effort.plan(world);
    return placed.ok ? placed.value : undefined;
  }

  /** The smallest step of the axis that is enough beside `others`; undefined: not even the largest is. */
  smallest({ steps }: Axis, others: readonly Step[]): Found | undefined {
    const found = (step: Step | undefined): Found | undefined => {
      if (step === undefined) return undefined;
      const placement = this.tries([...others, step]);
      return placement === undefined ? undefined : { steps: [...others, step], placement };
    };
    // Steps of one size, such as nodes that may come back, have no order: the first that is enough.
    if (steps[0]?.size === steps.at(-1)?.size) {
      for (const step of steps) {
        const enough = found(step);
        if (enough !== undefined) return enough;
      }
      return undefined;
    }
    let best = found(steps.at(-1));
    if (best === undefined) return undefined;
    for (let low = 0, high = steps.length - 1; low < high; ) {
      const middle = (low + high) >> 1;
      const enough = found(steps[middle]);
      best = enough ?? best;
      if (enough === undefined) low = middle + 1;
      else high = middle;
    }
    return best;
  }

  /** Where no new provider may come: a node of one that is there. */
  ownNode(): readonly Found[] {
    const whole = wholeBytes(this.#world);
    for (const provider of this.#providers()) {
      const found = this.smallest({ name: "add", steps: adding(this.#world, whole, provider) }, []);
      if (found !== undefined) return [found];
    }
    return [];
  }

  /** A node of a new provider is enough; whether one of a provider that is there already would be as well. */
  withOwner({ steps, placement }: Found): Found {
    const added = steps.find(({ change }) => change.do === "add");
    if (added?.change.do !== "add") return { steps, placement };
    const { node } = added.change;
    const all = this.#providers();
    const others = steps.filter((step) => step !== added);
    const owners = all.filter(
      (provider) =>
        provider === node.provider ||
        this.tries([...others, { ...added, change: { do: "add", node: { ...node, provider } } }]) !== undefined,
    );
    const owner = ownerWords(owners, all, node.provider);
    const named: Step = { ...added, change: { do: "add", node, owner } };
    return { steps: steps.map((step) => (step === added ? named : step)), placement };
  }

  #providers(): readonly string[] {
    return [...new Set(this.#world.nodes.map(({ provider }) => provider))].sort().slice(0, OWNERS_MAX);
  }

  /** Where no change is enough alone: the largest of all together, less those that are not needed, each made smaller. */
  together(axes: readonly Axis[]): readonly Found[] {
    const largest = axes.flatMap((axis) => {
      const step = axis.steps.at(-1);
      return step === undefined ? [] : [{ axis, step }];
    });
    let needed = largest.toSorted((a, b) => b.step.size - a.step.size || (a.axis.name < b.axis.name ? -1 : 1));
    const stepsOf = (parts: typeof needed) => parts.map(({ step }) => step);
    let placement = this.tries(stepsOf(needed));
    if (placement === undefined) return [];
    for (const each of needed) {
      const rest = needed.filter((other) => other !== each);
      const enough = this.tries(stepsOf(rest));
      if (enough !== undefined) [needed, placement] = [rest, enough];
    }
    for (const each of needed) {
      const rest = needed.filter((other) => other !== each);
      const found = this.smallest(each.axis, stepsOf(rest));
      const step = found?.steps.at(-1);
      if (found === undefined || step === undefined) continue;
      needed = [...rest, { ...each, step }];
      placement = found.placement;
    }
    return [{ steps: stepsOf(needed), placement }];
  }
}

/** How much memory the nodes lack: the layers that they could not hold, if memory is what is missing at all. */
export type Shortage = { readonly bytes: number; readonly layers: LayerRange };

/** Found by planning again with fewer layers. Undefined where more memory on every node would not help. */
export function shortageOf(world: Known, effort: Partial<Effort> = {}): Shortage | undefined {
  const search = effortFor(world, effort);
  const { layerCount } = world.facts.config;
  const ample = world.nodes.map((node) => ({ ...node, freeBytes: node.freeBytes > 0 ? 2 ** 50 : node.freeBytes }));
  if (!search.plan({ ...world, nodes: ample }).ok) return undefined;
  const fits = (count: number) => search.plan({ ...world, facts: withLayers(world.facts, count) }).ok;
  let held = 0;
  for (let short = layerCount; held + 1 < short; ) {
    const middle = (held + short) >> 1;
    if (fits(middle)) held = middle;
    else short = middle;
  }
  // Not even one layer beside the embedding and the head: then it is not the layers that are short of room.
  if (held === 0) return undefined;
  const { layerBytes } = footprint(world.model, world.facts);
  const bytes = (layerCount - held) * layerBytes * Math.max(1, world.model.replicas);
  return { bytes, layers: { start: held, end: layerCount } };
}

/** The same model cut off after so many layers. */
function withLayers(facts: ModelFacts, layerCount: number): ModelFacts {
  const { config } = facts;
  return { ...facts, config: { ...config, layerCount, layerKinds: config.layerKinds.slice(0, layerCount) } };
}

type Refused = Pick<Refusal, "code" | "detail">;

/** So many remedies are told; the rest is there for programs. */
const TOLD_MAX = 4;
const REFUSAL_LENGTH_MAX = 1500;

/** Worlds come again and again as long as nothing fits them: what was found for the last ones is kept. */
const KEPT_MAX = 8;
const kept = new Map<string, string>();

/**
 * `4.2 GiB short on layers 18–24: add a node with ≥ 6 GiB free of any provider, or int4, …`, and what was refused. Takes
 * up to a hundred plans the first time that it is asked about a world, and none when it is asked again.
 */
export function refusalWords(world: Known, refusal: Refused, effort: Partial<Effort> = {}): string {
  if (effort.planCountMax === 0) return refusal.detail;
  const { model, facts, nodes } = world;
  const asked = { model, root: facts.root, config: facts.config, nodes, refusal, count: effort.planCountMax };
  const key = JSON.stringify(asked, (_, value: unknown) => (typeof value === "bigint" ? `${value}n` : value));
  const words = kept.get(key) ?? remedyWords(world, refusal, remedies(world, effort), effort);
  kept.delete(key);
  kept.set(key, words);
  const [oldest] = kept.keys();
  if (kept.size > KEPT_MAX && oldest !== undefined) kept.delete(oldest);
  return words;
}

/** The same, of remedies that were found already. */
export function remedyWords(
  world: Known,
  refusal: Refused,
  found: readonly Remedy[],
  effort: Partial<Effort> = {},
): string {
  const short = refusal.code === "NotEnoughRoom" ? shortageOf(world, effort) : undefined;
  const chains = world.model.replicas > 1 ? ` of ${countOf(world.model.replicas, "chain")}` : "";
  const fact =
    short === undefined ? "" : `${formatBytes(short.bytes)} short on layers ${layersText(short.layers)}${chains}`;
  const advice =
    found.length === 0
      ? "no single change that was tried makes it fit, nor all of them together"
      : listOf(
          found.slice(0, TOLD_MAX).map(({ words }) => words),
          "or",
        );
  const parts =
    fact === "" ? [`${refusal.detail}. It would fit with: ${advice}`] : [`${fact}: ${advice}`, refusal.detail];
  return shortened(parts.join(". "), REFUSAL_LENGTH_MAX);
}

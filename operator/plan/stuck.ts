/** What drained nodes hold and nobody else has the room for, with the smallest changes that would let them go. */
import { type Result, ok, refuse } from "../../core/result.ts";
import { formatBytes } from "../../core/units.ts";
import { bytesOfRank } from "./footprint.ts";
import { eligible } from "./holders.ts";
import { rankName } from "./names.ts";
import { type Standing, segmentKey } from "./routes.ts";
import { formKey } from "./revision.ts";
import { groundsOf } from "./sites.ts";
import { withSpares } from "./spares.ts";
import { layersText } from "./words/view.ts";
import { refusalWords } from "./words/remedies.ts";
import type { Assignment, Known, Placement, Stuck } from "./types.ts";

type Effort = { readonly remedyPlanCountMax?: number };

/** By node. `groups`: the segments that found no place. */
export function stuckOn(
  world: Known,
  standing: Standing,
  groups: readonly (readonly Assignment[])[],
  { remedyPlanCountMax: planCountMax }: Effort,
): readonly Stuck[] {
  const drained = new Set(world.nodes.flatMap(({ name, leaving }) => (leaving === "Drained" ? [name] : [])));
  const ranks = groups.flat().filter(({ node }) => drained.has(node));
  return [...new Set(ranks.map(({ node }) => node))].sort().map((node): Stuck => {
    const own = ranks.filter((each) => each.node === node);
    const names = own.map((each) => rankName(world.model, each));
    const what = own
      .map((each, index) => `${names[index]} (layers ${layersText(each.layers)}, ${formatBytes(bytesOfRank(each))})`)
      .join(", ");
    const refusal = { code: "DrainBlocked", detail: `no other node may hold ${what}` };
    const plan = (changed: Known): Result<Placement> => settled(world, changed, standing, own);
    const why = refusalWords(world, refusal, { plan, ...(planCountMax === undefined ? {} : { planCountMax }) });
    return { node, ranks: names, why };
  });
}

/** Whether these ranks would find a place in the changed world. What makes other ranks of them is no way out. */
function settled(world: Known, changed: Known, standing: Standing, own: readonly Assignment[]): Result<Placement> {
  const no = refuse("DrainBlocked", "no other node may hold it");
  if (formKey(changed.model, changed.facts) !== formKey(world.model, world.facts)) return no;
  // One that is drained or cordoned takes nothing, whatever else of it changes.
  const nodes = changed.nodes.map((node) => (node.leaving === undefined ? node : { ...node, ready: false }));
  const holding = new Set(standing.assignments.map(({ node }) => node));
  const may = new Set(eligible(changed.model, nodes).nodes.map(({ name }) => name));
  const all = nodes.filter(({ name }) => holding.has(name) || may.has(name)).sort((a, b) => (a.name < b.name ? -1 : 1));
  const grounds = groundsOf(
    changed.model,
    changed.facts,
    all.sort((a, b) => (a.name < b.name ? -1 : 1)),
  );
  const { spared, stuck } = withSpares(grounds, standing, world.reservedChains);
  const keys = new Set(own.map(segmentKey));
  if (stuck.flat().some((each) => keys.has(segmentKey(each)))) return no;
  return ok({ ...spared, leftOut: [], estimate: { millisecondsPerToken: 0, bottleneck: "" } });
}

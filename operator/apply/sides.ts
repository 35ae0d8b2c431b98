/** Models of which ranks of several revisions stand: what each was told, and what gateways are told of them all. */
import type { Model } from "../../core/gen/proto/tessellate/control/v1/Model.ts";
import type { ShardedModel } from "../../core/gen/crds/shardedmodel.ts";
import type { ShardPlan } from "../../core/gen/crds/shardplan.ts";
import type { ReadFacts } from "../manifest/read-facts.ts";
import { withLeaving } from "../plan/leaving.ts";
import { modelSpecOf, plannedModel } from "../plan/model-spec.ts";
import { pictureOf, withChains } from "../plan/picture.ts";
import { modelOf } from "../plan/revision.ts";
import { type Routed, routesOf } from "../plan/routes.ts";
import type { ModelFacts, ModelSpec, Plan, RankState, Rolled, Rolls, World } from "../plan/types.ts";
import { isAssigned } from "./observe.ts";
import { formIn, outgoingIn, rollsIn } from "./rollout-record.ts";
import { drainingIn, standingPlanIn } from "./shard-plan.ts";

export type Told = {
  readonly model: ModelSpec; // as the ranks of the revision have it
  readonly facts: ModelFacts;
  readonly placement: Routed;
  readonly image?: string;
};

/** What ranks of a revision are told; undefined where the plan has no chains of it. */
export function toldOf({ model, facts }: World, plan: Plan, revision: string): Told | undefined {
  const { rolled, leaving, trial } = plan;
  const placement = plan.placement && withLeaving(plan.placement, leaving, trial);
  const side = rolled?.outgoing.find((each) => each.plan.revision === revision);
  if (side !== undefined) {
    const { image } = side.form;
    // Left for a better plan of the same revision: ranks of both are told alike, each of its own neighbours.
    const other = plan.revision === revision && placement !== undefined ? [placement] : [];
    const both = [...other, side.plan];
    const all = { assignments: both.flatMap(({ assignments }) => assignments), routes: both.flatMap(routesOf) };
    const told = { model: modelOf(model, side), facts: side.facts, placement: all };
    return image === undefined ? told : { ...told, image };
  }
  if (placement === undefined || plan.revision !== revision || "code" in facts) return undefined;
  if (rolled === undefined) return { model: plannedModel(model, placement), facts, placement };
  const { form } = rolled;
  const slotCount = placement.slotCount ?? form.slotCount;
  const told = {
    model: modelOf(model, { form, plan: { revision, assignments: [], slotCount } }),
    facts: rolled.facts,
    placement,
  };
  return form.image === undefined ? told : { ...told, image: form.image };
}

/** The model and its facts as the plan's own revision has them: not those that are asked for where these were taken back. */
export function plannedAs(
  asked: ModelSpec,
  facts: ReadFacts,
  rolled: Rolled | undefined,
): { readonly model: ModelSpec; readonly facts: ReadFacts } {
  if (rolled === undefined) return { model: asked, facts };
  const { manifestUrl: _, digest, ...rest } = asked;
  const { image: __, ...form } = rolled.form;
  const pinned = rolled.facts.root === facts.root ? digest : rolled.facts.root;
  const model = { ...rest, ...form, ...(pinned === undefined ? {} : { digest: pinned }) };
  return { model, facts: rolled.facts };
}

/** The chains of all revisions, as gateways and the ledger must know them. */
export function pictureOfAll(
  object: ShardedModel,
  plan: ShardPlan,
  facts: ReadFacts,
  ranks: readonly RankState[],
): Model {
  const asked = modelSpecOf(object, facts.config);
  const { rollout } = plan.spec;
  const unproven = [...(rollout?.unproven ?? []), ...(plan.spec.unproven ?? [])];
  const draining = [...(rollout?.draining ?? []), ...(plan.spec.draining ?? [])].map(({ chain }) => chain);
  const standing = standingPlanIn(plan);
  const sides = [{ form: formIn(plan, asked), facts, plan: standing }, ...outgoingIn(plan)];
  const pictures = sides.map((side) => {
    const { revision, assignments } = side.plan;
    const told = ranks.filter((rank) => rank.revision === revision && isAssigned(rank, assignments));
    const model = modelOf(asked, side);
    return pictureOf(model, side.facts, side.plan, told, { revision, draining, unproven });
  });
  const [own, ...others] = pictures;
  // Until the first of the next revision serves, the model is what it was.
  const isProven = routesOf(standing).some(({ chain }) => !unproven.includes(chain));
  const face = isProven ? own : (others.at(-1) ?? own);
  if (own === undefined || face === undefined) throw new Error("a plan has chains of its own revision");
  return withChains(
    face,
    pictures.filter((each) => each !== face),
  );
}

export type RollsDoors = {
  readonly image: string; // that ranks are to run
  readonly nowMs: number; // since 1970
  readonly isQuiet: (chain: number) => boolean;
};

/** Where a rollout is, as the plan remembers it and as gateways say. `planned`: the facts that the plan was made from. */
export function rollsOf(
  model: ModelSpec,
  facts: ReadFacts,
  stored: { readonly plan: ShardPlan; readonly planned: ReadFacts } | undefined,
  { image, nowMs, isQuiet }: RollsDoors,
): Rolls {
  const known =
    stored === undefined
      ? { outgoing: [], unproven: [], draining: [] }
      : rollsIn(stored.plan, stored.planned, model, nowMs);
  return {
    ...known,
    limits: model.update,
    image,
    configText: facts.configText,
    draining: [
      ...known.draining.map((each) => ({ ...each, isQuiet: isQuiet(each.chain) })),
      ...drainingIn(stored?.plan, nowMs, isQuiet),
    ],
  };
}

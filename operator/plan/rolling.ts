/**
 * A plan for a world in which chains of several revisions may stand: rollout.ts says which step is next, this says
 * which ranks it means. The next revision's chains are planned as if they were alone, one more at a time, on the memory
 * that the others leave and under numbers that the others do not bear; so no chain shares a rank with another revision's.
 */
import { present } from "../../core/assert.ts";
import type { NotWanted } from "./decide.ts";
import { canTurnBack, departure, saidOfBetter, turnedBack, whyTurnBack } from "./moving.ts";
import { rankName } from "./names.ts";
import { ranksDue } from "./ranks-due.ts";
import { formOf, isOfWish, modelOf, standingPlanOf, wishOf } from "./revision.ts";
import {
  type Doing,
  EMPTY,
  NOTHING,
  type Walk,
  consented,
  isMove,
  limitsOf,
  mended,
  modelToGrow,
  oneMore,
  onRoutes,
  revisionOfNext,
} from "./rolling-room.ts";
import { repairedBeside } from "./rolling-repair.ts";
import { type Views, probeOf, viewsOf } from "./rolling-views.ts";
import { type Go, blockedWords, saidOf, upToDate, waitsAs } from "./rolling-words.ts";
import { nextStep } from "./rollout.ts";
import { routesOf } from "./routes.ts";
import type { Action, Better, Known, ModelSpec, Placement, Plan, Refused, RollStatus, Rolls, Side } from "./types.ts";

export function planRolling(world: Known, rolls: Rolls, doing: Doing): Plan {
  const { model, previous } = world;
  const facts = { ...world.facts, configText: rolls.configText };
  const wish = wishOf(model, facts, rolls.image);
  const refused = rolls.refused?.wish === wish ? rolls.refused : undefined;
  const common = { ...doing, world, rolls, wish, refused };
  const isWished = (side: Side) => isOfWish(side, model, facts, rolls.image);
  const isNothing = rolls.inForce === undefined || previous === undefined;
  // What slept has no ranks to be gentle with; it wakes as what is asked for.
  if (isNothing || (previous.asleep !== undefined && !isWished({ ...rolls.inForce, plan: previous }))) {
    const form = formOf(model, rolls.image);
    return atRest({ ...common, target: { form, facts, plan: { revision: "", ...NOTHING } }, outgoing: [] });
  }
  const inForce: Side = { ...rolls.inForce, plan: previous };
  if (refused !== undefined) return walked({ ...common, target: inForce, outgoing: rolls.outgoing });
  if (isWished(inForce)) {
    // What ranks are told apart from their revision may have changed: where the source is mirrored, say.
    const form = { ...formOf(model, rolls.image), slotCount: previous.slotCount ?? inForce.form.slotCount };
    const outgoing = previous.asleep === undefined ? rolls.outgoing : [];
    return walked({ ...common, target: { ...inForce, form, facts }, outgoing });
  }
  const standing = together([...rolls.outgoing, inForce]);
  const again = standing.find(isWished);
  const others = standing.filter((side) => side !== again);
  if (again !== undefined) return walked({ ...common, target: again, outgoing: others });
  const form = formOf(model, rolls.image);
  return walked({ ...common, target: { form, facts, plan: { revision: "", ...NOTHING } }, outgoing: others });
}

/** Sides by their revision: of what was on its way to a better plan, both halves are alike to another revision. */
function together(sides: readonly Side[]): readonly Side[] {
  const byRevision = new Map<string, Side>();
  for (const side of sides) {
    const { revision } = side.plan;
    const known = byRevision.get(revision);
    const routes = [...(known === undefined ? [] : routesOf(known.plan)), ...routesOf(side.plan)];
    const assignments = [...(known?.plan.assignments ?? []), ...side.plan.assignments];
    byRevision.set(revision, known === undefined ? side : { ...side, plan: { ...side.plan, assignments, routes } });
  }
  return [...byRevision.values()];
}

/** All ranks are of one revision, or are to be: planned as ever, and written down as such. */
function atRest(walk: Walk): Plan {
  const { world, rolls, target, refused } = walk;
  const isNew = target.plan.revision === "";
  const asked = refused === undefined ? { ...world.model, ...revisionIn(target) } : modelOf(world.model, target);
  const { previous: _, ...rest } = world;
  const plan = walk.ordinary({
    ...rest,
    model: asked,
    facts: target.facts,
    previous: isNew ? undefined : target.plan,
  });
  const { better: found, ...calm } = plan;
  if (found === undefined || refused !== undefined || isNew) return resting(walk, calm, plan.placement?.better);
  // What was under way ends first: its marks are not the next walk's.
  if (rolls.stalledSeconds !== undefined) return resting(walk, unseen(walk, calm), target.plan.better);
  const gone = departure(walk, found, plan.placement?.basis);
  if (gone === undefined || "declined" in gone) return resting(walk, calm, gone?.declined);
  const first = walked(gone.walk);
  if (first.proposal === undefined) return first;
  // Where a person lets plans through, nothing has begun before.
  const waits = resting(walk, unseen(walk, calm), target.plan.better);
  const { message = "" } = first.conditions.find(({ type }) => type === "UpToDate") ?? {};
  return {
    ...waits,
    proposal: first.proposal,
    conditions: waits.conditions.map((condition) =>
      condition.type === "Planned" ? { ...condition, reason: "AwaitsApproval", message } : condition,
    ),
  };
}

/** The plan with the basis that it had: the next look searches for a better one again. */
function unseen({ target }: Walk, { placement, ...plan }: Plan): Plan {
  const { basis } = target.plan;
  return { ...plan, placement: placement && { ...placement, ...(basis === undefined ? {} : { basis }) } };
}

function resting(walk: Walk, plan: Plan, better: Better | undefined): Plan {
  const { rolls, target, refused } = walk;
  const { slotCount } = plan.placement ?? {};
  const placement = plan.placement && better !== undefined ? { ...plan.placement, better } : plan.placement;
  return {
    ...plan,
    placement,
    conditions: [
      ...plan.conditions.map((condition) => saidOfBetter(condition, better)),
      upToDate(walk, plan.readyChainCount, undefined),
    ],
    rolled: {
      form: { ...target.form, ...(slotCount === undefined ? {} : { slotCount }) },
      facts: target.facts,
      outgoing: [],
      unproven: [],
      draining: [],
      isProgress: rolls.stalledSeconds !== undefined,
      ...(refused === undefined ? {} : { refused, status: rolledBack(refused, target) }),
    },
  };
}

const revisionIn = ({ plan }: Side): Pick<ModelSpec, "revision"> =>
  plan.revision === "" ? {} : { revision: plan.revision };

const rolledBack = ({ revision }: Refused, { plan }: Side): RollStatus => ({
  phase: "RolledBack",
  from: revision,
  to: plan.revision,
  updatedCount: routesOf(plan).length,
});

function walked(walk: Walk): Plan {
  const { rolls, target } = walk;
  const outgoing = walk.outgoing.map((side) => ({
    ...side,
    plan: { ...side.plan, ...onRoutes(routesOf(side.plan), side) },
  }));
  const isUnderWay = rolls.stalledSeconds !== undefined && target.plan.revision !== "";
  if (!isUnderWay && outgoing.every(({ plan }) => plan.routes.length === 0)) return atRest({ ...walk, outgoing: [] });
  const now: Walk = { ...walk, outgoing, target: withoutClosed(walk) };
  const isMoving = isMove(now);
  const mayTurn = isMoving && canTurnBack(now);
  const lost = mayTurn ? whyTurnBack(now) : undefined;
  if (lost !== undefined) return progressed(walked(turnedBack(now, lost)));
  const views = viewsOf(now);
  const canUndo = isMoving ? mayTurn : walk.refused === undefined && outgoing.length > 0;
  let refusal: NotWanted | undefined;
  const step = nextStep({
    replicaCount: walk.world.model.replicas,
    limits: limitsOf(now),
    next: canUndo ? views.next : views.next.map(({ trouble: _, hopeless: __, ...chain }) => chain),
    old: views.old,
    stalledSeconds: rolls.stalledSeconds ?? 0,
    fits: (without) => {
      const placed = oneMore(now, without);
      if ("code" in placed && without.length === 0) refusal = placed;
      return !("code" in placed);
    },
  });
  switch (step.do) {
    case "finish":
      return atRest({ ...walk, outgoing: [] });
    case "undo":
      return isMoving ? progressed(walked(turnedBack(now, step.why))) : undone(now, step);
    case "go":
      if (step.blocked !== undefined && mayTurn)
        return progressed(walked(turnedBack(now, refusal?.detail ?? "its chains find no room any more")));
      if (step.blocked !== undefined && canUndo && isStranded(now))
        return undone(now, { why: `no room for ${rolls.limits.progressSeconds} s`, reason: "NoRoom" });
      return gone(now, step, views, refusal);
  }
}

/** Less the chains that drain for another reason: they go at once, the rollout cannot wait for them. */
function withoutClosed({ target, world }: Walk): Side {
  const closed = new Set(
    target.plan.revision === world.previous?.revision ? world.draining?.map(({ chain }) => chain) : [],
  );
  const routes = routesOf(target.plan).filter(({ chain }) => !closed.has(chain));
  return closed.size === 0 ? target : { ...target, plan: { ...target.plan, ...onRoutes(routes, target) } };
}

/** Old chains were taken away for a next one, and it finds no room after all. */
const isStranded = ({ target, rolls }: Walk): boolean =>
  target.plan.revision !== "" &&
  routesOf(target.plan).length === 0 &&
  (rolls.stalledSeconds ?? 0) >= rolls.limits.progressSeconds;

/** Back to the revision that most still serve of; what was tried is remembered with why. */
function undone(walk: Walk, { why, reason }: Pick<Refused, "why"> & Required<Pick<Refused, "reason">>): Plan {
  const { outgoing, target, wish } = walk;
  const ready = new Set(viewsOf(walk).old.flatMap(({ chain, state }) => (state === "Ready" ? [chain] : [])));
  const servingOf = ({ plan }: Side) => routesOf(plan).filter(({ chain }) => ready.has(chain)).length;
  const back = present(
    [...outgoing].sort((a, b) => servingOf(b) - servingOf(a) || routesOf(b.plan).length - routesOf(a.plan).length)[0],
    "only what has something to go back to is undone",
  );
  const others = [...outgoing.filter((side) => side !== back), target];
  return progressed(
    walked({
      ...walk,
      refused: { wish, revision: target.plan.revision, why, reason },
      target: back,
      outgoing: others,
    }),
  );
}

const progressed = (plan: Plan): Plan =>
  plan.rolled === undefined ? plan : { ...plan, rolled: { ...plan.rolled, isProgress: true } };

function gone(walk: Walk, step: Go, views: Views, refusal: NotWanted | undefined): Plan {
  const { rolls, target } = walk;
  const known = routesOf(target.plan);
  const isNew = target.plan.revision === "";
  if (step.blocked !== undefined && isNew) return kept(walk, blockedWords(step.blocked, refusal));
  const { grown, waits } = growth(walk, step);
  if (waits !== undefined && isNew) return { ...kept(walk, waits.words), proposal: waits.proposal };
  const isGrown = grown !== undefined;
  const placement = { ...(grown ?? mended(walk)), ...marksOf(target) };
  const left = walk.outgoing.map((side) => {
    const routes = routesOf(side.plan).filter(({ chain }) => !step.remove.includes(chain));
    return { ...side, plan: { ...side.plan, ...onRoutes(routes, side) } };
  });
  const lost = views.old.flatMap(({ chain, state, drainingSeconds }) =>
    state === "Lost" && drainingSeconds === undefined && !step.drain.includes(chain) ? [chain] : [],
  );
  const outgoing = repairedBeside(walk, left, placement, lost);
  const standing = new Set(outgoing.flatMap(({ plan }) => routesOf(plan).map(({ chain }) => chain)));
  const proven = new Set(views.next.flatMap(({ chain, isProven }) => (isProven ? [chain] : [])));
  const unproven = [
    ...routesOf(placement).flatMap(({ chain }) => (proven.has(chain) ? [] : [chain])),
    ...rolls.unproven.filter((chain) => standing.has(chain)),
  ];
  const draining = [...rolls.draining.map(({ chain }) => chain), ...step.drain].filter((chain) => standing.has(chain));
  const model = modelToGrow(walk, placement);
  const revision = revisionOfNext(walk, model);
  const side = { ...target, form: { ...target.form, slotCount: model.slotCount } };
  const isProgress =
    isGrown ||
    step.remove.length > 0 ||
    step.drain.length > 0 ||
    unproven.length <
      rolls.unproven.filter((chain) => standing.has(chain) || known.some((r) => r.chain === chain)).length;
  const now: Walk = { ...walk, outgoing, target: { ...side, plan: standingPlanOf(revision, placement, model) } };
  const note = waits?.words ?? (step.blocked === undefined ? undefined : blockedWords(step.blocked, refusal));
  return {
    revision,
    placement,
    ...(waits === undefined ? {} : { proposal: waits.proposal }),
    actions: [...actionsOf(now, model, placement, draining), ...probesOf(walk, views)],
    ...saidOf(now, model, { views, draining, unproven, note }),
    rolled: {
      form: side.form,
      facts: side.facts,
      outgoing,
      unproven,
      draining,
      isProgress,
      ...(walk.refused === undefined ? {} : { refused: walk.refused }),
      ...(isMove(walk) ? {} : { status: statusOf(walk, views, revision, note) }),
    },
  };
}

const statusOf = (walk: Walk, views: Views, revision: string, note: string | undefined): RollStatus => ({
  phase: note !== undefined ? "Waits" : walk.refused === undefined ? "RollingOut" : "RollingBack",
  from: fromOf(walk),
  to: revision,
  updatedCount: views.next.filter(({ isReady, isProven }) => isReady && isProven).length,
});

/** What the plan was chosen from stays so on the way to it. */
const marksOf = ({ plan: { basis, better } }: Side): Pick<Placement, "basis" | "better"> => ({
  ...(basis === undefined ? {} : { basis }),
  ...(better === undefined ? {} : { better }),
});

function growth(
  walk: Walk,
  step: Go,
): { readonly grown?: Placement; readonly waits?: Extract<ReturnType<typeof consented>, { readonly words: string }> } {
  const found = step.grow ? oneMore(walk, []) : undefined;
  if (found === undefined || "code" in found) return {};
  const answer = consented(walk, found);
  return "words" in answer ? { waits: answer } : { grown: answer };
}

const fromOf = ({ outgoing, refused }: Walk): string =>
  refused?.revision ??
  outgoing.find(({ plan }) => routesOf(plan).length > 0)?.plan.revision ??
  outgoing[0]?.plan.revision ??
  "";

/** Nothing of the next revision can be made: what is in force stays so, repairs included, and it is said why. */
function kept(walk: Walk, note: string): Plan {
  const { world, rolls } = walk;
  const inForce: Side = {
    ...present(rolls.inForce, "only what is in force is kept"),
    plan: present(world.previous, "only what is in force is kept"),
  };
  const plan = walked({
    ...walk,
    refused: rolls.refused ?? { wish: "", revision: "", why: note },
    target: inForce,
    outgoing: rolls.outgoing,
  });
  const conditions = plan.conditions.filter(({ type }) => type !== "UpToDate");
  if (plan.rolled === undefined) return plan;
  const { refused: _, ...rolled } = plan.rolled;
  const status: RollStatus = {
    phase: "Waits",
    from: inForce.plan.revision,
    to: revisionOfNext(walk, modelToGrow(walk, { ...EMPTY })),
    updatedCount: 0,
  };
  return {
    ...plan,
    conditions: [...conditions, waitsAs(note)],
    rolled: { ...rolled, ...(rolls.refused === undefined ? {} : { refused: rolls.refused }), status },
  };
}

function probesOf({ world, rolls }: Walk, { next, toMeasure }: Views): readonly Action[] {
  const asked = next.filter(({ chain, isReady }) => isReady && probeOf(world, chain)?.passed !== true);
  const chains = new Set([...asked.map(({ chain }) => chain), ...toMeasure]);
  const isMeasure = rolls.limits.maxSlowdownPercent !== undefined;
  return [...chains].map((chain) => ({ do: "probe", chain, ...(isMeasure ? { isMeasure: true } : {}) }));
}

/** Each revision's ranks are looked at by themselves; what belongs to none is deleted. */
function actionsOf(
  { world, outgoing, target }: Walk,
  model: ModelSpec,
  placement: Placement,
  draining: readonly number[],
): readonly Action[] {
  const nodes = new Set(world.nodes.map(({ name }) => name));
  const owners = new Map(
    outgoing.flatMap((side) => side.plan.assignments.map((each) => [rankName(model, each), side] as const)),
  );
  const ranksOf = (side: Side | undefined) => world.ranks.filter(({ name }) => owners.get(name) === side);
  const due = ranksDue(model, target.plan.revision, placement, ranksOf(undefined));
  const oldDue = outgoing.flatMap((side) => {
    const { revision } = side.plan;
    return ranksDue(modelOf(world.model, side), revision, side.plan, ranksOf(side)).flatMap(
      (action): readonly Action[] => {
        if (action.do !== "create-rank") return [action];
        const { node, chain } = action.assignment;
        return nodes.has(node) && !draining.includes(chain) ? [{ ...action, revision }] : [];
      },
    );
  });
  return [...due, ...oldDue];
}

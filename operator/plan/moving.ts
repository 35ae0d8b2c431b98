/**
 * A better plan is moved to as another revision is rolled out: the chains that it gives up are the ones on their way out,
 * those that it keeps stand on both sides, and new ones are made beside what serves. So one walk (rollout.ts) holds for
 * both: nothing that serves goes before what takes its place is proven. It is walked on paper first: what has no way that
 * keeps a chain serving, or ends at less than was hoped for, is not begun, and it is said why.
 */
import { present } from "../../core/assert.ts";
import { worthOf } from "./decide.ts";
import { approvalOf } from "./digests.ts";
import { banOf } from "./holders.ts";
import { rankName } from "./names.ts";
import { modelOf, standingPlanOf } from "./revision.ts";
import { type Walk, isMove, limitsOf, oneMore, onRoutes } from "./rolling-room.ts";
import { type RollStep, nextStep } from "./rollout.ts";
import { type Standing, keysOf, ranksOn, routesOf, segmentKey, segmentsOf } from "./routes.ts";
import { brokenWishes } from "./soundness.ts";
import { isSameShard } from "./touched.ts";
import type { Better, Condition, Placement, Route, Side, StandingPlan } from "./types.ts";

/** A walk to begin, or what to say of a plan that is better and not moved to. */
export type Departure = { readonly walk: Walk } | { readonly declined: Better };

/** `walk`: at rest, all chains of its target. `found`: the better plan, as if ranks could move where they stand. */
export function departure(walk: Walk, found: Placement, basis: string | undefined): Departure | undefined {
  const { target, world } = walk;
  const parts = partedBy(target.plan, found);
  if (parts === undefined) return undefined;
  const before = target.plan.better;
  const side = (part: Standing, better?: Better): Side => ({
    ...target,
    plan: {
      ...withoutMarks(target.plan),
      ...part,
      ...(basis === undefined ? {} : { basis }),
      ...(better === undefined ? {} : { better }),
    },
  });
  const begun = { ...walk, target: side(parts.stays), outgoing: [side(parts.goes)] };
  const standing = { ...target.plan, routes: routesOf(target.plan) };
  const known = { ...world, model: modelOf(world.model, target), facts: target.facts };
  const hoped = percentOf(worthOf(known, standing, found).gain);
  const tried = before?.plan === undefined ? {} : { plan: before.plan };
  const end = walkedOnPaper(begun);
  if ("whyNot" in end) return { declined: { ...hoped, ...tried, whyNot: end.whyNot } };
  const { gain, isWorthIt } = worthOf(known, standing, end.placement);
  const judged = { ...known, nodes: new Map(world.nodes.map((node) => [node.name, node])) };
  const [broken] = brokenWishes(judged, end.placement);
  const plan = approvalOf(standingPlanOf(target.plan.revision, end.placement, known.model));
  if (before?.whyNot !== undefined && before.plan === plan) return { declined: before };
  if (isWorthIt && broken === undefined)
    return { walk: { ...begun, target: side(parts.stays, { ...percentOf(gain), plan }) } };
  const percent = Math.round(100 * gain);
  const why = broken ?? `made beside the chains that serve it would gain ${percent} %, which is not worth the loading`;
  return { declined: { ...hoped, ...tried, whyNot: why } };
}

const percentOf = (gain: number): Pick<Better, "gainPercent"> =>
  Number.isFinite(gain) ? { gainPercent: Math.min(GAIN_SHOWN_MAX, Math.round(100 * gain)) } : {};

const GAIN_SHOWN_MAX = 1_000_000;

const withoutMarks = ({ revision, assignments, slotCount }: StandingPlan): StandingPlan => ({
  revision,
  assignments,
  ...(slotCount === undefined ? {} : { slotCount }),
});

/**
 * The chains that both plans have, rank by rank, and those that the better one gives up; no rank, nor a number that ranks
 * are named by, is of both. Undefined where it gives none up.
 */
function partedBy(
  plan: StandingPlan,
  found: Placement,
): { readonly stays: Standing; readonly goes: Standing } | undefined {
  const [old, now] = [segmentsOf(plan.assignments), segmentsOf(found.assignments)];
  const wanted = new Map(routesOf(found).map((route) => [route.chain, route]));
  const isSame = (route: Route): boolean => {
    const next = wanted.get(route.chain);
    if (next === undefined || keysOf(next).join() !== keysOf(route).join()) return false;
    const [before, after] = [ranksOn(route, old).flat(), ranksOn(next, now).flat()];
    return (
      before.length === after.length && before.every((each, index) => isSameShard(each, present(after[index], "")))
    );
  };
  const routes = routesOf(plan);
  const goes = new Set(routes.filter((route) => !isSame(route)));
  if (goes.size === 0) return undefined;
  const homesOf = (route: Route) => [route.chain, ...route.segments.map(({ chain }) => chain)];
  for (let count = 0; count !== goes.size; ) {
    count = goes.size;
    const homes = new Set([...goes].flatMap(homesOf));
    for (const route of routes) if (homesOf(route).some((home) => homes.has(home))) goes.add(route);
  }
  const side = { plan };
  return {
    stays: onRoutes(
      routes.filter((route) => !goes.has(route)),
      side,
    ),
    goes: onRoutes([...goes], side),
  };
}

/** Where the walk ends if all goes well, or why it does not go on. */
function walkedOnPaper(begun: Walk): { readonly placement: Placement } | { readonly whyNot: string } {
  let walk = begun;
  let placement: Placement | undefined;
  const roundCountMax = 4 * (begun.world.model.replicas + routesIn(begun.outgoing).length) + 4;
  for (let round = 0; round < roundCountMax; round++) {
    const next = routesOf(walk.target.plan).map(({ chain }) => ({ chain, isReady: true, isProven: true }));
    const old = routesIn(walk.outgoing).map(({ chain }) => ({ chain, state: "Ready", isQuiet: true }) as const);
    let room = oneMore(walk, []);
    const fits = (without: readonly number[]) => !("code" in (without.length === 0 ? room : oneMore(walk, without)));
    const step = nextStep({
      replicaCount: walk.world.model.replicas,
      limits: limitsOf(walk),
      next,
      old,
      stalledSeconds: 0,
      fits,
    });
    if (step.do === "finish" && placement !== undefined) return { placement };
    if (step.do !== "go") break;
    if (step.blocked !== undefined)
      return { whyNot: noRoomWords(walk, step.blocked, "code" in room ? room.detail : "all places are taken") };
    walk = withoutChains(walk, [...step.drain, ...step.remove]);
    if (!step.grow) continue;
    room = oneMore(walk, []);
    if ("code" in room) return { whyNot: noRoomWords(walk, { maxUnavailable: undefined }, room.detail) };
    placement = room;
    walk = { ...walk, target: { ...walk.target, plan: grownBy(walk, room) } };
  }
  return { whyNot: "no way to it keeps as many chains serving as spec.update promises" };
}

const grownBy = ({ target, world }: Walk, placement: Placement): StandingPlan =>
  standingPlanOf(target.plan.revision, placement, modelOf(world.model, target));

const routesIn = (sides: readonly Side[]): readonly Route[] => sides.flatMap(({ plan }) => routesOf(plan));

/** Once these chains of the outgoing sides have gone, with their ranks. */
function withoutChains(walk: Walk, gone: readonly number[]): Walk {
  if (gone.length === 0) return walk;
  const { world } = walk;
  const outgoing = walk.outgoing.map((side) => ({
    ...side,
    plan: {
      ...side.plan,
      ...onRoutes(
        routesOf(side.plan).filter(({ chain }) => !gone.includes(chain)),
        side,
      ),
    },
  }));
  const namesIn = (sides: readonly Side[]) =>
    sides.flatMap(({ plan }) => plan.assignments.map((each) => rankName(world.model, each)));
  const stays = new Set(namesIn(outgoing));
  const ended = new Set(namesIn(walk.outgoing).filter((name) => !stays.has(name)));
  return { ...walk, outgoing, world: { ...world, ranks: world.ranks.filter(({ name }) => !ended.has(name)) } };
}

function noRoomWords(
  { world: { model } }: Walk,
  { maxUnavailable }: NonNullable<Extract<RollStep, { do: "go" }>["blocked"]>,
  detail: string,
): string {
  const why = `no chain of it finds room beside those that serve: ${detail}`;
  return maxUnavailable === undefined || maxUnavailable >= model.replicas
    ? `${why}; with memory for one chain more it would be done`
    : `${why}; spec.update.maxUnavailable: ${maxUnavailable} would let it be done, with fewer chains for a while`;
}

/** Why what was begun is not gone on with, apart from what undoes any walk; undefined where it is. */
export function whyTurnBack({ world, target, rolls }: Walk): string | undefined {
  const nodes = new Map(world.nodes.map((node) => [node.name, node]));
  const lost = new Set(world.ranks.flatMap(({ name, phase }) => (phase === "Lost" ? [name] : [])));
  const next = routesOf(target.plan).filter(({ chain }) => rolls.unproven.includes(chain));
  const groups = segmentsOf(target.plan.assignments);
  const gone = next
    .flatMap((route) => ranksOn(route, groups).flat())
    .find((each) => {
      const node = nodes.get(each.node);
      return node === undefined || banOf(world.model, node) !== undefined || lost.has(rankName(world.model, each));
    });
  return gone === undefined ? undefined : `node ${gone.node} went away before its chain served`;
}

/** Whether some chain on its way out could serve on. */
export const canTurnBack = (walk: Walk): boolean =>
  isMove(walk) && routesIn(walk.outgoing).some(({ chain }) => !walk.rolls.unproven.includes(chain));

/** The walk back to what serves: chains that are proven, then old ones, then such as drain; all others go. */
export function turnedBack(walk: Walk, why: string): Walk {
  const { target, outgoing, rolls, world } = walk;
  const isProven = ({ chain }: Route) => !rolls.unproven.includes(chain);
  const closed = new Set(rolls.draining.map(({ chain }) => chain));
  const old = routesIn(outgoing).filter(isProven);
  const stays = new Set(
    [
      ...routesOf(target.plan).filter(isProven),
      ...old.filter(({ chain }) => !closed.has(chain)),
      ...old.filter(({ chain }) => closed.has(chain)),
    ].slice(0, world.model.replicas),
  );
  const sides = [target, ...outgoing];
  const routes = routesIn(sides);
  const used = new Set(routes.flatMap(keysOf));
  const all = {
    plan: {
      ...target.plan,
      assignments: sides.flatMap(({ plan }) => plan.assignments.filter((each) => used.has(segmentKey(each)))),
    },
  };
  const side = (part: readonly Route[]): Side => ({ ...target, plan: { ...target.plan, ...onRoutes(part, all) } });
  const { better: _, ...plan } = side(routes.filter((route) => stays.has(route))).plan;
  const better: Better = {
    ...target.plan.better,
    whyNot: `it was tried and taken back: ${why}`.slice(0, WHY_LENGTH_MAX),
  };
  return {
    ...walk,
    target: { ...target, plan: { ...plan, better } },
    outgoing: [side(routes.filter((route) => !stays.has(route)))],
  };
}

const WHY_LENGTH_MAX = 1_000;

/** What is said of the plan while a better one is known. */
export function saidOfBetter(planned: Condition, better: Better | undefined): Condition {
  if (planned.type !== "Planned" || planned.status !== "True" || better === undefined) return planned;
  const { gainPercent, whyNot } = better;
  const gains = gainPercent === undefined ? "keeps a bound that this one does not" : `gains ${gainPercent} %`;
  if (whyNot === undefined)
    return {
      ...planned,
      reason: "Moving",
      message: `a better plan ${gains}: its chains are made beside those that serve; ${planned.message}`,
    };
  const reason = planned.reason === "Placed" ? "BetterPlanWaits" : planned.reason;
  return { ...planned, reason, message: `${planned.message}; a plan that ${gains} is not moved to: ${whyNot}` };
}

/** A cluster for tests of rollouts and moves that does at once, or never, what it is told, and remembers what the operator does. */
import { expect } from "chai";
import { aModel, aNode, aWorld, roomForLayers } from "./builders.ts";
import { bytesOfRank } from "./footprint.ts";
import { rankName } from "./names.ts";
import { neighboursIn } from "./neighbours.ts";
import { plan } from "./plan.ts";
import { standingPlanOf } from "./revision.ts";
import type { Limits } from "./rollout.ts";
import { ranksOn, routesOf, segmentsOf } from "./routes.ts";
import type { ModelSpec, NodeFacts, Plan, Probe, RankState, Rolls, Side, StandingPlan } from "./types.ts";

export const LIMITS: Limits = {
  maxSurge: 1,
  maxUnavailable: 0,
  progressSeconds: 60,
  drainSeconds: 30,
  maxSlowdownPercent: 50,
};

/** Looks in a row that only measured: three times, an old chain each time too. */
const STILL = 7;

/** What the operator remembers, and ranks as they are. */
export class House {
  nodes: readonly NodeFacts[];
  model: ModelSpec;
  image = "ranks:1";
  limits = LIMITS;
  ranks: RankState[] = [];
  last: Plan | undefined;
  #plan: StandingPlan | undefined;
  #rolls: Pick<Rolls, "inForce" | "outgoing" | "unproven" | "refused"> & { readonly draining: readonly number[] } = {
    outgoing: [],
    unproven: [],
    draining: [],
  };
  #isRolling = false;
  #stalled = 0;
  #probes: Probe[] = [];
  #measuredCount = 0;
  /** Milliseconds per token of a chain, undefined where too few came; a rank that is `bad` never gets ready. */
  pace: (model: ModelSpec, revision: string, nodes: readonly string[]) => number | undefined = () => 20;
  bad: (revision: string, node: string) => boolean = () => false;
  trouble = "will not start";
  quiet = true;
  approved: string | undefined;
  #proposed: StandingPlan | undefined;

  constructor(nodes: readonly NodeFacts[], model: ModelSpec) {
    this.nodes = nodes;
    this.model = model;
  }

  addNodes(count: number): void {
    const [like] = this.nodes;
    const names = Array.from({ length: count }, (_, index) => `more-${index}`);
    this.nodes = [...this.nodes, ...names.map((name) => aNode(name, { freeBytes: like?.freeBytes ?? 0 }))];
  }

  /** The machine is gone, and what ran there. */
  lose(gone: string): void {
    this.nodes = this.nodes.filter(({ name }) => name !== gone);
    this.ranks = this.ranks.map((rank) => (rank.assignment.node === gone ? { ...rank, phase: "Lost" } : rank));
  }

  /** Another leads: what was only in memory is gone. */
  forget(): void {
    const served = (this.last?.readyChainCount ?? 0) >= this.model.replicas;
    const plans = [this.#plan ?? { assignments: [] }, ...this.#rolls.outgoing.map((side) => side.plan)];
    const chains = plans.flatMap(routesOf).map(({ chain }) => chain);
    this.#probes = (served || this.#isRolling ? chains : [])
      .filter((chain) => !this.#rolls.unproven.includes(chain))
      .map((chain) => ({ chain, passed: true, detail: "", hearsay: true }));
  }

  look(): Plan {
    if (this.#isRolling) this.#stalled += 1;
    const { limits, image } = this;
    const decided = plan({
      ...aWorld(this.nodes, this.model),
      ranks: this.ranks,
      previous: this.#plan,
      probes: this.#probes,
      ...(this.approved === undefined ? {} : { approved: this.approved }),
      ...(this.#proposed === undefined ? {} : { proposed: this.#proposed }),
      rolls: {
        ...this.#rolls,
        limits,
        image,
        configText: "{}",
        draining: this.#rolls.draining.map((chain) => ({ chain, seconds: 1, isQuiet: this.quiet })),
        ...(this.#isRolling ? { stalledSeconds: this.#stalled } : {}),
      },
    });
    this.last = decided;
    const { rolled, placement, revision, proposal } = decided;
    this.#proposed = proposal && standingPlanOf(proposal.revision, proposal.placement, this.model);
    if (placement !== undefined && rolled !== undefined) {
      const { form, facts, outgoing, unproven, draining, isProgress, refused } = rolled;
      const { assignments, routes, slotCount, basis, better } = placement;
      this.#plan = {
        revision,
        assignments,
        ...(routes === undefined ? {} : { routes }),
        slotCount: slotCount ?? form.slotCount,
        ...(basis === undefined ? {} : { basis }),
        ...(better === undefined ? {} : { better }),
      };
      this.#rolls = {
        inForce: { form, facts },
        outgoing,
        unproven,
        draining,
        ...(refused === undefined ? {} : { refused }),
      };
      this.#isRolling = outgoing.length > 0 || unproven.length > 0;
      if (isProgress) this.#stalled = 0;
    }
    for (const action of decided.actions) {
      if (action.do === "probe") this.#probe(decided, action.chain);
      else if (action.do === "delete-rank") this.ranks = this.ranks.filter(({ name }) => name !== action.name);
      else {
        expect(
          this.ranks.map(({ name }) => name),
          "a name has one owner",
        ).to.not.include(action.name);
        const routed = [placement, ...(rolled?.outgoing ?? []).map((side) => side.plan)].find((each) =>
          each?.assignments.some((one) => rankName(this.model, one) === action.name),
        );
        const isBad = this.bad(action.revision ?? revision, action.assignment.node);
        this.ranks.push({
          name: action.name,
          assignment: action.assignment,
          revision: action.revision ?? revision,
          phase: isBad ? "Starting" : "Ready",
          neighbours: routed === undefined ? [] : neighboursIn(this.model, routed)(action.assignment),
          detail: isBad ? this.trouble : "",
        });
      }
    }
    for (const { name, freeBytes } of this.nodes) {
      const bytes = this.ranks.reduce(
        (sum, { assignment }) => (assignment.node === name ? sum + bytesOfRank(assignment) : sum),
        0,
      );
      expect(bytes, `bytes on ${name}`).to.be.at.most(freeBytes);
    }
    return decided;
  }

  #probe({ rolled, placement, revision }: Plan, chain: number): void {
    const isNew = routesOf(placement ?? { assignments: [] }).some((route) => route.chain === chain);
    const held = rolled?.outgoing.find(({ plan: old }) => routesOf(old).some((route) => route.chain === chain));
    const form: Side["form"] | undefined = isNew ? rolled?.form : held?.form;
    const of = isNew ? placement : held?.plan;
    const route = routesOf(of ?? { assignments: [] }).find((each) => each.chain === chain);
    const nodes = ranksOn(route ?? { segments: [] }, segmentsOf(of?.assignments ?? [])).flat();
    const tokenMs = this.pace(
      { ...this.model, ...form },
      isNew ? revision : (held?.plan.revision ?? ""),
      nodes.map(({ node }) => node),
    );
    const before = this.#probes.find((probe) => probe.chain === chain)?.paces ?? [];
    this.#measuredCount += 1;
    const paces = [...before, { order: this.#measuredCount, ...(tokenMs === undefined ? {} : { tokenMs }) }];
    this.#probes = this.#probes.filter((probe) => probe.chain !== chain);
    this.#probes.push({ chain, passed: true, detail: "", paces });
  }

  /** Until nothing changes any more, however often something is measured meanwhile. */
  settle(most = 200): Plan {
    for (let round = 0, still = 0; round < most && still < STILL; round++) {
      const { actions } = this.look();
      const busy = actions.some((action) => action.do !== "probe");
      still = busy ? 0 : still + 1;
    }
    return this.look();
  }

  /** Chains that gateways may begin a session on, by what is written down and the ranks that there are. */
  get openChains(): readonly number[] {
    const { outgoing, unproven, draining } = this.#rolls;
    const ready = new Set(this.ranks.flatMap(({ name, phase }) => (phase === "Ready" ? [name] : [])));
    return [this.#plan ?? { assignments: [] }, ...outgoing.map((side) => side.plan)].flatMap((routed) =>
      routesOf(routed).flatMap((route) => {
        const groups = ranksOn(route, segmentsOf(routed.assignments));
        const isReady = groups.every(
          (group) => group.length > 0 && group.every((each) => ready.has(rankName(this.model, each))),
        );
        return isReady && !unproven.includes(route.chain) && !draining.includes(route.chain) ? [route.chain] : [];
      }),
    );
  }

  get nodesHeld(): readonly string[] {
    return [...new Set(this.ranks.map(({ assignment }) => assignment.node))].sort();
  }

  get revisions(): readonly string[] {
    return [...new Set(this.ranks.map(({ revision }) => revision))];
  }

  get names(): readonly string[] {
    return this.ranks.map(({ name }) => name).sort();
  }

  said(type: string): string {
    const found = this.last?.conditions.find((condition) => condition.type === type);
    return `${found?.status} ${found?.reason}`;
  }
}

export const aHouse = (nodeCount: number, set: Partial<ModelSpec> = {}, freeBytes = roomForLayers(14)): House => {
  const nodes = Array.from({ length: nodeCount }, (_, index) => aNode(`n${index}`, { freeBytes }));
  const house = new House(nodes, aModel({ objective: { kind: "Latency" }, ...set }));
  house.settle();
  return house;
};

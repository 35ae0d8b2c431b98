import { expect } from "chai";
import fc from "fast-check";
import {
  type Limits,
  type NextChain,
  type OldChain,
  type RollView,
  availableCount,
  nextStep,
  slowdownOf,
} from "./rollout.ts";

const LIMITS: Limits = { maxSurge: 1, maxUnavailable: 0, progressSeconds: 600, drainSeconds: 300 };

/** `r` ready, `n` not ready, `s` silent, `l` lost, `d` drains, `q` drains and is quiet, `o` drained for too long. */
const oldOf = (text: string): readonly OldChain[] =>
  [...text].map((letter, chain) => ({
    chain,
    state: letter === "n" ? "NotReady" : letter === "s" ? "Silent" : letter === "l" ? "Lost" : "Ready",
    ...("dqo".includes(letter) ? { drainingSeconds: letter === "o" ? 300 : 1 } : {}),
    isQuiet: letter === "q",
  }));

/** `p` proven and ready, `P` proven and not ready, `u` not proven yet, `t` in trouble, `h` hopeless. */
const nextOf = (text: string): readonly NextChain[] =>
  [...text].map((letter, index) => ({
    chain: 100 + index,
    isReady: letter === "p",
    isProven: "pP".includes(letter),
    ...("th".includes(letter) ? { trouble: "rank says no" } : {}),
    ...(letter === "h" ? { hopeless: "Slower" as const } : {}),
  }));

describe("the next step of a rollout", () => {
  /** `room`: old chains that must be gone for one more to fit. */
  const cases: readonly (readonly [
    name: string,
    view: readonly [replicas: number, next: string, old: string],
    more: { readonly room?: number; readonly surge?: number; readonly unavailable?: number; readonly stalled?: number },
    want: object,
  ])[] = [
    ["makes one first", [1, "", "r"], {}, { grow: true }],
    ["waits until it is proven", [1, "u", "r"], {}, {}],
    ["lets the old one drain then", [1, "p", "r"], {}, { drain: [0] }],
    ["takes it away once it is quiet", [1, "p", "q"], {}, { remove: [0] }],
    ["or has had its time", [1, "p", "o"], {}, { remove: [0] }],
    ["not before", [1, "p", "d"], {}, {}],
    ["is done", [2, "pp", ""], {}, { do: "finish" }],
    ["is not done while a chain is missing", [2, "p", ""], {}, { grow: true }],
    ["keeps to the surge", [3, "p", "rrr"], {}, { drain: [0] }],
    ["makes the next once the old one is gone", [3, "p", "rr"], {}, { grow: true }],
    ["makes one only until one is proven", [3, "u", "rrr"], { surge: 3 }, {}],
    ["and several then", [3, "pu", "rrr"], { surge: 3 }, { grow: true, drain: [0] }],
    ["breaks nothing where there is no room", [1, "", "r"], { room: 1 }, { blocked: { maxUnavailable: 1 } }],
    ["breaks first where it may", [1, "", "r"], { room: 1, unavailable: 1 }, { drain: [0] }],
    ["as few as make room", [3, "", "rrr"], { room: 2, unavailable: 3 }, { drain: [0, 1] }],
    [
      "and says how many it would take",
      [3, "", "rrr"],
      { room: 2, unavailable: 1 },
      { blocked: { maxUnavailable: 2 } },
    ],
    ["or that none would do", [2, "", "rr"], { room: 9, unavailable: 2 }, { blocked: { maxUnavailable: undefined } }],
    ["does not break first where there is room", [1, "", "r"], { unavailable: 1 }, { grow: true }],
    ["has no surge to use", [2, "", "rr"], { surge: 0, unavailable: 1 }, { drain: [0] }],
    ["a chain that is lost makes room", [2, "", "lr"], { room: 1 }, { remove: [0] }],
    ["one that fails does not, while another serves", [2, "", "nr"], { room: 1 }, { blocked: { maxUnavailable: 2 } }],
    ["where nothing serves nothing is lost", [2, "", "nn"], { room: 1 }, { remove: [0] }],
    ["what fails goes once the next serves", [3, "p", "rnr"], {}, { remove: [1] }],
    ["and stays where nothing would take its place", [3, "p", "rnr"], { room: 2 }, { blocked: { maxUnavailable: 1 } }],
    ["or while the next is not proven yet", [3, "pu", "rnr"], {}, {}],
    ["what is silent counts as missing, and stays", [3, "p", "srr"], {}, { blocked: { maxUnavailable: 1 } }],
    ["until nobody needs it", [1, "p", "s"], {}, { remove: [0] }],
    ["a next chain that broke is waited for", [1, "P", "r"], {}, {}],
    ["gives up what is hopeless", [1, "h", "r"], {}, { do: "undo", why: "rank says no", reason: "Slower" }],
    ["is patient with trouble", [1, "t", "r"], { stalled: 599 }, {}],
    [
      "for so long",
      [1, "t", "r"],
      { stalled: 600 },
      { do: "undo", why: "no progress in 600 s: rank says no", reason: "Deadline" },
    ],
    ["not where nobody has looked yet", [1, "u", "r"], { stalled: 9_999 }, {}],
    ["scaled to none, all drain", [0, "", "rr"], {}, { drain: [0, 1] }],
    ["and what fails goes", [0, "", "nq"], {}, { remove: [0, 1] }],
  ];
  for (const [name, [replicaCount, next, old], { room = 0, surge = 1, unavailable = 0, stalled = 0 }, want] of cases) {
    it(`${name}: ${replicaCount} wanted, ${next || "none"} beside ${old || "none"}`, () => {
      const step = nextStep({
        replicaCount,
        limits: { ...LIMITS, maxSurge: surge, maxUnavailable: unavailable },
        next: nextOf(next),
        old: oldOf(old),
        stalledSeconds: stalled,
        fits: (without) => without.length >= room,
      });
      const isGo = !("do" in want);
      expect(step).to.deep.equal(isGo ? { do: "go", grow: false, drain: [], remove: [], ...want } : want);
    });
  }
});

describe("how much slower", () => {
  const cases = [
    { name: "as before", old: [50, 40], next: [50, 40], want: 0 },
    { name: "half as quick", old: [50, 40], next: [100, 40], want: 100 },
    { name: "as much as was foreseen", old: [50, 40], next: [100, 80], want: 0 },
    { name: "more than was foreseen", old: [50, 40], next: [150, 80], want: 50 },
    { name: "foreseen to be quicker, and is not", old: [50, 40], next: [75, 20], want: 50 },
    { name: "within the noise", old: [1, 1], next: [5, 1], want: 0 },
    { name: "not measured", old: [0, 40], next: [100, 40], want: undefined },
    { name: "nothing promised", old: [50, 0], next: [100, 0], want: 100 },
  ] as const;
  const pace = ([measuredMs, promisedMs]: readonly [number, number]) => ({ measuredMs, promisedMs });
  for (const { name, old, next, want } of cases)
    it(name, () => expect(slowdownOf(pace(old), pace(next))).to.equal(want));
});

/** A little house: each chain takes one node's memory by its revision's size, and fails as the dice say. */
describe("a rollout, whatever happens", () => {
  type Chain = {
    readonly chain: number;
    readonly revision: string;
    readonly node: number;
    age: number; // steps since its ranks were made
    isProven: boolean;
    broken: number; // steps until it is back
    draining: number | undefined;
    sessions: number;
  };
  const SIZES: Readonly<Record<string, number>> = { a: 3, b: 4, bad: 2 };
  const world = fc.record({
    replicaCount: fc.integer({ min: 1, max: 4 }),
    maxSurge: fc.integer({ min: 0, max: 2 }),
    maxUnavailable: fc.integer({ min: 0, max: 2 }),
    spareNodes: fc.integer({ min: 0, max: 2 }),
    nodeBytes: fc.integer({ min: 4, max: 8 }),
    wishes: fc.array(fc.tuple(fc.integer({ min: 0, max: 40 }), fc.constantFrom("a", "b", "bad")), { maxLength: 4 }),
    dice: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 20, maxLength: 60 }),
  });

  it("keeps what it promised, never holds more than there is, and ends at one revision", () => {
    fc.assert(
      fc.property(world, ({ replicaCount, maxSurge, maxUnavailable, spareNodes, nodeBytes, wishes, dice }) => {
        fc.pre(maxSurge + maxUnavailable > 0);
        const limits = { ...LIMITS, maxSurge, maxUnavailable, progressSeconds: 12, drainSeconds: 5 };
        const nodes = Array.from({ length: replicaCount + spareNodes }, (_, node) => node);
        const refused = new Set<string>();
        let chains: Chain[] = nodes.slice(0, replicaCount).map((node) => made(node, "a", node, true));
        let wish = "a";
        let before = "a";
        let stalled = 0;
        let isBlocked = false;
        let turn = 0;
        const roll = (): number => dice[turn++ % dice.length] ?? 0;
        for (let step = 0; step < 400; step++) {
          const asked = wishes.findLast(([at]) => at <= step)?.[1] ?? "a";
          if (asked !== wish) {
            refused.clear();
            before = chains.find(({ revision }) => revision === wish)?.revision ?? before;
            wish = asked;
          }
          const target = refused.has(wish) ? before : wish;
          // What happens by itself; in the second half the world is kind, so that it can come to an end.
          for (const each of chains) {
            each.age += 1;
            each.broken = each.broken > 0 ? each.broken - 1 : step < 200 && roll() < 0.02 ? 4 : 0;
            if (each.draining !== undefined) each.draining += 1;
            each.sessions = each.draining === undefined ? 1 : roll() < 0.5 ? 0 : each.sessions;
          }
          const isReady = (each: Chain) => each.revision !== "bad" && each.age > 3 && each.broken === 0;
          for (const each of chains)
            if (each.revision === target && !each.isProven && isReady(each)) {
              each.isProven = true;
              stalled = 0;
            }
          const next = chains.filter(({ revision }) => revision === target);
          for (const each of next) each.draining = undefined; // reverted: what drained takes sessions again
          const old = chains.filter(({ revision }) => revision !== target);
          const room = (without: readonly number[]) =>
            nodes.find((node) => {
              const held = chains.filter((each) => each.node === node && !without.includes(each.chain));
              const bytes = held.reduce((sum, { revision }) => sum + (SIZES[revision] ?? 0), 0);
              return bytes + (SIZES[target] ?? 0) <= nodeBytes;
            });
          const view: RollView = {
            replicaCount,
            limits,
            stalledSeconds: (stalled += 1),
            next: next.map((each) => ({
              chain: each.chain,
              isReady: isReady(each),
              isProven: each.isProven,
              ...(isReady(each) ? {} : { trouble: "not ready" }),
            })),
            old: old.map((each) => ({
              chain: each.chain,
              state: isReady(each) ? "Ready" : "NotReady",
              isQuiet: each.sessions === 0,
              ...(each.draining === undefined ? {} : { drainingSeconds: each.draining }),
            })),
            fits: (without) => room(without) !== undefined,
          };
          const decided = nextStep(view);
          isBlocked = decided.do === "go" && decided.blocked !== undefined;
          if (decided.do === "finish") continue;
          if (decided.do === "undo") {
            if (target === wish && old.length + next.length > 0) {
              refused.add(wish);
              before = (old.find(isReady) ?? old[0])?.revision ?? "a";
              stalled = 0;
            }
            continue;
          }
          const servingBefore = availableCount(view);
          const go = new Set(decided.remove);
          chains = chains.filter(({ chain }) => !go.has(chain));
          for (const each of chains) if (decided.drain.includes(each.chain)) each.draining ??= 0;
          if (decided.grow) {
            const node = room([]);
            expect(node, "it grows only where there is room").to.not.equal(undefined);
            const numbers = new Set(chains.map(({ chain }) => chain));
            let chain = 0;
            while (numbers.has(chain)) chain += 1;
            chains.push(made(chain, target, node ?? 0, false));
          }
          if (decided.grow || go.size > 0) stalled = 0;
          const after = chains.filter(
            (each) => isReady(each) && each.draining === undefined && (each.revision !== target || each.isProven),
          ).length;
          expect(after, "what is available").to.be.at.least(
            Math.min(servingBefore, Math.max(0, replicaCount - maxUnavailable)),
          );
          for (const node of nodes) {
            const bytes = chains.reduce(
              (sum, each) => (each.node === node ? sum + (SIZES[each.revision] ?? 0) : sum),
              0,
            );
            expect(bytes, `bytes on node ${node}`).to.be.at.most(nodeBytes);
          }
          expect(new Set(chains.map(({ chain }) => chain)).size, "no two owners of a number").to.equal(chains.length);
          expect(chains.length).to.be.at.most(
            replicaCount + Math.max(maxSurge, 0) + old.filter((e) => !isReady(e)).length,
          );
        }
        const left = new Set(chains.map(({ revision }) => revision));
        const target = refused.has(wish) ? before : wish;
        // Back to what never served is a dead end, and only a new spec leads out of it.
        if (!isBlocked && target !== "bad") expect([...left], "one revision at the end").to.deep.equal([target]);
        if (!isBlocked && target !== "bad") expect(chains.length, "chains at the end").to.equal(replicaCount);
      }),
      { numRuns: 1500 },
    );
  });

  function made(chain: number, revision: string, node: number, isProven: boolean): Chain {
    return { chain, revision, node, age: isProven ? 9 : 0, isProven, broken: 0, draining: undefined, sessions: 1 };
  }
});

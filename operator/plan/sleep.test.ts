/** When a model sleeps and wakes, and that nobody is cut off by it. */
import { expect } from "chai";
import fc from "fast-check";
import { aModel, aNode, aWorld, roomForLayers } from "./builders.ts";
import { plan as planned } from "./plan.ts";
import { type GatewayReport, demandIn } from "./sleep.ts";
import { inForce } from "./standing-world.ts";
import type { Demand, Known, Plan, Sleep, World } from "./types.ts";

const plan = (world: World): Plan => planned(world, { evaluationCount: 30, remedyPlanCountMax: 0 });
const IDLE = { afterSeconds: 60, wakeTimeoutSeconds: 600 };
const QUIET: Demand = { isAsked: false, isIdle: true, isLetGo: false };
const report = (set: Partial<GatewayReport> = {}): GatewayReport => ({
  waitingCount: 0,
  sessionCount: 0,
  idleSeconds: 60,
  asleep: false,
  ...set,
});
const NODES = [aNode("a", { freeBytes: roomForLayers(7) }), aNode("b", { freeBytes: roomForLayers(7) })];
const model = aModel({ idle: IDLE });
const serving = (set: Partial<World> = {}): Known => {
  const world = aWorld(NODES, model);
  const stands = inForce(world, plan(world));
  return { ...stands, probes: [{ chain: 0, passed: true, detail: "" }], ...set } as Known;
};
const sleepingWorld = (asleep: Sleep, set: Partial<World> = {}): Known => {
  const { previous, ...world } = serving();
  if (previous === undefined) throw new Error("a plan stands");
  return { ...world, previous: { ...previous, asleep }, ...set } as Known;
};
const reasonOf = ({ conditions }: Plan, type = "Ready") => {
  const found = conditions.find((condition) => condition.type === type);
  return `${found?.status} ${found?.reason}`;
};
const deleted = ({ actions }: Plan) => actions.flatMap((action) => (action.do === "delete-rank" ? [action.name] : []));
const created = ({ actions }: Plan) => actions.flatMap((action) => (action.do === "create-rank" ? [action.name] : []));

describe("what gateways say together", () => {
  const cases: readonly {
    readonly name: string;
    readonly reports: readonly (GatewayReport | undefined)[];
    readonly want: string;
  }[] = [
    { name: "nobody to be asked", reports: [], want: "letGo" },
    { name: "one that is quiet long enough", reports: [report()], want: "idle" },
    { name: "one that is quiet not long enough", reports: [report({ idleSeconds: 59 })], want: "" },
    { name: "two, of which one was asked a moment ago", reports: [report(), report({ idleSeconds: 3 })], want: "" },
    { name: "one that does not answer may be serving", reports: [report(), undefined], want: "" },
    { name: "a session that runs", reports: [report({ sessionCount: 1 })], want: "" },
    { name: "a request that waits", reports: [report(), report({ waitingCount: 2, idleSeconds: 0 })], want: "asked" },
    {
      name: "a request that waits beside one that is away",
      reports: [undefined, report({ waitingCount: 1 })],
      want: "asked",
    },
    {
      name: "all know that it sleeps",
      reports: [report({ asleep: true }), report({ asleep: true })],
      want: "idle letGo",
    },
    { name: "one does not know yet that it sleeps", reports: [report({ asleep: true }), report()], want: "idle" },
    { name: "a session that runs on", reports: [report({ asleep: true, sessionCount: 1 })], want: "" },
  ];
  for (const { name, reports, want } of cases) {
    it(name, () => {
      const { isAsked, isIdle, isLetGo } = demandIn(reports, model);
      expect([isAsked && "asked", isIdle && "idle", isLetGo && "letGo"].filter(Boolean).join(" ")).to.equal(want);
    });
  }

  it("puts nothing to sleep that is not to sleep", () => {
    expect(demandIn([report({ idleSeconds: 1e9 })], {}).isIdle).to.equal(false);
  });
});

describe("a model that may sleep", () => {
  it("serves on for as long as it is asked, or nobody can say", () => {
    for (const demand of [undefined, { ...QUIET, isIdle: false }, { isAsked: true, isIdle: false, isLetGo: false }]) {
      const decided = plan(serving(demand === undefined ? {} : { demand }));
      expect([reasonOf(decided), decided.asleep]).to.deep.equal(["True Serving", undefined]);
    }
  });

  it("falls asleep when nobody asks: it is written down first, and nothing ends yet", () => {
    const decided = plan(serving({ demand: QUIET }));
    expect([decided.asleep, decided.actions]).to.deep.equal(["Idle", []]);
    expect(reasonOf(decided)).to.equal("True Asleep");
    expect(reasonOf(decided, "WeightsReady")).to.equal("False Leaving");
  });

  it("ends its ranks once every gateway has let go, and rests", () => {
    const waits = plan(sleepingWorld("Idle", { demand: QUIET }));
    expect(waits.actions).to.deep.equal([]);
    const demand = { ...QUIET, isLetGo: true };
    expect(deleted(plan(sleepingWorld("Idle", { demand })))).to.deep.equal(["tiny-0-0-0", "tiny-0-1-0"]);
    const rests = plan(sleepingWorld("Idle", { demand, ranks: [] }));
    expect([rests.actions, reasonOf(rests, "WeightsReady")]).to.deep.equal([[], "False Asleep"]);
  });

  it("wakes for a request: the same ranks on the same nodes, though another node would be better", () => {
    const demand = { isAsked: true, isIdle: false, isLetGo: false };
    const better = aNode("c", { memoryBytesPerSecond: 500e9 });
    const world = sleepingWorld("Idle", { demand, ranks: [], probes: [], nodes: [...NODES, better] });
    const decided = plan(world);
    expect(decided.asleep).to.equal(undefined);
    expect(decided.placement?.assignments).to.deep.equal(world.previous?.assignments);
    expect(created(decided)).to.deep.equal(["tiny-0-0-0", "tiny-0-1-0"]);
  });

  it("that is asked before its ranks have ended goes on with them: nothing is touched", () => {
    const decided = plan(sleepingWorld("Idle", { demand: { isAsked: true, isIdle: false, isLetGo: false } }));
    expect([deleted(decided), created(decided), reasonOf(decided)]).to.deep.equal([[], [], "True Serving"]);
  });

  it("wakes elsewhere where others hold its memory by now, or a node is gone", () => {
    const demand = { isAsked: true, isIdle: false, isLetGo: false };
    const full = [aNode("a", { freeBytes: 1 }), NODES[1] ?? aNode("b"), aNode("c")];
    const taken = plan(sleepingWorld("Idle", { demand, ranks: [], probes: [], nodes: full }));
    expect(taken.placement?.assignments.some(({ node }) => node === "a")).to.equal(false);
    const lost = [aNode("a", { freeBytes: roomForLayers(7) }), aNode("c")];
    const moved = plan(sleepingWorld("Idle", { demand, ranks: [], probes: [], nodes: lost }));
    expect(moved.placement?.assignments.map(({ node }) => node))
      .to.include("c")
      .and.not.include("b");
  });

  it("says why where it cannot wake, and stays asleep", () => {
    const demand = { isAsked: true, isIdle: false, isLetGo: false };
    const nodes = NODES.map((node) => ({ ...node, freeBytes: 1 }));
    const decided = plan(sleepingWorld("Idle", { demand, ranks: [], probes: [], nodes }));
    expect([decided.placement, decided.actions]).to.deep.equal([undefined, []]);
    expect(reasonOf(decided, "Planned")).to.equal("False NotEnoughRoom");
  });

  it("sleeps on while the source is away, and while its spec changes", () => {
    const facts = { code: "SourceUnreachable", detail: "away" };
    expect(plan({ ...sleepingWorld("Idle", { ranks: [] }), facts }).asleep).to.equal("Idle");
    const other = { ...model, contextLength: 128 };
    expect(plan(sleepingWorld("Idle", { ranks: [], model: other })).asleep).to.equal("Idle");
  });

  it("is woken by whoever takes spec.idle away, and by whoever turns it on", () => {
    const { idle: _, ...always } = model;
    expect(created(plan(sleepingWorld("Idle", { ranks: [], model: always })))).to.have.length(2);
    expect(
      created(plan(sleepingWorld("TurnedOff", { ranks: [], demand: { ...QUIET, isIdle: false } }))),
    ).to.have.length(2);
  });
});

describe("a model that is turned off", () => {
  const off = { ...model, replicas: 0 };
  it("keeps its plan, ends its ranks when sessions are over, and is not woken by requests", () => {
    const first = plan(serving({ model: off, demand: { ...QUIET, isIdle: false } }));
    expect([first.asleep, first.actions, reasonOf(first)]).to.deep.equal(["TurnedOff", [], "True ScaledToZero"]);
    const demand = { isAsked: true, isIdle: false, isLetGo: false };
    expect(plan(sleepingWorld("TurnedOff", { model: off, demand })).actions).to.deep.equal([]);
    const gone = plan(sleepingWorld("TurnedOff", { model: off, demand: { ...demand, isLetGo: true } }));
    expect(deleted(gone)).to.have.length(2);
    expect(plan(sleepingWorld("TurnedOff", { model: off, demand, ranks: [] })).asleep).to.equal("TurnedOff");
  });

  it("ends at once where there is nobody to be cut off", () => {
    expect(deleted(plan(sleepingWorld("TurnedOff", { model: off })))).to.have.length(2);
  });
});

describe("any run of requests, sleep and gateways that come and go", function () {
  this.timeout(60_000);
  /** Two gateways, each with what it was told and how long nobody has asked; the operator looks now and then. */
  type Step = "ask" | "answer" | "wait" | "look" | "tell" | "drop" | "return";
  const steps = fc.array(
    fc.record({
      step: fc.constantFrom<Step>("ask", "answer", "wait", "look", "look", "tell", "tell", "drop", "return"),
      at: fc.nat(1),
    }),
    { minLength: 5, maxLength: 60 },
  );
  type Gateway = { waiting: number; sessions: number; idle: number; told: boolean; away: boolean };

  it("ends no rank under a session, and leaves nobody waiting for ever", () => {
    fc.assert(
      fc.property(steps, (run) => {
        let world = serving();
        const gateways: Gateway[] = [0, 1].map(() => ({ waiting: 0, sessions: 0, idle: 0, told: false, away: false }));
        const isRunning = () => world.ranks.length === 2;
        const admit = (gateway: Gateway) => {
          if (gateway.told || !isRunning()) return;
          gateway.sessions += gateway.waiting;
          gateway.waiting = 0;
        };
        const look = () => {
          const reports = gateways.map(({ waiting, sessions, idle, told, away }) =>
            away
              ? undefined
              : report({ waitingCount: waiting, sessionCount: sessions, idleSeconds: idle, asleep: told }),
          );
          const decided = plan({ ...world, demand: demandIn(reports, model) });
          const { previous } = world;
          if (previous === undefined) throw new Error("a plan stands");
          if (deleted(decided).length > 0)
            for (const { sessions } of gateways) expect(sessions, "sessions when ranks end").to.equal(0);
          if (decided.asleep !== undefined) {
            const ranks = deleted(decided).length > 0 ? [] : world.ranks;
            world = { ...world, previous: { ...previous, asleep: decided.asleep }, ranks };
          } else if (decided.placement !== undefined) world = { ...inForce(world, decided), probes: world.probes };
        };
        const tell = (gateway: Gateway) => {
          if (gateway.away) return;
          gateway.told = world.previous?.asleep !== undefined;
          admit(gateway);
        };
        const carryOut: Readonly<Record<Step, (gateway: Gateway) => void>> = {
          ask: (gateway) => {
            gateway.waiting += 1;
            gateway.idle = 0;
            admit(gateway);
          },
          answer: (gateway) => {
            gateway.sessions = Math.max(0, gateway.sessions - 1);
            gateway.idle = 0;
          },
          wait: () => {
            for (const gateway of gateways) if (gateway.waiting + gateway.sessions === 0) gateway.idle += 40;
          },
          look,
          tell,
          drop: (gateway) => {
            gateway.away = true; // it goes on with what it was told
          },
          return: (gateway) => {
            gateway.away = false;
          },
        };
        for (const { step, at } of run) carryOut[step](gateways[at] ?? gateways[0] ?? never());
        for (const gateway of gateways) gateway.away = false;
        for (let round = 0; round < 3; round++) {
          look();
          gateways.forEach(tell);
        }
        expect(gateways.map(({ waiting }) => waiting)).to.deep.equal([0, 0]);
      }),
      { numRuns: 80, seed: 6 },
    );
  });
});

function never(): never {
  throw new Error("there are two gateways");
}

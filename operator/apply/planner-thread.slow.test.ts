import { expect } from "chai";
import { systemClock } from "../clock.ts";
import { aModel, aNode, aWorld, roomForLayers } from "../plan/builders.ts";
import { plan } from "../plan/plan.ts";
import { PlannerThread } from "./planner-thread.ts";

const clock = systemClock();
const world = (count = 3) =>
  aWorld(
    Array.from({ length: count }, (_, index) => aNode(`n${index}`, { freeBytes: roomForLayers(4), pricePerHour: 2n })),
    aModel({ replicas: 1 }),
  );
/** A thread's program as a URL. */
const program = (text: string) => new URL(`data:text/javascript,${encodeURIComponent(text)}`);

describe("the planner's thread", function () {
  this.timeout(60_000);

  it("answers as the function does, each world its own, and in any number at once", async () => {
    const planner = new PlannerThread({ clock });
    try {
      const worlds = [world(), world(4), world(1), world()];
      const found = await Promise.all(worlds.map((each) => planner.plan(each)));
      expect(found).to.deep.equal(worlds.map((each) => plan(each)));
      expect(await planner.plan(world())).to.deep.equal(plan(world()));
    } finally {
      await planner.close();
    }
  });

  it("keeps the loop free while it plans", async () => {
    const planner = new PlannerThread({ clock });
    try {
      let turns = 0;
      let isDone = false;
      const planned = planner.plan(world(12)).finally(() => (isDone = true));
      while (!isDone) {
        await new Promise((resolve) => setImmediate(resolve));
        turns += 1;
      }
      await planned;
      expect(turns).to.be.greaterThan(10);
    } finally {
      await planner.close();
    }
  });

  const CRASHES = [
    { name: "exits", text: `process.exit(3)`, wanted: /ended/ },
    { name: "throws", text: `throw new Error("out of room")`, wanted: /ended/ },
    { name: "does not answer", text: "", wanted: /no plan after 0.2 s/ },
  ];
  for (const { name, text, wanted } of CRASHES)
    it(`a thread that ${name} costs the plan that it was at, and nothing after it`, async () => {
      const body = program(
        `import { parentPort } from "node:worker_threads"; parentPort.on("message", () => { ${text} });`,
      );
      const planner = new PlannerThread({ clock, body, patienceMs: name === "does not answer" ? 200 : 30_000 });
      try {
        // One after the other: the second is asked of another thread.
        for (const result of await Promise.allSettled([planner.plan(world()), planner.plan(world(4))])) {
          expect(result.status).to.equal("rejected");
          if (result.status === "rejected") expect(String(result.reason)).to.match(wanted);
        }
      } finally {
        await planner.close();
      }
    });

  it("a bug in planning is a bug here, anything else weather", async () => {
    const answers = [true, false].map((isBug) => ({ ok: false, isBug, detail: "an odd world" }));
    for (const answer of answers) {
      const body = program(
        `import { parentPort } from "node:worker_threads"; parentPort.on("message", () => parentPort.postMessage(${JSON.stringify(answer)}));`,
      );
      const planner = new PlannerThread({ clock, body });
      const error = await planner.plan(world()).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect((error as Error).name).to.equal(answer.isBug ? "Bug" : "Error");
      expect((error as Error).message).to.contain("an odd world");
      await planner.close();
    }
  });

  it("remembers what it found, and only so much of it", async () => {
    const body = program(
      `import { parentPort } from "node:worker_threads"; import { serialize } from "node:v8"; let count = 0;
       parentPort.on("message", () => parentPort.postMessage({ ok: true, plan: serialize({ revision: String(count++) }) }));`,
    );
    const planner = new PlannerThread({ clock, body, rememberedBytesMax: 40 });
    const ask = async (count: number) => (await planner.plan(world(count))).revision;
    try {
      expect([await ask(1), await ask(1), await ask(2), await ask(1)]).to.deep.equal(["0", "0", "1", "0"]);
      expect([await ask(3), await ask(4), await ask(5)]).to.deep.equal(["2", "3", "4"]);
      expect(await ask(2), "given up for later ones").to.equal("5");
    } finally {
      await planner.close();
    }
  });

  it("refuses who waits when it is closed", async () => {
    const planner = new PlannerThread({ clock });
    const waiting = [planner.plan(world()), planner.plan(world(5))].map((each) =>
      each.then(
        () => "planned",
        (error: unknown) => String(error),
      ),
    );
    await planner.close();
    for (const end of await Promise.all(waiting)) expect(end).to.match(/closed|ended/);
  });
});

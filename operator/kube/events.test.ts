import { expect } from "chai";
import { StoppedClock } from "../clock.ts";
import { ApiError } from "./client.ts";
import { EventRecorder } from "./events.ts";
import { type KubeObject, PODS } from "./objects.ts";

const POD = { metadata: { name: "a", namespace: "n", uid: "1" } };
const HAPPENING = { type: "Normal", reason: "Made", action: "Make", note: "a pod" } as const;

describe("EventRecorder", () => {
  const stored = new Map<string, KubeObject>();
  const troubles: string[] = [];
  let clock: StoppedClock;
  let recorder: EventRecorder;
  beforeEach(() => {
    stored.clear();
    troubles.length = 0;
    clock = new StoppedClock();
    const client = {
      create: async (_: unknown, object: KubeObject) => {
        stored.set(object.metadata.name, object);
        return object;
      },
      patch: async (_: unknown, { name = "" }: { readonly name?: string | undefined }, patch: object) => {
        const before = stored.get(name);
        if (before === undefined) throw new ApiError(404, "NotFound", "no such event");
        stored.set(name, { ...before, ...patch });
        return before;
      },
    };
    recorder = new EventRecorder({ client, clock, instance: "x", onTrouble: (detail) => void troubles.push(detail) });
  });
  const record = async (times: number) => {
    for (let time = 0; time < times; time++) {
      recorder.record(PODS, POD, HAPPENING);
      await recorder.written();
      clock.advance(60_000);
    }
  };

  it("counts what happens again, and begins anew after a few minutes without it", async () => {
    await record(3);
    expect([...stored.values()].map(({ series }) => (series as { count: number }).count)).to.deep.equal([3]);
    clock.advance(400_000);
    await record(1);
    expect(stored.size).to.equal(2);
  });

  it("tells it anew where somebody has cleared the first away", async () => {
    await record(2);
    stored.clear();
    await record(3);
    expect(stored.size).to.equal(1);
    expect([...stored.values()][0]?.["series"]).to.include({ count: 3 });
    expect(troubles).to.deep.equal([]);
  });

  it("lets what is normal wait while there is work to do, and writes warnings at once", async () => {
    let isBusy = true;
    const written: string[] = [];
    const client = {
      create: async (_: unknown, object: KubeObject) => {
        written.push(String(object["reason"]));
        return object;
      },
      patch: async () => POD,
    };
    recorder = new EventRecorder({ client, clock, instance: "x", isBusy: () => isBusy });
    for (const type of ["Normal", "Warning"] as const)
      recorder.record(PODS, POD, { ...HAPPENING, type, reason: `${type}${written.length}` });
    await tick(clock);
    expect(written).to.deep.equal(["Warning0"]);
    isBusy = false;
    await tick(clock);
    await recorder.written();
    expect(written).to.deep.equal(["Warning0", "Normal0"]);
  });
});

/** Whoever sleeps looks again. */
async function tick(clock: StoppedClock): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  clock.advance(100);
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
}

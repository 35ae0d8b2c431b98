import { expect } from "chai";
import { StoppedClock } from "../clock.ts";
import { ApiError } from "./client.ts";
import { type LeaseOptions, type Leadership, acquireLease, microTime } from "./lease.ts";
import type { KubeObject } from "./objects.ts";

/** One lease with the API server's optimistic locking. That a real one takes what we write is a contract test's part. */
class FakeLease {
  stored: KubeObject | undefined;
  down = false;
  /** So many of the next writes are never answered. */
  lostCount = 0;
  /** How far the server's clock is from that of whoever asks. */
  serverAheadMs = 0;
  readonly #clock: StoppedClock;
  #version = 0;

  constructor(clock: StoppedClock) {
    this.#clock = clock;
  }

  readonly #answer = async <T>(make: () => T): Promise<T> => {
    if (this.down) throw new Error("connect ECONNREFUSED");
    return make();
  };
  find = () => this.#answer(() => this.stored);
  get = () => this.#answer(() => this.stored ?? raise(404));
  create = (_: unknown, object: KubeObject) =>
    this.#answer(() => (this.stored === undefined ? this.#store(object) : raise(409)));
  replace = (_: unknown, object: KubeObject): Promise<KubeObject> => {
    if (this.lostCount > 0) {
      this.lostCount -= 1;
      return new Promise(() => undefined);
    }
    return this.#answer(() =>
      this.stored?.metadata.resourceVersion === object.metadata.resourceVersion ? this.#store(object) : raise(409),
    );
  };

  get spec(): Readonly<Record<string, unknown>> {
    return this.stored?.["spec"] as Record<string, unknown>;
  }

  #store(object: KubeObject): KubeObject {
    this.#version += 1;
    const now = new Date(this.#clock.wallMs() + this.serverAheadMs).toISOString().replace(/\.\d+Z/, "Z");
    const { creationTimestamp = now } = this.stored?.metadata ?? {};
    const metadata = { ...object.metadata, creationTimestamp, resourceVersion: String(this.#version) };
    this.stored = { ...object, metadata };
    return this.stored;
  }
}

const raise = (status: number): never => {
  throw new ApiError(status, "Fake", String(status));
};

describe("acquireLease", () => {
  let clock: StoppedClock;
  let lease: FakeLease;
  let stop: AbortController;
  beforeEach(() => {
    clock = new StoppedClock();
    lease = new FakeLease(clock);
    stop = new AbortController();
  });
  afterEach(() => stop.abort(new Error("the test is over")));

  const optionsOf = (identity: string): LeaseOptions => ({
    client: lease,
    clock,
    namespace: "n",
    name: "operator",
    identity,
  });
  const contend = (identity: string): Promise<Leadership> => {
    const won = acquireLease(optionsOf(identity), stop.signal);
    won.catch(() => undefined);
    return won;
  };
  const turns = async () => {
    for (let turn = 0; turn < 5; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
  };
  const pass = async (seconds: number) => {
    for (let each = 0; each < seconds; each++) {
      clock.advance(1000);
      await turns();
    }
  };
  const settled = async (promise: Promise<unknown>) => {
    let done = false;
    promise.then(
      () => (done = true),
      () => (done = true),
    );
    await turns();
    return done;
  };

  it("takes a lease that nobody has, with times of six digits", async () => {
    const { fence, lost } = await contend("a");
    expect(fence).to.equal(1);
    expect(lost.aborted).to.equal(false);
    expect(lease.spec).to.include({
      holderIdentity: "a",
      leaseDurationSeconds: 10,
      acquireTime: "2026-01-01T00:00:00.000000Z",
    });
  });

  it("waits while the holder renews", async () => {
    const first = await contend("a");
    const second = contend("b");
    await pass(60);
    expect(await settled(second)).to.equal(false);
    expect(first.lost.aborted).to.equal(false);
    expect(lease.spec["renewTime"]).to.equal(microTime(clock.wallMs()));
  });

  it("takes over from a holder that fell silent, with a higher fence, which ends the old one", async () => {
    const first = await contend("a");
    lease.down = true;
    await pass(9);
    expect(first.lost.aborted, "the old holder gave up before anybody else may take it").to.equal(true);
    lease.down = false;
    const second = contend("b");
    await pass(20);
    expect((await second).fence).to.equal(2);
  });

  it("leads within twelve seconds of the last that was heard of a leader", async () => {
    await contend("a");
    const second = contend("b");
    await pass(6);
    const replace = lease.replace;
    lease.replace = (_: unknown, object: KubeObject) =>
      (object["spec"] as Record<string, unknown>)["holderIdentity"] === "b"
        ? replace(_, object)
        : Promise.reject(new Error("crashed"));
    await pass(12);
    expect((await second).fence).to.equal(2);
  });

  it("begins with an epoch that no lease before can have had, should somebody delete it", async () => {
    clock.advance(3_600_000);
    expect((await contend("a")).fence).to.equal(3600);
  });

  it("goes by the server's clock for that, whatever its own says", async () => {
    clock = new StoppedClock("1970-01-01T00:10:00Z"); // a machine without a battery
    lease = new FakeLease(clock);
    lease.serverAheadMs = Date.UTC(2026, 0, 2) - Date.UTC(1970, 0, 1, 0, 10);
    expect((await contend("a")).fence).to.equal(86_400);
  });

  it("does not go back where a lease was made by hand, without any epoch", async () => {
    lease.stored = {
      metadata: { name: "operator", namespace: "n", resourceVersion: "9", creationTimestamp: "2026-01-01T02:00:00Z" },
      spec: {},
    };
    expect((await contend("a")).fence).to.equal(7200);
  });

  it("judges silence by its own clock, whatever the lease says about time", async () => {
    lease.stored = {
      metadata: { name: "operator", namespace: "n", resourceVersion: "9" },
      spec: {
        holderIdentity: "a",
        leaseDurationSeconds: 15,
        renewTime: "1999-01-01T00:00:00.000000Z",
        leaseTransitions: 7,
      },
    };
    const second = contend("b");
    await pass(14);
    expect(await settled(second)).to.equal(false);
    await pass(3);
    expect((await second).fence).to.equal(8);
  });

  it("is lost when somebody else took it", async () => {
    const first = await contend("a");
    lease.stored = {
      metadata: { name: "operator", namespace: "n", resourceVersion: "99" },
      spec: { ...lease.spec, holderIdentity: "b" },
    };
    await pass(3);
    expect(first.lost.aborted).to.equal(true);
    expect(String(first.lost.reason)).to.contain("held by b");
  });

  it("survives that somebody touches it", async () => {
    const first = await contend("a");
    lease.stored = {
      ...(lease.stored as KubeObject),
      metadata: { name: "operator", namespace: "n", resourceVersion: "99" },
    };
    await pass(30);
    expect(first.lost.aborted).to.equal(false);
  });

  it("survives that the server is away for a few seconds", async () => {
    const first = await contend("a");
    lease.down = true;
    await pass(5);
    lease.down = false;
    await pass(10);
    expect(first.lost.aborted).to.equal(false);
  });

  it("asks again where a renewal is not answered, before the lease is lost", async () => {
    const first = await contend("a");
    lease.lostCount = 1;
    await pass(10);
    expect(first.lost.aborted).to.equal(false);
  });

  it("counts a renewal whose answer comes late", async () => {
    const first = await contend("a");
    const { replace } = lease;
    lease.replace = async (_: unknown, object: KubeObject) => {
      const stored = await replace(_, object);
      await clock.sleep(3_000);
      return stored;
    };
    await pass(60);
    expect(first.lost.aborted).to.equal(false);
  });

  it("hands over at once when released", async () => {
    const first = await contend("a");
    const second = contend("b");
    await pass(2);
    await first.release();
    await pass(1);
    expect((await second).fence).to.equal(2);
    expect(first.lost.aborted).to.equal(false);
  });
});

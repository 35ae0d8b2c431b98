import { expect } from "chai";
import { StoppedClock } from "../clock.ts";
import { ApiError, type KubeClient } from "../kube/client.ts";
import type { KubeObject } from "../kube/objects.ts";
import { aModel } from "../plan/builders.ts";
import { Budgets } from "./budgets.ts";

describe("a model's budget", () => {
  const KEY = "default/tiny";

  function inPlace({
    isRush = () => false,
    status,
  }: {
    readonly isRush?: () => boolean;
    readonly status?: number;
  } = {}) {
    const made: string[] = [];
    const waits: string[] = [];
    const create: KubeClient["create"] = async (_, object) => {
      made.push(object.metadata.name);
      if (status !== undefined) throw new ApiError(status, "Test", "not now");
      return object;
    };
    const copies = new Map<string, KubeObject>();
    const clock = new StoppedClock();
    const known = { get: (key: string) => copies.get(key) };
    const budgets = new Budgets({ client: { create }, clock, known, isRush, onWaits: (key) => waits.push(key) });
    return { budgets, clock, copies, made, waits };
  }

  it("is made once, also before our copy shows it, and again once somebody took it away", async () => {
    const { budgets, copies, made } = inPlace();
    await budgets.keep(aModel());
    await budgets.keep(aModel());
    expect(made).to.deep.equal(["tiny"]);
    copies.set(KEY, { metadata: { name: "tiny" } });
    await budgets.keep(aModel());
    copies.clear();
    await budgets.keep(aModel());
    expect(made).to.deep.equal(["tiny", "tiny"]);
  });

  it("waits while there is much to do, a minute at most", async () => {
    const { budgets, clock, made, waits } = inPlace({ isRush: () => true });
    await budgets.keep(aModel());
    clock.advance(59_000);
    await budgets.keep(aModel());
    expect([made, waits]).to.deep.equal([[], [KEY, KEY]]);
    clock.advance(1_000);
    await budgets.keep(aModel());
    expect(made).to.deep.equal(["tiny"]);
  });

  it("is left as it is where somebody else made one of that name, and tried again where it could not be made", async () => {
    const other = inPlace({ status: 409 });
    await other.budgets.keep(aModel());
    await other.budgets.keep(aModel());
    expect(other.made).to.have.lengthOf(1);
    const failing = inPlace({ status: 500 });
    for (let tries = 0; tries < 2; tries++) await failing.budgets.keep(aModel()).catch(() => undefined);
    expect(failing.made).to.have.lengthOf(2);
  });
});

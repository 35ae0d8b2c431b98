import { expect } from "chai";
import { aModel, aNode, aWorld } from "../plan/builders.ts";
import { plan } from "../plan/plan.ts";
import type { Rolled, RollStatus } from "../plan/types.ts";
import { rolloutEnd } from "./rollout-ends.ts";

const { placement } = plan(aWorld([aNode("a")], aModel()));
const SINCE = "2026-01-01T00:00:00Z";
const NOW_MS = Date.parse(SINCE) + 40_000;
type Phase = RollStatus["phase"];

const rolled = (phase: Phase | undefined, reason?: "Slower"): Rolled => ({
  form: {
    source: { path: "m" },
    quantization: "int4",
    kvDtype: "f32",
    contextLength: 1,
    slotCount: 1,
    handOffDtype: "f32",
  },
  facts: { ...aWorld([]).facts, configText: "{}" },
  outgoing: [],
  unproven: [],
  draining: [],
  isProgress: false,
  ...(reason === undefined ? {} : { refused: { wish: "w", revision: "b", why: "slow", reason } }),
  ...(phase === undefined ? {} : { status: { phase, from: "a", to: "b", updatedCount: 0 } }),
});

describe("the end of a rollout", () => {
  const cases: readonly (readonly [before: Phase | undefined, after: Phase | undefined, ended: string | undefined])[] =
    [
      [undefined, "RollingOut", undefined],
      ["RollingOut", "RollingOut", undefined],
      ["RollingOut", undefined, "Done"],
      ["RollingOut", "RollingBack", "TakenBack Slower"],
      ["RollingOut", "RolledBack", "TakenBack Slower"],
      ["RollingBack", "RolledBack", undefined],
      ["RolledBack", undefined, undefined],
      ["Waits", undefined, undefined], // asked for no more
      ["Waits", "RollingOut", undefined],
      ["Waits", "RollingBack", "TakenBack Slower"],
    ];
  for (const [before, after, ended] of cases)
    it(`${before ?? "at rest"}, then ${after ?? "at rest"}: ${ended ?? "goes on"}`, () => {
      const known = before && { phase: before, from: "a", to: "b", chainsUpdated: 0, since: SINCE };
      const found = rolloutEnd(known, { placement, rolled: rolled(after, "Slower") }, NOW_MS);
      expect(found?.seconds).to.equal(ended === undefined ? undefined : 40);
      const words = found && [found.result, ...("reason" in found ? [found.reason] : [])].join(" ");
      expect(words).to.equal(ended);
    });

  it("is not told where nothing is planned now", () => {
    const known = { phase: "RollingOut", from: "a", to: "b", chainsUpdated: 0, since: SINCE } as const;
    expect(rolloutEnd(known, { placement: undefined }, NOW_MS)).to.equal(undefined);
  });
});

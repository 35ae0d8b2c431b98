import { expect } from "chai";
import { turned, withTimes } from "./conditions.ts";
import { sameJson } from "./same.ts";

const NOW_MS = Date.parse("2026-01-02T03:04:05.678Z");
const ready = (status: "True" | "False", reason: string, message = "") => ({ type: "Ready", status, reason, message });
const stored = { ...ready("False", "Starting"), observedGeneration: 1, lastTransitionTime: "2026-01-01T00:00:00Z" };

describe("withTimes", () => {
  it("gives the time at which the status turned, in whole seconds", () => {
    expect(withTimes(undefined, [ready("True", "Serving")], 2, NOW_MS)).to.deep.equal([
      { ...ready("True", "Serving"), observedGeneration: 2, lastTransitionTime: "2026-01-02T03:04:05Z" },
    ]);
    expect(withTimes([stored], [ready("True", "Serving")], 2, NOW_MS)[0]?.lastTransitionTime).to.equal(
      "2026-01-02T03:04:05Z",
    );
  });

  it("keeps the time while only reason and message change", () => {
    expect(withTimes([stored], [ready("False", "ProbeFailed", "why")], 2, NOW_MS)[0]?.lastTransitionTime).to.equal(
      "2026-01-01T00:00:00Z",
    );
  });

  it("cuts a message that the API server would refuse", () => {
    expect(withTimes([], [ready("False", "X", "y".repeat(50_000))], 1, NOW_MS)[0]?.message.length).to.equal(4_000);
  });
});

describe("turned", () => {
  it("names what has another status or reason than before", () => {
    expect(turned([stored], [ready("False", "Starting", "other words")])).to.deep.equal([]);
    expect(turned([stored], [ready("False", "ProbeFailed")])).to.have.lengthOf(1);
    expect(turned(undefined, [ready("True", "Serving")])).to.have.lengthOf(1);
  });
});

describe("sameJson", () => {
  it("does not look at the order of fields, nor at fields that are undefined", () => {
    expect(sameJson({ a: 1, b: [{ c: 1, d: 2 }] }, { b: [{ d: 2, c: 1 }], a: 1, e: undefined })).to.equal(true);
    expect(sameJson([1, 2], [2, 1])).to.equal(false);
    expect(sameJson({ a: 1 }, { a: "1" })).to.equal(false);
    expect(sameJson({ a: [] }, { a: {} })).to.equal(false);
    expect(sameJson(undefined, {})).to.equal(false);
  });
});

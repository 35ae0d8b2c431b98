import { expect } from "chai";
import { valueOrThrow } from "../../core/result.ts";
import { FULL_RETRY_MS } from "../route/choose.ts";
import type { ModelFacts } from "../route/picture.ts";
import { Admission, type Lease } from "./admission.ts";

describe("admission", () => {
  const root = "sha256:00";
  const model: ModelFacts = {
    namespace: "default",
    name: "tiny",
    root,
    layerCount: 1,
    contextLength: 16,
    pricePerMillionTokens: 0n,
    epochSeconds: 3600,
    handOffDtype: "f32",
    maxQueue: 2,
    slotCount: 1,
    asleep: false,
    wakeTimeoutMs: 0,
    chains: [{ index: 0, ready: true, segments: [], ranks: [] }],
  };

  it("refuses the one too many also when a full chain is due to be asked again and its timer is late", async () => {
    let nowMs = 1_000;
    const admission = new Admission({ monotonicMs: () => nowMs, sleep: () => new Promise(() => {}) });
    admission.update({ fence: 1, models: [model], providers: [], ledgerAddress: "" });
    const enter = (ticket?: Lease["ticket"]) =>
      admission.enter({
        key: "default/tiny",
        fit: { root, positionCount: 1 },
        resumed: false,
        waitMs: 60_000,
        signal: new AbortController().signal,
        ticket,
      });
    const found = valueOrThrow(await enter());
    found.release("noSlot");
    const waiting = [enter(found.ticket), enter()];
    expect(admission.waitingCount("default/tiny")).to.equal(2);
    nowMs += FULL_RETRY_MS;
    expect(await enter()).to.include({ ok: false, code: "QueueFull" });
    admission.close();
    for (const each of await Promise.all(waiting)) expect(each).to.include({ ok: false, code: "ShuttingDown" });
  });
});

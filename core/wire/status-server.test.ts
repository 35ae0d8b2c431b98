import { expect } from "chai";
import { setImmediate as soon } from "node:timers/promises";
import { Counter, Gauge, Registry } from "prom-client";
import { type StatusServer, openStatusServer } from "./status-server.ts";

describe("the door for probes and Prometheus", () => {
  const registry = new Registry();
  let server: StatusServer;
  let roundCount = 0;
  let roundsAt: readonly number[] = [];
  before(async () => {
    new Counter({ name: "asked_total", help: "Questions.", labelNames: ["model"], registers: [registry] })
      .labels('a "quoted" name')
      .inc(2);
    for (const name of ["first", "second"])
      new Gauge({
        name,
        help: "The round of the loop in which it was collected.",
        registers: [registry],
        collect: () => {
          roundsAt = [...roundsAt, roundCount];
        },
      }).set(1.5);
    server = await openStatusServer({ host: "127.0.0.1", port: 0, registry, unready: () => undefined });
  });
  after(() => server.close());

  it("writes what the registry does, and lets others have a turn between two metrics", async () => {
    let goesOn = true;
    const counting = (async () => {
      while (goesOn) {
        roundCount += 1;
        await soon();
      }
    })();
    const response = await fetch(`http://127.0.0.1:${server.port}/metrics`);
    const text = await response.text();
    goesOn = false;
    await counting;
    const [first = 0, second = 0] = roundsAt;
    expect(second).to.be.above(first);
    expect(text).to.equal(await registry.metrics());
    expect(response.headers.get("content-type")).to.equal(registry.contentType);
  });
});

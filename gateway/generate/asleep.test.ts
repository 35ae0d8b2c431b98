/** A request that finds its model asleep: it waits, says so, and is answered once the operator tells of chains. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { EventEmitter } from "node:events";
import { Duplex } from "node:stream";
import { expect } from "chai";
import type { ModelDemand } from "../../core/gen/proto/tessellate/control/v1/ModelDemand.ts";
import { type ModelOptions, type TestGateway, aState, startTestGateway } from "../../test/gateway/start.ts";
import { tinyModel } from "../../test/gateway/tiny-model.ts";
import type { DemandCall } from "../control/demand.ts";

type Answer = {
  readonly choices: readonly { readonly text: string }[];
  readonly error?: { readonly code: string; readonly message: string };
};

/** An operator that listens. */
class Listener {
  readonly reports: (readonly ModelDemand[])[] = [];
  ended = false;
  #heard = Promise.withResolvers<void>();
  readonly #emitter: EventEmitter = new Duplex();
  readonly call: DemandCall = Object.assign(this.#emitter as unknown as DemandCall, {
    write: ({ models = [] }: { readonly models?: readonly ModelDemand[] }) => {
      this.reports.push(models);
      this.#heard.resolve();
      this.#heard = Promise.withResolvers();
      return true;
    },
    end: () => {
      this.ended = true;
      return this.call as never;
    },
  });
  leave(): void {
    this.#emitter.emit("cancelled");
  }
  async until(holds: (model: ModelDemand | undefined) => boolean): Promise<ModelDemand | undefined> {
    while (!holds(this.reports.at(-1)?.[0])) await this.#heard.promise;
    return this.reports.at(-1)?.[0];
  }
}

describe("a model that sleeps", () => {
  const model = tinyModel();
  const opened: TestGateway[] = [];
  let gateway: TestGateway;
  const told = (options: ModelOptions) => aState([[model, options]]);
  const awake: ModelOptions = { wakeTimeoutSeconds: 60 };
  const asleep: ModelOptions = { ...awake, asleep: true, chains: [{ ready: false }] };
  const start = async (options: ModelOptions, more: Parameters<typeof startTestGateway>[0] = {}) => {
    gateway = await startTestGateway({ models: [model], state: told(options), ...more });
    opened.push(gateway);
    return gateway;
  };
  afterEach(async () => {
    for (const one of opened.splice(0)) await one.close();
  });

  const post = (fields: object = {}, signal?: AbortSignal) =>
    fetch(`${gateway.url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "tiny", prompt: "hello", max_tokens: 8, seed: 5, ...fields }),
      ...(signal === undefined ? {} : { signal }),
    });
  const ask = async (fields: object = {}, signal?: AbortSignal) => {
    const response = await post(fields, signal);
    return { status: response.status, headers: response.headers, answer: (await response.json()) as Answer };
  };
  const listen = (): Listener => {
    const listener = new Listener();
    gateway.gateway.demand.add(listener.call);
    return listener;
  };

  it("wakes for a request, which waits and gets the words that it would have got", async () => {
    await start(awake);
    const whole = (await ask()).answer.choices[0]?.text;
    const operator = listen();
    gateway.put(told(asleep));
    await operator.until((one) => one?.asleep === true);
    const asked = ask();
    expect(await operator.until((one) => one?.waitingCount === 1)).to.include({ asleep: true, idleSeconds: 0 });
    gateway.put(told(awake));
    const { status, answer } = await asked;
    expect([status, answer.choices[0]?.text]).to.deep.equal([200, whole]);
    await operator.until((one) => one?.waitingCount === 0 && one.asleep === false);
  });

  it("opens no session once it is told to be asleep, though its ranks are there still, and goes on with them", async () => {
    await start(awake);
    const operator = listen();
    gateway.put(told({ ...asleep, chains: [{}] }));
    await operator.until((one) => one?.asleep === true);
    const asked = ask();
    await operator.until((one) => one?.waitingCount === 1);
    expect(gateway.wire.opened).to.deep.equal([]);
    gateway.put(told(awake));
    expect((await asked).status).to.equal(200);
  });

  it("tells when its last session is over: only then may its ranks go", async () => {
    await start(awake);
    const gate = Promise.withResolvers<void>();
    gateway.wire.before = () => gate.promise;
    const operator = listen();
    const running = ask();
    await gateway.wire.until(() => gateway.wire.opened.length === 1);
    gateway.put(told({ ...asleep, chains: [{}] }));
    expect(await operator.until((one) => one?.asleep === true)).to.include({ sessionCount: 1 });
    gate.resolve();
    expect((await running).status).to.equal(200);
    await operator.until((one) => one?.sessionCount === 0);
  });

  it("keeps a stream alive while it wakes, also at a gateway that has never read its tokenizer", async () => {
    const directory = await mkdtemp(join(tmpdir(), "tessellate-asleep-"));
    await start(asleep, { directory, limits: { pingMs: 5 } });
    const operator = listen();
    const response = await post({ stream: true });
    expect(response.status).to.equal(200); // a ping has gone out
    await operator.until((one) => one?.waitingCount === 1);
    gateway.put(told(awake));
    const text = await response.text();
    expect(text).to.match(/^: waiting\n\n/);
    expect(text).to.contain('"text":').and.to.contain("data: [DONE]");
    await gateway.close(); // which still writes down what was used
    opened.pop();
    await rm(directory, { recursive: true });
  });

  it("is waited for by a plain request, too, at a gateway that has never read its tokenizer", async () => {
    await start(asleep);
    const operator = listen();
    const asked = [ask(), ask({ prompt: [999_999] })] as const;
    await operator.until((one) => one?.waitingCount === 2);
    gateway.put(told(awake));
    expect((await asked[0]).status).to.equal(200);
    expect((await asked[1]).status).to.equal(400);
  });

  it("that does not wake in time is answered 503, with why and when to try again", async () => {
    await start({ ...asleep, wakeTimeoutSeconds: 1 });
    const [{ status, headers, answer }, stream] = await Promise.all([ask(), ask({ stream: true })]);
    expect([status, answer.error?.code, headers.get("retry-after")]).to.deep.equal([503, "not_awake_in_time", "30"]);
    expect(answer.error?.message).to.match(
      /default\/tiny did not wake within 1 s; .*kubectl describe shardedmodel tiny/,
    );
    expect([stream.status, stream.answer.error?.code]).to.deep.equal([503, "not_awake_in_time"]);
  });

  it("is waited for no longer by a client that leaves", async () => {
    await start(asleep);
    const operator = listen();
    const gone = new AbortController();
    const asked = ask({}, gone.signal).catch(() => "left");
    await operator.until((one) => one?.waitingCount === 1);
    gone.abort();
    expect(await asked).to.equal("left");
    await operator.until((one) => one?.waitingCount === 0);
  });

  it("lets no more wait than may, and refuses all at the gateway's end", async () => {
    await start({ ...asleep, maxQueue: 1 });
    const operator = listen();
    const first = ask();
    await operator.until((one) => one?.waitingCount === 1);
    expect((await ask()).status).to.equal(429);
    void gateway.gateway.end(10);
    const { status, answer } = await first;
    expect([status, answer.error?.code]).to.deep.equal([503, "shutting_down"]);
  });

  it("is refused at once where it was turned off, with the way to turn it on", async () => {
    await start({ asleep: true, chains: [] });
    const { status, answer } = await ask();
    expect([status, answer.error?.code]).to.deep.equal([503, "scaled_to_zero"]);
    expect(answer.error?.message).to.contain("kubectl scale shardedmodel tiny --replicas=1");
  });

  it("is in the list of models, as one that answers", async () => {
    await start(asleep);
    const list = (await (await fetch(`${gateway.url}/v1/models`)).json()) as { readonly data: readonly object[] };
    expect(list.data[0]).to.have.property("tessellate").that.deep.includes({ ready: true, reason: "Asleep" });
  });

  it("counts as idle from its readiness, and from its last request", async () => {
    await start(awake);
    let nowMs = 1_000_000;
    const { Admission } = await import("./admission.ts");
    const admission = new Admission({ monotonicMs: () => nowMs, sleep: () => new Promise(() => {}) });
    const picture = (options: ModelOptions) => {
      gateway.put(told(options));
      const known = gateway.gateway.keeper.picture;
      if (known === undefined) throw new Error("told");
      admission.update(known);
    };
    const idle = (): number => admission.demandOf("default/tiny").idleMs;
    picture({ ...awake, chains: [{ ready: false }] });
    nowMs += 50_000; // it loads
    picture(awake);
    expect(idle()).to.equal(0);
    nowMs += 7_000;
    picture(awake);
    expect(idle()).to.equal(7_000);
    const signal = new AbortController().signal;
    const fit = { root: model.root, positionCount: 2 };
    const lease = await admission.enter({ key: "default/tiny", fit, resumed: false, waitMs: 1, signal });
    nowMs += 9_000;
    expect(admission.demandOf("default/tiny")).to.deep.equal({ waitingCount: 0, sessionCount: 1, idleMs: 0 });
    if (lease.ok) lease.value.release("served");
    nowMs += 2_000;
    expect(idle()).to.equal(2_000);
  });

  it("is what an autoscaler's metric counts, waiting and running, in chains", async () => {
    await start(asleep);
    const operator = listen();
    const asked = ask();
    await operator.until((one) => one?.waitingCount === 1);
    const series = await gateway.gateway.metrics.registry.getSingleMetricAsString("tessellate_demand_chains");
    expect(series).to.contain('{model_namespace="default",model_name="tiny"} 0.25'); // of four slots
    gateway.put(told(awake));
    await asked;
  });

  it("is told of to few operators: who has listened longest makes room, who leaves is forgotten", async () => {
    await start(asleep);
    const listeners = Array.from({ length: 5 }, listen);
    expect(listeners.map(({ ended }) => ended)).to.deep.equal([true, false, false, false, false]);
    listeners[1]?.leave();
    const [, , third] = listeners;
    const sixth = listen();
    expect([third?.ended, sixth.ended]).to.deep.equal([false, false]);
    gateway.gateway.demand.close();
    expect([third?.ended, sixth.ended]).to.deep.equal([true, true]);
  });

  it("is all that is told of: a model that neither sleeps nor wakes is nobody's business", async () => {
    await start({});
    const operator = listen();
    expect(operator.reports).to.deep.equal([[]]);
    await ask();
    expect(operator.reports).to.have.length(1);
  });
});

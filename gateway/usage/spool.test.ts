import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { parseAnswer } from "../../core/answer.ts";
import { verifyAnswer } from "../../core/answer-verification.ts";
import type { Clock } from "../../core/clock.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import { startTestGateway } from "../../test/gateway/start.ts";
import type { Submission } from "./seal.ts";
import { Spool } from "./spool.ts";

/** Time that passes only by sleeping, and then at once. */
const hastyClock = (): Clock & { readonly slept: number[] } => {
  let nowMs = 0;
  const slept: number[] = [];
  return {
    slept,
    monotonicMs: () => nowMs,
    sleep: async (milliseconds, signal) => {
      await new Promise((resolve) => setImmediate(resolve));
      signal?.throwIfAborted();
      slept.push(milliseconds);
      nowMs += milliseconds;
    },
  };
};

describe("the usage spool", () => {
  let directory: string;
  let events: string[];
  const clock = hastyClock();
  const aSubmission = (name: string): Submission => ({
    usage: Buffer.from(name),
    receipts: [Buffer.from("a"), Buffer.from("b")],
  });
  const nameOf = (submission: Submission): string => Buffer.from(submission.usage).toString();
  const spoolOf = (
    submit: (submission: Submission) => Promise<Result<{ accepted: number; rejected: readonly string[] }>>,
  ) => new Spool(directory, { clock, unixMs: () => 1_800_000_000_000, log: (event) => events.push(event) }, submit);
  const taken = ok({ accepted: 2, rejected: [] });

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "tessellate-spool-"));
    events = [];
  });
  afterEach(async () => rm(directory, { recursive: true }));

  it("hands over what it is given, oldest first, and keeps nothing that was judged", async () => {
    const got: string[] = [];
    const spool = spoolOf(async (submission) => {
      got.push(nameOf(submission));
      return taken;
    });
    await spool.start();
    for (const name of ["one", "two", "three"]) await spool.add(name, aSubmission(name));
    // This clock counts 50 ms for a turn of the loop, and the disk may take any number of turns: no limit.
    await spool.drain(Number.POSITIVE_INFINITY);
    await spool.close();
    expect(got).to.deep.equal(["one", "two", "three"]);
    expect(await readdir(directory)).to.deep.equal(["refused"]);
  });

  it("keeps trying while the ledger is away, waiting longer each time", async () => {
    let attempts = 0;
    const spool = spoolOf(async () => (++attempts < 9 ? refuse("Unreachable", "no connection") : taken));
    clock.slept.length = 0;
    await spool.start();
    await spool.add("one", aSubmission("one"));
    while (spool.waitingCount > 0) await new Promise((resolve) => setImmediate(resolve));
    await spool.close();
    expect(clock.slept.slice(0, 8)).to.deep.equal([250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000]);
  });

  it("goes on after a restart with the very same bytes", async () => {
    const away = spoolOf(async () => refuse("NoLedger", "none yet"));
    await away.start();
    await away.add("one", aSubmission("one"));
    await away.close();
    const got: Submission[] = [];
    const back = spoolOf(async (submission) => {
      got.push(submission);
      return taken;
    });
    await back.start();
    await back.drain(Number.POSITIVE_INFINITY);
    await back.close();
    expect(got.map(nameOf)).to.deep.equal(["one"]);
    expect(got[0]?.receipts.map((receipt) => Buffer.from(receipt).toString())).to.deep.equal(["a", "b"]);
    expect(events).to.include("usage-left-over");
  });

  it("puts aside what the ledger refuses again and again, and what it cannot read, and goes on with the rest", async () => {
    await writeFile(join(directory, "0-broken.json"), "half a fi");
    const got: string[] = [];
    const spool = spoolOf(async (submission) => {
      if (nameOf(submission) === "bad") return refuse("MalformedField", "usage: not for me");
      got.push(nameOf(submission));
      return taken;
    });
    await spool.start();
    await spool.add("bad", aSubmission("bad"));
    await spool.add("good", aSubmission("good"));
    while (spool.waitingCount > 0) await new Promise((resolve) => setImmediate(resolve));
    await spool.close();
    expect(got).to.deep.equal(["good"]);
    expect((await readdir(join(directory, "refused"))).length).to.equal(2);
    expect(events.filter((event) => event === "usage-refused")).to.have.length(8);
  });

  it("survives a submit that throws", async () => {
    let thrown = false;
    const spool = spoolOf(async () => {
      if (thrown) return taken;
      thrown = true;
      throw new Error("socket hang up");
    });
    await spool.start();
    await spool.add("one", aSubmission("one"));
    while (spool.waitingCount > 0) await new Promise((resolve) => setImmediate(resolve));
    await spool.close();
  });
});

describe("saved answers", () => {
  it("are kept as files that verify, where a directory is given", async () => {
    const directory = await mkdtemp(join(tmpdir(), "tessellate-answers-"));
    const gateway = await startTestGateway({ answersDirectory: directory });
    const response = await fetch(`${gateway.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "tiny", messages: [{ role: "user", content: "hello" }], max_tokens: 3 }),
    });
    const { id } = (await response.json()) as { readonly id: string };
    await gateway.close();
    const file = await readFile(join(directory, `${id}.json`));
    expect(parseAnswer(file).ok).to.equal(true);
    expect(verifyAnswer(file).verified).to.equal(true);
    await rm(directory, { recursive: true });
  });
});

/** Local mode as a user has it: real processes, a real Prometheus, the demo model against transformers' own tokens. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { verifyAnswer } from "../core/answer-verification.ts";
import { indentedJson } from "../core/canonical-json.ts";
import { valueOrThrow } from "../core/result.ts";
import { askModel } from "../cli/demo/ask.ts";
import { earnings } from "../cli/demo/earnings.ts";
import { readDocuments } from "../operator/local/documents.ts";
import { type LocalEvent, type LocalHouse, startLocal } from "../operator/local/local-house.ts";
import { type Prometheus, startPrometheus, whyNoPrometheus } from "./prometheus.ts";
import { requireOrSkip } from "./requirement.ts";
import { demoQuestions } from "./golden/demo-goldens.ts";
import { until } from "./until.ts";

describe("local mode", function () {
  this.timeout(300_000);
  let house: LocalHouse;
  let directory: string;
  const events: LocalEvent[] = [];
  const readyTurns = () =>
    events.flatMap((event) =>
      event.event === "condition" && event.condition.type === "Ready" ? [event.condition.status] : [],
    );
  const pids: number[] = [];

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "tessellate-local-"));
    const documents = valueOrThrow(readDocuments(["examples/demo/model.yaml", "examples/demo/nodes.yaml"]));
    house = await startLocal({
      documents,
      stateDirectory: directory,
      listen: "127.0.0.1:0",
      tell: (event) => events.push(event),
    });
    await house.ready;
    pids.push(...house.cluster.pids());
  });
  after(async () => {
    await house.stop();
    rmSync(directory, { recursive: true, force: true });
    for (const pid of pids) expect(() => process.kill(pid, 0), `process ${pid} is left`).to.throw();
  });

  it("cuts the model over three providers, one of them with two ranks", () => {
    const { assignments } = house.placement();
    expect(new Set(assignments.map(({ provider }) => provider))).to.deep.equal(new Set(["campus", "garage", "studio"]));
    expect(assignments.filter(({ sliceWeights }) => sliceWeights.length === 2)).to.have.length(2);
  });

  it("answers with the reference's tokens, and its receipts hold", async () => {
    const goldens = demoQuestions();
    expect(goldens.length).to.be.at.least(3);
    for (const { prompt, greedy } of goldens) {
      const asked = await askModel(house.url, house.model.name, prompt, () => {});
      const bytes = indentedJson(asked.savedAnswer);
      const saved: { readonly tokenIds: { readonly generated: readonly number[] } } = JSON.parse(
        Buffer.from(bytes).toString("utf8"),
      );
      const { generated } = saved.tokenIds;
      expect(generated.slice(0, greedy.length), prompt).to.deep.equal(greedy.slice(0, generated.length));
      expect(generated.length).to.be.at.least(1);
      const verdict = verifyAnswer(bytes, { modelRoot: house.facts.root });
      expect(verdict.problems).to.deep.equal([]);
      expect(verdict.receipts).to.have.length(house.placement().assignments.length);
    }
  });

  it("replaces a rank that dies, and only that one", async () => {
    const [victim] = house.placement().assignments.filter(({ segment }) => segment === 1);
    const name = `${house.model.name}-${victim?.chain}-${victim?.segment}-${victim?.rank}`;
    const before = readyTurns().length;
    events.length = 0;
    house.cluster.rankProcess(name)?.kill("SIGKILL");
    await until(
      "Ready to turn False and True again",
      () => readyTurns().join().includes("False") && readyTurns().at(-1) === "True",
    );
    expect(before).to.be.at.least(1);
    const touched = events.flatMap((event) =>
      event.event === "action" && event.action.do !== "probe" ? [event.action.name] : [],
    );
    expect(new Set(touched)).to.deep.equal(new Set([name]));
    const asked = await askModel(house.url, house.model.name, "What is a shard?", () => {});
    expect(asked.text).not.to.equal("");
    pids.push(...house.cluster.pids());
  });

  describe("in Prometheus", () => {
    let prometheus: Prometheus;
    before(async function () {
      const missing = whyNoPrometheus();
      requireOrSkip(this, missing);
      const ranks = house.cluster.metricsAddresses();
      prometheus = await startPrometheus({
        ledger: [house.metricsAddresses["ledger"] ?? ""],
        gateway: [house.metricsAddresses["gateway"] ?? ""],
        rank: ranks,
      });
    });
    after(() => prometheus?.stop());

    it("says of the rewards what the ledger says", async () => {
      const question = 'sum by (provider) (tessellate_rewards_credits_total{state=~"pending|payable|paid"})';
      await until("rewards to be scraped", async () => (await prometheus.query(question)).length === 3);
      const rows = await earnings(house.ledgerAddress, house.operatorTls, 0);
      const scraped = new Map(
        (await prometheus.query(question)).map(({ labels, value }) => [labels["provider"], value]),
      );
      for (const { provider, microCredits } of rows) {
        expect(Math.round((scraped.get(provider) ?? Number.NaN) * 1e6), provider).to.equal(Number(microCredits));
        expect(microCredits > 0n).to.equal(true);
      }
    });

    it("has every part up", async () => {
      await until(
        "all targets to be up",
        async () => (await prometheus.query("count(up == 1)"))[0]?.value === 2 + house.placement().assignments.length,
      );
      expect((await prometheus.query("sum(tessellate_steps_total)"))[0]?.value).to.be.greaterThan(0);
      expect((await prometheus.query('sum(tessellate_tokens_total{kind="generated"})'))[0]?.value).to.be.greaterThan(0);
    });
  });
});

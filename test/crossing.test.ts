/**
 * Two chains that cross in a segment, as local mode runs them: three machines with room for two thirds of two models. The
 * shared rank serves both chains, answers are the reference's, and losing a rank breaks the routes through it alone.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { askModel } from "../cli/demo/ask.ts";
import { verifyAnswer } from "../core/answer-verification.ts";
import { present } from "../core/assert.ts";
import { indentedJson } from "../core/canonical-json.ts";
import { valueOrThrow } from "../core/result.ts";
import { readDocuments } from "../operator/local/documents.ts";
import { type LocalEvent, type LocalHouse, startLocal } from "../operator/local/local-house.ts";
import { resolveLocal } from "../operator/local/resolve.ts";
import { footprint, RUNTIME_BYTES } from "../operator/plan/footprint.ts";
import { rankName } from "../operator/plan/names.ts";
import { keysOf, routesOf, segmentKey } from "../operator/plan/routes.ts";
import { demoQuestions } from "./golden/demo-goldens.ts";
import { until } from "./until.ts";

const MODEL = `
apiVersion: tessellate.dev/v1alpha1
kind: ShardedModel
metadata: {name: demo}
spec:
  model: {source: {path: models/demo}}
  quantization: f32
  contextLength: 512
  replicas: 2
  slots: 4
  handOff: {dtype: f32}
`;
const PROVIDERS = ["campus", "garage", "studio"];
const nodesWith = (freeBytes: number): string =>
  PROVIDERS.flatMap((name) => [
    `apiVersion: tessellate.dev/v1alpha1\nkind: Provider\nmetadata: {name: ${name}}\nspec: {}`,
    `apiVersion: tessellate.dev/v1alpha1\nkind: ShardNode\nmetadata: {name: ${name}-1}\n` +
      `spec: {provider: ${name}, memory: {freeBytes: ${freeBytes}}, memoryBytesPerSecond: 20G}`,
  ]).join("\n---\n");

describe("two chains that cross", function () {
  this.timeout(300_000);
  let house: LocalHouse;
  let directory: string;
  const events: LocalEvent[] = [];

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "tessellate-crossing-"));
    const [modelFile, nodesFile] = [join(directory, "model.yaml"), join(directory, "nodes.yaml")];
    writeFileSync(modelFile, MODEL);
    const documents = (freeBytes: number) => {
      writeFileSync(nodesFile, nodesWith(freeBytes));
      return valueOrThrow(readDocuments([modelFile, nodesFile]));
    };
    const { model, facts } = await resolveLocal(documents(1 << 30));
    const { layerBytes, endBytes } = footprint(model, facts);
    // Two thirds of the layers on each machine: two models would take four.
    const layerCount = Math.ceil((2 * facts.config.layerCount) / 3);
    house = await startLocal({
      documents: documents(Math.ceil(RUNTIME_BYTES + endBytes + layerCount * layerBytes)),
      stateDirectory: join(directory, "state"),
      listen: "127.0.0.1:0",
      tell: (event) => events.push(event),
    });
    await house.ready;
  });
  after(async () => {
    await house?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  /** Ranks on both routes, and on one alone. */
  const ranks = () => {
    const routes = routesOf(house.placement()).map((route) => new Set(keysOf(route)));
    const usersOf = (key: string) => routes.filter((keys) => keys.has(key)).length;
    const { assignments } = house.placement();
    const named = (count: number) =>
      assignments.filter((each) => usersOf(segmentKey(each)) === count).map((each) => rankName(house.model, each));
    return { shared: named(2), alone: named(1) };
  };
  const readyNow = (): string => {
    const said = events.flatMap((event) =>
      event.event === "condition" && event.condition.type === "Ready" ? [event.condition.message] : [],
    );
    return said.at(-1) ?? "";
  };
  const bothServe = () => until("both chains to serve", () => readyNow() === "2 of 2 chains serve");
  /** The answer's tokens, and the ranks that signed for it. */
  const ask = async (prompt: string) => {
    const { savedAnswer } = await askModel(house.url, "demo", prompt, () => {});
    const bytes = indentedJson(savedAnswer);
    const { problems, receipts } = verifyAnswer(bytes, { modelRoot: house.facts.root });
    expect(problems).to.deep.equal([]);
    const saved = JSON.parse(Buffer.from(bytes).toString("utf8")) as {
      readonly tokenIds: { readonly generated: readonly number[] };
    };
    return { generated: saved.tokenIds.generated, signers: receipts.map(({ rank }) => rank) };
  };

  it("share a rank, and each has one of its own", () => {
    const { shared, alone } = ranks();
    expect(shared).to.have.length(1);
    expect(alone).to.have.length(2);
  });

  it("answer both with the reference's tokens, at once", async () => {
    await bothServe();
    const goldens = demoQuestions().slice(0, 2);
    const [one, two] = await Promise.all(
      goldens.flatMap(({ prompt }) => [ask(prompt), ask(prompt)]).map((asked) => asked),
    ).then(async (answers) => {
      answers.forEach(({ generated }, index) => {
        const { greedy } = present(goldens[Math.floor(index / 2)], "two answers for each question");
        expect(generated.slice(0, greedy.length)).to.deep.equal(greedy.slice(0, generated.length));
      });
      return [answers.flatMap(({ signers }) => signers), ranks()] as const;
    });
    // Between them the answers came from every rank: both routes were taken.
    for (const name of [...two.shared, ...two.alone])
      expect(
        one.some((signer) => signer.endsWith(name)),
        name,
      ).to.equal(true);
  });

  it("break one by one: losing a rank of one route leaves the other serving", async () => {
    await bothServe();
    const [victim = ""] = ranks().alone;
    events.length = 0;
    house.cluster.rankProcess(victim)?.kill("SIGKILL");
    await until("one chain to be left", () => readyNow() === "1 of 2 chains serve");
    const { signers } = await ask("What is a shard?");
    expect(signers.some((signer) => signer.endsWith(victim))).to.equal(false);
    await bothServe();
    const touched = events.flatMap((event) =>
      event.event === "action" && event.action.do !== "probe" ? [event.action.name] : [],
    );
    expect(new Set(touched)).to.deep.equal(new Set([victim]));
  });

  it("break together where they cross, and come back", async () => {
    const [victim = ""] = ranks().shared;
    events.length = 0;
    house.cluster.rankProcess(victim)?.kill("SIGKILL");
    await until("no chain to be left", () =>
      events.some((event) => event.event === "condition" && event.condition.reason === "RanksStarting"),
    );
    await bothServe();
    const { generated } = await ask("What is a shard?");
    expect(generated.length).to.be.above(0);
  });
});

/**
 * What the operator changes by its own choice, with real ranks: fewer chains, a drained node, a better plan. Answers that
 * are under way end where they began, token by token, and nobody's question fails.
 */
import { expect } from "chai";
import { type AnswerVerdict, verifyAnswer } from "../../core/answer-verification.ts";
import { nodeObject } from "../cluster/operator-case.ts";
import { chatGoldens } from "../golden/demo-goldens.ts";
import { inSteps } from "../in-steps.ts";
import { untilFound } from "../until.ts";
import { first } from "./expected.ts";
import { housePod, installHouse } from "./house.ts";
import { ModelWatch } from "./model-watch.ts";
import { onStage } from "./on-stage.ts";
import { type Asked, ask } from "./questions.ts";
import { Rollouts, loadedText } from "./rollouts.ts";
import { MACHINES, type Stage } from "./stage.ts";
import { happened, metricAt } from "./telling.ts";
import { Timeline } from "./timeline.ts";

/** Tokens of a long answer: seconds of work, within the model's context. */
const LONG = 420;
/** Clients that ask so at once, enough for every chain to have some. */
const CLIENT_COUNT = 4;
const MINUTES_3 = { timeoutMs: 180_000, everyMs: 200 };

describe("what the operator changes by its own choice", function () {
  this.timeout(600_000);
  inSteps(this);
  const timeline = new Timeline();
  const golden = first(chatGoldens());
  let stage: Stage;
  let watch: ModelWatch;
  let gatewayUrl: string;
  let reference: Asked;

  const kubectl = (...args: string[]) => stage.controlPlane.kubectl(args);
  const patch = (what: string, spec: object) => kubectl("patch", what, "--type=merge", "-p", JSON.stringify({ spec }));
  const offer = (name: string, provider: string, memoryBytesPerSecond: string) => {
    const signer = { target: stage.providers.target(name) };
    const node = nodeObject(name, provider, { memoryBytesPerSecond, signer });
    return stage.controlPlane.kubectl(["apply", "-f", "-"], JSON.stringify(node));
  };
  const gatewayMetric = async (name: string) =>
    metricAt((await housePod(stage.controlPlane, "gateway")).address("metrics"), name);
  const planned = async () => JSON.parse(await kubectl("get", "shardplan/demo", "-o", "json")).spec;
  const serves = async (chains: string): Promise<void> => {
    await untilFound(
      `${chains} to serve`,
      () => kubectl("get", "sm", "demo", "--no-headers"),
      (text) => new RegExp(`^demo\\s+True\\s+Serving\\s+${chains}\\s`).test(text),
      MINUTES_3,
    );
  };
  const nodesHeld = async () => (await watch.ranks()).map(({ node }) => node).sort();

  onStage(
    timeline,
    (made) => (stage = made),
    async () => watch?.stop(),
  );

  it("finds a model that serves from two chains of their own", async () => {
    await timeline.phase("helm install, the demo Ready", async () => {
      gatewayUrl = await installHouse(stage);
      watch = new ModelWatch(stage.controlPlane, "demo");
      await kubectl("apply", "-f", "examples/demo/");
      await patch("sm/demo", { update: { minGain: "9999%" }, placement: { tensorParallel: null } });
      for (const node of Object.values(MACHINES).flat())
        await patch(`shardnode/${node}`, { signer: { target: stage.providers.target(node) } });
      for (const [provider, publicKey] of stage.providers.publicKeys)
        await patch(`provider/${provider}`, { publicKey });
      await serves("1/1");
    });
    await timeline.phase("three more machines, kubectl scale to two chains", async () => {
      for (const [name, provider] of [
        ["campus-a2", "campus"],
        ["garage-4", "garage"],
        ["studio-x3", "studio"],
      ] as const) {
        await stage.addMachine(provider, name);
        await offer(name, provider, "18G");
        await kubectl("wait", "--for=condition=Ready", `shardnode/${name}`, "--timeout=90s");
      }
      await kubectl("scale", "sm/demo", "--replicas=2");
      await serves("2/2");
    });
    reference = await ask(gatewayUrl, golden.messages, undefined, LONG);
    expect(reference.completionTokens).to.equal(LONG);
    const known = [...golden.tokenIds, ...golden.greedy];
    expect(reference.tokenIds.slice(0, known.length)).to.deep.equal(known);
  });

  it("lets answers on a chain that fewer replicas leave end there", async () => {
    const recoveries = await gatewayMetric("tessellate_session_recoveries_total");
    const outlived = await timeline.phase(
      `kubectl scale to one chain while ${CLIENT_COUNT} clients ask at length`,
      () =>
        longAnswersDuring(
          () => kubectl("scale", "sm/demo", "--replicas=1"),
          async () => (await watch.ranks()).every(({ name }) => name.startsWith("demo-0-")),
        ),
    );
    const onItsWay = outlived.filter(({ receipts }) => receipts.every(({ rank }) => rank.includes("/demo-1-")));
    timeline.note(`${onItsWay.length} answers of ${LONG} tokens ended on the chain that went, none replayed`);
    expect(onItsWay.length).to.be.greaterThan(0);
    expect(await gatewayMetric("tessellate_session_recoveries_total")).to.equal(recoveries);
  });

  it("lets answers through a node that is drained end there", async () => {
    const recoveries = await gatewayMetric("tessellate_session_recoveries_total");
    const mark = watch.mark;
    const held = await nodesHeld();
    const leaves = held.find((node) => node.startsWith("garage-")) ?? "";
    const outlived = await timeline.phase(`node ${leaves} drained while ${CLIENT_COUNT} clients ask at length`, () =>
      longAnswersDuring(
        () => kubectl("annotate", `shardnode/${leaves}`, "tessellate.dev/drain=true"),
        async () => !(await nodesHeld()).includes(leaves),
      ),
    );
    const onItsWay = outlived.filter(({ receipts }) => receipts.some(({ node }) => node === leaves));
    timeline.note(`${onItsWay.length} answers of ${LONG} tokens ended through the node that went, none replayed`);
    expect(onItsWay.length).to.be.greaterThan(0);
    expect(await gatewayMetric("tessellate_session_recoveries_total")).to.equal(recoveries);
    expect(watch.mark, "Ready stayed as it was").to.equal(mark);
    await kubectl("annotate", `shardnode/${leaves}`, "tessellate.dev/drain-");
  });

  it("moves to a better plan beside what serves, under load", async () => {
    const slow = (await nodesHeld()).find((node) => node.startsWith("campus-")) ?? "";
    const other = slow === "campus-a1" ? "campus-a2" : "campus-a1";
    await kubectl("delete", "shardnode", other);
    await patch(`shardnode/${slow}`, { memoryBytesPerSecond: "2M" });
    const before = await watch.ranks();
    const mark = watch.mark;
    const recoveries = await gatewayMetric("tessellate_session_recoveries_total");
    const loaded = await timeline.phase(`a node nine thousand times as quick joins, and ${slow} is left`, () =>
      new Rollouts(stage, gatewayUrl).underLoad(async () => {
        await offer(other, "campus", "18G");
        await patch("sm/demo", { update: { minGain: "50%" } });
        await untilFound(
          "the better plan alone",
          nodesHeld,
          (nodes) => nodes.includes(other) && !nodes.includes(slow) && nodes.length <= before.length,
          MINUTES_3,
        );
      }),
    );
    timeline.note(loadedText(loaded));
    await happened(kubectl, "Moving");
    expect(loaded.failures).to.deep.equal([]);
    expect(loaded.answeredCount).to.be.greaterThan(0);
    expect(watch.mark, "Ready stayed as it was").to.equal(mark);
    expect(await gatewayMetric("tessellate_session_recoveries_total")).to.equal(recoveries);
    const spec = await planned();
    expect([spec.outgoing, spec.rollout, spec.better]).to.deep.equal([undefined, undefined, undefined]);
    await kubectl("wait", "--for=condition=Planned", "sm/demo", "--timeout=10s");
  });

  /**
   * Clients that ask at length, one answer after the other, while something is changed and until it is done: the answers
   * that were under way when sessions began to be sent elsewhere. Each must be the reference's, in one piece.
   */
  async function longAnswersDuring(
    change: () => Promise<unknown>,
    isDone: () => Promise<boolean>,
  ): Promise<readonly AnswerVerdict[]> {
    const over = new AbortController();
    const answers: { readonly asked: Asked; readonly startMs: number; readonly endMs: number }[] = [];
    let begunCount = 0;
    const clients = Array.from({ length: CLIENT_COUNT }, async () => {
      while (!over.signal.aborted) {
        const startMs = performance.now();
        const asked = await ask(gatewayUrl, golden.messages, () => (begunCount += 1), LONG);
        answers.push({ asked, startMs, endMs: performance.now() });
      }
    });
    const work = async (): Promise<number> => {
      await untilFound(
        "answers under way",
        () => begunCount,
        (count) => count > 10 * CLIENT_COUNT,
        MINUTES_3,
      );
      await change();
      await untilFound("a chain that drains", planned, ({ draining }) => draining?.length > 0, MINUTES_3);
      const drainsMs = performance.now();
      await untilFound("the change to be done", isDone, (done) => done, MINUTES_3);
      return drainsMs;
    };
    const [drainsMs] = await Promise.all([work().finally(() => over.abort()), ...clients]);
    const keys = Object.fromEntries([...stage.providers.publicKeys].map(([name, key]) => [`provider/${name}`, key]));
    timeline.note(`${answers.length} answers of ${LONG} tokens in all`);
    return answers.flatMap(({ asked, startMs, endMs }) => {
      expect(asked.tokenIds, "token by token, in one piece").to.deep.equal(reference.tokenIds);
      expect(asked.text).to.equal(reference.text);
      const verdict = verifyAnswer(asked.savedAnswer, { keys });
      expect(verdict.problems).to.deep.equal([]);
      return startMs < drainsMs && endMs > drainsMs ? [verdict] : [];
    });
  }
});

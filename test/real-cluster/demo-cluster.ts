/** What is asked of a real cluster with the demo in it, whichever way the chart came there. */
import { expect } from "chai";
import { type Problem, verifyAnswer } from "../../core/answer-verification.ts";
import type { KubeList, Pod } from "../cluster/kube-types.ts";
import { HOUSE_NAMESPACE } from "../e2e/house.ts";
import { ask } from "../e2e/questions.ts";
import type { Timeline } from "../e2e/timeline.ts";
import { chatGoldens, type Golden } from "../golden/demo-goldens.ts";
import { until } from "../until.ts";
import { Questioners } from "./questioners.ts";
import type { RealCluster } from "./real-cluster.ts";

const ASKING_COUNT = 2;

export const RELEASE = ["tessellate", "-n", HOUSE_NAMESPACE];

/** Values: each node offers this machine's two cores, and the ranks of two chains ask for all of them. */
export const NO_CORES: readonly string[] = [
  ...["operator.resources", "gateway.resources", "ledger.resources", "agent.resources", "agent.signerResources"],
].map((place) => `--set=${place}.requests.cpu=0`);

export const podsOf = async ({ controlPlane }: RealCluster): Promise<readonly Pod[]> =>
  (await controlPlane.api.get<KubeList<Pod>>("/api/v1/pods")).items;

export const componentOf = ({ metadata }: Pod): string => metadata.labels?.["app.kubernetes.io/component"] ?? "";

/** Of the house and the ranks alike: which pod each name is, and how often its containers were started again. */
export async function identities(cluster: RealCluster, only: (pod: Pod) => boolean = () => true) {
  return (await podsOf(cluster))
    .filter((pod) => pod.metadata.namespace !== "kube-system" && only(pod))
    .map(({ metadata, status }) => {
      const restarts = (status?.containerStatuses ?? []).map(({ restartCount }) => restartCount);
      return `${metadata.namespace}/${metadata.name} ${metadata.uid} ${restarts.join()}`;
    })
    .sort();
}

/** The gateway's Service, as this machine reaches it. */
export async function gatewayUrlOf({ controlPlane, sandbox }: RealCluster): Promise<string> {
  const service = ["service", "tessellate-gateway", "-n", HOUSE_NAMESPACE];
  const address = await controlPlane.kubectl(["get", ...service, "-o", "jsonpath={.spec.clusterIP}"]);
  return `http://127.0.0.1:${await sandbox.forward(address, 80)}`;
}

/** The demo's reference questions, asked of a gateway; `publicKeys` (SPKI in base64) are its providers'. */
export class DemoQuestions {
  readonly goldens = chatGoldens();
  readonly #url: string;
  readonly #publicKeys: ReadonlyMap<string, string>;

  constructor(url: string, publicKeys: ReadonlyMap<string, string>) {
    this.#url = url;
    this.#publicKeys = publicKeys;
  }

  /** The reference's tokens and words, and receipts that hold by the providers' keys, from every one of them. */
  async expectAnswer(golden: Golden): Promise<void> {
    expect(await this.#problemsOf(golden)).to.deep.equal([]);
  }

  /**
   * Has people ask while `work` is under way, before it begins and after it has ended too; no question may fail. A receipt
   * may be missing now and then: a rank that waits for a core for longer than a gateway waits for receipts loses its pay
   * for that answer, and here a dozen processes start on two cores.
   */
  async underLoad(timeline: Timeline, name: string, work: () => Promise<void>): Promise<void> {
    let lateCount = 0;
    const load = new Questioners(ASKING_COUNT, async (turn) => {
      const golden = this.goldens[turn % this.goldens.length];
      if (golden === undefined) return;
      const problems = await this.#problemsOf(golden);
      if (problems.length > 0 && problems.every(({ code }) => LATE.has(code))) lateCount += 1;
      else expect(problems).to.deep.equal([]);
    });
    await timeline
      .phase(name, async () => {
        await until("questions to be answered", () => load.answeredCount >= ASKING_COUNT);
        await work();
        const { answeredCount } = load;
        await until("questions to be answered after it", () => load.answeredCount >= answeredCount + 2 * ASKING_COUNT);
      })
      .finally(() => load.stop());
    const late = lateCount === 0 ? "" : `, ${lateCount} before all of their receipts were there`;
    timeline.note(`${load.answeredCount} answered, ${load.failures.length} not${late}`);
    expect(load.failures).to.deep.equal([]);
    expect(lateCount, "answers whose receipts were late").to.be.at.most(2 + LATE_SHARE_MAX * load.answeredCount);
  }

  async #problemsOf(golden: Golden): Promise<readonly Problem[]> {
    const asked = await ask(this.#url, golden.messages);
    const reference = [...golden.tokenIds, ...golden.greedy];
    expect(asked.tokenIds).to.deep.equal(reference.slice(0, golden.tokenIds.length + asked.completionTokens));
    expect(asked.text).to.equal(golden.answer);
    const keys = Object.fromEntries([...this.#publicKeys].map(([name, key]) => [`provider/${name}`, key]));
    return verifyAnswer(asked.savedAnswer, { keys }).problems;
  }
}

/** What a verifier says of an answer that lacks a receipt: it does not hold together, and its signer signed nothing. */
const LATE: ReadonlySet<string> = new Set(["IncompleteChain", "UnusedKey"]);
const LATE_SHARE_MAX = 0.05;

/** Prints all that tells why a step failed. */
export async function tellAll(cluster: RealCluster): Promise<void> {
  const told = async (...args: string[]) => console.log(await cluster.controlPlane.kubectl(args).catch(String));
  await told("get", "nodes,pods,pvc,ds,sm,shn,prov", "-A", "-o", "wide");
  await told("get", "events", "-A", "--sort-by=.lastTimestamp");
  for (const { metadata } of await podsOf(cluster).catch(() => [])) {
    console.log(`── ${metadata.namespace}/${metadata.name}`);
    await told("logs", "-n", metadata.namespace ?? "default", metadata.name, "--all-containers", "--tail=30");
  }
}

/**
 * Changes of a served model under load, with real ranks: what was asked meanwhile and what became of it. For the demo's
 * suite and for the bench.
 */
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { verifyAnswer } from "../../core/answer-verification.ts";
import type { ShardPlan } from "../../core/gen/crds/shardplan.ts";
import { MANIFEST_FILE, formatManifest, manifestOf, parseManifest } from "../../core/manifest.ts";
import { REPOSITORY } from "../cluster/container-process.ts";
import { type Golden, chatGoldens } from "../golden/demo-goldens.ts";
import { untilFound } from "../until.ts";
import { ask } from "./questions.ts";
import type { Stage } from "./stage.ts";

/** Clients that ask one question after the other; the chain has four slots. */
const CLIENT_COUNT = 2;
/**
 * For how many milliseconds a rank is stopped, and then runs. What the gateway measures is the middle of eight tokens, so
 * no token may fit between two stops; and what loads must end before its deadline.
 */
const SLOW = [25, 2] as const;
const LOADS_SLOWLY = [120, 60] as const;
const MINUTES_4 = { timeoutMs: 240_000, everyMs: 200 };

export type Loaded = {
  readonly seconds: number;
  readonly answeredCount: number;
  readonly failures: readonly string[];
  readonly slowestFirstTokenMs: number;
};

type UpToDate = { readonly reason: string; readonly message: string };

/** `text` by question: what any revision that stood meanwhile answers at rest. */
type Known = ReadonlyMap<Golden, Set<string>>;

export class Rollouts {
  readonly #stage: Stage;
  readonly #gatewayUrl: string;
  readonly #questions: readonly Golden[];
  readonly #known: Known;

  constructor(stage: Stage, gatewayUrl: string) {
    this.#stage = stage;
    this.#gatewayUrl = gatewayUrl;
    this.#questions = chatGoldens().slice(0, CLIENT_COUNT);
    this.#known = new Map(this.#questions.map((golden) => [golden, new Set([golden.answer])]));
  }

  /** Rolls a change of the spec out, to its end. */
  change(spec: object): Promise<Loaded> {
    return this.underLoad(async () => {
      await this.#patch(spec);
      await this.#said("AsAsked");
    });
  }

  /** Asks for something and, once ranks of it have begun, for what was there before. */
  revert(spec: object, before: object): Promise<Loaded> {
    return this.underLoad(async () => {
      await this.#patch(spec);
      await this.#said("RollingOut");
      await this.#nextRanks();
      await this.#patch(before);
      await this.#said("AsAsked");
    });
  }

  /** Weights that are not those of the manifest: no rank of that revision ever gets ready. Returns why it was taken back. */
  async breakSource(): Promise<Loaded & UpToDate> {
    const manifest = parseManifest(readFileSync(join(REPOSITORY, "models/demo", MANIFEST_FILE), "utf8"));
    if (!manifest.ok) throw new Error(manifest.detail);
    const { files, configText } = manifest.value;
    const others = files.map((file) => {
      const chunks = Uint8Array.from(file.chunks);
      if (file.path === "model.safetensors") chunks[0] = (chunks[0] ?? 0) ^ 1;
      return { ...file, chunks };
    });
    const text = formatManifest(manifestOf(others, configText));
    const server = createServer((_, response) => response.end(text)).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as AddressInfo;
    try {
      const manifestUrl = `http://127.0.0.1:${port}/${MANIFEST_FILE}`;
      const least = { progressDeadlineSeconds: 10 };
      return await this.#takenBack(
        { model: { manifestUrl }, update: least },
        { model: { manifestUrl: null }, update: { progressDeadlineSeconds: null } },
      );
    } finally {
      server.close();
    }
  }

  /** Ranks of the next revision that are stopped most of the time, as on a machine that others use. */
  async slowDown(spec: object, before: object): Promise<Loaded & UpToDate> {
    const over = new AbortController();
    const braking = this.#brake(over.signal);
    try {
      return await this.#takenBack(spec, before);
    } finally {
      over.abort();
      await braking;
    }
  }

  /** What was asked while `work` was done, by clients that never pause. An answer must be some revision's, whole and proven. */
  async underLoad(work: () => Promise<unknown>): Promise<Loaded> {
    const startMs = performance.now();
    const over = new AbortController();
    const answers: (readonly [Golden, string])[] = [];
    const failures: string[] = [];
    const firstTokenMs: number[] = [];
    const clients = this.#questions.map(async (golden) => {
      while (!over.signal.aborted) {
        const askedMs = performance.now();
        let isFirst = true;
        const onText = () => {
          if (isFirst) firstTokenMs.push(performance.now() - askedMs);
          isFirst = false;
        };
        try {
          answers.push([golden, await this.#answer(golden, onText)]);
        } catch (error) {
          failures.push(String(error));
        }
      }
    });
    await work().finally(() => over.abort());
    await Promise.all(clients);
    const seconds = (performance.now() - startMs) / 1000;
    for (const golden of this.#questions) this.#known.get(golden)?.add(await this.#answer(golden));
    for (const [golden, text] of answers)
      if (this.#known.get(golden)?.has(text) !== true) failures.push(`no revision answers so: ${text}`);
    return { seconds, answeredCount: answers.length, failures, slowestFirstTokenMs: Math.max(0, ...firstTokenMs) };
  }

  async #answer(golden: Golden, onText?: () => void): Promise<string> {
    const { text, savedAnswer } = await ask(this.#gatewayUrl, golden.messages, onText);
    const keys = [...this.#stage.providers.publicKeys].map(([name, key]) => [`provider/${name}`, key]);
    const { problems } = verifyAnswer(savedAnswer, { keys: Object.fromEntries(keys) });
    if (problems.length > 0) throw new Error(`receipts: ${JSON.stringify(problems)}`);
    return text;
  }

  /** Asks for something that will not do; afterwards, at rest, for what was there before. */
  async #takenBack(spec: object, before: object): Promise<Loaded & UpToDate> {
    let said: UpToDate = { reason: "", message: "" };
    const loaded = await this.underLoad(async () => {
      await this.#patch(spec);
      said = await this.#said("RolledBack");
    });
    await this.#patch(before);
    await this.#said("AsAsked");
    return { ...loaded, ...said };
  }

  async #patch(spec: object): Promise<void> {
    const options = ["--type=merge", "-p", JSON.stringify({ spec })];
    await this.#stage.controlPlane.kubectl(["patch", "sm/demo", ...options]);
  }

  /** Waits until the condition UpToDate, of the spec as it is now, has this reason. */
  async #said(reason: string): Promise<UpToDate> {
    const look = async () => {
      const { metadata, status } = JSON.parse(await this.#stage.controlPlane.kubectl(["get", "sm/demo", "-o", "json"]));
      const upToDate = status.conditions.find(({ type }: { type: string }) => type === "UpToDate");
      return { generation: metadata.generation, ...upToDate };
    };
    return untilFound(
      `UpToDate to say ${reason}`,
      look,
      (said) => said.reason === reason && said.observedGeneration === said.generation,
      MINUTES_4,
    );
  }

  /** Names of the ranks of chains that the plan counts among its own and no probe has gone through, once all are pods. */
  async #nextRanks(): Promise<readonly string[]> {
    const { kubectl } = this.#stage.controlPlane;
    const { names } = await untilFound(
      "ranks of the next revision",
      async () => {
        const { spec }: ShardPlan = JSON.parse(await kubectl(["get", "shardplan/demo", "-o", "json"]));
        const unproven = spec.rollout?.unproven ?? [];
        const next = spec.chains.filter(({ index }) => unproven.includes(index));
        const ranks = next.flatMap(({ segments }) => segments.flatMap((segment) => segment.ranks));
        const pods = (await kubectl(["get", "pods", "-o", "name"])).split("\n");
        return { names: ranks.map(({ name }) => name), pods };
      },
      ({ names, pods }) => names.length > 0 && names.every((name) => pods.includes(`pod/${name}`)),
    );
    return names;
  }

  async #brake(over: AbortSignal): Promise<void> {
    const names = await this.#nextRanks();
    while (!over.aborted) {
      const [stoppedMs, runMs] = names.every((name) => this.#serves(name)) ? SLOW : LOADS_SLOWLY;
      for (const name of names) this.#signal(name, "SIGSTOP");
      await sleep(stoppedMs);
      for (const name of names) this.#signal(name, "SIGCONT");
      await sleep(runMs);
    }
  }

  #serves(name: string): boolean {
    try {
      return this.#stage.kubelet.logs({ name }).includes('"event":"serving"');
    } catch {
      return false; // it has not begun
    }
  }

  #signal(name: string, signal: NodeJS.Signals): void {
    try {
      this.#stage.kubelet.kill({ name }, signal);
    } catch {
      // it is gone, or has not begun
    }
  }
}

/** As a line of a timeline. */
export const loadedText = ({ answeredCount, failures, slowestFirstTokenMs }: Loaded): string =>
  `${answeredCount} answered, ${failures.length || "none"} failed, slowest first token ${Math.round(slowestFirstTokenMs)} ms`;

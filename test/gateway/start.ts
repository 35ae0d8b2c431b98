/** A gateway with a real HTTP server on loopback and everything behind it stopped. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { State__Output } from "../../core/gen/proto/tessellate/control/v1/State.ts";
import { type Result, ok, valueOrThrow } from "../../core/result.ts";
import { keyNamed } from "../../core/session-fixture.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { Gateway, type GatewayOptions } from "../../gateway/gateway.ts";
import { LIMITS } from "../../gateway/generate/generation.ts";
import type { Submission } from "../../gateway/usage/seal.ts";
import { FakeWire } from "./fake-wire.ts";
import { type TinyModel, tinyModel } from "./tiny-model.ts";

export type LogLine = { readonly event: string; readonly fields: Readonly<Record<string, unknown>> };

export type TestGateway = {
  readonly gateway: Gateway;
  readonly wire: FakeWire;
  readonly url: string; // http://127.0.0.1:port
  readonly submissions: Submission[];
  readonly log: LogLine[];
  readonly directory: string;
  /** What the ledger answers; tests replace it. */
  judge: (
    submission: Submission,
  ) => Promise<Result<{ readonly accepted: number; readonly rejected: readonly string[] }>>;
  put(state: State__Output): void;
  close(): Promise<void>;
};

export type ModelOptions = {
  readonly name?: string;
  readonly namespace?: string;
  readonly contextLength?: number;
  readonly maxQueue?: number;
  readonly asleep?: boolean;
  readonly wakeTimeoutSeconds?: number;
  readonly chains?: readonly ChainOptions[];
};

export type ChainOptions = {
  readonly ready?: boolean;
  readonly generation?: number;
  readonly draining?: boolean;
  readonly unproven?: boolean;
  /** Of another revision than the model's; its weights are `model`'s, left out: the same. */
  readonly form?: { readonly revision: string; readonly model?: TinyModel; readonly contextLength?: number };
};

const PROVIDERS = ["campus", "garage"];

/** What an operator would tell: every chain has two segments of two layers, one by campus and one by garage. */
export function aState(
  models: readonly (readonly [TinyModel, ModelOptions?])[],
  fields: Partial<State__Output> = {},
): State__Output {
  return {
    fence: 1,
    models: models.map(([model, options = {}]) => {
      const { name = "tiny", namespace = "default", contextLength = 256, maxQueue = 8, chains = [{}] } = options;
      const { asleep = false, wakeTimeoutSeconds = 0 } = options;
      return {
        name,
        namespace,
        modelRoot: model.root,
        layerCount: 4,
        contextLength,
        priceMicroCreditsPerMillionTokens: "150000",
        epochSeconds: 3600,
        handOffDtype: "f32",
        maxQueue,
        slotCount: 4,
        asleep,
        wakeTimeoutSeconds,
        chains: chains.map(({ ready = true, generation = 0, draining = false, unproven = false, form }, index) => {
          const root = form?.model?.root ?? model.root;
          const ranks = PROVIDERS.map((provider, segment) => ({
            name: `${namespace}/${name}-${index}-${segment}-0`,
            address: `127.0.0.1:${generation}/${root}`,
            provider,
            node: `${provider}-1`,
          }));
          return {
            index,
            ready,
            draining,
            unproven,
            form:
              form === undefined
                ? null
                : {
                    revision: form.revision,
                    modelRoot: root,
                    layerCount: 4,
                    contextLength: form.contextLength ?? contextLength,
                    handOffDtype: "f32",
                  },
            segments: ranks.map((rank, segment) => ({
              layers: { start: segment * 2, end: segment * 2 + 2 },
              ranks: [rank],
            })),
            ranks: ranks.map(({ address: _address, ...rank }, segment) => ({
              ...rank,
              layers: { start: segment * 2, end: segment * 2 + 2 },
              rankIndex: 0,
              rankCount: 1,
              shareMillionths: "1000000",
            })),
          };
        }),
      };
    }),
    providers: PROVIDERS.map((name) => ({
      name,
      publicKey: keyNamed(`provider/${name}`).publicKey.spki,
      admitted: true,
    })),
    gateways: [],
    ledgerAddress: "127.0.0.1:1",
    ...fields,
  };
}

/** Started, and told of `state` (one tiny model with one chain unless a test says otherwise; null: told of nothing). */
export async function startTestGateway(
  options: {
    readonly models?: readonly TinyModel[];
    readonly state?: State__Output | null;
    readonly directory?: string;
    readonly limits?: Partial<typeof LIMITS>;
  } & Partial<Pick<GatewayOptions, "apiKeys" | "answersDirectory">> = {},
): Promise<TestGateway> {
  const models = options.models ?? [tinyModel()];
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), "tessellate-gateway-")));
  const wire = new FakeWire(models);
  const submissions: Submission[] = [];
  const log: LogLine[] = [];
  const gateway = new Gateway({
    doors: {
      clock: systemClock,
      unixMs: () => Date.now(),
      random: (byteCount) => new Uint8Array(randomBytes(byteCount)),
      wire,
      log: (event, fields) => log.push({ event, fields }),
    },
    signer: { name: "gw", key: keyNamed("gateway/gw") },
    submit: (submission) => running.judge(submission),
    stateDirectory: directory,
    apiKeys: options.apiKeys,
    answersDirectory: options.answersDirectory,
    limits: { ...LIMITS, closeGraceMs: 500, ...options.limits },
  });
  const running: TestGateway = {
    gateway,
    wire,
    url: "",
    submissions,
    log,
    directory,
    judge: async (submission) => {
      submissions.push(submission);
      return ok({ accepted: submission.receipts.length, rejected: [] });
    },
    put: (state) => void valueOrThrow(gateway.keeper.put(state)),
    close: async () => {
      await gateway.end(1000);
      if (options.directory === undefined) await rm(directory, { recursive: true, force: true });
    },
  };
  await gateway.start();
  const state = options.state === undefined ? aState(models.map((model) => [model])) : options.state;
  if (state !== null) running.put(state);
  return Object.assign(running, { url: await gateway.app.listen({ host: "127.0.0.1", port: 0 }) });
}

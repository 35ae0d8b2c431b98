/** One greedy token through the whole of one chain, receipts included: what a chain must do before it is called Ready. */
import { type Result, ok, refuse } from "../../core/result.ts";
import { type Doors, within } from "../doors.ts";
import type { Part } from "../generate/generation.ts";
import { type ChainFacts, type ModelFacts, type Picture, modelKey } from "../route/picture.ts";
import type { ModelCatalog } from "../tokenizer/catalog.ts";
import type { SessionRequest } from "../session/types.ts";
import { type Signer, sealPart } from "../usage/seal.ts";

export type ProbeOutcome = {
  readonly passed: boolean;
  readonly code: string;
  readonly detail: string;
  readonly timeMs: number;
  readonly rank: string;
};

export type Prober = { readonly doors: Doors; readonly catalog: ModelCatalog; readonly signer: Signer };

const FILES_WAIT_MS = 15_000;
const TOKEN_WAIT_MS = 30_000;
const SLOT_WAIT_MS = 5_000;
const SLOT_RETRY_MS = 250;

/** Never rejects; a probe that fails says why, and at which rank where that is known. Nothing of it is billed. */
export async function probe(
  prober: Prober,
  picture: Picture | undefined,
  asked: { readonly model: string; readonly namespace: string; readonly chain: number },
): Promise<ProbeOutcome> {
  const { clock } = prober.doors;
  const startedMs = clock.monotonicMs();
  const key = modelKey({ namespace: asked.namespace, name: asked.model });
  const model = picture?.models.find((one) => modelKey(one) === key);
  const chain = model?.chains.find((one) => one.index === asked.chain);
  const through = (): Promise<Result<unknown>> =>
    picture === undefined || model === undefined || chain === undefined
      ? Promise.resolve(refuse("UnknownModel", `this gateway was not told of chain ${asked.chain} of ${key}`))
      : probeChain(prober, picture, model, chain);
  const result = await through();
  const timeMs = clock.monotonicMs() - startedMs;
  if (result.ok) return { passed: true, code: "", detail: "", timeMs, rank: "" };
  const ranks = chain?.segments.flatMap((segment) => segment.ranks.map((rank) => rank.name)) ?? [];
  const rank = ranks.find((name) => result.detail.includes(name)) ?? "";
  prober.doors.log("probe-failed", { model: key, chain: asked.chain, code: result.code, detail: result.detail, rank });
  return { passed: false, code: result.code, detail: result.detail, timeMs, rank };
}

async function probeChain(
  { doors, catalog, signer }: Prober,
  picture: Picture,
  model: ModelFacts,
  chain: ChainFacts,
): Promise<Result<unknown>> {
  if (chain.segments.length === 0)
    return refuse("NoReadyChain", `chain ${chain.index} of ${modelKey(model)} has no segments`);
  // A model whose tokenizer is refused would be Ready and serve nobody.
  const files = await catalog.get(model, FILES_WAIT_MS);
  if (!files.ok) return files;
  const request: SessionRequest = {
    id: `probe-${Buffer.from(doors.random(12)).toString("hex")}`,
    nonce: doors.random(32),
    modelRoot: model.root,
    chain: chain.segments,
    prompt: [files.value.config.bosTokenId ?? 0],
    sampler: { temperature: 0, topP: 1, seed: new Uint8Array(8) },
    maxPositions: 2,
    handOffDtype: model.handOffDtype,
    epoch: Math.floor(doors.unixMs() / 1000 / model.epochSeconds),
  };
  const opened = await openWhereSlot(doors, request);
  if (!opened.ok) return opened;
  const token = await within(doors.clock, TOKEN_WAIT_MS, opened.value.next());
  const sampled = typeof token === "object" ? token : refuse("TimedOut", `no token within ${TOKEN_WAIT_MS / 1000} s`);
  const receipts = await opened.value.close(sampled.ok ? "done" : "failed");
  if (!sampled.ok) return sampled;
  const part: Part = { request, model, chain, generated: [sampled.value.tokenId], receipts };
  const sealed = sealPart(part, "", picture, signer);
  if (!sealed.ok) return sealed;
  const [problem] = sealed.value.problems;
  return problem === undefined
    ? ok(undefined)
    : refuse(problem.code, `the chain answers, but its receipts do not hold: ${problem.detail}`);
}

/** Other sessions may hold every slot; that is no fault of the chain. */
async function openWhereSlot(doors: Doors, request: SessionRequest) {
  for (let waitedMs = 0; ; waitedMs += SLOT_RETRY_MS) {
    const opened = await doors.wire.open(request);
    if (opened.ok || opened.code !== "NoSlot" || waitedMs >= SLOT_WAIT_MS) return opened;
    await doors.clock.sleep(SLOT_RETRY_MS);
  }
}

/** A greedy token through the whole of one chain, receipts included: what a chain must do before it is called Ready. */
import { type Result, ok, refuse } from "../../core/result.ts";
import { type Doors, within } from "../doors.ts";
import type { Part } from "../generate/generation.ts";
import { type ChainFacts, type ModelFacts, type Picture, modelKey, modelOn } from "../route/picture.ts";
import type { ModelCatalog } from "../tokenizer/catalog.ts";
import type { Session, SessionRequest } from "../session/types.ts";
import { type Signer, sealPart } from "../usage/seal.ts";

export type ProbeOutcome = {
  readonly passed: boolean;
  readonly code: string;
  readonly detail: string;
  readonly timeMs: number;
  readonly tokenMs: number; // between two tokens, the middle of those measured; 0: not measured
  readonly rank: string;
};

export type ProbeAsked = {
  readonly model: string;
  readonly namespace: string;
  readonly chain: number;
  readonly tokenCount: number; // 0 counts as one
};

export type Prober = { readonly doors: Doors; readonly catalog: ModelCatalog; readonly signer: Signer };

const FILES_WAIT_MS = 15_000;
const TOKEN_WAIT_MS = 30_000;
const SLOT_WAIT_MS = 5_000;
const SLOT_RETRY_MS = 250;
const TOKEN_COUNT_MAX = 64;

/** Never rejects; a probe that fails says why, and at which rank where that is known. Nothing of it is billed. */
export async function probe(prober: Prober, picture: Picture | undefined, asked: ProbeAsked): Promise<ProbeOutcome> {
  const { clock } = prober.doors;
  const startedMs = clock.monotonicMs();
  const key = modelKey({ namespace: asked.namespace, name: asked.model });
  const model = picture?.models.find((one) => modelKey(one) === key);
  const chain = model?.chains.find((one) => one.index === asked.chain);
  const through = (): Promise<Result<number>> =>
    picture === undefined || model === undefined || chain === undefined
      ? Promise.resolve(refuse("UnknownModel", `this gateway was not told of chain ${asked.chain} of ${key}`))
      : probeChain(prober, picture, { model: modelOn(model, chain), chain, tokenCount: asked.tokenCount });
  const result = await through();
  const timeMs = clock.monotonicMs() - startedMs;
  if (result.ok) return { passed: true, code: "", detail: "", timeMs, tokenMs: result.value, rank: "" };
  const ranks = chain?.segments.flatMap((segment) => segment.ranks.map((rank) => rank.name)) ?? [];
  const rank = ranks.find((name) => result.detail.includes(name)) ?? "";
  prober.doors.log("probe-failed", { model: key, chain: asked.chain, code: result.code, detail: result.detail, rank });
  return { passed: false, code: result.code, detail: result.detail, timeMs, tokenMs: 0, rank };
}

type Through = { readonly model: ModelFacts; readonly chain: ChainFacts; readonly tokenCount: number };

/** The time between two tokens, see {@link ProbeOutcome}. */
async function probeChain(
  { doors, catalog, signer }: Prober,
  picture: Picture,
  { model, chain, tokenCount }: Through,
): Promise<Result<number>> {
  if (chain.segments.length === 0)
    return refuse("NoReadyChain", `chain ${chain.index} of ${modelKey(model)} has no segments`);
  // A model whose tokenizer is refused would be Ready and serve nobody.
  const files = await catalog.get(model, FILES_WAIT_MS);
  if (!files.ok) return files;
  const count = Math.max(1, Math.min(tokenCount, TOKEN_COUNT_MAX, model.contextLength - 1));
  const request: SessionRequest = {
    id: `probe-${Buffer.from(doors.random(12)).toString("hex")}`,
    nonce: doors.random(32),
    modelRoot: model.root,
    chain: chain.segments,
    prompt: [files.value.config.bosTokenId ?? 0],
    sampler: { temperature: 0, topP: 1, seed: new Uint8Array(8) },
    maxPositions: 1 + count,
    handOffDtype: model.handOffDtype,
    epoch: Math.floor(doors.unixMs() / 1000 / model.epochSeconds),
  };
  const opened = await openWhereSlot(doors, request);
  if (!opened.ok) return opened;
  const sampled = await tokensOf(doors, opened.value, count);
  const receipts = await opened.value.close(sampled.ok ? "done" : "failed");
  if (!sampled.ok) return sampled;
  const part: Part = { request, model, chain, generated: sampled.value.tokenIds, receipts };
  const sealed = sealPart(part, "", picture, signer);
  if (!sealed.ok) return sealed;
  const [problem] = sealed.value.problems;
  return problem === undefined
    ? ok(middleOf(sampled.value.gapsMs))
    : refuse(problem.code, `the chain answers, but its receipts do not hold: ${problem.detail}`);
}

async function tokensOf(
  { clock }: Doors,
  session: Session,
  count: number,
): Promise<Result<{ readonly tokenIds: readonly number[]; readonly gapsMs: readonly number[] }>> {
  const tokenIds: number[] = [];
  const gapsMs: number[] = [];
  for (let lastMs = clock.monotonicMs(); tokenIds.length < count; ) {
    const token = await within(clock, TOKEN_WAIT_MS, session.next());
    if (typeof token !== "object") return refuse("TimedOut", `no token within ${TOKEN_WAIT_MS / 1000} s`);
    if (!token.ok) return token;
    const nowMs = clock.monotonicMs();
    if (tokenIds.length > 0) gapsMs.push(nowMs - lastMs); // the first waits for the prompt
    tokenIds.push(token.value.tokenId);
    lastMs = nowMs;
  }
  return ok({ tokenIds, gapsMs });
}

const middleOf = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

/** Other sessions may hold every slot; that is no fault of the chain. */
async function openWhereSlot(doors: Doors, request: SessionRequest) {
  for (let waitedMs = 0; ; waitedMs += SLOT_RETRY_MS) {
    const opened = await doors.wire.open(request);
    if (opened.ok || opened.code !== "NoSlot" || waitedMs >= SLOT_WAIT_MS) return opened;
    await doors.clock.sleep(SLOT_RETRY_MS);
  }
}

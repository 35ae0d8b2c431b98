/** One request from tokens to bytes: a whole JSON document, or a stream of chunks as they come. */
import type { ServerResponse } from "node:http";
import { type Refusal, type Result, ok } from "../../core/result.ts";
import { within } from "../doors.ts";
import { AnswerText, type Piece } from "../generate/answer-text.ts";
import { Generation, type House } from "../generate/generation.ts";
import type { Metrics } from "../metrics.ts";
import { type ModelFacts, modelKey } from "../route/picture.ts";
import type { ModelFiles } from "../tokenizer/model-files.ts";
import type { Books } from "../usage/books.ts";
import type { Sealed } from "../usage/seal.ts";
import { type ApiError, apiError, errorBody } from "./api-error.ts";
import { type Choice, type Head, type Shape, type ShownToken, usageOf } from "./documents.ts";
import type { Prepared } from "./prompt.ts";
import type { EventStream } from "./sse.ts";
import type { Wanted } from "./wanted.ts";

export type Desk = { readonly house: House; readonly books: Books; readonly metrics: Metrics };

export type Job = {
  readonly shape: Shape;
  readonly wanted: Wanted;
  readonly prepared: Prepared;
  readonly model: ModelFacts;
  readonly files: ModelFiles;
  readonly signal: AbortSignal; // aborted when the client has gone or the gateway must end
  readonly arrivedMs: number; // of the monotonic clock
  readonly stream: EventStream; // on the response; may have begun already
};

/** What became of a request: `status` as sent, 499 where nobody was left to send it to. */
export type Outcome = {
  readonly status: number;
  readonly refusal: Refusal | undefined;
  readonly recoveryCount?: number; // chains that the answer lost and went on without
};

/** Waits until the model has an open chain; only then can its files be had. Refused as {@link Admission.enter} refuses. */
export async function awaken(
  desk: Desk,
  stream: EventStream,
  { model, wanted, signal }: Pick<Job, "model" | "wanted" | "signal">,
): Promise<Result<undefined>> {
  const { admission } = desk.house;
  const key = modelKey(model);
  const fit = { root: model.root, positionCount: 1 };
  const entering = admission.enter({ key, fit, resumed: false, waitMs: admission.wakeWaitMs(key), signal });
  const lease = wanted.stream ? await patiently(desk, stream, entering) : await entering;
  if (!lease.ok) return lease;
  lease.value.release("served"); // its place in the line has served its purpose: it knew how to wait
  return ok(undefined);
}

/** The running sum of an answer. */
type Tally = { text: string; readonly tokenIds: number[]; readonly shown: ShownToken[]; lastMs: number };

/** Carries the job out and answers on `response`, whatever happens. */
export async function respond(desk: Desk, job: Job, response: ServerResponse): Promise<Outcome> {
  const { house, metrics } = desk;
  const { wanted, prepared, files, model, stream } = job;
  const opening = Generation.open(house, {
    key: modelKey(model),
    root: model.root,
    prompt: prepared.tokenIds,
    maxTokens: prepared.maxTokens,
    sampler: samplerOf(desk, wanted, files),
    signal: job.signal,
  });
  const generation = wanted.stream ? await patiently(desk, stream, opening) : await opening;
  if (!generation.ok) return refuseOn(response, stream, generation);
  const text = new AnswerText(generation.value, files.tokenizer?.detokenizer(), {
    maxTokens: prepared.maxTokens,
    stops: wanted.stops,
    eosTokenIds: wanted.ignoreEos ? [] : files.defaults.eosTokenIds,
  });
  const run = { desk, job, generation: generation.value, text, head: headOf(desk, job) };
  metrics.tokens.inc({ model: modelKey(model), kind: "prompt" }, prepared.tokenIds.length);
  const outcome = await (wanted.stream ? streamed(run, stream, response) : whole(run, response));
  return { ...outcome, recoveryCount: generation.value.recoveryCount };
}

type Run = {
  readonly desk: Desk;
  readonly job: Job;
  readonly generation: Generation;
  readonly text: AnswerText;
  readonly head: Head;
};

const newTally = (job: Job): Tally => ({ text: "", tokenIds: [], shown: [], lastMs: job.arrivedMs });

/** Counts the piece and keeps what its logprobs need. */
function count({ desk, job }: Run, tally: Tally, piece: Piece): void {
  const { clock } = desk.house.doors;
  const model = modelKey(job.model);
  const nowMs = clock.monotonicMs();
  const timer = tally.tokenIds.length === 0 ? desk.metrics.firstToken : desk.metrics.nextToken;
  timer.observe({ model }, (nowMs - tally.lastMs) / 1000);
  desk.metrics.tokens.inc({ model, kind: "generated" });
  tally.lastMs = nowMs;
  tally.text += piece.text;
  tally.tokenIds.push(piece.token.tokenId);
  const { tokenizer, defaults } = job.files;
  const ends = piece.finish === "stop" && defaults.eosTokenIds.includes(piece.token.tokenId);
  if (job.wanted.logprobs && !ends)
    tally.shown.push({ text: tokenizer?.textOf(piece.token.tokenId) ?? "", token: piece.token });
}

async function whole(run: Run, response: ServerResponse): Promise<Outcome> {
  const { job, head } = run;
  const tally = newTally(job);
  for (;;) {
    const piece = await run.text.next();
    if (!piece.ok) {
      void close(run, tally.text, job.signal.aborted ? "cancelled" : "failed");
      return refuseOn(response, undefined, piece);
    }
    count(run, tally, piece.value);
    if (piece.value.finish === undefined) continue;
    const sealing = close(run, tally.text, "done");
    const tessellate = job.wanted.receipts ? { tessellate: receiptsField(await sealing) } : {};
    const choice: Choice = { ...choiceOf(job, tally.text, 0, tally.shown, tally.tokenIds), finish: piece.value.finish };
    const usage = usageOf(job.prepared.tokenIds.length, tally.tokenIds.length);
    sendJson(response, 200, { ...job.shape.whole(head, choice, usage), ...tessellate });
    return { status: 200, refusal: undefined };
  }
}

async function streamed(run: Run, stream: EventStream, response: ServerResponse): Promise<Outcome> {
  const { desk, job, head } = run;
  const { shape, wanted } = job;
  const tally = newTally(job);
  // With include_usage every chunk has the field, null until the last.
  const send = (choice: Choice | "opening" | "none", more: object = wanted.includeUsage ? { usage: null } : {}) =>
    stream.event({ ...shape.chunk(head, choice), ...more });
  let sentLength = 0;
  let sentTokens = 0;
  let opened = false;
  for (;;) {
    const piece = await patiently(desk, stream, run.text.next());
    if (!piece.ok) {
      void close(run, tally.text, job.signal.aborted ? "cancelled" : "failed");
      return refuseOn(response, stream, piece);
    }
    count(run, tally, piece.value);
    const { text, finish } = piece.value;
    if (!opened && shape.opening) await send("opening");
    opened = true;
    const unsent = tally.tokenIds.slice(sentTokens);
    if (text !== "" || (finish !== undefined && tally.shown.length > 0) || (showsIds(job) && unsent.length > 0)) {
      await send(choiceOf(job, text, sentLength, tally.shown.splice(0), unsent, sentTokens === 0));
      sentLength += text.length;
      sentTokens = tally.tokenIds.length;
    }
    if (finish === undefined) continue;
    const sealing = close(run, tally.text, "done");
    await send({
      ...choiceOf({ ...job, wanted: { ...wanted, logprobs: false, tokenIds: false } }, "", sentLength, [], []),
      finish,
    });
    const tessellate = wanted.receipts ? { tessellate: receiptsField(await sealing) } : {};
    const usage = wanted.includeUsage ? { usage: usageOf(job.prepared.tokenIds.length, tally.tokenIds.length) } : {};
    if (wanted.receipts || wanted.includeUsage) await send("none", { ...usage, ...tessellate });
    await stream.end();
    return { status: 200, refusal: undefined };
  }
}

/** What `work` comes to; meanwhile the stream shows that it lives. */
async function patiently<T extends object>({ house }: Desk, stream: EventStream, work: Promise<T>): Promise<T> {
  for (;;) {
    const outcome = await within(house.doors.clock, house.limits.pingMs, work);
    if (typeof outcome === "object") return outcome;
    await stream.ping();
  }
}

/** Without a tokenizer the ids are all there is. */
const showsIds = ({ wanted, files }: Job): boolean => wanted.tokenIds || files.tokenizer === undefined;

function choiceOf(
  job: Job,
  text: string,
  textOffset: number,
  shown: readonly ShownToken[],
  tokenIds: readonly number[],
  first = true,
): Choice {
  const { wanted, prepared } = job;
  return {
    text,
    textOffset,
    logprobs: wanted.logprobs ? shown : undefined,
    tokenIds: showsIds(job) ? tokenIds : undefined,
    promptTokenIds: wanted.tokenIds && first ? prepared.tokenIds : undefined,
    finish: undefined,
  };
}

/** Ends the session and enters it into the books, which goes on after the answer is out. */
function close(
  { desk, job, generation, head }: Run,
  text: string,
  reason: "done" | "cancelled" | "failed",
): Promise<Result<Sealed>> {
  const sealing = generation.close(reason).then((part) => desk.books.enter(head.id, part, text));
  desk.books.watch(sealing);
  void sealing.then((sealed) => {
    if (sealed.ok && sealed.value.problems.length > 0) desk.metrics.unproven.inc({ model: modelKey(job.model) });
  });
  return sealing;
}

/** The saved answer, or why there is none. */
const receiptsField = (sealed: Result<Sealed>): object =>
  sealed.ok ? sealed.value.document : { error: { code: sealed.code, message: sealed.detail } };

/** An error with its own status where nothing is out yet, else as the stream's last event. */
export async function refuseOn(
  response: ServerResponse,
  stream: EventStream | undefined,
  refusal: Refusal,
  error: ApiError = apiError(refusal),
): Promise<Outcome> {
  if (response.destroyed) return { status: 499, refusal };
  if (stream?.begun === true) {
    await stream.event(errorBody(error));
    await stream.end();
    return { status: error.status, refusal };
  }
  sendJson(response, error.status, errorBody(error), error.retryAfterSeconds);
  return { status: error.status, refusal };
}

export function sendJson(response: ServerResponse, status: number, body: object, retryAfterSeconds?: number): void {
  if (response.destroyed) return;
  const bytes = Buffer.from(JSON.stringify(body));
  response.writeHead(status, {
    "content-type": "application/json; charset=utf-8",
    "content-length": bytes.length,
    ...(retryAfterSeconds === undefined ? {} : { "retry-after": String(retryAfterSeconds) }),
  });
  response.end(bytes);
}

function samplerOf({ house }: Desk, wanted: Wanted, { defaults }: ModelFiles) {
  const seed = new Uint8Array(8);
  if (wanted.seed === undefined) seed.set(house.doors.random(8));
  else new DataView(seed.buffer).setBigUint64(0, wanted.seed, true);
  return { temperature: wanted.temperature ?? defaults.temperature, topP: wanted.topP ?? defaults.topP, seed };
}

function headOf({ house }: Desk, { shape, wanted, model }: Job): Head {
  return {
    id: `${shape.idPrefix}${Buffer.from(house.doors.random(16)).toString("hex")}`,
    created: Math.floor(house.doors.unixMs() / 1000),
    model: wanted.model,
    fingerprint: `fp_${model.root.slice("sha256:".length, "sha256:".length + 10)}`,
  };
}

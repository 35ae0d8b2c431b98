/**
 * For tests: a whole session that never ran, hashed and signed as a chain would, with keys that follow from names. Every
 * default is boring, so whatever a test sets is what the test is about.
 */
import { type Answer, answerDigest, saveAnswer } from "./answer.ts";
import { present } from "./assert.ts";
import { base64Of } from "./base64.ts";
import { digestOf } from "./digest.ts";
import { type Envelope, IN_TOTO_PAYLOAD_TYPE, envelopeBytes, payloadDigest, signEnvelope } from "./dsse.ts";
import { EdgeLog, tokenEdgeRoot } from "./hand-off.ts";
import { type SigningKey, parseSigningKey } from "./keys.ts";
import { valueOrThrow } from "./result.ts";
import { type Receipt, type Usage, receiptStatement, seedCommitment, usageStatement } from "./statement.ts";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

/** The Ed25519 key whose seed is the SHA-256 of `name`. */
export function keyNamed(name: string): SigningKey {
  const seed = Buffer.from(digestOf(bytesOf(name)).slice("sha256:".length), "hex");
  // RFC 8410: PKCS #8 of an Ed25519 key is this prefix and the seed.
  const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]);
  return valueOrThrow(
    parseSigningKey(`-----BEGIN PRIVATE KEY-----\n${base64Of(der)}\n-----END PRIVATE KEY-----\n`, name),
  );
}

export type SegmentFixture = {
  readonly layers: readonly [number, number];
  readonly ranks: readonly { readonly provider: string; readonly shareMillionths?: bigint }[];
};

export type SessionOptions = {
  readonly id?: string;
  readonly model?: string;
  readonly epoch?: number;
  readonly price?: bigint; // micro-credits per million tokens
  readonly text?: string;
  readonly prompt?: readonly number[];
  readonly generated?: readonly number[];
  readonly gateway?: string;
  readonly segments?: readonly SegmentFixture[];
  /** Changes what a rank signs. */
  readonly alter?: (receipt: Receipt, index: number) => Receipt;
  /** Changes what the gateway signs. */
  readonly alterUsage?: (usage: Usage) => Usage;
  /** Which key signs for a holder; its own unless a test says otherwise. */
  readonly keyOf?: (holder: string) => SigningKey;
  /** Changes the document before the gateway signs its digest. */
  readonly alterAnswer?: (answer: Answer) => Answer;
};

export type SessionFixture = {
  readonly receipts: readonly Receipt[];
  readonly usage: Usage;
  readonly envelopes: readonly Envelope[];
  readonly usageEnvelope: Envelope;
  readonly answer: Answer;
  readonly file: Uint8Array; // the saved answer
  readonly submission: { readonly usage: Uint8Array; readonly receipts: readonly Uint8Array[] };
};

export const THREE_PROVIDERS: readonly SegmentFixture[] = [
  { layers: [0, 4], ranks: [{ provider: "campus" }] },
  {
    layers: [4, 6],
    ranks: [
      { provider: "garage", shareMillionths: 600_000n },
      { provider: "studio", shareMillionths: 400_000n },
    ],
  },
  { layers: [6, 8], ranks: [{ provider: "campus" }] },
];

export const ROOT = digestOf(bytesOf("a model"));

export function aSession(options: SessionOptions = {}): SessionFixture {
  const { id = "s-1", text = "Hello, wörld.", gateway = "gateway-0", segments = THREE_PROVIDERS } = options;
  const keyOf = options.keyOf ?? keyNamed;
  const prompt = options.prompt ?? [1, 17, 300];
  const generated = options.generated ?? [5, 9, 2];
  const nonceHex = digestOf(bytesOf(`nonce of ${id}`)).slice("sha256:".length);
  const nonce = new Uint8Array(Buffer.from(nonceHex, "hex"));
  const fed = generated.length === 0 ? prompt : [...prompt, ...generated.slice(0, -1)];
  const edges = segments.map((_, edge) =>
    edge === 0 ? tokenEdgeRoot({ nonce, edge, position: 0 }, fed) : hiddenEdge(nonce, edge, prompt.length, fed.length),
  );
  edges.push(tokenEdgeRoot({ nonce, edge: segments.length, position: prompt.length }, generated));
  const shared = { id, nonce: nonceHex, model: options.model ?? "default/assistant", epoch: options.epoch ?? 411 };
  const honest = segments.flatMap((segment, segmentIndex) =>
    segment.ranks.map((_, rankIndex) =>
      receiptOf(segments, segmentIndex, rankIndex, edges, shared, {
        fed: fed.length,
        generated: generated.length,
        nonce,
      }),
    ),
  );
  const receipts = options.alter === undefined ? honest : honest.map(options.alter);
  const envelopes = receipts.map((receipt) =>
    signEnvelope(IN_TOTO_PAYLOAD_TYPE, receiptStatement(receipt), keyOf(`provider/${receipt.provider}`)),
  );
  const holders = [...receipts.map((receipt) => `provider/${receipt.provider}`), `gateway/${gateway}`];
  const plain: Answer = {
    model: { name: shared.model, root: ROOT },
    text,
    tokenIds: { prompt, generated },
    nonce: nonceHex,
    keys: Object.fromEntries(holders.map((holder) => [holder, keyOf(holder).publicKey.spki])),
    receipts: envelopes,
  };
  const answer = options.alterAnswer?.(plain) ?? plain;
  const truthful: Usage = {
    model: { name: shared.model, root: ROOT, layerCount: present(segments.at(-1), "segments").layers[1] },
    session: { id, nonce: nonceHex },
    tokens: { prompt: prompt.length, generated: generated.length },
    edges: { in: present(edges[0], "edge 0"), out: present(edges.at(-1), "the last edge") },
    receipts: envelopes.map(payloadDigest),
    epoch: shared.epoch,
    priceMicroCreditsPerMillionTokens: options.price ?? 150_000n,
    gateway,
    answer: answerDigest(answer),
  };
  const usage = options.alterUsage?.(truthful) ?? truthful;
  const usageEnvelope = signEnvelope(IN_TOTO_PAYLOAD_TYPE, usageStatement(usage), keyOf(`gateway/${gateway}`));
  return {
    receipts,
    usage,
    envelopes,
    usageEnvelope,
    answer,
    file: saveAnswer({ ...answer, usage: usageEnvelope }),
    submission: { usage: envelopeBytes(usageEnvelope), receipts: envelopes.map(envelopeBytes) },
  };
}

/** One prefill step of the prompt, then one step a token; the rows' bytes follow from the position. */
function hiddenEdge(nonce: Uint8Array, edge: number, promptCount: number, positionCount: number): string {
  const log = new EdgeLog(nonce, edge);
  log.append({ position: 0, rows: promptCount, payload: bytesOf(`rows 0 of edge ${edge}`) });
  for (let position = promptCount; position < positionCount; position += 1)
    log.append({ position, rows: 1, payload: bytesOf(`row ${position} of edge ${edge}`) });
  return log.root();
}

function receiptOf(
  segments: readonly SegmentFixture[],
  segmentIndex: number,
  rankIndex: number,
  edges: readonly string[],
  shared: { readonly id: string; readonly nonce: string; readonly model: string; readonly epoch: number },
  counts: { readonly fed: number; readonly generated: number; readonly nonce: Uint8Array },
): Receipt {
  const { layers, ranks } = present(segments[segmentIndex], "the segment");
  const { provider, shareMillionths } = present(ranks[rankIndex], "the rank");
  const last = segmentIndex === segments.length - 1;
  const samples = last && rankIndex === 0;
  return {
    model: { name: shared.model, root: ROOT },
    shard: {
      digest: digestOf(bytesOf(`shard ${segmentIndex}.${rankIndex}`)),
      layers: { start: layers[0], end: layers[1] },
      rankIndex,
      rankCount: ranks.length,
      shareMillionths: shareMillionths ?? 1_000_000n / BigInt(ranks.length),
    },
    driftClass: "ort-1.30/cpu-avx512/f32",
    session: { id: shared.id, nonce: shared.nonce },
    segmentIndex,
    segmentCount: segments.length,
    span: { start: 0, end: counts.fed },
    handOffsIn: present(edges[segmentIndex], "the edge before"),
    handOffsOut: last && !samples ? "" : present(edges[segmentIndex + 1], "the edge after"),
    stepCount: Math.max(1, counts.generated),
    sampler: samples
      ? {
          temperature: 0.7,
          topP: 0.95,
          seedCommitment: seedCommitment(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), counts.nonce),
        }
      : null,
    tokens: { positions: counts.fed, sampled: samples ? counts.generated : 0 },
    previous: null,
    provider,
    node: `${provider}-1`,
    rank: `${shared.model}-0-${segmentIndex}-${rankIndex}`,
    epoch: shared.epoch,
  };
}

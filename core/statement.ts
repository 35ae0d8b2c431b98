/**
 * What a rank and a gateway sign: in-toto Statements v1 with predicates of our own. A payload has one byte form; what
 * differs from it by a blank is refused, and so is every field that is missing, extra or out of range, by its path.
 * Parse only what {@link openEnvelope} returned: a payload whose signature holds.
 */
import { digestOf } from "./digest.ts";
import {
  DIGEST_FORM,
  HEX_32_FORM,
  NAME_FORM,
  bigintOf,
  integerOf,
  listOf,
  misfit,
  numberOf,
  objectWith,
  textOf,
} from "./fields.ts";
import { parseStatement, statementBytes } from "./in-toto.ts";
import type { Range } from "./ranges.ts";
import type { Result } from "./result.ts";

export const RECEIPT_TYPE = "https://tessellate.dev/receipt/v1";
export const USAGE_TYPE = "https://tessellate.dev/usage/v1";

/** A segment's work is cut among its ranks in millionths, which sum to exactly this. */
export const WHOLE_SHARE_MILLIONTHS = 1_000_000n;

const POSITIONS_MAX = 2 ** 31 - 1;
const LAYERS_MAX = 4096;
const RANKS_MAX = 1024;
const EPOCH_MAX = 2 ** 32 - 1;
const PRICE_MAX = 10n ** 18n;

/** What one rank says about a span of positions of one session. */
export type Receipt = {
  readonly model: { readonly name: string; readonly root: string }; // <namespace>/<name> of the ShardedModel, sha256:…
  readonly shard: {
    readonly digest: string; // sha256:… of what the rank holds
    readonly layers: Range;
    readonly rankIndex: number; // within its segment
    readonly rankCount: number;
    readonly shareMillionths: bigint; // of its segment's work
  };
  readonly driftClass: string;
  readonly session: { readonly id: string; readonly nonce: string }; // nonce: 32 bytes in hexadecimal
  readonly segmentIndex: number;
  readonly segmentCount: number;
  readonly span: Range; // positions
  readonly handOffsIn: string; // sha256:… root of edge `segmentIndex`
  readonly handOffsOut: string; // sha256:… root of edge `segmentIndex + 1`; empty for followers of the last segment, who see no token
  readonly stepCount: number;
  readonly sampler: SamplerSettings | null; // the last segment's leader only
  readonly tokens: { readonly positions: number; readonly sampled: number }; // sampled: the last segment's leader, else 0
  readonly previous: string | null; // sha256:… of the payload of this rank's receipt for the span before
  readonly provider: string;
  readonly node: string;
  readonly rank: string; // <namespace>/<model>-<chain>-<segment>-<rank>
  readonly epoch: number; // floor(Unix seconds / the model's epoch seconds) when the session was opened
};

export type SamplerSettings = {
  readonly temperature: number; // 0: greedy
  readonly topP: number; // (0, 1]
  readonly seedCommitment: string; // sha256:… of seed || nonce
};

/** What the gateway countersigns about one session: what was asked and answered, and which receipts say so. */
export type Usage = {
  readonly model: { readonly name: string; readonly root: string; readonly layerCount: number };
  readonly session: { readonly id: string; readonly nonce: string };
  readonly tokens: { readonly prompt: number; readonly generated: number };
  readonly edges: { readonly in: string; readonly out: string }; // roots of edge 0 and edge S as the gateway computed them
  readonly receipts: readonly string[]; // payload digests: segments in order, ranks in order, spans in order
  readonly epoch: number;
  readonly priceMicroCreditsPerMillionTokens: bigint;
  readonly gateway: string;
  readonly answer: string; // sha256:… of the saved answer's canonical form less its usage
};

/** `sha256:…` over the 8 bytes of the seed and the 32 of the nonce: binds the sampler to a seed without showing it. */
export const seedCommitment = (seed: Uint8Array, nonce: Uint8Array): string => digestOf(seed, nonce);

/** The signed payload of a receipt: compact JSON in UTF-8, one form per receipt. */
export function receiptStatement(receipt: Receipt): Uint8Array {
  const { shard } = receipt;
  const out = receipt.handOffsOut;
  const subject =
    out === "" ? { name: "hand-offs-in", digest: receipt.handOffsIn } : { name: "hand-offs-out", digest: out };
  return statementBytes(subject, RECEIPT_TYPE, {
    model: { name: receipt.model.name, root: receipt.model.root },
    shard: {
      digest: shard.digest,
      layers: [shard.layers.start, shard.layers.end],
      rankIndex: shard.rankIndex,
      rankCount: shard.rankCount,
      shareMillionths: shard.shareMillionths.toString(),
    },
    driftClass: receipt.driftClass,
    session: { id: receipt.session.id, nonce: receipt.session.nonce },
    segmentIndex: receipt.segmentIndex,
    segmentCount: receipt.segmentCount,
    span: { start: receipt.span.start, end: receipt.span.end },
    handOffsIn: receipt.handOffsIn,
    handOffsOut: out,
    stepCount: receipt.stepCount,
    sampler: receipt.sampler && {
      temperature: receipt.sampler.temperature,
      topP: receipt.sampler.topP,
      seedCommitment: receipt.sampler.seedCommitment,
    },
    tokens: { positions: receipt.tokens.positions, sampled: receipt.tokens.sampled },
    previous: receipt.previous,
    provider: receipt.provider,
    node: receipt.node,
    rank: receipt.rank,
    epoch: receipt.epoch,
  });
}

/** The receipt in a payload. Refused as `MalformedField` (the path leads the detail), `WrongPredicate`, `NotJson`, `NotUtf8` or `NotCanonical`. */
export function parseReceipt(payload: Uint8Array): Result<Receipt> {
  return parseStatement(payload, RECEIPT_TYPE, readReceipt, receiptStatement);
}

/** The signed payload of a usage statement: compact JSON in UTF-8, one form per usage. */
export function usageStatement(usage: Usage): Uint8Array {
  return statementBytes({ name: "answer", digest: usage.answer }, USAGE_TYPE, {
    model: { name: usage.model.name, root: usage.model.root, layerCount: usage.model.layerCount },
    session: { id: usage.session.id, nonce: usage.session.nonce },
    tokens: { prompt: usage.tokens.prompt, generated: usage.tokens.generated },
    edges: { in: usage.edges.in, out: usage.edges.out },
    receipts: [...usage.receipts],
    epoch: usage.epoch,
    priceMicroCreditsPerMillionTokens: usage.priceMicroCreditsPerMillionTokens.toString(),
    gateway: usage.gateway,
    answer: usage.answer,
  });
}

/** The usage in a payload; refused as {@link parseReceipt} refuses. */
export function parseUsage(payload: Uint8Array): Result<Usage> {
  return parseStatement(payload, USAGE_TYPE, readUsage, usageStatement);
}

function readReceipt(value: unknown): Receipt {
  const fields = objectWith(value, "predicate", [
    "model",
    "shard",
    "driftClass",
    "session",
    "segmentIndex",
    "segmentCount",
    "span",
    "handOffsIn",
    "handOffsOut",
    "stepCount",
    "sampler",
    "tokens",
    "previous",
    "provider",
    "node",
    "rank",
    "epoch",
  ]);
  const segmentCount = integerOf(fields["segmentCount"], "segmentCount", 1, LAYERS_MAX);
  const span = readSpan(fields["span"]);
  const tokens = objectWith(fields["tokens"], "tokens", ["positions", "sampled"]);
  const positions = integerOf(tokens["positions"], "tokens.positions", 0, POSITIONS_MAX);
  if (positions !== span.end - span.start)
    misfit("tokens.positions", `must be the span's ${span.end - span.start}, not ${positions}`);
  const out = textOf(fields["handOffsOut"], "handOffsOut");
  return {
    model: readModel(fields["model"], ["name", "root"]),
    shard: readShard(fields["shard"]),
    driftClass: textOf(fields["driftClass"], "driftClass", {
      pattern: /^[\x20-\x7e]{1,200}$/,
      is: "1 to 200 printable characters",
    }),
    session: readSession(fields["session"]),
    segmentIndex: integerOf(fields["segmentIndex"], "segmentIndex", 0, segmentCount - 1),
    segmentCount,
    span,
    handOffsIn: textOf(fields["handOffsIn"], "handOffsIn", DIGEST_FORM),
    handOffsOut: out === "" ? "" : textOf(out, "handOffsOut", DIGEST_FORM),
    stepCount: integerOf(fields["stepCount"], "stepCount", 0, POSITIONS_MAX),
    sampler: fields["sampler"] === null ? null : readSampler(fields["sampler"]),
    tokens: { positions, sampled: integerOf(tokens["sampled"], "tokens.sampled", 0, POSITIONS_MAX) },
    previous: fields["previous"] === null ? null : textOf(fields["previous"], "previous", DIGEST_FORM),
    provider: textOf(fields["provider"], "provider", NAME_FORM),
    node: textOf(fields["node"], "node", NAME_FORM),
    rank: textOf(fields["rank"], "rank", NAME_FORM),
    epoch: integerOf(fields["epoch"], "epoch", 0, EPOCH_MAX),
  };
}

function readShard(value: unknown): Receipt["shard"] {
  const fields = objectWith(value, "shard", ["digest", "layers", "rankIndex", "rankCount", "shareMillionths"]);
  const layers = listOf(fields["layers"], "shard.layers", 2, (item, path) => integerOf(item, path, 0, LAYERS_MAX));
  const [start, end] = layers;
  if (start === undefined || end === undefined || start >= end)
    misfit("shard.layers", `must be [start, end) with start below end, not ${JSON.stringify(layers)}`);
  const rankCount = integerOf(fields["rankCount"], "shard.rankCount", 1, RANKS_MAX);
  return {
    digest: textOf(fields["digest"], "shard.digest", DIGEST_FORM),
    layers: { start, end },
    rankIndex: integerOf(fields["rankIndex"], "shard.rankIndex", 0, rankCount - 1),
    rankCount,
    shareMillionths: bigintOf(fields["shareMillionths"], "shard.shareMillionths", WHOLE_SHARE_MILLIONTHS),
  };
}

function readSpan(value: unknown): Range {
  const fields = objectWith(value, "span", ["start", "end"]);
  const start = integerOf(fields["start"], "span.start", 0, POSITIONS_MAX);
  return { start, end: integerOf(fields["end"], "span.end", start, POSITIONS_MAX) };
}

function readSampler(value: unknown): SamplerSettings {
  const fields = objectWith(value, "sampler", ["temperature", "topP", "seedCommitment"]);
  return {
    temperature: numberOf(fields["temperature"], "sampler.temperature", 0, 100),
    topP: numberOf(fields["topP"], "sampler.topP", Number.MIN_VALUE, 1),
    seedCommitment: textOf(fields["seedCommitment"], "sampler.seedCommitment", DIGEST_FORM),
  };
}

function readModel(value: unknown, names: readonly string[]): Receipt["model"] {
  const fields = objectWith(value, "model", names);
  return {
    name: textOf(fields["name"], "model.name", NAME_FORM),
    root: textOf(fields["root"], "model.root", DIGEST_FORM),
  };
}

function readSession(value: unknown): Receipt["session"] {
  const fields = objectWith(value, "session", ["id", "nonce"]);
  return {
    id: textOf(fields["id"], "session.id", {
      pattern: /^[A-Za-z0-9_-]{1,64}$/,
      is: "1 to 64 letters, digits, '-' or '_'",
    }),
    nonce: textOf(fields["nonce"], "session.nonce", HEX_32_FORM),
  };
}

function readUsage(value: unknown): Usage {
  const fields = objectWith(value, "predicate", [
    "model",
    "session",
    "tokens",
    "edges",
    "receipts",
    "epoch",
    "priceMicroCreditsPerMillionTokens",
    "gateway",
    "answer",
  ]);
  const model = objectWith(fields["model"], "model", ["name", "root", "layerCount"]);
  const tokens = objectWith(fields["tokens"], "tokens", ["prompt", "generated"]);
  const edges = objectWith(fields["edges"], "edges", ["in", "out"]);
  return {
    model: {
      ...readModel(model, ["name", "root", "layerCount"]),
      layerCount: integerOf(model["layerCount"], "model.layerCount", 1, LAYERS_MAX),
    },
    session: readSession(fields["session"]),
    tokens: {
      prompt: integerOf(tokens["prompt"], "tokens.prompt", 0, POSITIONS_MAX),
      generated: integerOf(tokens["generated"], "tokens.generated", 0, POSITIONS_MAX),
    },
    edges: { in: textOf(edges["in"], "edges.in", DIGEST_FORM), out: textOf(edges["out"], "edges.out", DIGEST_FORM) },
    receipts: listOf(fields["receipts"], "receipts", LAYERS_MAX, (item, path) => textOf(item, path, DIGEST_FORM)),
    epoch: integerOf(fields["epoch"], "epoch", 0, EPOCH_MAX),
    priceMicroCreditsPerMillionTokens: bigintOf(
      fields["priceMicroCreditsPerMillionTokens"],
      "priceMicroCreditsPerMillionTokens",
      PRICE_MAX,
    ),
    gateway: textOf(fields["gateway"], "gateway", NAME_FORM),
    answer: textOf(fields["answer"], "answer", DIGEST_FORM),
  };
}

/**
 * What remains of an answer: the receipts of its ranks, checked against what the gateway itself saw, and the usage that
 * the gateway countersigns over them. The same document is the client's proof and the ledger's claim.
 */
import {
  type Answer,
  type AnswerDocument,
  type SavedAnswer,
  answerDigest,
  answerDocument,
  saveAnswer,
} from "../../core/answer.ts";
import { verifyAnswer } from "../../core/answer-verification.ts";
import {
  type Envelope,
  IN_TOTO_PAYLOAD_TYPE,
  envelopeBytes,
  parseEnvelope,
  payloadDigest,
  signEnvelope,
} from "../../core/dsse.ts";
import type { SigningKey } from "../../core/keys.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import { type Usage, usageStatement } from "../../core/statement.ts";
import type { Part } from "../generate/generation.ts";
import { type Picture, type ProviderFacts, modelKey } from "../route/picture.ts";

export type Signer = { readonly name: string; readonly key: SigningKey };

/** What goes to the ledger: DSSE envelopes as bytes. */
export type Submission = { readonly usage: Uint8Array; readonly receipts: readonly Uint8Array[] };

export type Sealed = {
  readonly session: string;
  readonly document: AnswerDocument;
  readonly file: Uint8Array; // the saved answer
  readonly submission: Submission;
  /** Why the receipts do not prove the answer; empty where they do. They are kept and judged either way. */
  readonly problems: readonly { readonly code: string; readonly detail: string }[];
};

/**
 * Countersigns one session. `text`: what the client got. `Unsigned`: nothing was generated, or no rank signed anything,
 * so that there is nothing to bill or to prove.
 */
export function sealPart(part: Part, text: string, picture: Picture, signer: Signer): Result<Sealed, "Unsigned"> {
  const { request, model, generated, receipts: signed } = part;
  if (generated.length === 0) return refuse("Unsigned", "the session ended before its first token");
  const envelopes = signed.receipts.map(parseEnvelope);
  const whole = envelopes.flatMap((envelope) => (envelope.ok ? [envelope.value] : []));
  if (whole.length === 0)
    return refuse("Unsigned", `none of the ${signed.receipts.length} receipts that the ranks gave can be read`);
  const unreadable = envelopes.flatMap((envelope, index) =>
    envelope.ok ? [] : [{ code: envelope.code, detail: `receipt ${index}: ${envelope.detail}` }],
  );

  const keys = keysOf(part, picture.providers, signer);
  const answer: Answer = {
    model: { name: modelKey(model), root: model.root },
    text,
    tokenIds: { prompt: request.prompt, generated },
    nonce: Buffer.from(request.nonce).toString("hex"),
    keys,
    receipts: whole,
  };
  const usage = countersign(part, answer, whole, signer);
  const saved: SavedAnswer = { ...answer, usage };
  const file = saveAnswer(saved);
  const verdict = verifyAnswer(file, { keys, modelRoot: model.root });
  return ok({
    session: request.id,
    document: answerDocument(saved),
    file,
    submission: { usage: envelopeBytes(usage), receipts: whole.map(envelopeBytes) },
    problems: [...unreadable, ...verdict.problems.map(({ code, detail }) => ({ code, detail }))],
  });
}

function countersign(
  { request, model, generated, receipts }: Part,
  answer: Answer,
  envelopes: readonly Envelope[],
  signer: Signer,
): Envelope {
  const usage: Usage = {
    model: { ...answer.model, layerCount: model.layerCount },
    session: { id: request.id, nonce: answer.nonce },
    tokens: { prompt: request.prompt.length, generated: generated.length },
    edges: { in: receipts.handOffsIn, out: receipts.handOffsOut },
    receipts: envelopes.map(payloadDigest),
    epoch: request.epoch,
    priceMicroCreditsPerMillionTokens: model.pricePerMillionTokens,
    gateway: signer.name,
    answer: answerDigest(answer),
  };
  return signEnvelope(IN_TOTO_PAYLOAD_TYPE, usageStatement(usage), signer.key);
}

/** The keys under which the file can be checked: of the providers of this chain as the operator knows them, and our own. */
function keysOf(part: Part, providers: readonly ProviderFacts[], signer: Signer): Readonly<Record<string, string>> {
  const names = new Set(part.chain.segments.flatMap((segment) => segment.ranks.map((rank) => rank.provider)));
  const known = providers
    .filter((provider) => names.has(provider.name))
    .map((provider) => [`provider/${provider.name}`, provider.publicKey] as const);
  return Object.fromEntries([...known, [`gateway/${signer.name}`, signer.key.publicKey.spki]]);
}

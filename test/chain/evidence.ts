/** Driving a session to its end, and looking at what was signed about it. */
import { type Envelope, openEnvelope, parseEnvelope, payloadDigest } from "../../core/dsse.ts";
import type { PublicKey } from "../../core/keys.ts";
import { type Fault, chainFaults } from "../../core/receipt-chain.ts";
import { valueOrThrow } from "../../core/result.ts";
import { type Receipt, type Usage, parseReceipt } from "../../core/statement.ts";
import type { Session, SessionReceipts, SessionRequest, Wire } from "../../gateway/session/types.ts";

export type Answer = {
  readonly tokens: readonly number[];
  readonly signed: SessionReceipts;
  readonly request: SessionRequest;
};

/** `count` tokens from an open session. */
export async function drive(session: Session, count: number): Promise<readonly number[]> {
  const tokens: number[] = [];
  while (tokens.length < count) tokens.push(valueOrThrow(await session.next()).tokenId);
  return tokens;
}

export async function generate(wire: Wire, request: SessionRequest, count: number): Promise<Answer> {
  const session = valueOrThrow(await wire.open(request));
  const tokens = await drive(session, count);
  return { tokens, signed: await session.close("done"), request };
}

const envelopesOf = ({ signed }: Answer): readonly Envelope[] =>
  signed.receipts.map((bytes) => valueOrThrow(parseEnvelope(bytes)));

/** The receipts, each under the key of its rank; throws where one does not hold. */
export function receiptsOf(answer: Answer, keys: readonly PublicKey[]): readonly Receipt[] {
  return envelopesOf(answer).map((envelope, index) => {
    const key = keys[index];
    if (key === undefined) throw new Error("more receipts than ranks");
    return valueOrThrow(parseReceipt(valueOrThrow(openEnvelope(envelope, key))));
  });
}

/** What does not fit together, held against what a gateway would countersign. */
export function faultsOf(
  answer: Answer,
  keys: readonly PublicKey[],
  model: { readonly name: string; readonly layerCount: number },
): readonly Fault[] {
  const { request, tokens, signed } = answer;
  const usage: Usage = {
    model: { name: model.name, root: request.modelRoot, layerCount: model.layerCount },
    session: { id: request.id, nonce: Buffer.from(request.nonce).toString("hex") },
    tokens: { prompt: request.prompt.length, generated: tokens.length },
    edges: { in: signed.handOffsIn, out: signed.handOffsOut },
    receipts: envelopesOf(answer).map(payloadDigest),
    epoch: request.epoch,
    priceMicroCreditsPerMillionTokens: 1n,
    gateway: "gateway",
    answer: request.modelRoot,
  };
  return chainFaults(receiptsOf(answer, keys), usage);
}

/**
 * Checks a saved answer, offline: form, every signature, that the receipts make a whole chain, that both sides of every
 * hand-off agree, and that the token ids are those which went in and came out. Says for every problem which receipt or
 * which other part, why, and who is to blame. Before a signature holds, that can only be who handed over the file:
 * anybody can write down a name and a key they do not own.
 */
import { type SavedAnswer, answerDigest, parseAnswer } from "./answer.ts";
import { type Envelope, IN_TOTO_PAYLOAD_TYPE, envelopeHolds, payloadDigest } from "./dsse.ts";
import { tokenEdgeRoot } from "./hand-off.ts";
import { type PublicKey, parsePublicKey } from "./keys.ts";
import { type Blame, SENDER, chainFaults, nameOfReceipt } from "./receipt-chain.ts";
import { type Result, refuse } from "./result.ts";
import { type Receipt, type Usage, parseReceipt, parseUsage } from "./statement.ts";

/** What the caller knows from elsewhere. What is left out is taken from the file itself, which proves less. */
export type Trust = {
  /**
   * provider/<name> and gateway/<name> → SPKI DER in base64. Where a provider's key is given, no other provider's keys
   * count than those given; the same for gateways.
   */
  readonly keys?: Readonly<Record<string, string>>;
  readonly modelRoot?: string; // sha256:…
};

export type Problem = {
  readonly code: string;
  readonly where: string; // "receipt 1 (provider campus, …)", "the usage", "the text", "the file"
  readonly detail: string; // one sentence, which starts with or contains `where`
  readonly blame: Blame;
};

export type AnswerVerdict = {
  readonly verified: boolean; // no problems
  readonly problems: readonly Problem[]; // worst understood first: form, signatures, chain, content
  readonly providers: readonly string[]; // those whose receipts' signatures hold, in chain order
  readonly layerCount: number;
  readonly tokenCount: number; // prompt and generated
  readonly segmentCount: number;
  readonly pinned: { readonly providers: boolean; readonly gateways: boolean }; // false: their keys are the file's own
  readonly receipts: readonly Receipt[]; // those whose signatures hold
  readonly usage: Usage | undefined;
};

/** Never throws on input; the same bytes and trust always give the same verdict. */
export function verifyAnswer(bytes: Uint8Array, trust: Trust = {}): AnswerVerdict {
  const answer = parseAnswer(bytes);
  if (!answer.ok) {
    const receipt = /^receipts\[(\d+)\]/.exec(answer.detail)?.[1];
    const where =
      receipt !== undefined ? `receipt ${receipt}` : answer.detail.startsWith("usage") ? "the usage" : "the file";
    return verdictOf([{ code: answer.code, where, detail: `${where}: ${answer.detail}`, blame: SENDER }], trust);
  }
  const keys = keysOf(answer.value, trust);
  if (!keys.ok) return verdictOf([problem(keys.code, "the keys", keys.detail, SENDER)], trust);
  const trusted = { keys: keys.value, trust };
  const opened = answer.value.receipts.map((envelope, index) =>
    openSigned(envelope, `receipt ${index}`, trusted, parseReceipt, (receipt) => `provider/${receipt.provider}`),
  );
  const usage = openSigned(answer.value.usage, "the usage", trusted, parseUsage, (found) => `gateway/${found.gateway}`);
  const unsigned = [...opened, usage].flatMap((one) => (one.ok ? [] : [one.problem]));
  const receipts = opened.flatMap((one) => (one.ok ? [one.value] : []));
  if (unsigned.length > 0 || !usage.ok)
    return verdictOf(
      [...unsigned, ...(usage.ok ? contentProblems(answer.value, usage.value, receipts) : [])],
      trust,
      receipts,
      usage.ok ? usage.value : undefined,
    );
  const faults = chainFaults(receipts, usage.value).map((fault) => {
    const first = fault.receipts[0];
    const receipt = first === undefined ? undefined : receipts[first];
    const where =
      fault.receipts.length === 1 && first !== undefined && receipt !== undefined
        ? nameOfReceipt(receipt, first)
        : "the chain";
    return problem(fault.code, where, fault.detail, fault.blame);
  });
  const listed = listProblems(answer.value, usage.value);
  const pinned =
    trust.modelRoot !== undefined && trust.modelRoot !== usage.value.model.root
      ? [
          problem("WrongModel", "the usage", `is about model ${usage.value.model.root}, not about ${trust.modelRoot}`, {
            kind: "signer",
            names: [`gateway/${usage.value.gateway}`],
          }),
        ]
      : [];
  return verdictOf(
    [...listed, ...faults, ...contentProblems(answer.value, usage.value, receipts), ...pinned],
    trust,
    receipts,
    usage.value,
  );
}

const problem = (code: string, where: string, detail: string, blame: Blame): Problem => ({
  code,
  where,
  detail: detail.startsWith(where) ? detail : `${where}: ${detail}`,
  blame,
});

function verdictOf(
  problems: readonly Problem[],
  trust: Trust,
  receipts: readonly Receipt[] = [],
  usage?: Usage,
): AnswerVerdict {
  return {
    verified: problems.length === 0,
    problems,
    providers: [...new Set(receipts.map((receipt) => receipt.provider))],
    layerCount: usage?.model.layerCount ?? 0,
    tokenCount: usage === undefined ? 0 : usage.tokens.prompt + usage.tokens.generated,
    segmentCount: receipts[0]?.segmentCount ?? 0,
    pinned: { providers: pins(trust, "provider/campus"), gateways: pins(trust, "gateway/gateway") },
    receipts,
    usage,
  };
}

type Keys = ReadonlyMap<string, PublicKey>; // by holder

/** Whether keys of the holder's kind, provider or gateway, are given from elsewhere. */
function pins(trust: Trust, holder: string): boolean {
  const kind = holder.slice(0, holder.indexOf("/") + 1);
  return Object.keys(trust.keys ?? {}).some((name) => name.startsWith(kind));
}

function keysOf(answer: SavedAnswer, trust: Trust): Result<Keys> {
  const keys = new Map<string, PublicKey>();
  for (const [holder, spki] of Object.entries(answer.keys)) {
    const key = parsePublicKey(spki, holder);
    if (!key.ok) return key;
    const pinned = trust.keys?.[holder];
    if (!pins(trust, holder)) keys.set(holder, key.value);
    else if (pinned === undefined) continue;
    else if (pinned !== spki) return refuse("KeyMismatch", `the file's key of ${holder} is not the one you pinned`);
    else keys.set(holder, key.value);
  }
  return { ok: true, value: keys };
}

type Opened<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: Problem };

function openSigned<T>(
  envelope: Envelope,
  where: string,
  { keys, trust }: { readonly keys: Keys; readonly trust: Trust },
  parse: (payload: Uint8Array) => Result<T>,
  holderOf: (value: T) => string,
): Opened<T> {
  const no = (code: string, detail: string, blame: Blame): Opened<T> => ({
    ok: false,
    problem: problem(code, where, detail, blame),
  });
  // The key id is a hint for which key to try. It is no evidence: the holder is compared after the signature held.
  const hinted = [...keys].filter(([, key]) => key.keyId === envelope.keyId);
  const [holder, key] = hinted[0] ?? [];
  if (holder === undefined || key === undefined)
    return no(
      "UnknownKey",
      `no key that counts has the id ${envelope.keyId.slice(0, 19)}…; its provider or gateway is not among the keys, or the id was changed`,
      SENDER,
    );
  if (!envelopeHolds(envelope, key))
    return no(
      "BadSignature",
      `the signature does not hold under the key of ${holder}; the receipt, its signature or that key was changed after signing`,
      SENDER,
    );
  // A key that only the file says is somebody's convicts nobody of what it signed alone.
  const signed: Blame = pins(trust, holder) ? { kind: "signer", names: hinted.map(([name]) => name) } : SENDER;
  if (envelope.payloadType !== IN_TOTO_PAYLOAD_TYPE)
    return no(
      "WrongPayloadType",
      `is of type ${envelope.payloadType.slice(0, 80)}, not ${IN_TOTO_PAYLOAD_TYPE}`,
      signed,
    );
  const value = parse(envelope.payload);
  if (!value.ok) return no(value.code, value.detail, signed);
  const claimed = holderOf(value.value);
  if (!hinted.some(([name]) => name === claimed))
    return no("WrongSigner", `speaks for ${claimed}, and the key it is signed with is said to be ${holder}'s`, signed);
  return { ok: true, value: value.value };
}

/** The usage lists the receipts it countersigned, so one taken out, put in or exchanged shows even where it is signed. */
function listProblems(answer: SavedAnswer, usage: Usage): readonly Problem[] {
  const found = answer.receipts.map(payloadDigest);
  const at = Math.max(found.length, usage.receipts.length);
  const problems: Problem[] = [];
  for (let index = 0; index < at; index += 1) {
    if (found[index] === usage.receipts[index]) continue;
    const why =
      found[index] === undefined
        ? "is missing; the usage lists it"
        : usage.receipts[index] === undefined
          ? "is not among those that the usage lists"
          : "is not the one that the usage lists at this place";
    problems.push(problem("ReceiptsMismatch", `receipt ${index}`, why, SENDER));
  }
  return problems;
}

/** What the file says beside the receipts, against what the gateway signed. */
function contentProblems(answer: SavedAnswer, usage: Usage, receipts: readonly Receipt[]): readonly Problem[] {
  const problems: Problem[] = [];
  const { prompt, generated } = answer.tokenIds;
  const gateway: Blame = { kind: "signer", names: [`gateway/${usage.gateway}`] };
  // The digest covers everything but the usage. Where it holds, what does not fit was signed so: the gateway's own fault.
  const blame = answerDigest(answer) === usage.answer ? gateway : SENDER;
  const differ = (code: string, where: string, detail: string) => problems.push(problem(code, where, detail, blame));
  if (answer.nonce !== usage.session.nonce)
    differ("NonceMismatch", "the nonce", "is not the one that the usage was signed for");
  if (answer.model.name !== usage.model.name || answer.model.root !== usage.model.root)
    differ("ModelMismatch", "the model", "is not the one that the usage was signed for");
  if (prompt.length !== usage.tokens.prompt)
    differ("CountMismatch", "tokenIds.prompt", `has ${prompt.length} ids; the usage bills ${usage.tokens.prompt}`);
  if (generated.length !== usage.tokens.generated)
    differ(
      "CountMismatch",
      "tokenIds.generated",
      `has ${generated.length} ids; the usage bills ${usage.tokens.generated}`,
    );
  if (problems.length === 0) {
    const nonce = new Uint8Array(Buffer.from(answer.nonce, "hex"));
    const fed = receipts[0]?.tokens.positions ?? 0;
    const edgeIn = tokenEdgeRoot({ nonce, edge: 0, position: 0 }, [...prompt, ...generated].slice(0, fed));
    if (receipts[0]?.segmentIndex === 0 && edgeIn !== usage.edges.in)
      differ("TokensMismatch", "tokenIds", "do not hash to what went into the first segment (edge 0)");
    const segmentCount = receipts[0]?.segmentCount ?? 0;
    const edgeOut = tokenEdgeRoot({ nonce, edge: segmentCount, position: prompt.length }, generated);
    if (segmentCount > 0 && edgeOut !== usage.edges.out)
      differ(
        "TokensMismatch",
        "tokenIds.generated",
        `do not hash to what came out of the last segment (edge ${segmentCount})`,
      );
  }
  // With a receipt that does not open, what is below would only repeat that.
  if (receipts.length < answer.receipts.length) return problems;
  const signers = new Set([...receipts.map((receipt) => `provider/${receipt.provider}`), `gateway/${usage.gateway}`]);
  for (const holder of Object.keys(answer.keys))
    if (!signers.has(holder)) differ("UnusedKey", "the keys", `${holder} signed nothing in this file`);
  // What is left once all else fits: the text is bound by nothing but the gateway's signature over the whole.
  if (problems.length === 0 && blame === SENDER)
    differ("AnswerMismatch", "the text", "is not the one that the gateway signed; it was changed after signing");
  return problems;
}

/** `provider/campus is to blame`, `unclear: provider/campus or provider/garage`, …: the end of a line about a problem. */
export function sayBlame(blame: Blame): string {
  if (blame.kind === "sender") return "blame: whoever handed over this file";
  if (blame.kind === "signer") return `blame: ${blame.names.join(", ")}`;
  if (blame.kind === "unclear") return `blame: unclear, ${blame.names.join(" or ")}`;
  return "blame: nobody, as far as this file shows";
}

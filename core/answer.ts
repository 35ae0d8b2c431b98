/**
 * The saved answer: what a client keeps so that anyone can check later, offline, who computed it. One document with the
 * text, the token ids, the public keys, every rank's receipt and the gateway's countersigned usage, which binds the rest.
 */
import { indentedJson, parseJsonBytes } from "./canonical-json.ts";
import { digestOf } from "./digest.ts";
import { type Envelope, type EnvelopeDocument, envelopeDocument, parseEnvelopeDocument } from "./dsse.ts";
import {
  DIGEST_FORM,
  HEX_32_FORM,
  NAME_FORM,
  exactly,
  fits,
  integerOf,
  listOf,
  misfit,
  objectWith,
  strictly,
  textOf,
} from "./fields.ts";
import { isJsonObject, shown } from "./json.ts";
import { departure, placeIn } from "./json-place.ts";
import { type Result, refuse } from "./result.ts";

export const ANSWER_KIND = "tessellate/answer/v1";

/** Bytes of a saved answer: a prompt of 100,000 tokens and 1,000 receipts take 5 MiB. */
export const ANSWER_BYTES_LIMIT = 32 << 20;
const TOKENS_MAX = 1 << 21;
const RECEIPTS_MAX = 4096;
const KEYS_MAX = 4096;

/** The answer less the gateway's signature: what the usage's `answer` is the digest of. */
export type Answer = {
  readonly model: { readonly name: string; readonly root: string };
  readonly text: string; // what the client got
  readonly tokenIds: { readonly prompt: readonly number[]; readonly generated: readonly number[] }; // generated: every sampled id, the end of sequence included
  readonly nonce: string; // 32 bytes in hexadecimal
  readonly keys: Readonly<Record<string, string>>; // provider/<name> and gateway/<name> → SPKI DER in base64
  readonly receipts: readonly Envelope[]; // segments in order, ranks in order
};

export type SavedAnswer = Answer & { readonly usage: Envelope };

/** As it stands in JSON; also the field `tessellate` of a response that asked for receipts. */
export type AnswerDocument = {
  readonly kind: string;
  readonly model: { readonly name: string; readonly root: string };
  readonly text: string;
  readonly tokenIds: { readonly prompt: readonly number[]; readonly generated: readonly number[] };
  readonly nonce: string;
  readonly keys: Readonly<Record<string, string>>;
  readonly receipts: readonly EnvelopeDocument[];
  readonly usage: EnvelopeDocument;
};

/** `sha256:…` that goes into the usage, before the usage can be signed. */
export const answerDigest = (answer: Answer): string => digestOf(indentedJson(unsigned(answer)));

export const answerDocument = (answer: SavedAnswer): AnswerDocument => ({
  ...unsigned(answer),
  usage: envelopeDocument(answer.usage),
});

/** The file's bytes: JSON with keys in a fixed order, one space of indentation, a newline at the end. */
export const saveAnswer = (answer: SavedAnswer): Uint8Array => indentedJson(answerDocument(answer));

const unsigned = (answer: Answer): Omit<AnswerDocument, "usage"> => ({
  kind: ANSWER_KIND,
  model: { name: answer.model.name, root: answer.model.root },
  text: answer.text,
  tokenIds: { prompt: [...answer.tokenIds.prompt], generated: [...answer.tokenIds.generated] },
  nonce: answer.nonce,
  keys: Object.fromEntries(Object.entries(answer.keys).sort(([a], [b]) => (a < b ? -1 : 1))),
  receipts: answer.receipts.map(envelopeDocument),
});

/**
 * The document in a file, nothing verified yet. Apart from the form that {@link saveAnswer} writes, the usual ways in
 * which programs print the same JSON are read (compact, indented by 2 or 4, without the last newline), each byte for
 * byte, so that there is no byte that could be changed unseen. A refusal names the place: `receipts[1].payload`.
 */
export function parseAnswer(bytes: Uint8Array): Result<SavedAnswer> {
  if (bytes.length > ANSWER_BYTES_LIMIT)
    return refuse("TooLarge", `the file has ${bytes.length} bytes; at most ${ANSWER_BYTES_LIMIT} are read`);
  const json = parseJsonBytes(bytes);
  if (!json.ok) return refuse(json.code, `${placeIn(bytes, json.at)}: ${json.detail}`);
  if (isJsonObject(json.value) && json.value["kind"] === undefined && isJsonObject(json.value["tessellate"])) {
    return refuse(
      "WholeResponse",
      'this is a whole response; save its field "tessellate" alone (jq .tessellate FILE) and verify that',
    );
  }
  const answer = strictly(() => readAnswer(json.value));
  if (!answer.ok) return answer;
  const at = departure(bytes, answerDocument(answer.value));
  if (at >= 0)
    return refuse(
      "NotCanonical",
      `${placeIn(bytes, at)}: byte ${at} is not as a saved answer has it; the file was changed after it was saved, or printed anew in another order`,
    );
  return answer;
}

function readAnswer(value: unknown): SavedAnswer {
  const fields = objectWith(value, "answer", [
    "kind",
    "model",
    "text",
    "tokenIds",
    "nonce",
    "keys",
    "receipts",
    "usage",
  ]);
  exactly(fields["kind"], "kind", ANSWER_KIND);
  const model = objectWith(fields["model"], "model", ["name", "root"]);
  const tokenIds = objectWith(fields["tokenIds"], "tokenIds", ["prompt", "generated"]);
  const tokenId = (item: unknown, path: string) => integerOf(item, path, 0, 2 ** 32 - 1);
  return {
    model: {
      name: textOf(model["name"], "model.name", NAME_FORM),
      root: textOf(model["root"], "model.root", DIGEST_FORM),
    },
    text: textOf(fields["text"], "text"),
    tokenIds: {
      prompt: listOf(tokenIds["prompt"], "tokenIds.prompt", TOKENS_MAX, tokenId),
      generated: listOf(tokenIds["generated"], "tokenIds.generated", TOKENS_MAX, tokenId),
    },
    nonce: textOf(fields["nonce"], "nonce", HEX_32_FORM),
    keys: readKeys(fields["keys"]),
    receipts: listOf(fields["receipts"], "receipts", RECEIPTS_MAX, (item, path) =>
      fits(parseEnvelopeDocument(item, path)),
    ),
    usage: fits(parseEnvelopeDocument(fields["usage"], "usage")),
  };
}

function readKeys(value: unknown): Readonly<Record<string, string>> {
  if (!isJsonObject(value)) misfit("keys", `must be an object, not ${shown(value)}`);
  const entries = Object.entries(value);
  if (entries.length > KEYS_MAX) misfit("keys", `has ${entries.length} entries, more than the ${KEYS_MAX} allowed`);
  return Object.fromEntries(
    entries.map(([holder, spki]) => {
      const [kind, name] = [holder.slice(0, holder.indexOf("/")), holder.slice(holder.indexOf("/") + 1)];
      if (kind !== "provider" && kind !== "gateway")
        misfit(`keys[${shown(holder)}]`, "must be provider/<name> or gateway/<name>");
      textOf(name, `keys[${shown(holder)}]`, NAME_FORM);
      return [holder, textOf(spki, `keys[${shown(holder)}]`)];
    }),
  );
}

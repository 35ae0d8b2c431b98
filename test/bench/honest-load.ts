/** Clients that ask the gateway over HTTP, each again as soon as it is answered, and what they saw. */
import { isJsonObject, parseJson } from "../../core/json.ts";
import { seededBy } from "../../operator/plan/seeded.ts";
import { median } from "./figures.ts";

export type Asking = {
  readonly url: string;
  readonly model: string;
  readonly clientCount: number;
  readonly promptTokens: number; // on average
  readonly generatedTokens: number; // on average
  /** Lengths are drawn evenly from (1 ± spread) times these: clients that all end at once would go on in step. */
  readonly spread: number;
  readonly warmUpSeconds: number;
  readonly seconds: number; // counted
};

export type Seen = {
  readonly generatedPerSecond: number;
  readonly msPerToken: number; // mean of the answers, first token apart
  readonly firstTokenMs: number; // median
  readonly firstTokenMeanMs: number; // beside msPerToken where chains are unlike: of the same answers
  readonly answerCount: number;
};

type Answer = { readonly askedAt: number; readonly tokenTimes: readonly number[] };

/** Throws where an answer is refused or shorter than asked for. */
export async function askForAWhile(asking: Asking): Promise<Seen> {
  const begin = performance.now() + 1000 * asking.warmUpSeconds;
  const end = begin + 1000 * asking.seconds;
  const answers: Answer[] = [];
  const client = async (index: number): Promise<void> => {
    const { unit } = seededBy(`client ${index}`);
    const drawn = (mean: number): number => Math.max(1, Math.round(mean * (1 + asking.spread * (2 * unit() - 1))));
    for (let round = 0; performance.now() < end; round += 1) {
      const [promptTokens, generatedTokens] = [drawn(asking.promptTokens), drawn(asking.generatedTokens)];
      answers.push(await ask({ ...asking, promptTokens, generatedTokens }, index * 1000 + round));
    }
  };
  await Promise.all(Array.from({ length: asking.clientCount }, (_, index) => client(index)));
  const counted = answers.flatMap(({ tokenTimes }) => tokenTimes).filter((at) => at >= begin && at < end);
  // Whole answers: the gateway may write two tokens in one piece, which says nothing of their times.
  const whole = answers.filter(
    ({ askedAt, tokenTimes }) => askedAt >= begin - 1000 && (tokenTimes.at(-1) ?? 0) <= end + 1000,
  );
  const used = whole.length > 0 ? whole : answers;
  return {
    generatedPerSecond: counted.length / asking.seconds,
    // Mean, as it is simulated: where chains are unlike, a median says which of them answered more.
    msPerToken:
      sumOf(used, ({ tokenTimes }) => lasted(tokenTimes)) / sumOf(used, ({ tokenTimes }) => tokenTimes.length - 1),
    firstTokenMs: median(used.map(firstOf)),
    firstTokenMeanMs: sumOf(used, firstOf) / used.length,
    answerCount: used.length,
  };
}

const firstOf = ({ askedAt, tokenTimes }: Answer): number => (tokenTimes[0] ?? askedAt) - askedAt;
const lasted = (times: readonly number[]): number => (times.at(-1) ?? 0) - (times[0] ?? 0);
const sumOf = (answers: readonly Answer[], figure: (answer: Answer) => number): number =>
  answers.reduce((sum, answer) => sum + figure(answer), 0);

async function ask({ url, model, promptTokens, generatedTokens }: Asking, number: number): Promise<Answer> {
  const askedAt = performance.now();
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model,
      // Unlike prompts: the figures must not depend on one of them.
      prompt: Array.from({ length: promptTokens }, (_, index) => 100 + ((index * 7919 + number * 104_729) % 2900)),
      max_tokens: generatedTokens,
      temperature: 0,
      ignore_eos: true,
      stream: true,
      return_token_ids: true,
    }),
  });
  if (!response.ok || response.body === null)
    throw new Error(`the gateway answered ${response.status}: ${(await response.text()).slice(0, 300)}`);
  const tokenTimes: number[] = [];
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of response.body) {
    const at = performance.now();
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) for (let token = tokenCountOf(line); token > 0; token -= 1) tokenTimes.push(at);
  }
  if (tokenTimes.length !== generatedTokens)
    throw new Error(`an answer has ${tokenTimes.length} tokens, asked for were ${generatedTokens}`);
  return { askedAt, tokenTimes };
}

function tokenCountOf(line: string): number {
  const value = line.startsWith("data:") ? parseJson(line.slice(5).trim()) : undefined;
  if (!isJsonObject(value)) return 0;
  if (value["error"] !== undefined) throw new Error(`the gateway broke off: ${line.slice(0, 300)}`);
  const choice: unknown = Array.isArray(value["choices"]) ? value["choices"][0] : undefined;
  const ids = isJsonObject(choice) ? choice["token_ids"] : undefined;
  return Array.isArray(ids) ? ids.length : 0;
}

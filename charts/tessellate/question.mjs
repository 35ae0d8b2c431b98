// `helm test`: asks a model a question through the gateway's Service, and prints what it answered.
const { GATEWAY, MODEL, QUESTION, TIMEOUT_SECONDS, API_KEYS } = process.env;
const signal = AbortSignal.timeout(Number(TIMEOUT_SECONDS) * 1000);
const key = (API_KEYS ?? "").split("\n").find((line) => line.trim() !== "")?.trim();
const headers = { "content-type": "application/json", ...(key === undefined ? {} : { authorization: `Bearer ${key}` }) };

async function ask(path, body) {
  const method = body === undefined ? "GET" : "POST";
  const response = await fetch(new URL(path, GATEWAY), { method, headers, signal, body: body && JSON.stringify(body) });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path} was answered with ${response.status}: ${text}`);
  return JSON.parse(text);
}

try {
  const served = (await ask("/v1/models")).data.map(({ id }) => id);
  const model = MODEL || served[0];
  if (!served.includes(model))
    throw new Error(`${model ? `the gateway does not serve ${model}` : "no model is served"}; it serves: ${served.join(", ") || "nothing"}`);
  const messages = [{ role: "user", content: QUESTION }];
  const { choices, usage } = await ask("/v1/chat/completions", { model, messages, max_tokens: 64 });
  const answer = choices[0]?.message?.content ?? "";
  if (answer.trim() === "") throw new Error(`${model} answered with nothing`);
  console.log(`${model}, asked "${QUESTION}", answered with ${usage.completion_tokens} tokens:\n${answer}`);
} catch (error) {
  console.error(`the question was not answered: ${error.message}${error.cause ? ` (${error.cause.message})` : ""}`);
  process.exitCode = 1;
}

/** Narrowing of parsed JSON at doors: what came in is `unknown` until a function here has looked at it. */

export type JsonObject = { readonly [key: string]: unknown };

/** An object with keys: neither null nor a list. */
export const isJsonObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The parsed value of a JSON text, or undefined where it is no JSON. JSON has no undefined, so the two never meet. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A value as it is shown in a refusal: JSON, cut short, so that hostile input cannot flood a log. */
export function shown(value: unknown): string {
  const text = value === undefined ? "nothing" : JSON.stringify(value);
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
}

/** Kubernetes quantities: `18Gi`, `280G`, `1500m`, `2e9`, 42. */
import { type Result, ok, refuse } from "./result.ts";

const FORM = /^([+-]?(?:[0-9]+(?:[.][0-9]*)?|[.][0-9]+))(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]{1,3}))?$/;

const FACTORS: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** The number that a quantity stands for; `BadQuantity` where it is none. Exact up to 2^53. */
export function parseQuantity(quantity: number | string): Result<number, "BadQuantity"> {
  if (typeof quantity === "number") return ok(quantity);
  const [, digits, suffix, exponent] = FORM.exec(quantity) ?? [];
  if (digits === undefined) return refuse("BadQuantity", `${JSON.stringify(quantity)} is no quantity, such as 18Gi`);
  if (exponent !== undefined) return ok(Number(`${digits}e${exponent}`));
  return ok(Number(digits) * (suffix === undefined ? 1 : (FACTORS[suffix] ?? 1)));
}

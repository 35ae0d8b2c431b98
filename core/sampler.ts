/**
 * Choosing a token so that anyone can choose it again: Gumbel-max (add Gumbel noise to the log-weights, take the largest;
 * this draws from the softmax) with noise from a counter-based generator keyed by (seed, position, token). Whoever knows
 * logits, settings and seed can check a choice; nobody has to replay what came before it.
 */
import { assert } from "./assert.ts";
import { type Result, ok, refuse } from "./result.ts";

export type SamplingSettings = {
  readonly temperature: number; // ≥ 0; 0: the largest logit, the first of equals
  readonly topP: number; // (0, 1]: draw from the fewest tokens that have this share of the (tempered) probability
  readonly seed: Uint8Array; // 8 bytes, little-endian
};

export type SampledToken = {
  readonly tokenId: number;
  readonly logProbability: number; // natural logarithm, of the distribution without temperature and topP
};

/**
 * The token that takes `position` in the sequence. `logits`: f32 [vocabulary]. Refuses `BrokenLogits` where a logit is
 * NaN or +Infinity, or none is finite: somebody on the way computed wrong, and no token is better than any.
 */
export function sampleToken(
  logits: Float32Array,
  settings: SamplingSettings,
  position: number,
): Result<SampledToken, "BrokenLogits"> {
  assert(settings.seed.length === 8 && settings.topP > 0 && settings.topP <= 1, "sampler settings were checked");
  const largest = indexOfLargest(logits);
  const peak = largest === undefined ? Number.NaN : (logits[largest] ?? Number.NaN);
  if (largest === undefined || !Number.isFinite(peak))
    return refuse("BrokenLogits", "the logits hold NaN or infinity; a segment before the last computed wrong");
  const tokenId =
    settings.temperature === 0
      ? largest
      : draw(temperedWeights(logits, peak, settings), largest, settings.seed, position);
  return ok({ tokenId, logProbability: (logits[tokenId] ?? 0) - peak - Math.log(sumOfExponentials(logits, peak)) });
}

/** Undefined where there is a NaN or nothing at all. */
function indexOfLargest(logits: Float32Array): number | undefined {
  let best = 0;
  for (let token = 0; token < logits.length; token += 1) {
    const value = logits[token] ?? 0;
    if (Number.isNaN(value)) return undefined;
    if (value > (logits[best] ?? 0)) best = token;
  }
  return logits.length === 0 ? undefined : best;
}

function sumOfExponentials(logits: Float32Array, peak: number): number {
  let sum = 0;
  for (let token = 0; token < logits.length; token += 1) sum += Math.exp((logits[token] ?? 0) - peak);
  return sum;
}

/** exp((logit - peak) / temperature) for every token that may be drawn, 0 for the others. */
function temperedWeights(logits: Float32Array, peak: number, settings: SamplingSettings): Float64Array {
  const weights = new Float64Array(logits.length);
  for (let token = 0; token < logits.length; token += 1)
    weights[token] = Math.exp(((logits[token] ?? 0) - peak) / settings.temperature);
  if (settings.topP < 1) keepNucleus(weights, settings.topP);
  return weights;
}

/** Zeroes all but the heaviest tokens that together have the share `topP`; of equals the first are kept. */
function keepNucleus(weights: Float64Array, topP: number): void {
  let total = 0;
  for (const weight of weights) total += weight;
  // Tokens this light, all together, weigh less than what may be left out: they need not be sorted.
  const negligible = ((1 - topP) * total) / weights.length;
  const heavy: number[] = [];
  for (let token = 0; token < weights.length; token += 1) if ((weights[token] ?? 0) >= negligible) heavy.push(token);
  heavy.sort((a, b) => (weights[b] ?? 0) - (weights[a] ?? 0) || a - b);
  let sum = 0;
  let count = 0;
  while (count < heavy.length && (sum < topP * total || count === 0)) sum += weights[heavy[count++] ?? 0] ?? 0;
  const kept = heavy.slice(0, count).map((token) => [token, weights[token] ?? 0] as const);
  weights.fill(0);
  for (const [token, weight] of kept) weights[token] = weight;
}

/** 1 - u of the largest u that the generator gives; anything less likely than this can never win. */
const SMALLEST_CHANCE = 2 ** -33;

/**
 * argmax of ln(weight) + gumbel. Weights are relative to `likeliest`'s, which is 1. Since exp(-x) ≥ 1 - x, a token can
 * only beat the best score so far if 1 - u ≤ weight / exp(best): most tokens fall at that and cost no logarithm.
 */
function draw(weights: Float64Array, likeliest: number, seed: Uint8Array, position: number): number {
  const noise = new Noise(seed, position);
  let winner = likeliest;
  let best = gumbel(noise.uniform(likeliest));
  let scale = Math.exp(-best) * (1 + 1e-9); // a little slack for rounding
  for (let token = 0; token < weights.length; token += 1) {
    const weight = weights[token] ?? 0;
    const chance = weight * scale;
    if (weight === 0 || chance < SMALLEST_CHANCE || token === likeliest) continue;
    const uniform = noise.uniform(token);
    if (1 - uniform > chance) continue;
    const score = Math.log(weight) + gumbel(uniform);
    if (score < best || (score === best && token > winner)) continue;
    winner = token;
    best = score;
    scale = Math.exp(-best) * (1 + 1e-9);
  }
  return winner;
}

const gumbel = (uniform: number): number => -Math.log(-Math.log(uniform));

/** One number per (seed, position, token), each lane of a Philox block serving one token. */
class Noise {
  readonly #key: readonly [number, number];
  readonly #position: number;
  readonly #lanes = new Uint32Array(4);
  #block = -1;

  constructor(seed: Uint8Array, position: number) {
    const view = new DataView(seed.buffer, seed.byteOffset, seed.byteLength);
    this.#key = [view.getUint32(0, true), view.getUint32(4, true)];
    this.#position = position;
  }

  /** In (0, 1), never an end. */
  uniform(token: number): number {
    const block = Math.floor(token / 4);
    if (block !== this.#block) philox4x32([block, this.#position, 0, 0], this.#key, this.#lanes);
    this.#block = block;
    return ((this.#lanes[token % 4] ?? 0) + 0.5) / 2 ** 32;
  }
}

/**
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC'11): four u32 from a counter
 * of four and a key of two. Written to `out`.
 */
export function philox4x32(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
  out: Uint32Array,
): void {
  let [a, b, c, d] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round += 1) {
    const high0 = multiplyHigh(0xd2511f53, a);
    const low0 = Math.imul(0xd2511f53, a);
    const high1 = multiplyHigh(0xcd9e8d57, c);
    const low1 = Math.imul(0xcd9e8d57, c);
    a = (high1 ^ b ^ k0) >>> 0;
    b = low1 >>> 0;
    c = (high0 ^ d ^ k1) >>> 0;
    d = low0 >>> 0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  out[0] = a;
  out[1] = b;
  out[2] = c;
  out[3] = d;
}

/** The upper 32 bits of the 64-bit product of two u32, by halves that a double holds exactly. */
function multiplyHigh(x: number, y: number): number {
  const low = (x >>> 0) * (y & 0xffff); // < 2^48
  const high = (x >>> 0) * (y >>> 16); // < 2^48
  return Math.floor((high + Math.floor(low / 0x10000)) / 0x10000);
}

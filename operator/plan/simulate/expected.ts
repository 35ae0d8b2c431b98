/**
 * What a house serves, in closed form: a thousand times quicker than simulating it and right to a twentieth or a tenth,
 * so a search can ask it at every step and leave the last word to the simulation.
 *
 * Sessions are given to paths as gateways do, and each path serves its sessions ÷ the time of a token on it; that time
 * grows with what all paths together ask of stations and links, so both are settled by going round. A station is busy for
 * more of the time the more it has to do (its pace leaves what is far more than comes in the time of a batch, see
 * core/pace.ts), which says how large its batches are. A link takes one load after the other. The constants were
 * fitted to simulations of 300 placements of six published clusters.
 */
import type { House, Load, Path, Station } from "./house.ts";

export type Expected = {
  readonly generatedPerSecond: number;
  readonly secondsPerToken: number; // mean
};

/** Share of the time in which a station with little to do is busy; one that has all it can do is busy always. */
const BUSY_SHARE = 0.6;
/** Of a batch, what a row waits for it to begin. */
const WAIT_SHARE = 0.25;
/** A load on a link comes beside others of its own batch's making, and behind prompts, which are long. */
const LOADS_AT_ONCE = 2;
const PROMPT_LOADS = 2;
/** Beyond, times grow steeply but stay numbers, so that what is asked can be lowered step by step. */
const FULL = 0.98;
const STEEP = 8;
const ROUNDS = 24;
const CLOSE = 1e-3;

/**
 * Of a closed load: the rate that so many clients reach. Of an open one: what its sessions find. `ways`: of the house,
 * for loads of the same mean lengths.
 */
export function expected(house: House, load: Load, ways = new Ways(house, load)): Expected {
  const weights = house.paths.map(({ weight }) => weight);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  // Of an open load only the sum is known: shares of it stand for sessions until it is.
  const asked = load.kind === "open" ? load.sessionsPerSecond * load.generatedTokens : undefined;
  const sessions = load.kind === "open" ? weights.map((weight) => weight / total) : sessionsOf(house, load.clientCount);
  const idle = ways.seconds(sessions.map(() => 0));
  let perSecond =
    asked === undefined ? sessions.map((count, path) => count / (4 * (idle[path] ?? 1))) : scaled(sessions, asked);
  let seconds = ways.seconds(perSecond);
  for (let round = 0; round < ROUNDS; round += 1) {
    const wanted = sessions.map((count, path) => count / (seconds[path] ?? 1));
    const aims = asked === undefined ? wanted : scaled(wanted, asked);
    const step = round < ROUNDS / 2 ? 0.5 : 0.3;
    let off = 0;
    perSecond = perSecond.map((rate, path) => {
      const aim = aims[path] ?? 0;
      if (rate <= 0 || aim <= 0) return 0;
      off = Math.max(off, Math.abs(aim / rate - 1));
      return rate * (aim / rate) ** step;
    });
    seconds = ways.seconds(perSecond);
    if (off < CLOSE) break;
  }
  const generatedPerSecond = perSecond.reduce((sum, rate) => sum + rate, 0);
  const spent = perSecond.reduce((sum, rate, path) => sum + rate * (seconds[path] ?? 0), 0);
  return { generatedPerSecond: asked ?? generatedPerSecond, secondsPerToken: spent / generatedPerSecond };
}

function scaled(values: readonly number[], sum: number): number[] {
  const all = values.reduce((total, value) => total + value, 0);
  return values.map((value) => (value * sum) / all);
}

/** The gateway's rule, for sessions that can be cut: paths fill by their weights until a station of theirs is full. */
function sessionsOf({ stations, paths }: House, clientCount: number): readonly number[] {
  const sessions = paths.map(() => 0);
  const room = stations.map(({ slotCount }) => slotCount);
  const open = new Set(paths.keys());
  for (let left = clientCount; left > 1e-6 && open.size > 0; ) {
    const takes = stations.map(() => 0);
    let weights = 0;
    for (const path of open) {
      const { weight, stations: passed } = paths[path] ?? NO_PATH;
      weights += weight;
      for (const station of passed) takes[station] = (takes[station] ?? 0) + weight;
    }
    const step = takes.reduce(
      (least, take, at) => (take > 0 ? Math.min(least, (room[at] ?? 0) / take) : least),
      left / weights,
    );
    for (const path of open) sessions[path] = (sessions[path] ?? 0) + step * (paths[path]?.weight ?? 0);
    takes.forEach((take, at) => (room[at] = (room[at] ?? 0) - step * take));
    left -= step * weights;
    for (const path of open) if (paths[path]?.stations.some((at) => (room[at] ?? 0) < 1e-6)) open.delete(path);
  }
  return sessions;
}

const NO_PATH: Path = { stations: [], weight: 0 };

/** A station's batch as a line over the tokens that it decodes, each with its share of its session's prompt. */
type Line = { readonly base: number; readonly perToken: number };
type Hop = { readonly from: number; readonly seconds: number; readonly secondsPerRow: number };

/** Stations and links of a house, with what passes through them. */
export class Ways {
  readonly #paths: readonly {
    readonly stations: readonly number[];
    readonly hops: readonly number[];
    readonly ends: number;
  }[];
  readonly #lines: readonly Line[];
  readonly #hops: readonly Hop[];
  readonly #promptRows: number; // of a generated token
  readonly #through: Float64Array; // tokens a second, by station
  readonly #over: Float64Array; // by hop
  readonly #stationSeconds: Float64Array;
  readonly #batches: Float64Array; // tokens of a batch
  readonly #hopSeconds: Float64Array;

  constructor(house: House, load: Load) {
    this.#promptRows = load.promptTokens / load.generatedTokens;
    this.#lines = house.stations.map((station) => lineOf(station, load));
    const hops: Hop[] = [];
    const known = new Map<number, number>();
    const hopOf = (from: number, to: number): number => {
      const key = from * house.stations.length + to;
      const found = known.get(key);
      if (found !== undefined) return found;
      known.set(key, hops.length);
      return hops.push({ from, ...house.between(from, to) }) - 1;
    };
    this.#paths = house.paths.map(({ stations }) => ({
      stations,
      hops: stations.slice(1).map((to, index) => hopOf(stations[index] ?? 0, to)),
      ends: house.gatewaySeconds + house.entry(stations[0] ?? 0).seconds + house.exit(stations.at(-1) ?? 0).seconds,
    }));
    this.#hops = hops;
    this.#through = new Float64Array(house.stations.length);
    this.#stationSeconds = new Float64Array(house.stations.length);
    this.#batches = new Float64Array(house.stations.length);
    this.#over = new Float64Array(hops.length);
    this.#hopSeconds = new Float64Array(hops.length);
  }

  /** Of a token on each path, at so many tokens a second on each. */
  seconds(perSecond: readonly number[]): readonly number[] {
    this.#through.fill(0);
    this.#over.fill(0);
    this.#paths.forEach(({ stations, hops }, path) => {
      const rate = perSecond[path] ?? 0;
      for (const at of stations) this.#through[at] = (this.#through[at] ?? 0) + rate;
      for (const at of hops) this.#over[at] = (this.#over[at] ?? 0) + rate;
    });
    this.#lines.forEach((line, at) => this.#pass(line, at));
    this.#hops.forEach((hop, at) => this.#cross(hop, at));
    return this.#paths.map(({ stations, hops, ends }) => {
      let seconds = ends;
      for (const at of stations) seconds += this.#stationSeconds[at] ?? 0;
      for (const at of hops) seconds += this.#hopSeconds[at] ?? 0;
      return seconds;
    });
  }

  #pass({ base, perToken }: Line, at: number): void {
    const rate = this.#through[at] ?? 0;
    const asked = perToken * rate;
    const load = Math.min(asked, FULL);
    const busy = BUSY_SHARE + (1 - BUSY_SHARE) * load ** 2;
    const batchSeconds = Math.max(base + perToken, base / (1 - load / busy)) * beyond(asked);
    this.#stationSeconds[at] = batchSeconds * (1 + WAIT_SHARE * Math.min(1, rate * batchSeconds));
    this.#batches[at] = Math.max(1, (rate * batchSeconds) / busy);
  }

  #cross({ from, seconds, secondsPerRow }: Hop, at: number): void {
    const rate = this.#over[at] ?? 0;
    const asked = rate * secondsPerRow * (1 + this.#promptRows);
    const load = Math.min(asked, FULL);
    const tokens = Math.max(1, ((this.#batches[from] ?? 1) * rate) / (this.#through[from] || 1));
    const own = secondsPerRow * (1 + PROMPT_LOADS * this.#promptRows) * tokens * LOADS_AT_ONCE;
    this.#hopSeconds[at] = seconds + own * (1 + (2 * load) / (1 - load)) * beyond(asked);
  }
}

const beyond = (asked: number): number => (asked <= FULL ? 1 : (asked / FULL) ** STEEP);

function lineOf({ stepSeconds, slotCount }: Station, { promptTokens, generatedTokens }: Load): Line {
  const position = promptTokens + generatedTokens / 2;
  const promptRows = promptTokens / generatedTokens;
  const seconds = (count: number): number =>
    stepSeconds({
      rowCount: count * (1 + promptRows),
      promptRowCount: count * promptRows,
      positionCount: count * position,
      sampleCount: count,
    });
  const many = Math.max(2, slotCount);
  const perToken = (seconds(many) - seconds(1)) / (many - 1);
  return { base: Math.max(0, seconds(1) - perToken), perToken };
}

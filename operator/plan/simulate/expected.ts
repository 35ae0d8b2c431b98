/**
 * What a house serves, in closed form: a thousand times quicker than simulating it and right to a tenth or two, so a
 * search can ask it at every step and leave the last word to the simulation. Every station is taken for one that is
 * never out of work: its batches last as long as it takes for the next one to gather. Rows that come from many stations
 * come one by one and wait for half a batch; those of one station come together, and wait for a whole one.
 */
import type { House, Load, Path, Station } from "./house.ts";

export type Expected = {
  readonly generatedPerSecond: number;
  readonly secondsPerToken: number; // mean
};

/** A station's batch as a line over the tokens that it decodes, each with its share of its session's prompt. */
type Line = { readonly base: number; readonly perToken: number };

const ROUNDS = 24;

/** Of a closed load: the rate that so many clients reach. Of an open one: what its sessions find. */
export function expected(house: House, load: Load): Expected {
  const lines = house.stations.map((station) => lineOf(station, load));
  const shares = sharesOf(house.paths);
  const passing = house.stations.map(() => 0); // of each token that is generated, how many pass here
  house.paths.forEach(({ stations }, path) => {
    for (const station of stations) passing[station] = (passing[station] ?? 0) + (shares[path] ?? 0);
  });
  const waits = waitsOf(house, shares, passing);
  const fixed = house.paths.map((path) => tripSeconds(house, path));
  const cycleSeconds = (perSecond: number): number => {
    const here = lines.map((line, at) => soonest(line, perSecond * (passing[at] ?? 0), waits[at] ?? 1));
    return house.paths.reduce((sum, { stations }, path) => {
      const seconds = stations.reduce((total, station) => total + (here[station] ?? 0), fixed[path] ?? 0);
      return sum + (shares[path] ?? 0) * seconds;
    }, 0);
  };
  if (load.kind === "open") {
    const perSecond = load.sessionsPerSecond * load.generatedTokens;
    return { generatedPerSecond: perSecond, secondsPerToken: cycleSeconds(perSecond) };
  }
  const sessionCount = Math.min(load.clientCount, roomOf(house.stations, passing));
  let [low, high] = [0, lines.reduce((least, line, at) => Math.min(least, mostOf(line, passing[at] ?? 0)), Infinity)];
  for (let round = 0; round < ROUNDS; round += 1) {
    const middle = (low + high) / 2;
    if (middle * cycleSeconds(middle) < sessionCount) low = middle;
    else high = middle;
  }
  return { generatedPerSecond: low, secondsPerToken: cycleSeconds(low) };
}

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

/** From a row's arrival until it leaves, at so many tokens a second. */
function soonest({ base, perToken }: Line, perSecond: number, wait: number): number {
  const room = 1 - perToken * perSecond;
  if (room <= 0) return Number.POSITIVE_INFINITY;
  const batchSeconds = Math.max(base + perToken, base / room);
  return batchSeconds * (1 + wait * Math.min(1, perSecond * batchSeconds));
}

/** Of a batch, what a row waits: more, the fewer stations send what comes. */
function waitsOf({ paths, stations }: House, shares: readonly number[], passing: readonly number[]): readonly number[] {
  const from = stations.map(() => new Map<number, number>());
  paths.forEach((path, index) =>
    path.stations.forEach((station, hop) => {
      const before = path.stations[hop - 1] ?? path.stations.at(-1) ?? station;
      const sent = from[station];
      sent?.set(before, (sent.get(before) ?? 0) + (shares[index] ?? 0));
    }),
  );
  return from.map((sent, station) => {
    const all = passing[station] ?? 0;
    const together = all <= 0 ? 1 : [...sent.values()].reduce((sum, share) => sum + (share / all) ** 2, 0);
    return (1 + together) / 2;
  });
}

const mostOf = ({ perToken }: Line, passing: number): number =>
  passing <= 0 ? Number.POSITIVE_INFINITY : 1 / (Math.max(perToken, 1e-12) * passing);

function sharesOf(paths: readonly Path[]): readonly number[] {
  const total = paths.reduce((sum, { weight }) => sum + weight, 0);
  return paths.map(({ weight }) => weight / total);
}

/** Sessions that fit where the gateway keeps to the paths' shares. */
const roomOf = (stations: readonly Station[], passing: readonly number[]): number =>
  stations.reduce(
    (least, { slotCount }, at) => ((passing[at] ?? 0) > 0 ? Math.min(least, slotCount / (passing[at] ?? 1)) : least),
    Number.POSITIVE_INFINITY,
  );

/** What a token spends between stations, whatever else is there. */
function tripSeconds({ entry, between, exit, gatewaySeconds }: House, { stations }: Path): number {
  const [first = 0, last = 0] = [stations[0], stations.at(-1)];
  let seconds = gatewaySeconds + entry(first).seconds + exit(last).seconds;
  stations.forEach((station, hop) => {
    const next = stations[hop + 1];
    if (next === undefined) return;
    const way = between(station, next);
    seconds += way.seconds + way.secondsPerRow;
  });
  return seconds;
}

/**
 * A house that serves, without a house: sessions arrive, the gateway gives each a chain, steps queue at segments, batches
 * run, rows travel. Discrete events, pure and seeded: the same arguments give the same outcome, to the last digit. It
 * judges plans (a flow knows nothing of latency, queues or slots) and is what their estimates come from.
 */
import { present } from "../../../core/assert.ts";
import { seededBy } from "../seeded.ts";
import { takeBatch } from "./batching.ts";
import { EventQueue } from "./event-queue.ts";
import { CHUNK_ROWS, type House, type Load, type Outcome, type Run, type Way } from "./house.ts";
import { Device, Engine } from "./engine.ts";
import type { Session, Step, Visit } from "./session.ts";
import { Tally } from "./tally.ts";

type Wanted = Pick<Session, "promptTokens" | "generatedTokens" | "askedAt"> & { written: number };

/** Runs until `run.tokens` generated tokens were counted, or nothing more can happen. */
export function simulate(house: House, load: Load, run: Run): Outcome {
  return new Simulation(house, load, run).outcome();
}

class Simulation {
  readonly #house: House;
  readonly #load: Load;
  readonly #run: Run;
  readonly #events = new EventQueue();
  readonly #random: () => number;
  readonly #engines: readonly Engine[];
  readonly #sessionCounts: number[]; // by path
  readonly #hops: Int16Array; // by path and station
  readonly #line: Wanted[] = [];
  readonly #waysFree = new Map<number, number>(); // by way: when it takes the next rows
  readonly #tally = new Tally();

  constructor(house: House, load: Load, run: Run) {
    this.#house = house;
    this.#load = load;
    this.#run = run;
    this.#random = seededBy(run.seed).unit;
    const devices = new Map<string, Device>();
    this.#engines = house.stations.map((station, index) => {
      const own = station.devices.map((name) => {
        const device = devices.get(name) ?? new Device();
        devices.set(name, device);
        return device;
      });
      return new Engine(station, own, house, this.#events, takeBatch, (steps) => this.#ran(index, steps));
    });
    const stationCount = house.stations.length;
    this.#hops = new Int16Array(house.paths.length * stationCount).fill(-1);
    house.paths.forEach(({ stations }, path) => {
      for (const [hop, station] of stations.entries()) this.#hops[path * stationCount + station] = hop;
    });
    this.#sessionCounts = house.paths.map(() => 0);
  }

  outcome(): Outcome {
    const { warmUpTokens, tokens } = this.#run;
    if (this.#load.kind === "closed") {
      for (let client = 0; client < this.#load.clientCount; client += 1) this.#ask(this.#load.underWay === true);
      // Who found no slot has not begun.
      for (const wanted of this.#line) wanted.written = 0;
    } else this.#arrive(this.#load.sessionsPerSecond);
    const tally = this.#tally;
    let more = true;
    while (more && tally.generated < warmUpTokens) more = this.#events.step();
    tally.begin(this.#events.now);
    for (const engine of this.#engines) engine.beginCount();
    while (more && tally.generated < tokens) more = this.#events.step();
    const seconds = this.#events.now - tally.beganAt;
    return {
      ...tally.figures(this.#events.now),
      stations: this.#engines.map((engine) => engine.figures(seconds)),
      stuck: !more,
    };
  }

  #arrive(sessionsPerSecond: number): void {
    const wait = -Math.log(1 - this.#random()) / sessionsPerSecond;
    this.#events.put(this.#events.now + wait, () => {
      this.#ask(false);
      this.#arrive(sessionsPerSecond);
    });
  }

  #ask(isUnderWay: boolean): void {
    const { promptTokens, generatedTokens, spread } = this.#load;
    const length = (mean: number): number =>
      Math.max(1, Math.round(mean * (spread === 0 ? 1 : 1 + spread * (2 * this.#random() - 1))));
    const generated = length(generatedTokens);
    this.#line.push({
      promptTokens: length(promptTokens),
      generatedTokens: generated,
      askedAt: this.#events.now,
      written: isUnderWay ? Math.floor(this.#random() * generated) : 0,
    });
    this.#serveLine();
  }

  #serveLine(): void {
    for (;;) {
      const wanted = this.#line[0];
      const path = wanted === undefined ? undefined : this.#freePath();
      if (wanted === undefined || path === undefined) return;
      this.#line.shift();
      this.#open(wanted, path);
    }
  }

  /** The gateway's rule: of the chains with a slot the one with fewest sessions for its weight, then the first. */
  #freePath(): number | undefined {
    let best: number | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (const [index, { stations, weight }] of this.#house.paths.entries()) {
      const fullness = ((this.#sessionCounts[index] ?? 0) + 1) / weight;
      if (fullness >= least || stations.some((station) => !this.#engine(station).hasSlot)) continue;
      best = index;
      least = fullness;
    }
    return best;
  }

  #open({ written, ...wanted }: Wanted, path: number): void {
    this.#sessionCounts[path] = (this.#sessionCounts[path] ?? 0) + 1;
    const { stations } = present(this.#house.paths[path], "a path of the house");
    const visits = stations.map((station): Visit => this.#engine(station).admit(stations.length));
    const now = this.#events.now;
    const session = { ...wanted, path, visits, isUnderWay: written > 0, generated: written, lastTokenAt: now };
    if (written > 0) return this.#askNext(session);
    for (let start = 0; start < wanted.promptTokens; start += CHUNK_ROWS) {
      const rowCount = Math.min(CHUNK_ROWS, wanted.promptTokens - start);
      const sample = start + rowCount === wanted.promptTokens;
      this.#enter({ owner: session, rowCount, position: start, sample, divisible: true });
    }
  }

  #askNext(session: Session): void {
    const position = session.promptTokens + session.generated - 1;
    this.#enter({ owner: session, rowCount: 1, position, sample: true, divisible: true });
  }

  #enter(step: Step): void {
    const first = present(this.#house.paths[step.owner.path]?.stations[0], "a path has a first station");
    const way = this.#house.entry(first);
    const isFirst = step.position < step.owner.promptTokens;
    const after = isFirst ? this.#house.openSeconds : this.#house.gatewaySeconds;
    this.#travel(-1 - first, way, step.rowCount, after, () =>
      this.#engine(first).take([step], step.owner.visits.slice(0, 1)),
    );
  }

  /** A batch was run: its rows go on, those that go the same way together. */
  #ran(from: number, steps: readonly Step[]): void {
    const engine = this.#engine(from);
    const onward = new Map<number, Step[]>();
    for (const step of steps) {
      const { path, visits } = step.owner;
      const hop = this.#hopAt(path, from);
      engine.leave(present(visits[hop], "a visit for each hop"));
      const next = this.#house.paths[path]?.stations[hop + 1];
      if (next === undefined) {
        this.#sampled(from, step);
        continue;
      }
      const { owner, rowCount, position, sample } = step;
      const onwardStep: Step = { owner, rowCount, position, sample, divisible: false };
      const together = onward.get(next);
      if (together === undefined) onward.set(next, [onwardStep]);
      else together.push(onwardStep);
    }
    for (const [to, together] of onward) this.#handOn(from, to, together);
  }

  #handOn(from: number, to: number, steps: readonly Step[]): void {
    let rowCount = 0;
    for (const step of steps) rowCount += step.rowCount;
    const count = this.#engines.length;
    this.#travel(from * count + to, this.#house.between(from, to), rowCount, 0, () => {
      const visits = steps.map(({ owner }) => owner.visits[this.#hopAt(owner.path, to)]);
      this.#engine(to).take(steps, visits);
    });
  }

  #hopAt(path: number, station: number): number {
    return this.#hops[path * this.#engines.length + station] ?? -1;
  }

  #travel(key: number, { seconds, secondsPerRow }: Way, rowCount: number, after: number, happen: () => void): void {
    const leaves = Math.max(this.#events.now + after, this.#waysFree.get(key) ?? 0);
    const sent = leaves + rowCount * secondsPerRow;
    this.#waysFree.set(key, sent);
    this.#events.put(sent + seconds, happen);
  }

  #sampled(from: number, { owner, rowCount, position, sample }: Step): void {
    if (position < owner.promptTokens) this.#tally.promptRows += rowCount;
    if (!sample) return;
    this.#events.put(this.#events.now + this.#house.exit(from).seconds, () => this.#tokenCame(owner));
  }

  #tokenCame(session: Session): void {
    const { now } = this.#events;
    session.generated += 1;
    this.#tally.token(session, now);
    session.lastTokenAt = now;
    if (session.generated < session.generatedTokens) return this.#askNext(session);
    this.#tally.sessionCount += 1;
    // Closing calls every rank, as opening does: whoever asks meanwhile still finds the session there.
    const { openSeconds } = this.#house;
    if (openSeconds === 0) this.#close(session);
    else this.#events.put(now + openSeconds, () => this.#close(session));
    if (this.#load.kind === "closed") this.#ask(false);
  }

  #close({ path, visits }: Session): void {
    this.#sessionCounts[path] = (this.#sessionCounts[path] ?? 1) - 1;
    const { stations } = present(this.#house.paths[path], "a path of the house");
    for (const [hop, station] of stations.entries()) this.#engine(station).dismiss(visits[hop]);
    this.#serveLine();
  }

  #engine(station: number): Engine {
    return present(this.#engines[station], "a path names stations of the house");
  }
}

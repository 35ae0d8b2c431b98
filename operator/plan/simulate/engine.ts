/** One segment's engine while it is simulated: what waits, what runs, who is away, and the devices it shares. */
import { Pace } from "../../../core/pace.ts";
import type { EventQueue } from "./event-queue.ts";
import type { Budget, House, Outcome, Station } from "./house.ts";
import { lingerSeconds } from "./batching.ts";
import type { Step, Visit } from "./session.ts";

/** A node that several stations may share: one batch at a time, in order of asking. */
export class Device {
  isBusy = false;
  readonly waiting: Engine[] = [];
}

type TakeBatch = (waiting: Step[], budget: Budget) => readonly Step[];

export class Engine {
  readonly #station: Station;
  readonly #devices: readonly Device[];
  readonly #house: Pick<House, "budget" | "lingers" | "keepsPace">;
  readonly #events: EventQueue;
  readonly #takeBatch: TakeBatch;
  readonly #ran: (steps: readonly Step[]) => void;
  readonly #waiting: Step[] = [];
  readonly #visits = new Set<Visit>();
  #segmentCount = 1;
  #isRunning = false;
  #batchSeconds = 0;
  readonly #pace = new Pace();
  #lingerUntil: number | undefined;
  #lingerId = 0;
  #busySeconds = 0;
  #startedAt = 0;
  #blockedAt: number | undefined; // since when a device is busy with another station
  #batchCount = 0;
  #rowCount = 0;
  #stepCount = 0;

  constructor(
    station: Station,
    devices: readonly Device[],
    house: Pick<House, "budget" | "lingers" | "keepsPace">,
    events: EventQueue,
    takeBatch: TakeBatch,
    ran: (steps: readonly Step[]) => void,
  ) {
    this.#station = station;
    this.#devices = devices;
    this.#house = house;
    this.#events = events;
    this.#takeBatch = takeBatch;
    this.#ran = ran;
  }

  get hasSlot(): boolean {
    return this.#visits.size < this.#station.slotCount;
  }

  admit(segmentCount: number): Visit {
    const visit: Visit = { leftAt: undefined, away: undefined, roundAt: undefined };
    this.#visits.add(visit);
    this.#segmentCount = segmentCount;
    return visit;
  }

  dismiss(visit: Visit | undefined): void {
    if (visit !== undefined) this.#visits.delete(visit);
  }

  take(steps: readonly Step[], visits: readonly (Visit | undefined)[]): void {
    for (const visit of visits) if (visit !== undefined) cameBack(visit, this.#events.now);
    for (const step of steps) this.#waiting.push(step);
    this.pump();
  }

  pump(): void {
    if (this.#isRunning || this.#waiting.length === 0 || this.#lingers()) return;
    const busy = this.#devices.find((device) => device.isBusy);
    if (busy !== undefined) {
      if (!busy.waiting.includes(this)) busy.waiting.push(this);
      this.#blockedAt ??= this.#events.now;
      return;
    }
    this.#start();
  }

  #start(): void {
    const steps = this.#takeBatch(this.#waiting, this.#budget());
    for (const device of this.#devices) device.isBusy = true;
    this.#isRunning = true;
    this.#lingerUntil = undefined;
    this.#lingerId += 1;
    let [rowCount, promptRowCount, positionCount, sampleCount] = [0, 0, 0, 0];
    for (const step of steps) {
      rowCount += step.rowCount;
      if (step.rowCount > 1) promptRowCount += step.rowCount;
      positionCount += step.position + step.rowCount;
      if (step.sample) sampleCount += 1;
    }
    const { now } = this.#events;
    const seconds = this.#station.stepSeconds({ rowCount, promptRowCount, positionCount, sampleCount });
    this.#startedAt = now;
    this.#batchSeconds = seconds;
    // Two ranks on one node run at once, each slower: waiting for a turn is part of what a batch takes there.
    this.#pace.ran(now - (this.#blockedAt ?? now) + seconds);
    this.#blockedAt = undefined;
    this.#batchCount += 1;
    this.#rowCount += rowCount;
    this.#stepCount += steps.length;
    this.#events.put(now + seconds, () => this.#end(steps));
  }

  #budget(): Budget {
    const { budget, keepsPace } = this.#house;
    if (!keepsPace) return budget;
    return { ...budget, decodeRowsMax: this.#pace.rowsMax(this.#visits.size) };
  }

  /** A session's step has left. */
  leave(visit: Visit): void {
    const { now } = this.#events;
    if (visit.roundAt !== undefined) this.#pace.left(now - visit.roundAt);
    visit.roundAt = now;
    visit.leftAt = now;
  }

  #end(steps: readonly Step[]): void {
    this.#isRunning = false;
    this.#busySeconds += this.#events.now - this.#startedAt;
    for (const device of this.#devices) device.isBusy = false;
    this.#ran(steps);
    // Whoever asked first while the devices were busy; this engine's own next batch asks after them.
    const others = this.#devices.flatMap((device) => device.waiting.splice(0));
    for (const other of others) other.pump();
    this.pump();
  }

  /** Sessions that have something to run. */
  #waitingCount(): number {
    // PERF: nearly always nobody waits with more than one step.
    if (this.#waiting.every(({ rowCount }) => rowCount === 1)) return this.#waiting.length;
    return new Set(this.#waiting.map(({ owner }) => owner)).size;
  }

  #lingers(): boolean {
    if (!this.#house.lingers) return false;
    const { now } = this.#events;
    if (this.#lingerUntil !== undefined && now >= this.#lingerUntil) return false;
    const waitingCount = this.#waitingCount();
    if (this.#visits.size <= waitingCount) return false;
    const returnsAt: number[] = [];
    for (const { leftAt, away } of this.#visits)
      if (leftAt !== undefined && away !== undefined) returnsAt.push(leftAt + away);
    const wait = lingerSeconds({
      now,
      waitingCount,
      returnsAt,
      segmentCount: this.#segmentCount,
      batchSeconds: this.#batchSeconds,
    });
    if (wait === 0) return false;
    this.#lingerUntil ??= now + wait;
    const id = (this.#lingerId += 1);
    this.#events.put(Math.max(now, this.#lingerUntil), () => {
      if (id === this.#lingerId) this.pump();
    });
    return true;
  }

  beginCount(): void {
    this.#busySeconds = 0;
    this.#startedAt = this.#events.now; // of a batch that runs now, only what is to come counts
    this.#batchCount = 0;
    this.#rowCount = 0;
    this.#stepCount = 0;
  }

  figures(seconds: number): Outcome["stations"][number] {
    const running = this.#isRunning ? this.#events.now - this.#startedAt : 0;
    return {
      name: this.#station.name,
      utilisation: seconds === 0 ? 0 : (this.#busySeconds + running) / seconds,
      batchCount: this.#batchCount,
      rowsPerBatch: this.#batchCount === 0 ? 0 : this.#rowCount / this.#batchCount,
      sessionsPerBatch: this.#batchCount === 0 ? 0 : this.#stepCount / this.#batchCount,
    };
  }
}

/** Recent times count most. */
function cameBack(visit: Visit, now: number): void {
  if (visit.leftAt === undefined) return;
  const away = now - visit.leftAt;
  visit.away = visit.away === undefined ? away : (visit.away + away) / 2;
  visit.leftAt = undefined;
}

/**
 * Who leads. One Lease object; the holder renews it, the others wait until it has not changed for its whole duration by
 * their own clocks (clocks of machines disagree, so the times written in it are for people only). Losing the lease is
 * told once and is final: the process must end, since somebody else may write by then. A renewal that is not answered is
 * asked again while there is time: one connection that leads nowhere costs no leadership.
 *
 * The number of times the lease changed hands is the fence, or epoch: it stands in everything a leader tells gateways
 * and ledger, and they refuse whoever bears a lower one; the API server does the same (fence.ts). It never goes back: a
 * lease that somebody deleted begins anew at the seconds since 2026, which no number of hand-overs catches up with, by
 * the API server's clock and not by that of whoever happens to come first.
 *
 * With the times below another leads at most 12 s after a crash: its last renewal was seen within `retryMs`, then comes
 * the duration, then at most another `retryMs`. A leader that ends in good order hands over within one `retryMs`.
 */
import { isJsonObject } from "../../core/json.ts";
import type { WallClock } from "../clock.ts";
import { type KubeClient, isStatus } from "./client.ts";
import { type KubeObject, LEASES } from "./objects.ts";

export type LeaseOptions = {
  readonly client: Pick<KubeClient, "find" | "get" | "create" | "replace">;
  readonly clock: WallClock;
  readonly namespace: string;
  readonly name: string;
  readonly identity: string; // of this process, unlike any other's
} & LeaseTimes;

export type LeaseTimes = {
  readonly durationSeconds?: number; // without renewal, after which another may take it
  readonly renewDeadlineMs?: number; // without success, after which the holder gives up; less than the duration
  readonly renewMs?: number; // between renewals
  readonly retryMs?: number; // between looks of those that wait, and after a renewal that failed
};

const DURATION_SECONDS = 10;
const RENEW_DEADLINE_MS = 7_000;
const RENEW_MS = 2_500;
const RETRY_MS = 1_000;
/** Of the time in which a renewal must succeed, what one attempt may take. */
const ATTEMPT_SHARE = 1 / 3;
const FIRST_EPOCH_MS = Date.UTC(2026, 0, 1);

export type Leadership = {
  /** How often the lease had changed hands when this process took it. */
  readonly fence: number;
  /** Aborts when the lease is lost, with the reason. */
  readonly lost: AbortSignal;
  /** Hands the lease over at once. Only after everything that writes has ended. */
  release(): Promise<void>;
};

/** `2026-01-01T00:00:00.000000Z`: Kubernetes refuses MicroTime with any other number of digits. */
export const microTime = (wallMs: number): string => new Date(wallMs).toISOString().replace("Z", "000Z");

/** Waits until this process leads; rejects with the signal's reason. */
export async function acquireLease(options: LeaseOptions, signal: AbortSignal): Promise<Leadership> {
  const { clock, retryMs = RETRY_MS } = options;
  let seen: { readonly resourceVersion: string | undefined; readonly atMs: number } | undefined;
  for (;;) {
    signal.throwIfAborted();
    const found = await readLease(options).catch(() => "unknown" as const);
    if (found !== "unknown") {
      if (found !== undefined && found.metadata.resourceVersion !== seen?.resourceVersion) {
        seen = { resourceVersion: found.metadata.resourceVersion, atMs: clock.monotonicMs() };
      }
      const silentMs = clock.monotonicMs() - (seen?.atMs ?? 0);
      const taken = await take(options, found, silentMs).catch(() => undefined);
      if (taken !== undefined) return lead(options, taken);
    }
    await clock.sleep(retryMs, signal);
  }
}

const readLease = ({ client, namespace, name }: LeaseOptions) => client.find(LEASES, { namespace, name });

/** The lease with us as its holder, or undefined where somebody else holds it. Throws where somebody was quicker. */
async function take(
  options: LeaseOptions,
  found: KubeObject | undefined,
  silentMs: number,
): Promise<KubeObject | undefined> {
  const { client, clock, namespace, name, identity, durationSeconds = DURATION_SECONDS } = options;
  // Nobody's at first: when it was made, which its first epoch follows from, is for the server to say.
  const lease = found ?? (await client.create(LEASES, { metadata: { name, namespace }, spec: {} }));
  const now = microTime(clock.wallMs());
  const held = { holderIdentity: identity, leaseDurationSeconds: durationSeconds, acquireTime: now, renewTime: now };
  const spec = specOf(lease);
  const holder = String(spec["holderIdentity"] ?? "");
  const expired = silentMs >= Number(spec["leaseDurationSeconds"] ?? durationSeconds) * 1000;
  if (holder !== "" && holder !== identity && !expired) return undefined;
  const leaseTransitions = Math.max(transitionsOf(lease) + 1, firstEpochOf(lease));
  return client.replace(LEASES, { ...lease, spec: { ...spec, ...held, leaseTransitions } });
}

function lead(options: LeaseOptions, taken: KubeObject): Leadership {
  const { client, clock, namespace, name, identity } = options;
  const { renewDeadlineMs = RENEW_DEADLINE_MS, renewMs = RENEW_MS, retryMs = RETRY_MS } = options;
  const lost = new AbortController();
  const stop = new AbortController();
  let lease = taken;

  const renew = async () => {
    const renewed = { ...specOf(lease), renewTime: microTime(clock.wallMs()) };
    lease = await client.replace(LEASES, { ...lease, spec: renewed });
  };
  const renewOnce = async () => {
    try {
      await renew();
    } catch (error) {
      if (!isStatus(error, 409)) throw error;
      // Somebody touched it. As long as it still names us, go on from what is there now.
      const now = await client.get(LEASES, { namespace, name });
      if (specOf(now)["holderIdentity"] !== identity) throw new LeaseTaken(String(specOf(now)["holderIdentity"]));
      lease = now;
      await renew();
    }
  };
  let renewedAtMs = clock.monotonicMs();
  const attempt = async () => {
    const startedAtMs = clock.monotonicMs(); // whoever waits counts from when it was written, not from our answer
    await renewOnce();
    renewedAtMs = Math.max(renewedAtMs, startedAtMs); // also where the answer came after the next was begun
  };
  const loop = async () => {
    let pauseMs = renewMs;
    while (!stop.signal.aborted) {
      await clock.sleep(pauseMs, stop.signal);
      try {
        const leftMs = renewedAtMs + renewDeadlineMs - clock.monotonicMs();
        await withDeadline(attempt(), Math.min(leftMs, renewDeadlineMs * ATTEMPT_SHARE), clock);
        pauseMs = renewMs;
      } catch (error) {
        pauseMs = Math.min(retryMs, renewMs);
        if (error instanceof LeaseTaken) return lost.abort(new Error(`the lease is held by ${error.message}`));
        if (clock.monotonicMs() - renewedAtMs < renewDeadlineMs) continue;
        return lost.abort(new Error(`the lease could not be renewed for ${renewDeadlineMs} ms`, { cause: error }));
      }
    }
  };
  const ended = loop().catch(() => undefined); // only `stop` ends it so

  return {
    fence: transitionsOf(taken),
    lost: lost.signal,
    async release() {
      stop.abort();
      await ended;
      if (lost.signal.aborted) return;
      // An empty holder lets the next one in at once.
      await client.replace(LEASES, {
        ...lease,
        spec: { ...specOf(lease), holderIdentity: "", leaseDurationSeconds: 1 },
      });
    },
  };
}

class LeaseTaken extends Error {}

async function withDeadline(work: Promise<void>, milliseconds: number, clock: WallClock): Promise<void> {
  const cancel = new AbortController();
  const late = clock.sleep(Math.max(0, milliseconds), cancel.signal).then(
    () => Promise.reject(new Error("the API server did not answer in time")),
    () => undefined,
  );
  try {
    await Promise.race([work, late]);
  } finally {
    cancel.abort();
    work.catch(() => undefined); // if it was late, nobody waits for it any more
  }
}

function specOf(lease: KubeObject): Readonly<Record<string, unknown>> {
  const spec = lease["spec"];
  return isJsonObject(spec) ? spec : {};
}

/** Seconds from 2026 until the lease was made. */
function firstEpochOf({ metadata: { creationTimestamp = "" } }: KubeObject): number {
  return Math.max(1, Math.floor((Date.parse(creationTimestamp) - FIRST_EPOCH_MS) / 1000) || 1);
}

const transitionsOf = (lease: KubeObject): number => Number(specOf(lease)["leaseTransitions"] ?? 0);

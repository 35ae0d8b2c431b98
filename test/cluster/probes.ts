/** Probes and hooks of containers, carried out as a kubelet does: against the pod's address, or inside the container. */
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, credentials } from "@grpc/grpc-js";
import type { Action, Container, Probe } from "./kube-types.ts";

export interface Outcome {
  readonly passed: boolean;
  /** Why it did not pass. */
  readonly message: string;
}

export interface ProbeTarget {
  readonly podIP: string;
  readonly container: Container;
  /** Runs a command inside the container; resolves with its exit code and what it wrote. */
  exec(command: readonly string[], timeoutMs: number): Promise<{ readonly exitCode: number; readonly output: string }>;
}

const PASSED: Outcome = { passed: true, message: "" };

/** Never throws: whatever goes wrong is an outcome. */
export async function perform(action: Action, target: ProbeTarget, timeoutMs: number): Promise<Outcome> {
  try {
    if (action.exec) {
      const { exitCode, output } = await target.exec(action.exec.command ?? [], timeoutMs);
      return exitCode === 0 ? PASSED : { passed: false, message: `command exited with ${exitCode}: ${output.trim()}` };
    }
    if (action.httpGet) return await httpGet(action.httpGet, target, timeoutMs);
    if (action.tcpSocket) return await tcpSocket(action.tcpSocket, target, timeoutMs);
    if (action.grpc) return await grpc(action.grpc, target, timeoutMs);
    if (action.sleep) await sleep(action.sleep.seconds * 1000);
    return PASSED;
  } catch (error) {
    return { passed: false, message: error instanceof Error ? error.message : String(error) };
  }
}

function portNumber(port: number | string, container: Container): number {
  const found = typeof port === "number" ? port : container.ports?.find(({ name }) => name === port)?.containerPort;
  if (found === undefined) throw new Error(`container ${container.name} has no port named ${port}`);
  return found;
}

function httpGet(get: NonNullable<Action["httpGet"]>, target: ProbeTarget, timeoutMs: number): Promise<Outcome> {
  const request = get.scheme === "HTTPS" ? httpsRequest : httpRequest;
  const headers = Object.fromEntries((get.httpHeaders ?? []).map(({ name, value }) => [name, value]));
  return new Promise((resolve, reject) => {
    request(
      {
        host: get.host || target.podIP,
        port: portNumber(get.port, target.container),
        path: get.path ?? "/",
        headers: { "user-agent": "kube-probe/1.36", accept: "*/*", ...headers },
        // As a kubelet has it: a probe asks whether somebody answers, not who.
        rejectUnauthorized: false,
        agent: false,
        signal: AbortSignal.timeout(timeoutMs),
      },
      (response) => {
        response.resume();
        const status = response.statusCode ?? 0;
        const passed = status >= 200 && status < 400;
        resolve(passed ? PASSED : { passed, message: `HTTP probe failed with statuscode: ${status}` });
      },
    )
      .once("error", reject)
      .end();
  });
}

function tcpSocket(socket: NonNullable<Action["tcpSocket"]>, target: ProbeTarget, timeoutMs: number): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const port = portNumber(socket.port, target.container);
    const connection = connect({ host: socket.host || target.podIP, port, timeout: timeoutMs });
    const end = (finish: () => void) => {
      connection.destroy();
      finish();
    };
    connection.once("connect", () => end(() => resolve(PASSED)));
    connection.once("timeout", () => end(() => reject(new Error(`no connection in ${timeoutMs} ms`))));
    connection.once("error", (error) => end(() => reject(error)));
  });
}

/** grpc.health.v1.Health/Check without TLS, which is all that Kubernetes offers. */
function grpc(probe: NonNullable<Action["grpc"]>, target: ProbeTarget, timeoutMs: number): Promise<Outcome> {
  const client = new Client(`${target.podIP}:${probe.port}`, credentials.createInsecure());
  const service = Buffer.from(probe.service ?? "");
  // HealthCheckRequest { string service = 1 }; names are far shorter than 128 bytes, so the length is one byte.
  const message =
    service.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, service.length]), service]);
  return new Promise<Outcome>((resolve, reject) => {
    client.makeUnaryRequest(
      "/grpc.health.v1.Health/Check",
      (bytes: Buffer) => bytes,
      (bytes: Buffer) => bytes,
      message,
      { deadline: Date.now() + timeoutMs },
      (error, reply) => {
        if (error) return reject(error);
        // HealthCheckResponse { ServingStatus status = 1 }, where SERVING = 1.
        const serving = reply !== undefined && reply.length === 2 && reply[0] === 0x08 && reply[1] === 1;
        resolve(serving ? PASSED : { passed: false, message: "service unhealthy" });
      },
    );
  }).finally(() => client.close());
}

export interface ProbeLoop {
  readonly probe: Probe;
  readonly target: ProbeTarget;
  /** Multiplies every delay and period, so that tests need not wait. */
  readonly scale: number;
  readonly signal: AbortSignal;
  /** Called after every attempt that meets its threshold. */
  readonly onVerdict: (outcome: Outcome) => void;
}

/** The shortest pause between two attempts, whatever the scale. */
const SHORTEST_PERIOD_MS = 50;

/** Probes until `signal` is aborted. */
export async function probeLoop({ probe, target, scale, signal, onVerdict }: ProbeLoop): Promise<void> {
  const pause = (seconds: number) => sleep(seconds * 1000 * scale, undefined, { signal }).catch(() => undefined);
  const shortest = SHORTEST_PERIOD_MS / 1000 / scale;
  if (probe.initialDelaySeconds) await pause(probe.initialDelaySeconds);
  let streakCount = 0;
  let streakPassed: boolean | undefined;
  while (!signal.aborted) {
    const outcome = await perform(probe, target, (probe.timeoutSeconds ?? 1) * 1000);
    if (signal.aborted) return;
    streakCount = outcome.passed === streakPassed ? streakCount + 1 : 1;
    streakPassed = outcome.passed;
    const threshold = outcome.passed ? (probe.successThreshold ?? 1) : (probe.failureThreshold ?? 3);
    if (streakCount >= threshold) onVerdict(outcome);
    await pause(Math.max(probe.periodSeconds ?? 10, shortest));
  }
}

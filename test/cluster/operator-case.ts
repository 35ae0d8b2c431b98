/** Objects of the operator's case on a real API server, and waiting for what it makes of them. */
import { systemClock } from "../../operator/clock.ts";

export const modelObject = (name: string, modelDirectory: string, spec: object = {}) => ({
  apiVersion: "tessellate.dev/v1alpha1",
  kind: "ShardedModel",
  metadata: { name, namespace: "models" },
  spec: { model: { source: { path: modelDirectory } }, placement: { providers: { min: 3 } }, ...spec },
});

export const nodeObject = (name: string, provider: string, spec: object = {}) => ({
  apiVersion: "tessellate.dev/v1alpha1",
  kind: "ShardNode",
  metadata: { name },
  spec: {
    provider,
    memory: { freeBytes: "1Gi" },
    memoryBytesPerSecond: "20G",
    signer: { target: "signer.example.org:7300" },
    ...spec,
  },
});

/** What `look` found once it `holds`. Throws after 30 s, with what it found last. */
export async function untilHolds<T>(look: () => Promise<T>, holds: (found: T) => boolean, what: string): Promise<T> {
  let found = await look();
  for (let attempt = 0; attempt < 300 && !holds(found); attempt++) {
    await systemClock().sleep(100);
    found = await look();
  }
  if (!holds(found)) throw new Error(`${what}: still not so after 30 s: ${JSON.stringify(found)}`);
  return found;
}

/** Rank pods of a model, as `name node uid`. */
export async function ranksOf(
  kubectl: (...args: string[]) => Promise<string>,
  model: string,
): Promise<readonly string[]> {
  const path = 'jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.metadata.uid}{"\\n"}{end}';
  const pods = await kubectl("get", "pods", "-l", `tessellate.dev/model=${model}`, "-o", path);
  return pods.trim().split("\n").filter(Boolean);
}

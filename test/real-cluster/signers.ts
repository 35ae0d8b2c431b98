/** Signers as providers run them where no node agent does: `tessellate node` on the machine itself, outside of the cluster. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { isJsonObject, parseJson } from "../../core/json.ts";
import type { Child } from "../cluster/child.ts";
import { REPOSITORY } from "../cluster/container-process.ts";
import { until } from "../until.ts";
import { type Machine, PROVIDERS } from "./agents.ts";
import type { RealCluster } from "./real-cluster.ts";

/** What `spec.signer.target` of a ShardNode is then. */
export const signerTarget = (shardNode: string): string => `unix:/run/tessellate/${shardNode}/signer.sock`;

/** The file with a provider's key (PKCS8 PEM), made by its first signer. */
export const keyFile = ({ sandbox }: RealCluster, provider: string): string =>
  join(sandbox.folder, `${provider}-key.pem`);

type Signer = { readonly child: Child; readonly pidFile: string };

export type Signers = {
  readonly publicKeys: ReadonlyMap<string, string>; // SPKI in base64, by provider
  /** Resolves when all of them have ended. Those that nobody stops end with the cluster. */
  readonly stop: () => Promise<void>;
};

/** Resolves when all of them listen. */
export async function startSigners(cluster: RealCluster, machines: readonly Machine[]): Promise<Signers> {
  const publicKeys = new Map<string, string>();
  const signers: Signer[] = [];
  await Promise.all(
    PROVIDERS.map(async (provider) => {
      // One after the other: the first makes the provider's key.
      for (const machine of machines.filter((each) => each.provider === provider))
        publicKeys.set(provider, await startSigner(cluster, machine, signers));
    }),
  );
  const stop = async () => {
    for (const { child, pidFile } of signers) {
      await cluster.sandbox.run(["/bin/kill", readFileSync(pidFile, "utf8").trim()]);
      await child.exited;
    }
  };
  return { publicKeys, stop };
}

/** Resolves with the provider's public key. */
async function startSigner(
  cluster: RealCluster,
  { provider, shardNode, node }: Machine,
  signers: Signer[],
): Promise<string> {
  const { sandbox, nodes } = cluster;
  const name = `signer-${shardNode}`;
  const who = ["--provider", provider, "--node", shardNode, "--key", keyFile(cluster, provider)];
  const where = ["--socket", signerTarget(shardNode).slice("unix:".length)];
  const main = join(REPOSITORY, "cli/main.ts");
  const namespace = nodes.find((each) => each.name === node)?.namespace;
  const pidFile = join(sandbox.folder, `${name}.pid`); // as it is numbered inside
  const line = [process.execPath, main, "node", ...who, ...where];
  const child = sandbox.start(name, ["/bin/sh", "-c", 'echo $$ >"$0"; exec "$@"', pidFile, ...line], namespace);
  signers.push({ child, pidFile });
  let publicKey: unknown;
  await until(`${name} to listen`, () => {
    if (!child.running) throw new Error(`${name} ended: ${sandbox.logOf(name)}`);
    const said = parseJson(readFileSync(join(sandbox.folder, `${name}.log`), "utf8").split("\n")[0] ?? "");
    publicKey = isJsonObject(said) ? said["publicKey"] : undefined;
    return typeof publicKey === "string";
  });
  return String(publicKey);
}

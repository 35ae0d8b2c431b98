/**
 * What the tests need beyond npm: Debian packages (Prometheus, PostgreSQL, a C compiler, buildah) and the Kubernetes binaries,
 * built from their Go modules once and cached outside the tree. Says what it does and what it could not do; whether a missing
 * part is a failure is for the test that needs it (in CI it always is).
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Step, runStep } from "./run.ts";

type Tool = { readonly name: string; readonly paths: readonly string[]; readonly debianPackage: string };

const TOOLS: readonly Tool[] = [
  { name: "prometheus", paths: ["/usr/bin/prometheus"], debianPackage: "prometheus" },
  { name: "cc", paths: ["/usr/bin/cc"], debianPackage: "gcc libc6-dev" },
  { name: "buildah", paths: ["/usr/bin/buildah"], debianPackage: "buildah" },
  { name: "mmdebstrap", paths: ["/usr/bin/mmdebstrap"], debianPackage: "mmdebstrap" },
  { name: "postgres", paths: ["/usr/lib/postgresql"], debianPackage: "postgresql" },
];

/** What real nodes are made of, on Linux. */
const NODE_TOOLS: readonly Tool[] = [
  { name: "containerd", paths: ["/usr/bin/containerd"], debianPackage: "containerd" },
  { name: "runc", paths: ["/usr/sbin/runc", "/usr/bin/runc"], debianPackage: "runc" },
  { name: "CNI plugins", paths: ["/usr/lib/cni/ptp"], debianPackage: "containernetworking-plugins" },
  { name: "nft", paths: ["/usr/sbin/nft"], debianPackage: "nftables" },
  { name: "conntrack", paths: ["/usr/sbin/conntrack"], debianPackage: "conntrack" },
  { name: "ip", paths: ["/usr/sbin/ip", "/sbin/ip"], debianPackage: "iproute2" },
];

export function setUpPackages(): Promise<void> {
  return installMissing(TOOLS);
}

async function installMissing(tools: readonly Tool[]): Promise<void> {
  const missing = tools.filter(({ paths }) => !paths.some((path) => existsSync(path)));
  if (missing.length > 0) await installPackages(missing);
}

/** Where the engine's operators are for every process of the tests, pods of other users included: compiled once. */
const NATIVE = fileURLToPath(new URL("../node_modules/.cache/tessellate/native", import.meta.url));

export async function setUpOperators(): Promise<void> {
  process.env["TESSELLATE_NATIVE"] ||= NATIVE;
  const { code, output } = await runStep({ name: "operators", command: ["node", "tools/build-operators.ts"] });
  if (code !== 0) console.log(`• the engine's operators are not built: ${output}`);
}

/** With `nodes`, what real nodes need as well; where there can be none, their tests say so. */
export async function setUpKubernetes({ nodes }: { readonly nodes: boolean }): Promise<void> {
  const canHaveNodes = nodes && process.platform === "linux" && process.getuid?.() === 0;
  if (canHaveNodes) await installMissing(NODE_TOOLS);
  console.log(`• Kubernetes binaries (built once, ${canHaveNodes ? 15 : 10} minutes cold; then cached)`);
  const command = ["node", "tools/kube/build.ts", ...(canHaveNodes ? ["--nodes"] : [])] as const;
  const built = await runStep({ name: "build", command: [...command] }, true);
  if (built.code !== 0) console.log("  could not be built: the cluster tests will say so");
}

async function installPackages(missing: readonly Tool[]): Promise<void> {
  const packages = missing.map(({ debianPackage }) => debianPackage);
  if (process.platform !== "linux" || process.getuid?.() !== 0 || !existsSync("/usr/bin/apt-get")) {
    console.log(
      `• ${missing.map(({ name }) => name).join(", ")} not found; install them to run the tests that need them`,
    );
    return;
  }
  console.log(`• installing ${packages.join(", ")} from Debian`);
  const env = { DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
  // Debian's packages start their services; a policy of 101 forbids that, and nothing is left running.
  const aptGet = `apt-get install -y --no-install-recommends ${packages.join(" ")}`;
  const install = [
    "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d",
    `${aptGet} || { apt-get update && ${aptGet}; }`,
    "code=$?; rm -f /usr/sbin/policy-rc.d; exit $code",
  ].join("\n");
  const step: Step = { name: "apt-get install", command: ["bash", "-c", install], env };
  const { code, output, seconds } = await runStep(step);
  console.log(code === 0 ? `  installed in ${seconds.toFixed(0)} s` : `  apt-get failed:\n${output}`);
}
